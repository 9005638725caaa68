"""The new objectives under autocast: losses in float32, gradients finite, near those of full precision."""

import pytest
import torch

from seit_ray.objectives import Batch
from tests.objectives.test_ccvit_objective import cases, rng


@pytest.mark.parametrize("name", cases())
def test_a_step_in_bf16_is_near_that_in_float32(name):
    model, objective, inputs = cases()[name]
    whole, _ = objective.loss(model, Batch(inputs), rng())
    with torch.autocast("cpu", torch.bfloat16):
        half, metrics = objective.loss(model, Batch(inputs), rng())
    assert half.dtype == torch.float32
    half.backward()
    assert half.item() == pytest.approx(whole.item(), rel=0.03)
    assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in model.parameters())
    assert all(value.ndim == 0 for value in metrics.values())
