"""The verb that trains TokenAdapt, called as a function."""

import pytest

from seit_ray.config import TrainTokenAdapt, load
from seit_ray.storage import Folder
from seit_ray.verbs.train_tokenadapt import check, train_tokenadapt
from tests.tiny_images import image_files, write_files, write_tokenizer

SMALL = [
    "model={width: 16, num_heads: 2, head_dim: 8, mlp_width: 32}",
    "loop={epochs: 2, global_batch_size: 6}",
    "workers.num_workers=0",
    "val_fraction=0.3",
]


@pytest.fixture
def given(tmp_path):
    """The overrides of a command on a few images."""
    folder = Folder(tmp_path)
    write_files(folder.join("photos"), image_files(20))
    write_tokenizer(folder.join("tokenizer"))
    places = {"images": "photos", "tokenizer": "tokenizer", "output": "runs"}
    return [*(f"{key}={tmp_path / name}" for key, name in places.items()), "run=adapt", *SMALL]


def test_the_plan_names_tokenizer_and_grids(given):
    rows = dict(check(load(TrainTokenAdapt, [], [*given, "out_grid=[3, 5]"])))
    assert rows["grids"] == "4x4 -> 3x5"
    assert rows["tokenizer"].startswith("centroid ")
    assert rows["ray"] == "not used: one process"


def test_the_table_tells_hit_rates_and_psnr(given, tmp_path):
    rows = dict(train_tokenadapt(load(TrainTokenAdapt, [], given)))
    assert rows["run"] == str(tmp_path / "runs" / "adapt")
    assert "% (augmenting the grid of codes: " in rows["val: codes that are right"]
    assert rows["val: PSNR"].count(" dB") == 4
    run = Folder(tmp_path / "runs" / "adapt")
    assert run.exists("model.json")
    assert run.exists("train_tokenadapt.run.json")


def test_without_a_val_split_the_table_tells_the_training(given):
    rows = dict(train_tokenadapt(load(TrainTokenAdapt, [], [*given, "val_fraction=0"])))
    assert "train: codes that are right" in rows
    assert "val: PSNR" not in rows


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("geometry.area=[0.5, 0.2]", "crop area"),
        ("geometry.max_shear=90", "max_shear"),
        ("out_grid=[0, 4]", "out_grid"),
        ("model.width=18", "multiple of 4"),
        ("tokenizer=/nowhere", "/nowhere does not exist"),
    ],
)
def test_mistakes_are_found_before_training(given, override, told):
    with pytest.raises(ValueError, match=told):
        check(load(TrainTokenAdapt, [], [*given, override]))
