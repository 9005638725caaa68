"""docs/formats.md: its readers, run as they stand on the page, give what this package reads."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from seit_ray.config import Finetune, Predict
from seit_ray.shards import TokenDataset
from seit_ray.shards.compact import pack_compact
from seit_ray.shards.rewrite import rewrite_dataset
from seit_ray.shards.synonyms import write_synonyms
from seit_ray.storage import Folder
from seit_ray.studies.in_process import run_in_process
from seit_ray.studies.lines import lines_of
from seit_ray.studies.study_page import write_tables
from seit_ray.studies.sweep_report import trials_csv
from seit_ray.studies.trials import Outcome, write_outcome
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.files import load_tokenizer, save_tokenizer
from seit_ray.training.checkpoints import load_checkpoint
from seit_ray.training.metrics import read_metrics
from seit_ray.verbs.finetune import finetune
from seit_ray.verbs.predict import predict
from tests.studies.tiny_studies import tiny_study
from tests.tiny_classifiers import write_classifier
from tests.tiny_dataset import write_dataset
from tests.tiny_images import image_files, write_files, write_tokenizer
from tests.tiny_maps import scene, write_camvid, write_map_dataset

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
NUM_CODES = 700  # more than a byte holds
OUTCOMES = [
    Outcome("0123456789", {"optimizer.lr": 1e-3, "augment.crop_area": [0.2, 1.0]}, "finished", 0.5, 4.0, 3.21),
    Outcome("9876543210", {"optimizer.lr": 5.0, "augment.crop_area": [1.0, 1.0]}, "failed", error="not finite, at all"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The names that the page's blocks leave, run one after the other in a folder with all that they read."""
    place = tmp_path_factory.mktemp("formats")
    make_dataset(place)
    make_run(place)
    make_predictions(place)
    make_sweep(place)
    make_study(place)
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for number, block in enumerate(re.findall(r"(?ms)^```python\n(.*?)^```", PAGE.read_text())):
            assert "seit_ray" not in block
            exec(compile(block, f"{PAGE.name} block {number}", "exec"), names)
    return place, names


def make_dataset(place):
    folder = write_dataset(place / "runs" / "tokens", num_codes=NUM_CODES, sizes={"train": 45, "val": 12})
    synonyms = torch.arange(NUM_CODES)[:, None] + torch.tensor([[1, 2]])
    write_synonyms(folder, synonyms % NUM_CODES)


def make_run(place):
    loop = {"epochs": 2, "global_batch_size": 16, "log_every_steps": 1, "ema_decay": 0.9, "keep_best": "val_top1"}
    config = Finetune(
        dataset=str(place / "runs" / "tokens"),
        output=str(place / "runs"),
        run="classifier",
        model={"size": "nano", "width": 16, "depth": 1, "num_heads": 2, "stem_kernel": 1},
        loop=loop,
        optimizer={"lr": 1e-3, "warmup_epochs": 0},
        workers={"num_workers": 0},
    )
    finetune(config)


def make_predictions(place):
    images = image_files(12, classes=("cat", "dog", "emu")) | {"dog/bad.png": b"no image"}
    write_files(place / "images", images)
    write_tokenizer(place / "other" / "tokenizer")
    write_classifier(place / "run", Folder(place / "other"))
    keys = {"images": str(place / "images"), "run": str(place / "run"), "top_k": 2, "num_actors": 0}
    for name in ("predictions.csv", "predictions.parquet", "predictions"):
        predict(Predict(output=str(place / name), **keys))


def test_label_maps_of_a_dataset_of_pairs(page, tmp_path):
    _, names = page
    folder = write_map_dataset(tmp_path / "tokens", write_camvid(tmp_path / "photos", {"train": 2}))
    table, _ = names["read_split"](folder.uri, "train")
    found = list(names["read_maps"](table, names["read_info"](folder.uri)["void"]))
    for seed, (classes, values) in enumerate(found):
        assert np.array_equal(values, scene(seed)[1])
        assert np.array_equal(classes == 255, scene(seed)[1] == 3)


def make_sweep(place):
    folder = Folder(place / "runs" / "masking")
    for outcome in OUTCOMES:
        write_outcome(folder, outcome)
    text = trials_csv(OUTCOMES, "val_top1", lambda outcome: f"seit-ray finetune run={outcome.name}")
    folder.write("trials.csv", text.encode())


def make_study(place):
    """Of one arm made once and measured twice."""
    study = tiny_study(Folder(place / "runs" / "curve"), arms=("a",))
    outcomes = run_in_process(study)
    write_tables(study.folder, lines_of(outcomes, "top1"), outcomes, "top1", ("calls",))


def same_rows(found, expected):
    """Whether (table, tokens) of the page are the rows that the package reads."""
    table, tokens = found
    assert tokens.dtype == np.uint16
    np.testing.assert_array_equal(tokens, expected.tokens)
    assert table.equals(expected.meta)


def test_dataset(page):
    place, names = page
    dataset = TokenDataset(Folder(place / "runs" / "tokens"))
    assert {name: split["rows"] for name, split in names["info"]["splits"].items()} == {"train": 45, "val": 12}
    assert names["info"]["class_names"] == dataset.info.class_names
    expected = dataset.read_split("train")
    assert expected.tokens.max() > 511
    same_rows((names["table"], names["tokens"]), expected)
    same_rows(names["read_split"](dataset.folder.uri, "val"), dataset.read_split("val"))
    assert names["labels"] == [dataset.info.class_names[n] for n in expected.meta["label"].to_pylist()]
    rejected = dataset.rejected("train")
    assert names["rejected"] == list(zip(rejected["key"].to_pylist(), rejected["reason"].to_pylist(), strict=True))
    assert len(names["rejected"]) == dataset.info.splits["train"].rejected > 0


@pytest.mark.parametrize("encoding", ["plain", "compact"])
@pytest.mark.parametrize("num_codes", [16, 700])
def test_every_encoding(page, tmp_path, encoding, num_codes):
    _, names = page
    sizes = {"train": 400, "val": 1}  # enough for tables by neighbours where K is 16
    base = TokenDataset(write_dataset(tmp_path / "base", num_codes=num_codes, sizes=sizes, rows_per_shard=300, side=8))
    rewrite_dataset(base, Folder(tmp_path / "other"), encoding=encoding)
    for split in sizes:
        same_rows(names["read_split"](tmp_path / "other", split), base.read_split(split))


def test_compact_with_many_tables(page):
    _, names = page
    rng = np.random.default_rng(0)
    steps = rng.integers(-1, 2, size=(500, 64))
    tokens = ((np.cumsum(steps, axis=1) + rng.integers(40, size=(500, 1))) % 40).astype(np.uint16)
    cells = pack_compact(tokens, 40).to_pylist()
    assert np.frombuffer(cells[0], "<u4", 8)[6] > 1
    np.testing.assert_array_equal(names["unpack_compact"](cells, 64, 40), tokens)


def test_alterations_are_seen(page, tmp_path):
    _, names = page
    folder = write_dataset(tmp_path / "tokens")
    shard, marker = tmp_path / "tokens" / "train" / "shard-00000.parquet", tmp_path / "tokens" / "dataset.json"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    with pytest.raises(AssertionError, match="shard-00000"):
        names["read_split"](folder.uri, "train")
    marker.write_text(marker.read_text().replace("class 0", "class X"))
    with pytest.raises(AssertionError, match=r"dataset\.json"):
        names["read_info"](folder.uri)


def test_tokenizer(page, tmp_path):
    place, names = page
    tokenizer, _ = load_tokenizer(Folder(place / "runs" / "tokens" / "tokenizer"))
    tokens = names["tokens"].astype(np.int64)
    np.testing.assert_array_equal(names["images"], tokenizer.decode(torch.from_numpy(tokens[:8])).numpy())
    assert len(names["synonyms"]) == NUM_CODES
    larger = CentroidTokenizer(torch.rand(9, 3 * 4**2), image_size=12, patch_size=4)
    save_tokenizer(larger, Folder(tmp_path))
    drawn = np.random.default_rng(0).integers(9, size=(5, 9))
    expected = larger.decode(torch.from_numpy(drawn)).numpy()
    np.testing.assert_array_equal(names["decode_centroids"](tmp_path, drawn), expected)


def test_run(page):
    place, names = page
    run = Folder(place / "runs" / "classifier")
    assert names["about"]["kind"] == "classifier"
    assert names["about"]["tokenizer"] == TokenDataset(Folder(place / "runs" / "tokens")).info.tokenizer
    assert names["records"] == read_metrics(run)
    assert [top1 for _, top1 in names["curve"]][-1] == names["about"]["metrics"]["val_top1"]
    assert names["record"]["config"]["optimizer"]["lr"] == 1e-3
    expected = {"model.safetensors", "ema.safetensors", "best.safetensors", "first_batch.png", "finetune.run.json"}
    assert expected <= {entry.name for entry in run.list()}


def test_checkpoint(page):
    place, names = page
    tensors, about = load_checkpoint(Folder(place / "runs" / "classifier"))
    assert names["checkpoint"] == about
    assert set(names["state"]) == set(tensors)
    assert set(names["model"]) == set(names["weights"])
    for name, weight in names["model"].items():
        np.testing.assert_array_equal(weight, tensors[f"model/{name}"].numpy())
        np.testing.assert_array_equal(weight, names["weights"][name])  # it ended in its last checkpoint


def test_predictions(page):
    place, names = page
    assert names["counts"]["listed"] == 13
    assert names["counts"]["rejected"] == 1
    table = names["predictions"]
    assert len(table) == names["counts"]["predicted"] == 12
    expected = [k for k, p in zip(table["key"].to_pylist(), table["probability"].to_pylist(), strict=True) if p < 0.5]
    assert names["doubtful"] == expected
    text, page_text = (place / "predictions.csv").read_text().splitlines()[0], PAGE.read_text()
    known = {"key", "uri", "source_label", "label", "probability", "p_cat", "p_dog", "p_emu"}
    known |= {f"{name}_{i}" for name in ("label", "probability") for i in (1, 2)}
    assert set(text.replace('"', "").split(",")) == known
    assert all(f"`{name}`" in page_text for name in table.column_names)
    assert sorted(names["predicted"]) == sorted(table["label"].to_pylist())
    assert names["marker"]["counts"] == names["counts"]
    model = json.loads((place / "predictions.csv.json").read_text())["plan"]["model"]
    assert hashlib.sha256((place / "run" / "model.safetensors").read_bytes()).hexdigest().startswith(model)


def test_sweep(page):
    _, names = page
    first, second = names["trials"]
    assert first["trial"] == names["outcome"]["name"] == OUTCOMES[0].name
    assert first["val_top1"] == names["outcome"]["value"] == 0.5
    assert first["augment.crop_area"] == names["outcome"]["settings"]["augment.crop_area"] == [0.2, 1.0]
    assert second["error"] == "not finite, at all"
    assert first["command"] == f"seit-ray finetune run={OUTCOMES[0].name}"
    assert second["val_top1"] == ""


def test_study(page):
    _, names = page
    (line,) = names["lines"]
    assert (line["arm"], line["seeds"], line["calls"], line["failed"]) == ("a", 2, 1, None)
    assert line["top1"] == pytest.approx(0.105)
    assert line["standard_error_seeds"] == pytest.approx(0.005)
    assert names["busy"][0]["trials"] == 3
    assert 0 <= names["idle"][0] <= 1
