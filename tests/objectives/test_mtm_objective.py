"""The masked token objective: recorded losses, its metrics, and equal results for any number of ranks."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seit_ray.augment.mask_counts import num_units_at
from seit_ray.augment.masking import mask_noise, sample_mask_ratio
from seit_ray.augment.random import StepRandom
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.models.variants import Size
from seit_ray.models.weights import load_named
from seit_ray.objectives import OBJECTIVES, Batch, MTMObjective
from seit_ray.objectives.mtm import binary_cross_entropy

GOLDEN = Path(__file__).parents[1] / "golden" / "seitpp_mtm.npz"


@pytest.fixture(scope="module")
def recorded():
    """The recording, and the model with its weights, in float64."""
    arrays = np.load(GOLDEN)
    record = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    model = MaskedTokenModel(grid=(28, 28), num_codes=391, size=Size(64, 2, 4, 48, 2, 3))
    load_named(model, {name[3:]: value for name, value in record.items() if name.startswith("sd/")})
    return record, model.double().eval()


class RecordedNoise(StepRandom):
    """The noise of the recording in place of a draw."""

    def __init__(self, noise):
        super().__init__(0, 0, slice(0, len(noise)), len(noise))
        self.noise = noise

    def uniform(self, stream, *shape):
        assert stream == "mask_noise"
        assert self.noise.shape[1:] == shape
        return self.noise


class Wrapper(nn.Module):
    """What DistributedDataParallel looks like from outside: the model's attributes are behind `module`."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args, **keywords):
        return self.module(*args, **keywords)


def small_model(dropout=0.0, **changes):
    torch.manual_seed(0)
    settings = {"grid": (6, 8), "num_codes": 13, "size": Size(16, 2, 2, 12, 1, 3), "token_dim": 8} | changes
    return MaskedTokenModel(dropout=dropout, **settings)


def some_tokens(num_rows=6):
    return torch.randint(13, (num_rows, 48), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("ratio", "settings", "key"),
    [
        (0.4, {}, "r0.4/s0"),
        (0.55, {}, "r0.55/s0"),
        (0.55, {"label_smoothing": 0.1}, "r0.55/s01"),
        (0.55, {"loss": "bce"}, "r0.55/bce"),
        (0.7312, {"label_smoothing": 0.1}, "r0.7312/s01"),
        (1.0, {}, "r1.0/s0"),
    ],
)
def test_losses_equal_the_recording(recorded, ratio, settings, key):
    record, model = recorded
    objective = MTMObjective(mask_ratio_mu=ratio, mask_ratio_std=0.0, **settings)
    batch = Batch(record["in/tokens"].flatten(1))
    loss, metrics = objective.loss(model, batch, RecordedNoise(record["in/noise"]))
    assert loss.item() == pytest.approx(record[f"out/{key}/loss"].item(), rel=1e-6)
    assert loss.dtype == torch.float32
    assert metrics["mask_ratio"].item() == pytest.approx(record[f"out/{key.split('/')[0]}/num_masked"].item() / 196)


def test_loss_and_metrics_are_those_of_the_steps_masks():
    model, tokens = small_model().eval(), some_tokens()
    rng = StepRandom(3, 8, slice(0, 6), 6)
    loss, metrics = MTMObjective(label_smoothing=0.2).loss(model, Batch(tokens), rng)
    ratio = sample_mask_ratio(rng, minimum=0.4, mu=0.45, std=0.25, maximum=1.0)
    num_masked = num_units_at(ratio, 12)
    logits, targets, _ = model(tokens, mask_noise(rng, 12), num_masked)
    logits, targets = logits.flatten(0, 2), targets.flatten()
    torch.testing.assert_close(loss, F.cross_entropy(logits, targets, label_smoothing=0.2))
    assert metrics["masked_accuracy"].item() == pytest.approx((logits.argmax(1) == targets).float().mean().item())
    assert metrics["mask_ratio"].item() == pytest.approx(num_masked / 12)
    assert loss.requires_grad
    assert not any(value.requires_grad or value.ndim for value in metrics.values())


@pytest.mark.parametrize("cuts", [(0, 3, 6), (0, 2, 4, 6), (0, 1, 6)])
def test_ranks_weighted_by_their_rows_give_the_global_gradient(cuts):
    model, tokens, objective = small_model(), some_tokens(), MTMObjective()
    whole, _ = objective.loss(model, Batch(tokens), StepRandom(0, 5, slice(0, 6), 6))
    whole.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    total = 0.0
    for start, stop in itertools.pairwise(cuts):
        rng = StepRandom(0, 5, slice(start, stop), 6)
        loss, _ = objective.loss(model, Batch(tokens[start:stop]), rng)
        (loss * (stop - start) / 6).backward()
        total += loss.item() * (stop - start) / 6
    assert total == pytest.approx(whole.item(), rel=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-7, rtol=1e-4, msg=name)


def test_steps_differ_and_repeat():
    model, tokens, objective = small_model().eval(), some_tokens(), MTMObjective()
    losses = [objective.loss(model, Batch(tokens), StepRandom(0, s, slice(0, 6), 6))[0].item() for s in (1, 2, 1)]
    assert losses[0] == losses[2] != losses[1]


def test_wrapped_models_are_called_through_their_wrapper():
    model, tokens = small_model().eval(), some_tokens()
    rng = StepRandom(0, 0, slice(0, 6), 6)
    plain, _ = MTMObjective().loss(model, Batch(tokens), rng)
    wrapped, _ = MTMObjective().loss(Wrapper(model), Batch(tokens), rng)
    assert torch.equal(plain, wrapped)


def test_binary_cross_entropy_is_that_of_the_one_hot():
    torch.manual_seed(0)
    logits, targets = torch.randn(50, 7) * 5, torch.randint(7, (50,))
    expected = F.binary_cross_entropy_with_logits(logits, F.one_hot(targets, 7).float())
    torch.testing.assert_close(binary_cross_entropy(logits, targets), expected)


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_bfloat16_autocast_gives_a_finite_float32_loss(loss):
    model, tokens = small_model(dropout=0.1), some_tokens()
    with torch.autocast("cpu", torch.bfloat16):
        value, _ = MTMObjective(loss=loss).loss(model, Batch(tokens), StepRandom(0, 0, slice(0, 6), 6))
    value.backward()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_registry_builds_it_from_keywords():
    assert isinstance(OBJECTIVES["mtm"](label_smoothing=0.1, mask_ratio_std=0.0), MTMObjective)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "mse"}, "loss 'mse'; expected one of ce, bce"),
        ({"label_smoothing": 1.0}, "label_smoothing 1.0 with loss 'ce'"),
        ({"label_smoothing": 0.1, "loss": "bce"}, "label_smoothing 0.1 with loss 'bce'; .*and 0 with 'bce'"),
        ({"mask_ratio_min": 0.9, "mask_ratio_max": 0.5}, "mask ratio minimum 0.9, maximum 0.5"),
        ({"mask_ratio_std": 0.0, "mask_ratio_mu": 0.2}, "fixed mask ratio 0.2"),
    ],
)
def test_wrong_settings_are_refused_before_the_first_step(settings, message):
    with pytest.raises(ValueError, match=message):
        MTMObjective(**settings)


def test_a_ratio_below_what_the_model_drops_is_refused():
    with pytest.raises(ValueError, match=r"mask_ratio_min 0\.3; expected 0\.4 or more"):
        MTMObjective(mask_ratio_min=0.3).loss(small_model(), Batch(some_tokens()), StepRandom(0, 0, slice(0, 6), 6))
