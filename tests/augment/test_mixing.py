"""CutMix and MixUp: timm's boxes and draws, true areas, one draw a batch or a pair."""

import math

import numpy as np
import pytest
import torch
from timm.data.mixup import Mixup, rand_bbox

from seit_ray.augment.mixing import cutmix_share, draw_beta, draw_share, mix_maps, mixed_labels
from seit_ray.augment.random import StepRandom
from seit_ray.augment.rows import partners


def rng(rows, step=0, total=None):
    rows = rows if isinstance(rows, slice) else slice(0, rows)
    return StepRandom(4, step, rows, total or rows.stop)


@pytest.mark.parametrize("size", [(28, 28), (7, 12), (1, 1)])
def test_boxes_are_those_of_timm(size):
    ratios = np.random.RandomState(1).uniform(0, 1, 60)
    ratios[:3] = 0.0, 1.0, 0.75
    for seed, ratio in enumerate(ratios):
        np.random.seed(seed)
        yl, yh, xl, xh = rand_bbox((1, 1, *size), ratio)
        np.random.seed(seed)
        center = torch.tensor([[np.random.randint(size[0]), np.random.randint(size[1])]])
        expected = torch.ones(size)
        expected[yl:yh, xl:xh] = 0
        assert torch.equal(cutmix_share(torch.tensor([ratio]), center, size)[0], expected), ratio


def test_mixing_the_reversed_batch_is_timms_batch_mode():
    maps, labels = torch.randn(6, 3, 10, 10), torch.arange(6)
    for alphas in ({"mixup_alpha": 0.8, "cutmix_alpha": 0.0}, {"mixup_alpha": 0.0, "cutmix_alpha": 1.0}):
        np.random.seed(11)
        expected, targets = Mixup(**alphas, num_classes=6, label_smoothing=0.0)(maps.clone(), labels)
        weight = targets[0, 0]
        same = (expected == maps).all(dim=1).float() if alphas["cutmix_alpha"] else weight.expand(6, 10, 10)
        reverse = torch.arange(5, -1, -1)
        assert torch.allclose(mix_maps(maps, reverse, same), expected, atol=1e-6)
        own, other, weights = mixed_labels(labels, reverse, same)
        soft = weights[:, None] * torch.eye(6)[own] + (1 - weights[:, None]) * torch.eye(6)[other]
        assert torch.allclose(soft, targets, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.8, 1.0, 2.0, 10.0])
def test_ratios_are_beta_distributed(alpha):
    values = draw_beta(rng(20_000), alpha, "b").double()
    assert ((values >= 0) & (values <= 1)).all()
    assert values.mean().item() == pytest.approx(0.5, abs=0.015)
    std = math.sqrt(1 / (4 * (2 * alpha + 1)))
    assert values.std().item() == pytest.approx(std, rel=0.02)
    drawn = np.quantile(np.random.default_rng(0).beta(alpha, alpha, 200_000), [0.1, 0.25, 0.75, 0.9])
    assert np.quantile(values.numpy(), [0.1, 0.25, 0.75, 0.9]) == pytest.approx(drawn, abs=0.015)


def test_one_draw_a_batch_or_a_pair_on_any_rank():
    for mode, groups in (("batch", 1), ("pair", 8)):
        settings = {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "mode": mode}
        share = draw_share(rng(16), (9, 7), **settings)
        assert len(share.flatten(1).unique(dim=0)) == groups
        assert torch.equal(share[0::2], share[1::2])
        part = draw_share(rng(slice(4, 10), total=16), (9, 7), **settings)
        assert torch.equal(part, share[4:10])


def test_switch_and_probability_choose_how_many_are_mixed():
    settings = {"mixup_alpha": 1.0, "cutmix_alpha": 1.0, "mode": "pair", "prob": 0.8, "switch_prob": 0.25}
    share = draw_share(rng(20_000), (30, 30), **settings)[::2].flatten(1)
    flat = share.amin(1) == share.amax(1)
    none = flat & (share[:, 0] == 1)  # a box of no cell is rare on this grid
    assert none.float().mean().item() == pytest.approx(0.2, abs=0.015)
    assert (flat & ~none).float().mean().item() == pytest.approx(0.8 * 0.75, abs=0.02)
    assert share[~flat].unique().tolist() == [0.0, 1.0]
    cutmix = draw_share(rng(4000), (30, 30), cutmix_alpha=1.0, mode="pair")
    assert cutmix.unique().tolist() == [0.0, 1.0]
    # The mean over uniform ratios and centres of the part that is left, about 1 - E[w]^2 with borders cut.
    assert cutmix.mean().item() == pytest.approx(0.71, abs=0.05)
    steps = [draw_share(rng(2, step), (4, 4), cutmix_alpha=1.0, prob=0.5) for step in range(200)]
    assert 60 < sum((share == 1).all().item() for share in steps) < 140


def test_weights_are_true_areas_and_odd_rows_keep_theirs():
    maps, labels = torch.randn(5, 2, 6, 6), torch.arange(5)
    share = draw_share(rng(5), (6, 6), cutmix_alpha=1.0, mode="pair")
    partner = partners(rng(5).rows)
    out = mix_maps(maps, partner, share)
    own = (out == maps).all(dim=1).float().mean(dim=(1, 2))
    _, others, weight = mixed_labels(labels, partner, share)
    assert others.tolist() == [1, 0, 3, 2, 4]
    assert torch.allclose(weight[:4], own[:4])
    assert torch.equal(out[4], maps[4])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "elem"}, "mode 'elem'; expected one of batch, pair"),
        ({"cutmix_alpha": 0.0}, "cutmix_alpha 0.0; expected 0 or more, and one above 0"),
        ({"mixup_alpha": -1.0}, "mixup_alpha -1.0"),
        ({"prob": 1.5}, "prob 1.5; expected 0 to 1"),
        ({"switch_prob": -0.5}, "switch_prob -0.5; expected 0 to 1"),
    ],
)
def test_wrong_numbers_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        draw_share(rng(2), (4, 4), **({"cutmix_alpha": 1.0} | changes))
