"""Token morphing: beside masked token modelling, beside CCViT, and as published on images with a frozen teacher."""

import json
from dataclasses import replace

import pytest
import timm
import torch

from seit_ray import config
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.models.exports import import_model
from seit_ray.models.timm_export import export_timm
from seit_ray.models.weights import save_tensors
from seit_ray.runs.ccvit import pretrain_ccvit
from seit_ray.runs.dtm import pretrain_dtm
from seit_ray.runs.finetune import finetune as run_finetune
from seit_ray.runs.morph_sources import MorphSources
from seit_ray.runs.pretrain import pretrain as run_pretrain
from seit_ray.runs.settings import PixelSettings
from seit_ray.storage import Folder
from seit_ray.training.metrics import read_metrics
from seit_ray.training.requests import Requests, Stopped
from tests.tiny_dataset import write_dataset
from tests.tiny_images import image_files, write_files
from tests.tiny_trainers import CPU

SMALL = {
    "size": "nano",
    "width": 32,
    "depth": 2,
    "num_heads": 2,
    "decoder_width": 16,
    "decoder_depth": 1,
    "decoder_num_heads": 2,
    "token_dim": 8,
    "stem_kernel": 2,
}
LOOP = config.Loop(epochs=1, global_batch_size=16, log_every_steps=2, trackers=[], eval_every_epochs=9).settings()
AVERAGED = replace(LOOP, ema_decay=0.9)
OPTIMIZER = config.Optimizer(lr=5e-3, warmup_epochs=0.5).settings()
TEACHER = {"teacher": "vit_tiny_patch16_224", "target": "teacher"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """64 + 24 samples of 8x8 tokens; not to be changed."""
    return write_dataset(tmp_path_factory.mktemp("tokens"), sizes={"train": 64, "val": 24}, side=8)


def pretrain(run, dataset, *, loop=LOOP, sources=None, augment=None, hooks=None, **dtm):
    """Masked token modelling with morphing; keywords are keys of its section."""
    return run_pretrain(
        dataset=dataset,
        run=run,
        model=config.Model(**SMALL).settings(),
        masking=config.Masking().settings(),
        augment=config.Augment(**(augment or {})).settings(),
        adapt_run=None,
        probe=config.Probe().settings(),
        loop=loop,
        optimizer=OPTIMIZER,
        world=CPU,
        dtm=config.Dtm(**{"target": "codebook", **dtm}).settings(),
        sources=sources or MorphSources(),
        **(hooks or {}),
    )


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    """A finished run whose targets are its own average; not to be changed."""
    run = Folder(tmp_path_factory.mktemp("runs")).join("average")
    pretrain(run, dataset, target="average", loop=replace(AVERAGED, epochs=6, eval_every_epochs=3))
    return run


def test_it_learns_beside_masked_tokens(dataset, finished):
    records = read_metrics(finished)
    assert records[-1]["train_loss"] < records[0]["train_loss"]
    assert {"train_morph_loss", "train_masked_accuracy", "val_loss"} <= records[-1].keys()
    model, about = import_model(finished, "mtm")
    assert model.morph_head.out_features == about["settings"]["morph_dim"] == 32


def test_the_average_and_the_step_are_continued_exactly(dataset, finished, tmp_path):
    run, requests = Folder(tmp_path / "again"), Requests()
    loop = replace(AVERAGED, epochs=6, eval_every_epochs=3, checkpoint_every_steps=5)

    def stop(record):
        requests.stop = True

    with pytest.raises(Stopped):
        pretrain(run, dataset, target="average", loop=loop, hooks={"requests": requests, "on_metrics": stop})
    pretrain(run, dataset, target="average", loop=loop)
    assert run.read("model.safetensors") == finished.read("model.safetensors")


def test_a_finished_run_is_a_target_and_a_start(dataset, finished, tmp_path):
    found = pretrain(Folder(tmp_path / "run"), dataset, target="run", sources=MorphSources(run=finished))
    assert found["train_morph_loss"] > 0
    given = {"label_smoothing": 0.0, "augment": config.Augment().settings(), "optimizer": OPTIMIZER, "world": CPU}
    model = config.Classifier(**SMALL).settings()
    metrics = run_finetune(
        dataset=dataset, run=Folder(tmp_path / "classifier"), init_from=finished, model=model, loop=LOOP, **given
    )
    assert metrics["step"] == 4


def test_a_run_of_other_tokens_or_patches_is_no_target(dataset, finished, tmp_path):
    other = write_dataset(tmp_path / "other", sizes={"train": 64}, side=8, tokenizer_seed=5)
    with pytest.raises(ValueError, match="was made with tokenizer"):
        pretrain(Folder(tmp_path / "run"), other, target="run", sources=MorphSources(run=finished))
    about = json.loads(finished.read("model.json"))
    cropped = Folder(tmp_path / "cropped")
    for name in ("model.safetensors",):
        cropped.write(name, finished.read(name))
    about["settings"]["stem_kernel"] = 4
    cropped.write("model.json", json.dumps(about).encode())
    with pytest.raises(ValueError, match=r"expected 8x8 in 4x4|differ in"):
        pretrain(Folder(tmp_path / "run"), dataset, target="run", sources=MorphSources(run=cropped))


def test_a_second_stream_of_tokens_is_a_target(dataset, tmp_path):
    second = write_dataset(tmp_path / "second", sizes={"train": 64, "val": 24}, side=4, tokenizer_seed=7, patch_size=2)
    found = pretrain(Folder(tmp_path / "run"), dataset, target="stream", sources=MorphSources(dataset=second))
    assert found["train_morph_loss"] > 0
    usual = pretrain(Folder(tmp_path / "usual"), dataset)
    assert found["train_morph_loss"] != usual["train_morph_loss"]
    weights = [Folder(tmp_path / name).read("model.safetensors") for name in ("run", "usual")]
    assert weights[0] != weights[1]
    fewer = write_dataset(tmp_path / "fewer", sizes={"train": 60}, side=4)
    with pytest.raises(ValueError, match="60 rows in split 'train' of"):
        pretrain(Folder(tmp_path / "a"), dataset, target="stream", sources=MorphSources(dataset=fewer))
    odd = write_dataset(tmp_path / "odd", sizes={"train": 64}, side=6)
    with pytest.raises(ValueError, match="grid 6x6 of the target's tokens for 4x4 patches"):
        pretrain(Folder(tmp_path / "b"), dataset, target="stream", sources=MorphSources(dataset=odd))
    with pytest.raises(ValueError, match="augmentation that moves tokens"):
        pretrain(
            Folder(tmp_path / "c"),
            dataset,
            target="stream",
            sources=MorphSources(dataset=second),
            augment={"random_crop": True},
        )


OPTIONS = [
    {"weight": 0.3},
    {"loss": "histograms"},
    {"loss": "labels"},
    {"on": "codes"},
    {"levels": 1},
    {"max_removed": 3},
    {"max_iterations": 1},
    {"split": "random"},
    {"protect": "first"},
    {"distance": "l1"},
    {"distance": "l2"},
    {"distance": "cosine"},
    {"normalize_target": True},
    {"target": "average"},
]


@pytest.fixture(scope="module")
def usual(dataset, tmp_path_factory):
    """Loss of the run that each option changes."""
    return pretrain(Folder(tmp_path_factory.mktemp("usual") / "run"), dataset, loop=AVERAGED)["train_loss"]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: "-".join(map(str, option.items())))
def test_every_option_changes_something(dataset, usual, option, tmp_path):
    assert pretrain(Folder(tmp_path / "run"), dataset, loop=AVERAGED, **option)["train_loss"] != usual


def test_the_share_of_morphed_labels_changes_something(dataset, tmp_path):
    losses = [
        pretrain(Folder(tmp_path / str(share)), dataset, loss="labels", label_share=share)["train_loss"]
        for share in (0.2, 0.8)
    ]
    assert losses[0] != losses[1]


def test_it_is_an_auxiliary_of_ccvit(tmp_path):
    dataset = write_dataset(tmp_path / "tokens", sizes={"train": 32}, patch_size=4)
    found = {}
    for name, target in (("average", "average"), ("codebook", "codebook")):
        found[name] = pretrain_ccvit(
            run=Folder(tmp_path / name),
            dataset=dataset,
            model=config.Model(**{**SMALL, "stem_kernel": 1}).settings(),
            ccvit=config.Ccvit(head_layers=1, num_near=3).settings(),
            augment=config.Augment().settings(),
            pixels=config.PretrainPixels().settings(),
            probe=config.Probe().settings(),
            loop=AVERAGED,
            optimizer=OPTIMIZER,
            world=CPU,
            dtm=config.Dtm(weight=0.5, target=target).settings(),
        )
    assert found["average"]["train_morph_loss"] != found["codebook"]["train_morph_loss"]
    assert json.loads(Folder(tmp_path / "codebook").read("first_batch.json"))["pictures"][-1] == "groups"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """40 pictures of 16x16, and weights of a tiny teacher; not to be changed."""
    place = Folder(tmp_path_factory.mktemp("photos"))
    write_files(place.join("images"), image_files(40))
    return place


def pretrain_images(run, photos, *, loop=LOOP, pixels=None, sources=None, **dtm):
    return pretrain_dtm(
        images=photos.join("images"),
        source=SourceSettings(),
        run=run,
        model=config.Model(**SMALL).settings(),
        dtm=config.Dtm(**{"target": "average", **dtm}).settings(),
        sources=sources or MorphSources(),
        pixels=config.PretrainPixels(
            **{"image_size": 16, "patch_size": 4, "val_fraction": 0.25, **(pixels or {})}
        ).settings(),
        probe=config.Probe(every_epochs=1).settings(),
        loop=loop,
        optimizer=OPTIMIZER,
        world=CPU,
    )


def classified(photos, run, image_size=16, **how):
    """The metrics of a classifier of the photos' pixels."""
    return run_finetune(
        run=Folder(run),
        images=photos.join("images"),
        source=SourceSettings(),
        pixels=PixelSettings(image_size=image_size, patch_size=4, val_fraction=0.25),
        model=config.Classifier(**SMALL).settings(),
        label_smoothing=0.0,
        augment=config.Augment().settings(),
        loop=LOOP,
        optimizer=OPTIMIZER,
        world=CPU,
        **how,
    )


def test_a_student_of_images_learns_from_its_average_and_goes_on_as_a_classifier(photos, tmp_path):
    run = Folder(tmp_path / "student")
    loop = replace(AVERAGED, epochs=2, eval_every_epochs=1)
    found = pretrain_images(run, photos, loop=loop, own_bias=True, pixels={"color_jitter": 0.4})
    assert {"val_loss", "val_morph_loss", "probe_linear_top1"} <= found.keys()
    metrics = classified(photos, tmp_path / "classifier", init_from=run)
    assert metrics["step"] == 1
    settings = import_model(Folder(tmp_path / "classifier"), "classifier")[1]["settings"]
    assert (settings["encoder"], settings["own_bias"]) == ("beit", True)
    # another grid of patches: the position biases, shared and of every block, are resampled
    metrics = classified(photos, tmp_path / "larger", image_size=24, init_from=run, transfer=True)
    assert metrics["step"] == 1


def test_a_teacher_by_name_with_a_file_of_weights(photos, tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    weights = Folder(tmp_path / "weights")
    weights.write("teacher.safetensors", save_tensors(network.state_dict()))
    sources = MorphSources(weights=weights, weights_file="teacher.safetensors")
    # 4x4 patches of the student against 14x14 of the teacher
    with pytest.raises(ValueError, match=r"of 14x14 patches; expected 4x4"):
        pretrain_images(Folder(tmp_path / "wrong"), photos, sources=sources, **TEACHER)
    run = Folder(tmp_path / "run")
    loop = replace(LOOP, global_batch_size=4, max_micro_batch=2, epochs=1)
    sizes = {"image_size": 56, "patch_size": 4, "max_images": 6, "val_fraction": 0.0}
    found = pretrain_images(run, photos, sources=sources, pixels=sizes, loop=loop, **TEACHER)
    assert found["train_morph_loss"] > 0
    assert json.loads(run.read("first_batch.json"))["pictures"][-3:] == ["original", "corrupted", "groups"]
    weights.write("teacher.safetensors", save_tensors({"a": torch.zeros(1)}))
    with pytest.raises(ValueError, match="weights that differ in"):
        pretrain_images(Folder(tmp_path / "other"), photos, sources=sources, pixels=sizes, loop=loop, **TEACHER)


def test_a_classifier_of_the_same_images_is_a_teacher(photos, tmp_path):
    """The whole way of one who has no weights: pixels, labels, timm's folder, a student."""
    shared = {"image_size": 16, "patch_size": 4, "val_fraction": 0.25}
    classified(photos, tmp_path / "classifier")
    weights = Folder(tmp_path / "timm")
    teacher = export_timm(Folder(tmp_path / "classifier"), weights)
    sources = MorphSources(weights=weights, weights_file="model.safetensors")
    how = {"target": "teacher", "teacher": teacher}
    found = pretrain_images(Folder(tmp_path / "student"), photos, pixels=shared, sources=sources, **how)
    assert found["train_morph_loss"] > 0
    # the sizes beside the weights are a part of what the run is
    weights.write("config.json", weights.read("config.json").replace(b'"num_heads": 2', b'"num_heads": 4'))
    with pytest.raises(ValueError, match=r"dtm\.teacher_weights"):
        pretrain_images(Folder(tmp_path / "student"), photos, pixels=shared, sources=sources, **how)
