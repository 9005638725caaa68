"""Loss and metrics of a pre-training objective over a split."""

import pytest
import torch

from seit_ray.augment.random import StepRandom
from seit_ray.evaluation.masked import EVAL_SEED
from seit_ray.evaluation.pretraining import objective_metrics
from tests.tiny_trainers import CPU, damaged, tiny_ccvit, tiny_store


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


def test_it_is_of_the_samples_that_can_be_read():
    """Each with the draws of its number in the split; the first chunk has none of them."""
    model, objective = tiny_ccvit()
    lost = [*range(10), 12, 22]
    store, total = damaged(tiny_store(23), lost), 0.0
    for chunk, rows in ((1, range(10, 20)), (2, range(20, 23))):
        kept = torch.tensor([row for row in rows if row not in lost])
        batch = tiny_store(23).batch(kept.numpy(), CPU.device)
        loss, _ = objective.loss(model.eval(), batch, StepRandom(EVAL_SEED, chunk, kept, 23, CPU.device))
        total += loss.item() * len(kept) / 11
    assert objective_metrics(model, objective, store, CPU, batch_size=10)["loss"] == pytest.approx(total, rel=1e-5)
