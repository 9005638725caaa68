"""ColorAdapt: the recorded numbers, constant channels, partners."""

import pytest
import torch

from seit_ray.augment.color_adapt import adapt_colors, random_color_adapt
from seit_ray.augment.random import StepRandom
from tests.augment.seit_aug import golden


@pytest.mark.parametrize(("source", "key"), [("in/x", "all"), ("in/x5", "odd_batch5_all")])
def test_colours_of_the_reversed_batch_are_the_recorded_ones(source, key):
    maps = golden(source)
    assert torch.allclose(adapt_colors(maps, maps.flip(0)), golden(f"out/coloradapt/{key}"), atol=1e-5)


def test_statistics_become_the_partners():
    maps, styles = torch.randn(3, 4, 6, 5) * 3 + 1, torch.randn(3, 4, 2, 9) * 0.2 - 5
    out = adapt_colors(maps, styles)
    assert torch.allclose(out.mean(dim=(2, 3)), styles.mean(dim=(2, 3)), atol=1e-5)
    assert torch.allclose(out.std(dim=(2, 3)), styles.std(dim=(2, 3)), atol=1e-5)
    assert adapt_colors(maps.bfloat16(), styles.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("level", [0.0, 0.1, -1e4, 1e-20])
def test_constant_channels_become_the_partners_mean(level):
    maps, styles = torch.full((2, 3, 7, 7), level), torch.randn(2, 3, 7, 7)
    out = adapt_colors(maps, styles)
    assert torch.allclose(out, styles.mean(dim=(2, 3), keepdim=True).expand_as(out), atol=1e-5)
    assert torch.allclose(adapt_colors(styles, maps), maps, rtol=1e-5, atol=1e-6)
    single = adapt_colors(styles[..., :1, :1], maps[..., :1, :1])
    assert torch.equal(single, maps[..., :1, :1])


def test_chosen_rows_take_their_partners_original_colours():
    maps, rng = torch.randn(7, 2, 3, 3), StepRandom(0, 0, slice(0, 7), 7)
    chosen = torch.tensor([True, True, False, True, False, False, True])
    before = maps.clone()
    out = random_color_adapt(maps, chosen, rng)
    expected = adapt_colors(before, before[[1, 0, 3, 2, 5, 4, 6]])
    expected[[2, 4, 5, 6]] = before[[2, 4, 5, 6]]  # not chosen, or without a partner
    assert torch.equal(out, expected)
    assert torch.equal(maps, before)
    part = random_color_adapt(maps[2:], chosen[2:], StepRandom(0, 0, slice(2, 7), 7))
    assert torch.equal(part, out[2:])
    assert torch.equal(random_color_adapt(maps, ~chosen & chosen, rng), maps)
