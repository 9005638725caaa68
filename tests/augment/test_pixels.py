"""Augmentation in pixels of tokens that decode by lookup."""

import pytest
import torch
from torchvision.transforms import functional as reference

from seit_ray.augment.geometry import Geometry
from seit_ray.augment.pixels import PixelAugment, jitter_colours, warp_pixels
from seit_ray.augment.random import StepRandom
from tests.tokenizers.test_pixels import Network, centroids, images

STILL = {"flip_prob": 0.0, "affine_prob": 0.0, "area": (1.0, 1.0)}
WILD = {"affine_prob": 1.0, "link_prob": 0.7, "area": (0.2, 1.0)}
JITTER = {"brightness": 0.4, "contrast": 0.3, "saturation": 0.5}


def rows(num, step=0):
    """The random numbers of a whole batch."""
    return StepRandom(7, step, slice(0, num), num)


def tokens_of(num, side, num_codes, seed=0):
    """Seeded codes."""
    return torch.randint(num_codes, (num, side * side), generator=torch.Generator().manual_seed(seed))


def shifted(num, *, x=0.0, y=0.0, flip=False):
    """One geometry for all rows: a shift in shares of the side, or a flip."""
    zero = torch.zeros(num)
    boxes = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(num, 4)
    return Geometry(torch.full((num,), flip), zero, zero + x, zero + y, zero, zero, boxes)


def test_with_nothing_on_tokens_stay():
    tokenizer, tokens = centroids(), tokens_of(5, 4, 9)
    augment = PixelAugment(tokenizer, out_grid=(4, 4), geometry=STILL)
    assert torch.equal(augment(tokens, rows(5)), tokens)


def test_a_flip_is_that_of_the_pixels():
    tokenizer, tokens = centroids(), tokens_of(5, 4, 9)
    augment = PixelAugment(tokenizer, out_grid=(4, 4), geometry={**STILL, "flip_prob": 1.0})
    assert torch.equal(augment(tokens, rows(5)), tokenizer.encode(tokenizer.decode(tokens).flip(3)))


def test_of_one_pixel_each_a_flip_is_that_of_the_grid():
    tokenizer, tokens = centroids(image_size=5, patch_size=1), tokens_of(3, 5, 9)
    augment = PixelAugment(tokenizer, out_grid=(5, 5), geometry={**STILL, "flip_prob": 1.0})
    assert torch.equal(augment(tokens, rows(3)), tokens.view(3, 5, 5).flip(2).flatten(1))


def test_a_shift_by_whole_patches_is_exact_and_black_outside():
    tokenizer, tokens = centroids(), tokens_of(3, 4, 9)
    moved = warp_pixels(tokenizer.decode(tokens), shifted(3, x=0.25, y=-0.5), (12, 12))
    black = tokenizer.encode(torch.zeros(1, 3, 12, 12, dtype=torch.uint8))[0, 0]
    expected = torch.full((3, 4, 4), black.item())
    expected[:, :2, 1:] = tokens.view(3, 4, 4)[:, 2:, :3]
    assert torch.equal(tokenizer.encode(moved), expected.flatten(1))
    assert moved[:, :, 6:].sum() == moved[:, :, :, :3].sum() == 0


def test_other_output_grids():
    augment = PixelAugment(centroids(), out_grid=(3, 5), geometry=WILD, **JITTER)
    tokens = augment(tokens_of(7, 4, 9), rows(7))
    assert tokens.shape == (7, 15)
    assert tokens.dtype == torch.int64


def test_a_row_is_the_same_however_the_batch_is_split():
    augment, tokens = PixelAugment(centroids(), out_grid=(4, 4), geometry=WILD, **JITTER), tokens_of(7, 4, 9)
    whole = augment(tokens, rows(7))
    parts = [augment(tokens[a:b], StepRandom(7, 0, slice(a, b), 7)) for a, b in ((0, 1), (1, 5), (5, 7))]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(augment(tokens, rows(7, step=1)), whole)


def test_rows_are_changed_in_their_own_ways():
    augment = PixelAugment(centroids(num_codes=60), out_grid=(4, 4), geometry=WILD)
    same = tokens_of(1, 4, 60).expand(16, -1)
    assert len(augment(same, rows(16)).unique(dim=0)) > 8


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_jitter_is_torchvisions(name):
    pixels = images(6, 5, 7)
    strengths = {other: 0.8 * (other == name) for other in JITTER}
    found = jitter_colours(pixels.float(), rows(6), **strengths)
    factors = 1 + 0.8 * (2 * rows(6).uniform(f"jitter_{name}", 1, 1, 1) - 1)
    assert factors.std() > 0.1
    for image, result, factor in zip(pixels, found, factors.flatten().tolist(), strict=True):
        expected = getattr(reference, f"adjust_{name}")(image, factor)
        # torchvision cuts to whole bytes at every turn, and its weights of luma have four digits
        assert (result - expected.float()).abs().max() < 2.0


def test_jitter_without_strength_changes_nothing():
    pixels = images(2, 4, 4).float()
    assert torch.equal(jitter_colours(pixels, rows(2), brightness=0, contrast=0, saturation=0), pixels)


def test_jitter_leaves_the_argument_alone():
    pixels = images(2, 4, 4).float()
    before = pixels.clone()
    jitter_colours(pixels, rows(2), **JITTER)
    assert torch.equal(pixels, before)


def test_other_families_are_refused():
    with pytest.raises(ValueError, match="a network tokenizer; expected a centroid tokenizer"):
        PixelAugment(Network(), out_grid=(4, 4), geometry=STILL)


@pytest.mark.parametrize("strength", [-0.1, 1.1])
@pytest.mark.parametrize("name", list(JITTER))
def test_strengths_outside_are_refused(name, strength):
    with pytest.raises(ValueError, match=f"{name} {strength}; expected 0 to 1"):
        PixelAugment(centroids(), out_grid=(4, 4), geometry=STILL, **{name: strength})


@pytest.mark.parametrize("geometry", [{"flip_prob": 1.5}, {"max_angle": -1.0}, {"area": (0.5, 0.2)}])
def test_wrong_ranges_are_refused_at_once(geometry):
    with pytest.raises(ValueError, match="expected"):
        PixelAugment(centroids(), out_grid=(4, 4), geometry=geometry)


def test_an_empty_grid_is_refused():
    with pytest.raises(ValueError, match="expected sides of 1 or more"):
        PixelAugment(centroids(), out_grid=(0, 4), geometry=STILL)
