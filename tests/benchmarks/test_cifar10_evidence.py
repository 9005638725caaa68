"""The arms of the evidence are what they are called."""

import json
from argparse import Namespace

from seit_ray import config
from seit_ray.augment.settings import AugmentSettings
from seit_ray.models.exports import import_model
from seit_ray.storage import Folder
from tests.benchmarks.cifar10_evidence import (
    ADAPTED,
    MASKED,
    SETTINGS,
    augment_of,
    model_of,
    name_of,
    tokens_of,
    train,
)
from tests.tiny_dataset import write_dataset


def test_seit_reads_codebook_rows_through_its_own_stem_and_the_others_a_learned_table():
    stems = {}
    for setting in SETTINGS:
        model = config.Classifier(**model_of(setting))
        stems[setting] = (model.inputs, model.stem_kernel, model.stem_stride or model.stem_kernel, model.stem_padding)
    assert stems.pop("SeiT") == ("codebook", 4, 2, 1)
    assert set(stems.values()) == {("learned", 2, 2, 0)}
    assert {*MASKED, *ADAPTED} <= set(SETTINGS) - {"SeiT", "learned table"}


def test_the_augmentation_of_each_arm_is_one_that_can_be(tmp_path):
    for setting in SETTINGS:
        given = config.Augment(**augment_of(tmp_path, setting))
        own = {name: getattr(given, name) for name in AugmentSettings.__dataclass_fields__ if hasattr(given, name)}
        AugmentSettings(grid=(8, 8), **own)
        assert (given.noise_scale, given.noise_std) == (0.25, 0.25)  # in units of the codebook
        assert (given.adapt == "tokenadapt") == (setting in ADAPTED)


def test_the_arm_of_seit_trains(tmp_path, capsys):
    write_dataset(tokens_of(tmp_path, 1.0), sizes={"train": 64, "val": 16}, side=8)
    train(Namespace(epochs=3, optimizer="muon"), tmp_path, "SeiT", 1.0, 0)
    run = Folder(tmp_path / name_of(0, 1.0, "SeiT"))
    model, about = import_model(run, "classifier")
    assert model.patch_grid == (4, 4)
    assert about["settings"]["inputs"] == "codebook"
    assert 0 <= json.loads(run.read("evaluate-val.json"))["top1"] <= 1
    assert "done" in capsys.readouterr().out
