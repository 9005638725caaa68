"""Loss and metrics of a pre-training objective over a split."""

import pytest

from seit_ray.augment.random import StepRandom
from seit_ray.evaluation.masked import EVAL_SEED
from seit_ray.evaluation.pretraining import objective_metrics
from tests.tiny_trainers import CPU, tiny_ccvit, tiny_store


def test_it_is_the_mean_over_samples_with_draws_of_a_fixed_seed():
    model, objective = tiny_ccvit()
    store = tiny_store(23)
    found = objective_metrics(model, objective, store, CPU, batch_size=10)
    assert found == objective_metrics(model, objective, store, CPU, batch_size=10)
    total = dict.fromkeys(found, 0.0)
    for chunk, rows in enumerate((slice(0, 10), slice(10, 20), slice(20, 23))):
        batch = store.batch(rows, CPU.device)
        loss, metrics = objective.loss(model, batch, StepRandom(EVAL_SEED, chunk, rows, 23, CPU.device))
        for name, value in {"loss": loss, **metrics}.items():
            total[name] += value.item() * (rows.stop - rows.start) / 23
    assert {"loss", "masked_accuracy", "code_loss", "pixel_loss", "morph_loss"} == set(found)
    assert found == pytest.approx(total, rel=1e-5)
    assert not model.training
