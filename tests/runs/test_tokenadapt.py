"""The run that trains TokenAdapt, from images to a stored model."""

import json

import pytest
import torch

from seit_ray.images.sources.settings import SourceSettings
from seit_ray.runs.augmentation import adapter_of
from seit_ray.runs.inputs import TokenInputs
from seit_ray.runs.settings import GeometrySettings, TokenAdaptSettings
from seit_ray.runs.tokenadapt import train_tokenadapt
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.training.metrics import read_metrics
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from tests.tiny_images import image_files, write_files, write_tokenizer
from tests.tiny_trainers import CPU, OPTIMIZER, without_speed

GEOMETRY = {"max_angle": 20.0, "area": (0.3, 1.0)}
MODEL = {"width": 16, "depth": 1, "num_heads": 2, "head_dim": 8, "mlp_width": 32}
LOOP = {"epochs": 3, "global_batch_size": 7, "log_every_steps": 2, "seed": 0}


@pytest.fixture
def place(tmp_path):
    """Images and a tokenizer of a grid of 4x4."""
    folder = Folder(tmp_path)
    write_files(folder.join("photos"), image_files(30))
    write_tokenizer(folder.join("tokenizer"))
    return folder


def train(place, run="run", **more):
    """The run with every setting open."""
    settings = {
        "images": place.join("photos"),
        "source": SourceSettings(),
        "tokenizer": place.join("tokenizer"),
        "run": place.join(run),
        "val_fraction": 0.3,
        "max_images": None,
        "seed": 0,
        "out_grid": None,
        "geometry": GeometrySettings(**GEOMETRY),
        "model": TokenAdaptSettings(**MODEL),
        "loop": LoopSettings(**LOOP),
        "optimizer": OptimizerSettings(**{**OPTIMIZER, "layer_decay": 1.0}),
        "world": CPU,
    }
    if "loop" in more:
        more["loop"] = LoopSettings(**more["loop"])
    if "geometry" in more:
        more["geometry"] = GeometrySettings(**more["geometry"])
    return train_tokenadapt(**{**settings, **more})


def adapter(place, tokenizer="tokenizer", out_grid=(4, 4)):
    """f and g as other runs take them, for tokens of a tokenizer."""
    tokenizer, about = load_tokenizer(place.join(tokenizer))
    inputs = TokenInputs(
        train=None,
        val=None,
        class_names=None,
        identity={"tokenizer": about["fingerprint"]},
        grid=out_grid,
        where="tokens",
        tokenizer=tokenizer,
        dataset=None,
    )
    return adapter_of("tokenadapt", inputs, place.join("run"), tokenizer.grid, out_grid, CPU)


def test_a_run_leaves_f_and_g_frozen(place):
    metrics = train(place, out_grid=(3, 5))
    assert {"train_loss", "train_hit_rate", "train_naive_hit_rate", "val_loss", "val_hit_rate", "val_psnr_db"} <= set(
        metrics
    )
    model = adapter(place)
    assert (model.grid, model.out_grid, model.num_codes, model.dim) == ((4, 4), (3, 5), 16, 48)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert model.to_codes(torch.zeros(2, 48, 6, 10)).shape == (2, 3, 5)
    about = json.loads(place.join("run").read("model.json"))
    assert {"max_angle": 20.0, "area": [0.3, 1.0]}.items() <= about["geometry"].items()
    assert about["out_grid"] == [3, 5]
    assert about["metrics"] == metrics


def test_it_learns(place):
    loop = {**LOOP, "epochs": 25, "eval_every_epochs": 25, "checkpoint_every_epochs": 25}
    train(place, loop=loop)
    records = read_metrics(place.join("run"))
    assert records[-1]["train_loss"] < 0.8 * records[0]["train_loss"]
    assert records[-1]["train_hit_rate"] > 2 * records[0]["train_hit_rate"]


def test_the_same_run_again_changes_nothing(place):
    metrics = train(place)
    before = place.join("run").read("model.safetensors")
    assert train(place) == metrics
    assert place.join("run").read("model.safetensors") == before


def test_seeds_decide(place):
    losses = [
        train(place, run, loop={**LOOP, "seed": seed})["train_loss"] for run, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert losses[0] == losses[1] != losses[2]


def test_a_sample_of_the_images(place):
    metrics = train(place, max_images=8, val_fraction=0.5)
    assert metrics["step"] == 3 * 8 // 7
    without = train(place, "other", val_fraction=0.0)
    assert not any(name.startswith("val_") for name in without)


def test_tokens_of_another_tokenizer_are_refused_by_name(place):
    train(place)
    write_tokenizer(place.join("other"), seed=1)
    with pytest.raises(ValueError, match=r"was made with tokenizer .*expected") as caught:
        adapter(place, "other")
    assert "\n" not in str(caught.value)


def test_other_settings_need_another_run(place):
    train(place)
    with pytest.raises(ValueError, match="was made with geometry"):
        train(place, geometry={**GEOMETRY, "max_angle": 5.0})
    with pytest.raises(ValueError, match="was made with out_grid"):
        train(place, out_grid=(3, 3))


def test_a_source_without_a_train_split_is_refused(place):
    write_files(place.join("held"), {f"val/{name}": data for name, data in image_files(4).items()})
    with pytest.raises(ValueError, match=r"held has no train split but val; expected one"):
        train(place, images=place.join("held"))


def test_a_missing_tokenizer_is_refused(place):
    with pytest.raises(ValueError, match=r"does not exist|no tokenizer in"):
        train(place, tokenizer=place.join("nowhere"))


def test_a_killed_run_goes_on_as_if_it_had_not_been(place):
    class KilledError(Exception):
        pass

    def kill(record):
        if record["step"] >= 6:
            raise KilledError

    whole = train(place, "whole")
    with pytest.raises(KilledError):
        train(place, "killed", on_metrics=kill)
    again = train(place, "killed")
    assert without_speed(again) == without_speed(whole)
    weights = [place.join(run).read("model.safetensors") for run in ("whole", "killed")]
    assert weights[0] == weights[1]
