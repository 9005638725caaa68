"""Trials of class-incremental learning on small pictures: arms, bytes, kills."""

import json
from dataclasses import replace
from functools import partialmethod

import numpy as np
import pytest
import torch

from seit_ray.batches.class_steps import class_order
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.models.exports import import_model
from seit_ray.runs.continual import continual
from seit_ray.runs.continual_inputs import open_streams, unreadable
from seit_ray.runs.continual_learner import Learner
from seit_ray.runs.continual_method import Method, lengthened
from seit_ray.runs.continual_settings import ContinualSettings, LabelledImages, MemorySettings
from seit_ray.runs.settings import ClassifierSettings
from seit_ray.storage import Folder
from seit_ray.studies import continual_stages
from seit_ray.studies.arms import CentroidSettings
from seit_ray.studies.continual_stages import fit_first_classes, list_images_once
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.tokenizers.fit_numbers import HELD_OUT
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from tests.tiny_images import PATCH, SIDE, image_files, write_files
from tests.tiny_trainers import CPU

CLASSES = ("cat", "dog", "emu")
CENTROID = CentroidSettings(image_size=SIDE, patch_size=PATCH, codebook_size=8, iterations=3)
MODEL = ClassifierSettings(
    size="nano", width=16, depth=1, num_heads=2, inputs="codebook", standardize=True, stem_kernel=2, dropout=0.1
)
LOOP = LoopSettings(
    epochs=4,
    global_batch_size=8,
    log_every_steps=1,
    ema_decay=0.5,
    eval_every_epochs=99,
    checkpoint_every_steps=3,
    trackers=(),
)
OPTIMIZER = OptimizerSettings(lr=5e-3, warmup_epochs=1)
SETTINGS = ContinualSettings(num_steps=3, balance_epochs=2)
RAW_BYTES = 3 * SIDE * SIDE + 1  # of an image and its label


class Killed(BaseException):
    """As a kill: nothing that follows is done."""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Pictures of three classes, and where they are listed."""
    place = tmp_path_factory.mktemp("continual")
    folder = write_files(place / "photos", image_files(60, classes=CLASSES))
    found = LabelledImages(
        images=folder,
        source=SourceSettings(),
        listing=Folder(place / "listing"),
        image_size=SIDE,
        resize="squash",
        val_fraction=0.3,
    )
    counts = list_images_once(run=found.listing, images=found, world=CPU)
    assert (counts["classes"], counts["train_images"] + counts["test_images"]) == (3, 60)
    return found


@pytest.fixture(scope="module")
def tokenizer(images, tmp_path_factory):
    """Centroids of the class that comes first."""
    folder = Folder(tmp_path_factory.mktemp("tokenizer"))
    fit_first_classes(run=folder, images=images, centroid=CENTROID, num_steps=3, order_seed=1993, world=CPU)
    return folder


def trial(run, images, tokenizer, arm, budget=None, *, selection="herding", settings=SETTINGS, loop=LOOP, **more):
    return continual(
        run=Folder(run),
        images=images,
        tokenizer=tokenizer if "tokens" in arm else None,
        token_side=PATCH,
        memory=MemorySettings(arm=arm, budget_bytes=budget, selection=selection),
        settings=settings,
        model=MODEL,
        loop=loop,
        optimizer=OPTIMIZER,
        world=CPU,
        **{"seed": 0, **more},
    )


def test_a_tokenizer_has_seen_the_first_classes_alone(images, tokenizer):
    streams, labels, _ = open_streams(images, CPU)
    first = np.flatnonzero(labels["train"] == class_order(3, 1993)[0])
    report = load_tokenizer(tokenizer)[1]["report"]
    assert report["patches"] <= len(first) * (SIDE // PATCH) ** 2
    assert 0 < len(first) < len(streams["train"])


BUDGETS = {"tokens_compact": 4_000, "none_tokens": None, "joint_tokens": None, "raw": 6 * RAW_BYTES}


@pytest.fixture(scope="module")
def done(images, tokenizer, tmp_path_factory):
    """(folder of the runs, arm -> figures) of some arms; not to be changed."""
    place = Folder(tmp_path_factory.mktemp("done"))
    return place, {arm: trial(place.join(arm).uri, images, tokenizer, arm, b) for arm, b in BUDGETS.items()}


def test_an_arm_with_a_memory_forgets_less_than_one_without(done):
    _, figures = done
    assert figures["tokens_compact"]["forgetting"] < figures["none_tokens"]["forgetting"] - 0.3
    assert figures["joint_tokens"]["last_top1"] > figures["none_tokens"]["last_top1"] + 0.2


@pytest.mark.parametrize("arm", BUDGETS)
def test_figures_of_a_trial(done, arm):
    figures = done[1][arm]
    assert figures["top1_after"][-1] == figures["last_top1"]
    assert figures["mean_top1"] == pytest.approx(np.mean(figures["top1_after"]))
    assert [len(row) for row in figures["of_steps_after"]] == [1, 2, 3]
    assert figures["classes_after"] == [1, 2, 3]
    assert figures["order"] == class_order(3, 1993).tolist()
    assert json.loads(json.dumps(figures)) == figures
    if BUDGETS[arm] is None:
        assert figures["exemplars_after"] == [0, 0, 0]
        assert figures["memory_bytes"] == 0


def test_bytes_of_a_memory_add_up(images, done):
    place, figures = done
    assert figures["raw"]["exemplars_after"] == [6, 6, 6]
    assert figures["raw"]["memory_bytes"] == 6 * RAW_BYTES
    first, last = (json.loads(place.join("raw").read(f"steps/00{step}.json"))["ranked"] for step in (0, 2))
    assert [len(rows) for rows in last] == [2, 2, 2]
    _, labels, _ = open_streams(images, CPU)
    assert [set(labels["train"][rows].tolist()) for rows in last] == [{label} for label in class_order(3, 1993)]
    assert last[0] == first[0][:2]  # what is dropped is the end of the ranking
    tokens = figures["tokens_compact"]
    assert tokens["exemplars"] > 20  # of 42
    assert 8 * 48 * 4 + tokens["exemplars"] < tokens["memory_bytes"] <= 4_000


def test_all_arms_take_the_same_number_of_steps(done):
    def steps(arm):
        folder = done[0].join(arm, "steps")
        names = ("000-rehearsal", "001-rehearsal", "001-balance", "002-rehearsal", "002-balance")
        return [json.loads(folder.read(f"{name}/metrics.jsonl").splitlines()[-1])["step"] for name in names]

    assert steps("raw") == steps("tokens_compact")


def test_what_a_trial_leaves_is_a_classifier_of_all_classes(images, tokenizer, done):
    place, figures = done
    model, about = import_model(place.join("tokens_compact"), "classifier")
    order = class_order(3, 1993)
    assert about["class_names"] == [CLASSES[label] for label in order]
    coder, found = load_tokenizer(tokenizer)
    assert about["tokenizer"] == found["fingerprint"]
    streams, labels, _ = open_streams(images, CPU)
    with torch.inference_mode():
        answers = model(coder.encode(streams["val"].host_batch(slice(0, len(streams["val"]))).inputs)).argmax(1)
    right = np.mean(order[answers.numpy()] == labels["val"])
    assert right == pytest.approx(figures["tokens_compact"]["last_top1"])


def test_pixels_and_tokens_have_transformers_of_the_same_size(done):
    models = [import_model(done[0].join(arm), "classifier")[0] for arm in ("raw", "tokens_compact")]
    sizes = [(model.num_patches, sum(p.numel() for p in model.parameters())) for model in models]
    assert sizes[0] == sizes[1]


def test_aligning_trains_nothing_more_and_another_seed_has_another_order(images, tokenizer, tmp_path):
    settings = replace(SETTINGS, balance="align", num_steps=2)
    figures = trial(tmp_path, images, tokenizer, "jpeg_50", 8_000, settings=settings, selection="random", seed=1)
    assert Folder(tmp_path).join("steps").list_folders() == ["000-rehearsal", "001-rehearsal"]
    assert figures["classes_after"] == [2, 3]
    assert figures["order"] == class_order(3, 1994).tolist() != class_order(3, 1993).tolist()
    assert figures["exemplars"] > 0


@pytest.mark.parametrize("moment", [("step 2 of 3", 4), ("step 3 of 3", 10)])
def test_a_killed_trial_ends_with_the_same_figures(images, tokenizer, done, tmp_path, moment):
    left = [moment[1]]

    def kill(phase, done, total, note=""):
        left[0] -= moment[0] in note
        if not left[0]:
            raise Killed

    with pytest.raises(Killed):
        trial(tmp_path, images, tokenizer, "tokens_compact", 4_000, on_progress=kill)
    assert not Folder(tmp_path).exists("model.json")
    assert trial(tmp_path, images, tokenizer, "tokens_compact", 4_000) == done[1]["tokens_compact"]
    places = (done[0].join("tokens_compact"), Folder(tmp_path))
    models = [import_model(place, "classifier")[0].state_dict() for place in places]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_a_trial_that_is_killed_between_steps_does_none_again(images, tokenizer, done, tmp_path, monkeypatch):
    taken = []
    take = Learner.take
    monkeypatch.setattr(Learner, "take", lambda self, step: taken.append(step) or take(self, step))

    def kill(record):
        if record["step"] == 2:
            raise Killed

    with pytest.raises(Killed):
        trial(tmp_path, images, tokenizer, "raw", 6 * RAW_BYTES, on_metrics=kill)
    steps = Folder(tmp_path).join("steps")
    assert not steps.exists("000.safetensors")
    assert not [entry.name for entry in steps.list() if "checkpoints" in entry.name]
    for _ in range(2):
        assert trial(tmp_path, images, tokenizer, "raw", 6 * RAW_BYTES) == done[1]["raw"]
        assert taken == [0, 1, 2]


def test_exemplars_are_chosen_once_whatever_kills_what_follows(images, tokenizer, done, tmp_path, monkeypatch):
    """On a GPU the same features may come out otherwise in their last bits, and tie otherwise."""
    finetune, ranking, ranked = Method.finetune, Method.ranking, []

    def kill(*given):
        raise Killed

    def watched(self, model, rows, labels, label):
        ranked.append(label)
        return ranking(self, model, rows, labels, label)

    monkeypatch.setattr(Method, "ranking", watched)
    monkeypatch.setattr(Method, "finetune", kill)
    with pytest.raises(Killed):
        trial(tmp_path, images, tokenizer, "raw", 6 * RAW_BYTES)
    monkeypatch.setattr(Method, "finetune", finetune)
    assert trial(tmp_path, images, tokenizer, "raw", 6 * RAW_BYTES) == done[1]["raw"]
    assert ranked == [0, 1, 2]
    assert not [entry.name for entry in Folder(tmp_path).join("steps").list() if "exemplars" in entry.name]


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"budget": 7 * RAW_BYTES}, "with memory.budget_bytes"),
        ({"selection": "random"}, "with memory.selection 'herding'; expected 'random'"),
        ({"settings": replace(SETTINGS, balance_epochs=3)}, "with continual.balance_epochs 2; expected 3"),
        ({"loop": replace(LOOP, epochs=5)}, "with loop.epochs 4; expected 5"),
        ({"seed": 1}, "with seed 0; expected 1"),
    ],
)
def test_a_trial_goes_on_from_steps_of_its_own_alone(images, tokenizer, done, changed, error):
    with pytest.raises(ValueError, match=f"was made {error}"):
        trial(done[0].join("raw").uri, images, tokenizer, "raw", **{"budget": 6 * RAW_BYTES, **changed})


def test_how_often_a_trial_looks_and_saves_decides_nothing(images, tokenizer, done):
    loop = replace(LOOP, log_every_steps=2, checkpoint_every_steps=5, max_micro_batch=4)
    assert trial(done[0].join("raw").uri, images, tokenizer, "raw", 6 * RAW_BYTES, loop=loop) == done[1]["raw"]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own, which it hides itself
def test_what_is_looked_at_is_not_compiled(images, tokenizer, tmp_path, monkeypatch):
    """Though the trainings before have left blocks that are."""
    graphs, looks = [], []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def watched(name):
        plain = getattr(Method, name)

        def look(*given):
            before = len(graphs)
            found = plain(*given)
            looks.append((before > 0, len(graphs) - before))
            return found

        return look

    torch.compiler.reset()
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend=backend))
    for name in ("ranking", "counts"):
        monkeypatch.setattr(Method, name, watched(name))
    settings, loop = replace(SETTINGS, num_steps=2), replace(LOOP, epochs=2, compile=True, ema_decay=0.0)
    try:
        trial(tmp_path, images, tokenizer, "raw", 6 * RAW_BYTES, settings=settings, loop=loop)
    finally:
        torch.compiler.reset()
    assert looks == [(True, 0)] * 5  # of three classes, and of what is known behind two steps


def test_the_images_that_judge_a_tokenizer_are_of_all_its_classes(images, tmp_path, monkeypatch):
    """Those that the fit holds out, which are the last ones; here they are two."""
    given = []
    fit = continual_stages.fit_centroids
    monkeypatch.setattr(continual_stages, "fit_centroids", lambda some, **more: given.append(some) or fit(some, **more))
    streams, labels, _ = open_streams(images, CPU)
    every, found = streams["train"].host_batch(slice(0, len(streams["train"]))).inputs, set()
    for seed in range(4):
        place = Folder(tmp_path / str(seed))
        fit_first_classes(run=place, images=images, centroid=CENTROID, num_steps=2, order_seed=seed, world=CPU)
        held_out = given[-1][-(len(given[-1]) // HELD_OUT) :]
        rows = [int((every == image).flatten(1).all(1).nonzero()[0]) for image in held_out]
        found.add(len(set(labels["train"][rows].tolist())))
    assert max(found) == 2


def test_a_budget_that_holds_no_tokenizer_is_refused(images, tokenizer, tmp_path):
    with pytest.raises(ValueError, match=r"budgets 1,000 of arm tokens_plain; expected more than 1,\d{3}, the"):
        trial(tmp_path, images, tokenizer, "tokens_plain", 1_000)


def test_an_image_that_cannot_be_read_has_the_label_of_what_stands_in_its_place(images, tmp_path):
    """It is learnt as what it shows, and never in the step of a class whose image it is not."""
    place = write_files(tmp_path / "photos", image_files(30, classes=CLASSES))
    place.write("cat/00027.png", b"nothing")  # the last cat: a dog comes next
    damaged = replace(images, images=place, listing=Folder(tmp_path / "listing"))
    for _ in range(2):  # made, and as it stands beside the listing
        streams, labels, names = open_streams(damaged, CPU)
        for split, stream in streams.items():
            seen = stream.host_batch(slice(0, len(stream))).labels.numpy()
            assert labels[split].tolist() == seen.tolist()
        moved = [
            (names[stream.labels[i]], names[labels[split][i]])
            for split, stream in streams.items()
            for i in np.flatnonzero(stream.labels != labels[split])
        ]
        assert moved == [("cat", "dog")]
        assert sum(unreadable(damaged).values()) == 1
    assert Folder(tmp_path / "listing").exists("labels.json")


def test_a_listing_whose_images_are_to_be_mended_is_not_kept(images, tmp_path):
    place = write_files(tmp_path / "photos", image_files(30, classes=CLASSES))
    place.write("stray.png", place.read("cat/00000.png"))
    listed = replace(images, images=place, listing=Folder(tmp_path / "listing"))
    with pytest.raises(ValueError, match="1 images without a label"):
        list_images_once(run=listed.listing, images=listed, world=CPU)
    place.delete("stray.png")
    figures = list_images_once(run=listed.listing, images=listed, world=CPU)
    assert (figures["train_images"] + figures["test_images"], figures["unreadable_images"]) == (30, 0)


def test_epochs_of_fewer_images_are_longer_ones_however_often_it_is_looked():
    longer = lengthened(replace(LOOP, eval_every_epochs=None), 2.5, CPU.device)
    assert (longer.epochs, longer.eval_every_epochs, longer.checkpoint_every_epochs) == (10, 3, 3)
    assert lengthened(LOOP, 2.0, CPU.device).eval_every_epochs == 198


def test_a_class_without_images_in_a_split_is_refused(images, tmp_path):
    few = replace(images, max_images=2, listing=Folder(tmp_path))
    with pytest.raises(ValueError, match=r"class (cat|dog|emu) of .* has no image in train; expected some"):
        open_streams(few, CPU)
    with pytest.raises(ValueError, match="has no val split; expected one to measure on; set val_fraction"):
        open_streams(replace(images, val_fraction=0.0, listing=Folder(tmp_path / "other")), CPU)
