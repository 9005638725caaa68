"""The probe before a fine-tuning: of a trained run's features, or of those that are drawn."""

import numpy as np
import pytest
import torch

from seit_ray.evaluation.knn import knn_probe
from seit_ray.evaluation.linear_probe import linear_probe
from seit_ray.evaluation.rankme import rankme
from seit_ray.models.exports import import_model
from seit_ray.runs.finetune import finetune
from seit_ray.runs.frozen_probe import probe_frozen
from seit_ray.runs.settings import AugmentationSettings, ClassifierSettings
from seit_ray.shards.dataset import TokenDataset
from seit_ray.storage import Folder
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from seit_ray.training.world import World
from tests.tiny_dataset import write_dataset

MODEL = ClassifierSettings(size="nano", width=32, depth=1, num_heads=2, drop_path=0.0, dropout=0.0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("tokens"), sizes={"train": 60, "val": 30})


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """A short run."""
    run = Folder(tmp_path_factory.mktemp("run"))
    finetune(
        run=run,
        dataset=dataset,
        model=MODEL,
        label_smoothing=0.0,
        augment=AugmentationSettings(),
        loop=LoopSettings(2, 20, trackers=()),
        optimizer=OptimizerSettings(lr=1e-3, warmup_epochs=0.5),
        world=World(),
    )
    return run


def probed(dataset, run, **more):
    return probe_frozen(run=run, dataset=dataset, model=MODEL, world=World(), **{"seed": 0, **more})


def test_it_is_the_regression_on_the_features_of_the_run(dataset, trained, run):
    found = probed(dataset, run, init_from=trained)
    net, _ = import_model(trained, "classifier")
    features = {}
    for split in ("train", "val"):
        rows = TokenDataset(dataset).read_split(split)
        with torch.no_grad():
            inputs = net.forward_features(torch.from_numpy(rows.tokens.astype(np.int64)))
        features[split] = inputs, torch.from_numpy(rows.meta["label"].to_numpy().astype(np.int64))
    names = TokenDataset(dataset).info.class_names
    expected = linear_probe(*features["train"], *features["val"], len(names), max_iterations=50)
    assert found["top1"] == pytest.approx(expected.top1, abs=0.04)  # of 30 images
    assert (found["samples"], found["ridge"]) == (30, expected.l2)
    neighbours = knn_probe(*features["train"], *features["val"], len(names), k=20, temperature=0.07)
    assert found["knn_top1"] == pytest.approx(neighbours.top1, abs=0.04)
    assert found["rankme"] == pytest.approx(rankme(features["train"][0]), rel=0.01)


def test_without_a_run_the_seed_draws_the_features(dataset, run):
    first, again, other = (probed(dataset, run, seed=seed) for seed in (0, 0, 7))
    assert first == again
    assert {first["samples"], other["samples"]} == {30}
    assert not run.exists("model.json")


def test_without_a_val_split_there_is_nothing_to_score(tmp_path, run):
    alone = write_dataset(tmp_path / "alone", sizes={"train": 60})
    with pytest.raises(ValueError, match="has no labelled val images to probe; expected some"):
        probed(alone, run)
