"""A storage curve of tiny images: its arms, its bytes, its figures, in this process."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from seit_ray.config import StudyStorageCurve, load
from seit_ray.images.manifest import load_manifest
from seit_ray.images.recode import Recoding
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.runs.settings import ClassifierSettings, PixelSettings
from seit_ray.shards.dataset import TokenDataset
from seit_ray.shards.verify import verify
from seit_ray.storage import Folder
from seit_ray.studies import storage_stages, token_store, transfer_stages
from seit_ray.studies.arms import Budget, CentroidSettings
from seit_ray.studies.image_set import ImageSet
from seit_ray.studies.picture_store import column_bytes, picture_subset
from seit_ray.studies.storage_stages import as_many_steps, list_images_once, make_pictures, make_tokens, train_arm
from seit_ray.studies.stored import Stored, fitting, read_stored, write_stored
from seit_ray.studies.token_store import token_subset
from seit_ray.studies.trials import read_outcomes
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from seit_ray.training.world import World
from seit_ray.verbs.command import study as command_study
from seit_ray.verbs.command.study import check_same_images
from seit_ray.verbs.study_storage_curve import check, study_of_curve, study_storage_curve
from tests.tiny_images import image_files, write_files

CPU = torch.device("cpu")
CENTROID = CentroidSettings(image_size=16, patch_size=4, codebook_size=8)
MODEL = {"size": "nano", "width": 32, "depth": 1, "num_heads": 2, "drop_path": 0.0}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """train/ and test/ of three classes; 90 and 30 images, one of them damaged; not to be changed."""
    place = Folder(tmp_path_factory.mktemp("photos"))
    classes = ("cat", "dog", "emu")
    write_files(place.join("train"), image_files(90, classes=classes, format="JPEG"))
    write_files(place.join("test"), image_files(30, classes=classes, format="JPEG", first=500))
    place.join("train", "cat").write("bad.jpeg", b"\xff\xd8\xff nothing")
    return place


@pytest.fixture(scope="module")
def data(photos):
    return ImageSet(photos, SourceSettings())


@pytest.fixture(scope="module")
def listing(data, tmp_path_factory):
    """Of all of them."""
    folder = Folder(tmp_path_factory.mktemp("listing"))
    figures = list_images_once(run=folder, data=data)
    assert (figures["train_images"], figures["val_images"]) == (91, 30)
    return folder


@pytest.fixture(scope="module")
def tokens(data, listing, tmp_path_factory):
    """The store of an arm of tokens, and its figures."""
    store = Folder(tmp_path_factory.mktemp("tokens"))
    return store, tokens_made(store, data, listing)


def tokens_made(store, data, listing):
    more = {"centroid": CENTROID, "encodings": ("plain", "compact"), "world": World()}
    return make_tokens(run=store, data=data, listing=listing, **more)


@pytest.fixture(scope="module")
def pictures(data, listing, tmp_path_factory):
    """The store of images as they are, and its figures."""
    store = Folder(tmp_path_factory.mktemp("pictures"))
    return store, make_pictures(run=store, data=data, listing=listing, recoding=Recoding("source"))


def curve_config(photos, output, *words):
    values = {
        "images": photos.uri,
        "output": str(output),
        "seeds": [0, 1],
        "pixels": {"image_size": 16, "patch_size": 4, "crop_area": None},
        "pictures": {"jpeg": [5], "webp": [], "avif": [], "palettes": []},
        "tokens": {"codebook_sizes": [8], "patch_sizes": [4]},
        "model": MODEL,
        "loop": {"epochs": 4, "global_batch_size": 30, "trackers": []},
        "optimizer": {"lr": 3e-3, "warmup_epochs": 1},
        "trials": {"max_concurrent": 0},
    }
    return load(StudyStorageCurve, [], [*(f"{key}={json.dumps(value)}" for key, value in values.items()), *words])


def test_the_bytes_of_pixels_are_those_of_the_columns(pictures):
    store, figures = pictures
    (file,) = store.join("data").list("train-")
    meta = pq.ParquetFile(Path(store.join("data").uri_of(file.name))).metadata
    columns = [meta.row_group(g).column(c) for g in range(meta.num_row_groups) for c in range(2)]
    total = sum(column.total_compressed_size for column in columns)
    assert figures["bytes"] == figures["bytes_pixels"] == total < file.size_bytes
    assert (figures["images"], figures["test_images"], figures["rejected"]) == (90, 30, 1)
    assert 0 < figures["label_bytes"] < 200  # 90 labels of three classes


def test_images_of_an_arm_are_the_source_bytes_with_their_classes(pictures, photos):
    store, _ = pictures
    (file,) = store.join("data").list("train-")
    table = pq.read_table(store.join("data").uri_of(file.name))
    names = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    found = {
        (names[label], image) for image, label in zip(*(table[c].to_pylist() for c in ("image", "label")), strict=True)
    }
    files = [entry.name for entry in photos.list("train/") if "bad" not in entry.name]
    assert found == {(name.split("/")[1], photos.read(name)) for name in files}


def test_a_token_arm_is_a_whole_dataset_whose_bytes_count_tokenizer_and_labels(tokens):
    store, figures = tokens
    dataset = TokenDataset(store.join("data"))
    assert verify(dataset) == []
    split = dataset.split("train")
    assert dataset.info.encoding == "plain"
    assert (split.rows, split.rejected, dataset.split("val").rows) == (90, 1, 30)
    folder = dataset.folder.join("tokenizer")
    files = sum(folder.size(name) for name in ("tokenizer.safetensors", "tokenizer.json"))
    assert figures["tokenizer_bytes"] == files > CENTROID.codebook_bytes
    (shard,) = (dataset.folder.read(f"train/{s.name}") for s in split.shards)
    assert figures["bytes_plain"] == split.token_bytes + column_bytes(shard)["label"] + files
    assert figures["bytes"] == min(figures["bytes_plain"], figures["bytes_compact"])
    tokenizer, _ = load_tokenizer(folder)
    assert (tokenizer.grid, len(tokenizer.codebook)) == ((4, 4), 8)
    assert figures["psnr_db"] > 10


def test_a_store_that_is_made_is_not_made_again(tokens, data, listing):
    store, figures = tokens
    before = store.version("data/dataset.json")
    again = tokens_made(store, data, listing)
    assert (again, store.version("data/dataset.json")) == (figures, before)


def test_fewer_images_are_as_many_as_fit(pictures, tmp_path):
    store, figures = pictures
    found = [picture_subset(store, Folder(tmp_path / str(seed)), figures["bytes"] // 3, seed) for seed in (0, 1)]
    for stored in found:
        assert stored.total() <= figures["bytes"] // 3
        assert 20 <= stored.images <= 30  # small groups compress a little less
        assert stored.test_images == 30
    tables = [pq.read_table(tmp_path / str(seed) / "data" / "train-00000.parquet") for seed in (0, 1)]
    assert len(tables[0]) == found[0].images
    assert tables[0]["image"].to_pylist() != tables[1]["image"].to_pylist()  # another seed draws others
    assert read_stored(Folder(tmp_path / "0")) == found[0]


def test_fewer_tokens_share_a_budget_with_their_tokenizer(tokens, tmp_path):
    store, figures = tokens
    budget = figures["tokenizer_bytes"] + (figures["bytes_compact"] - figures["tokenizer_bytes"]) // 2
    stored = token_subset(store, Folder(tmp_path), budget, "compact", 0)
    assert 10 <= stored.images < 60
    assert stored.total() <= budget
    dataset, whole = TokenDataset(Folder(tmp_path / "data")), TokenDataset(store.join("data"))
    assert verify(dataset) == []
    rows, all_rows = dataset.read_split("train"), whole.read_split("train")
    known = dict(zip(all_rows.meta["key"].to_pylist(), all_rows.tokens.tolist(), strict=True))
    assert [known[key] for key in rows.meta["key"].to_pylist()] == rows.tokens.tolist()
    assert np.array_equal(dataset.read_split("val").tokens, whole.read_split("val").tokens)
    with pytest.raises(ValueError, match=r"into which not one image fits"):
        token_subset(store, Folder(tmp_path / "none"), figures["tokenizer_bytes"] + 1, "compact", 0)


def test_fewer_images_take_as_many_steps(tmp_path):
    loop, optimizer = LoopSettings(10, 32, trackers=()), OptimizerSettings(warmup_epochs=2)
    longer, slower = as_many_steps(loop, optimizer, 640, 100, CPU)
    assert 100 * longer.epochs // 32 == 640 * 10 // 32
    assert slower.warmup_epochs == pytest.approx(12.8)
    assert (longer.eval_every_epochs, longer.checkpoint_every_epochs) == (7, 7)  # nobody said how often: once an epoch
    longer, _ = as_many_steps(replace(loop, eval_every_epochs=4), optimizer, 640, 100, CPU)
    assert longer.eval_every_epochs == 26


def test_the_arms_of_a_curve(photos, tmp_path):
    study = study_of_curve(curve_config(photos, tmp_path / "new"))
    assert study.arms() == [
        "images as they are, all, both",
        "JPEG, quality 5, both",
        "tokens, K 8, 4x4, both",
        *(f"fewer images, bytes of tokens K 8, 4x4, plain, {equal}" for equal in ("steps", "epochs")),
        *(f"fewer images, bytes of tokens K 8, 4x4, compact, {equal}" for equal in ("steps", "epochs")),
    ]
    assert len({trial.name for trial in study.trials}) == len(study.trials) == 4 + 2 * 7
    budgeted = study_of_curve(curve_config(photos, tmp_path / "new", "budgets=[9000]", "equal=[steps]"))
    assert budgeted.arms()[3:] == [
        "fewer images, 9000 bytes, steps",
        "fewer images, as tokens, K 8, 4x4, 9000 bytes, steps",
    ]
    assert (
        dict(check(curve_config(photos, tmp_path / "new")))["trials"] == "14 that measure, 4 that make what these need"
    )


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    """(config, folder, rows) of a curve; not to be changed."""
    config = curve_config(photos, tmp_path_factory.mktemp("curve"), "seeds=[0]")
    return config, Folder(config.output), study_storage_curve(config)


def table(folder, name="table.csv"):
    return list(csv.DictReader(io.StringIO(folder.read(name).decode())))


def test_a_curve_ends_in_a_table_a_picture_and_words(finished):
    _, folder, rows = finished
    lines = {(line["arm"], line["setting"], line["equal"]): line for line in table(folder)}
    assert len(lines) == 8  # tokens twice, by encoding, and fewer images in the bytes of each
    plain, compact = (lines[f"tokens, {name}", "K 8, 4x4", "both"] for name in ("plain", "compact"))
    assert plain["top1"] == compact["top1"]
    assert plain["bytes"] != compact["bytes"]
    assert {line["seeds"] for line in lines.values()} == {"1"}
    assert {line["test_images"] for line in lines.values()} == {"30"}
    assert float(plain["top1"]) > 0.5  # of three classes by colour
    fewer = [line for line in lines.values() if line["arm"] == "fewer images"]
    for line in fewer:
        own = plain if line["setting"].endswith(", plain") else compact
        assert 0.7 * float(own["bytes"]) < float(line["bytes"]) <= float(own["bytes"])
    assert [int(line["steps"]) for line in fewer if line["equal"] == "steps"] == [12, 12]
    assert all(int(line["steps"]) < 12 for line in fewer if line["equal"] == "epochs")
    page = folder.read("report.html").decode()
    assert page.count("<svg") == 1
    assert "Where tokens win, and where they do not" in page
    assert "Idle is the share" in page
    texts = dict(rows)
    assert texts["report"] == folder.uri_of("report.html")
    assert "tokens, compact, K 8, 4x4 (" in texts["tokens"] or "tokens, plain, K 8, 4x4 (" in texts["tokens"]


def test_a_curve_that_goes_on_does_nothing_twice_and_refuses_other_arms(finished, photos):
    config, folder, _ = finished
    before = {name: folder.version(name) for name in (e.name for e in folder.list("trials/"))}
    tables = {name: folder.read(name) for name in ("table.csv", "trials.csv")}
    study_storage_curve(config)
    assert {name: folder.version(name) for name in before} == before
    assert {name: folder.read(name) for name in tables} == tables
    with pytest.raises(ValueError, match=r"other arms: now without JPEG, quality 5, .* and with JPEG, quality 7, "):
        check(curve_config(photos, config.output, "seeds=[0]", "pictures.jpeg=[7]"))
    with pytest.raises(ValueError, match=r"holds a study with loop\.epochs 4 \(now 5\)"):
        study_storage_curve(curve_config(photos, config.output, "loop.epochs=5"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["budgets=[1000]"],
            r"budgets 1000; expected more than the 1536 bytes of the codebook of 8 codes of 4x4 pixels",
        ),
        (["tokens.patch_sizes=[3]"], r"tokens\.patch_sizes 3; expected what divides pixels\.patch_size 4"),
        (["pixels.image_size=18"], r"pixels\.image_size 18; expected a multiple of pixels\.patch_size 4"),
        (["pictures.sizes=[16]"], r"pictures\.sizes 16; expected less than pixels\.image_size 16"),
        (["model.stem_kernel=2"], r"model\.stem_kernel; expected none, as pixels\.patch_size decides"),
        (["loop.seed=3"], r"loop\.seed 3; expected none, as the seed comes from seeds, one for each trial; drop"),
        (
            ["trials.cpus_per_trial=2"],
            r"trials\.cpus_per_trial 2 and gpus_per_trial None with max_concurrent 0, where a",
        ),
        (["equal=[]"], r"equal is empty; expected one at least"),
        (["seeds=[0,0]"], r"one seed or more, none of them twice"),
        (["output=PHOTOS/new"], r"expected two folders, neither of them in the other"),
        (["model.train_only=attention"], r"model\.train_only attention; expected all, since nothing is pre-trained"),
        (["model.width=30", "model.num_heads=4"], r"width 30 with num_heads 4; expected a width that the heads divide"),
        (["augment.synonym_prob=1", "augment.num_synonyms=8"], r"augment\.num_synonyms 8 of 8 codes; expected 1 to 7"),
        (["augment.adapt_run=PHOTOS"], r"no finished run in .*; expected model\.json"),
        (["augment.synonym_share=0.5"], r"augment\.synonym_share with augment\.synonym_prob 0\.0; expected none"),
        (["model.encoder=beit"], r"model\.inputs learned of encoder beit; expected codebook"),
        (["loop.keep_best=val_topp1"], r"loop\.keep_best val_topp1; did you mean val_top1"),
    ],
)
def test_mistakes_are_one_line_before_any_work(photos, tmp_path, words, message):
    with pytest.raises(ValueError, match=message) as caught:
        check(curve_config(photos, tmp_path / "new", *(word.replace("PHOTOS", photos.uri) for word in words)))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_set_without_a_class_in_common_is_refused(tmp_path):
    place = Folder(tmp_path / "photos")
    write_files(place.join("train"), image_files(6, classes=("cat", "dog")))
    write_files(place.join("val"), image_files(3, classes=("emu",)))
    with pytest.raises(
        ValueError, match="train of the source has the classes 'cat', 'dog', val 'emu'; expected classes in common"
    ):
        check(curve_config(place, tmp_path / "new"))


def test_fitting_finds_the_most_that_fit_whatever_they_take():
    asked = []

    def of(num):
        asked.append(num)
        return Stored(num, 5, {"pixels": 50 + 9 * num + 3 * (num % 7)}, 0, tokenizer_bytes=100)

    whole = Stored(1000, 5, {"pixels": 9050}, 0, tokenizer_bytes=100)
    for budget in (300, 2000, 5000, 9100):
        found = fitting(of, whole, budget)
        assert found.total() <= budget
        assert of(found.images + max(2, found.images // 50)).total() > budget
    assert len(asked) < 40
    assert fitting(of, whole, 10**6).images == 1000
    with pytest.raises(ValueError, match="budget 120 bytes, into which not one image fits"):
        fitting(of, whole, 120)


def test_a_store_without_images_is_no_budget():
    with pytest.raises(ValueError, match="budget 300 bytes of a store without images; expected some"):
        fitting(lambda num: None, Stored(0, 5, {"pixels": 0}, 0), 300)


def test_the_images_are_listed_once_for_all_that_is_made_of_them(finished):
    config, folder, _ = finished
    study = study_of_curve(config)
    first, *makers = [trial for trial in study.trials if "seed" not in trial.settings]
    assert [trial.needs for trial in makers] == [(first.name,)] * 3
    listings = [e.name for e in folder.list("trials/") if e.name.endswith("/manifest.json") and "/run/" not in e.name]
    assert listings == [f"trials/{first.name}/listing/manifest.json"]  # beside those of what is stored
    (outcome,) = [outcome for outcome in read_outcomes(folder) if outcome.name == first.name]
    assert len(outcome.figures["listing"]) == 64


def test_a_tokenizer_is_fitted_on_images_that_are_stored(data, listing, monkeypatch):
    manifest, seen = load_manifest(listing), []

    class Seen(Exception):
        pass

    def read(rows, *given, **more):
        seen.append(set(rows["key"].to_pylist()))
        raise Seen

    monkeypatch.setattr(token_store, "read_pixels", read)
    with pytest.raises(Seen):
        token_store.fit_on(manifest, data.images, replace(CENTROID, sample_images=20), max_images=60, seed=1)
    assert len(seen[0]) == 20
    assert seen[0] <= set(manifest.sample("train", 60, 1)["key"].to_pylist())


def test_white_of_the_source_is_white_in_what_is_stored_of_it(tmp_path, monkeypatch):
    """Grey images of 12 bits, as they are and fewer of them: nearly black without source.white_level."""
    place, rng = Folder(tmp_path / "photos"), np.random.default_rng(0)
    for number in range(16):
        sink = io.BytesIO()
        Image.fromarray(rng.integers(0, 4096, (16, 16)).astype(np.uint16)).save(sink, "PNG")
        split = "val" if number % 4 > 1 else "train"
        place.write(f"{split}/{'ab'[number % 2]}/{number}.png", sink.getvalue())
    data = ImageSet(place, SourceSettings(white_level=4095))
    listing, store, tokens = (Folder(tmp_path / name) for name in ("listing", "store", "tokens"))
    list_images_once(run=listing, data=data)
    size = make_pictures(run=store, data=data, listing=listing, recoding=Recoding("source"))["bytes"]
    write_stored(tokens, Stored(8, 8, {"compact": size // 2}, 0))
    taken = []

    def finetune(**given):
        taken.append(given["source"])
        return {"val_top1": 0.5, "step": 1, "epoch": 1, "train_loss": 1.0, "samples_per_s": 9.0}

    monkeypatch.setattr(storage_stages, "finetune", finetune)
    monkeypatch.setattr(transfer_stages, "finetune", finetune)
    how = {"loop": LoopSettings(1, 4, trackers=()), "optimizer": OptimizerSettings(), "world": World()}
    how |= {"pixels": PixelSettings(), "model": ClassifierSettings(), "label_smoothing": 0.0, "augment": None}
    for number, budget in enumerate((None, Budget(size // 2))):
        more = {"is_tokens": False, "budget": budget, "equal": "steps", "encoding": "compact"}
        train_arm(run=Folder(tmp_path / f"run{number}"), store=store, **more, **how)
    transfer_stages.supervise(run=Folder(tmp_path / "run2"), tokens=tokens, files=store, **how)
    assert taken == [SourceSettings(kind="parquet", white_level=4095)] * 3


def test_an_image_without_a_label_is_refused_before_any_training(photos, tmp_path):
    place = write_files(tmp_path / "photos", {name: photos.read(name) for name in (e.name for e in photos.list())})
    place.write("train/stray.jpeg", photos.read(next(e.name for e in photos.list("test/"))))
    with pytest.raises(ValueError, match="has 1 images without a label in train; expected a label for each"):
        check(curve_config(place, tmp_path / "new"))


def test_images_that_give_no_step_of_training_are_told_before_any(photos, tmp_path):
    config = curve_config(photos, tmp_path / "new", "loop.global_batch_size=400")  # 91 images, 4 epochs
    for verb in (check, study_storage_curve):
        with pytest.raises(ValueError, match=r"photos.*: 91 samples x 4.* with global_batch_size 400 give no step"):
            verb(config)
    few = curve_config(photos, tmp_path / "new", "pixels.max_images=7")  # of each split
    with pytest.raises(ValueError, match=r"7 samples x 4.* with global_batch_size 30 give no step"):
        check(few)
    assert not (tmp_path / "new").exists()


def test_a_finished_curve_is_not_one_of_other_images(finished, photos, tmp_path, monkeypatch):
    config, study = finished[0], study_of_curve(finished[0])
    check_same_images(study, config, val_fraction=0.0, seed=0)
    place = write_files(tmp_path / "photos", {e.name: photos.read(e.name) for e in photos.list()})
    place.write("train/cat/another.jpeg", photos.read(next(e.name for e in photos.list("test/"))))
    listings_of = command_study.listings_of  # as if these had come in place of those
    monkeypatch.setattr(command_study, "listings_of", lambda trial: [(place, of) for _, of in listings_of(trial)])
    with pytest.raises(ValueError, match="has other images than when the study listed them"):
        check_same_images(study, config, val_fraction=0.0, seed=0)


def test_more_unreadable_images_than_a_training_bears_end_what_is_made_of_them(tmp_path):
    files = {f"{split}/{name}": b"nothing" for split in ("train",) for name in image_files(4)}
    place = write_files(tmp_path / "photos", {**files, **{f"val/{n}": d for n, d in image_files(4).items()}})
    place.write("train/cat/good.png", next(iter(image_files(1).values())))
    data, listing = ImageSet(place, SourceSettings()), Folder(tmp_path / "listing")
    list_images_once(run=listing, data=data)
    with pytest.raises(
        ValueError, match=r"4 of 5 images in split 'train' of .* cannot be read, the last: .*; expected"
    ):
        make_pictures(run=Folder(tmp_path / "p"), data=data, listing=listing, recoding=Recoding("source"))
    with pytest.raises(
        ValueError, match=r"4 of 5 images in split 'train' of .* cannot be read, the last: .*; expected"
    ):
        tokens_made(Folder(tmp_path / "t"), data, listing)


def test_a_set_that_is_not_whole_needs_both_splits(tmp_path):
    place = write_files(tmp_path / "photos", image_files(6))
    with pytest.raises(ValueError, match="has no val images but train; expected both train and val"):
        check(curve_config(place, tmp_path / "new"))


class Killed(BaseException):
    """As a kill: nothing that follows is done."""


def test_a_kill_in_the_middle_of_a_training_leads_to_the_same_table(finished, photos, tmp_path):
    config = curve_config(photos, tmp_path, "seeds=[0]")

    def kill(phase, done, total, note=""):
        if phase.startswith("tokens-") and "train loss" in note and done > 6:  # of 12 steps; checkpoints after 3
            raise Killed

    config.loop.log_every_steps = 1  # which decides nothing
    with pytest.raises(Killed):
        study_storage_curve(config, kill)
    states = [outcome.status for outcome in read_outcomes(Folder(config.output))]
    assert (states.count("running"), states.count("finished")) == (
        1,
        6,
    )  # a listing, three makers and two trainings before
    study_storage_curve(config)
    tables = [folder.read("table.csv") for folder in (finished[1], Folder(config.output))]
    assert tables[0] == tables[1]
