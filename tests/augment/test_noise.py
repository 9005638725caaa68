"""Emb-Noise: the recorded numbers, its moments, and whom it meets."""

import pytest
import torch

from seit_ray.augment import noise
from seit_ray.augment.noise import add_noise, draw_noise, random_noise
from seit_ray.augment.random import StepRandom
from tests.augment.seit_aug import golden


@pytest.mark.parametrize(("key", "scale", "std"), [("s1_1", 1.0, 1.0), ("s05_2", 0.5, 2.0)])
def test_given_noise_gives_the_recorded_maps(key, scale, std):
    chosen = torch.zeros(4, dtype=torch.bool)
    chosen[golden("in/noise/perm")[:2]] = True
    drawn = golden("in/noise/per_channel")[:, :, 0, 0], golden("in/noise/per_position")
    out = add_noise(golden("in/x"), chosen, *drawn, scale=scale, std=std)
    assert torch.allclose(out, golden(f"out/noise/{key}"), atol=1e-6)
    assert torch.equal(out[~chosen], golden("in/x")[~chosen])


def test_noise_has_an_offset_a_channel_and_a_number_an_element():
    rng = StepRandom(0, 0, slice(0, 400), 400)
    chosen = torch.arange(400) % 2 == 0
    out = random_noise(torch.zeros(400, 16, 12, 9), chosen, rng, scale=2.0, std=0.5)
    assert not out[~chosen].any()
    noisy = out[chosen]
    assert noisy.mean(dim=(2, 3)).std().item() == pytest.approx(2.0, rel=0.05)
    assert noisy.std(dim=(2, 3)).mean().item() == pytest.approx(0.5, rel=0.01)
    assert abs(noisy.mean().item()) < 0.15  # 3200 offsets: standard error 0.035


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (5, 1, 1, 1), (7, 3, 5, 3)])
def test_a_row_gets_its_own_noise_in_any_split_chunk_and_layout(shape, monkeypatch):
    rng = StepRandom(0, 3, slice(0, shape[0]), shape[0])
    maps, chosen = torch.randn(shape), torch.arange(shape[0]) != 1
    expected = add_noise(maps, chosen, *draw_noise(rng, shape[1:]), scale=0.7, std=1.3)
    before = maps.clone()
    assert torch.allclose(random_noise(maps, chosen, rng, scale=0.7, std=1.3), expected, atol=1e-6)
    assert torch.equal(maps, before)
    monkeypatch.setattr(noise, "CHUNK_ELEMENTS", 1)
    last = maps.to(memory_format=torch.channels_last)
    assert torch.allclose(random_noise(last, chosen, rng, scale=0.7, std=1.3, inplace=True), expected, atol=1e-6)
    part = StepRandom(0, 3, slice(1, shape[0]), shape[0])
    assert torch.allclose(random_noise(maps[1:], chosen[1:], part, scale=0.7, std=1.3), expected[1:], atol=1e-6)


def test_negative_noise_is_refused():
    rng, maps = StepRandom(0, 0, slice(0, 1), 1), torch.zeros(1, 1, 1, 1)
    with pytest.raises(ValueError, match=r"noise scale 1\.0, std -1\.0; expected 0 or more"):
        random_noise(maps, torch.ones(1, dtype=torch.bool), rng, std=-1.0)


def test_noise_in_the_units_of_each_channel():
    rng, units = StepRandom(0, 3, slice(0, 6), 6), torch.tensor([0.1, 0.0, 3.0])
    maps, chosen = torch.randn(6, 3, 4, 5), torch.arange(6) != 1
    plain = random_noise(torch.zeros_like(maps), chosen, rng, scale=0.7, std=1.3)
    found = random_noise(maps, chosen, rng, scale=0.7, std=1.3, units=units)
    assert torch.allclose(found, maps + plain * units[:, None, None], atol=1e-6)
    expected = add_noise(maps, chosen, *draw_noise(rng, maps.shape[1:]), scale=0.7, std=1.3, units=units)
    assert torch.allclose(found, expected, atol=1e-6)
