"""Codes that are pixels: augmentation through the images that they decode to."""

import pytest
import torch

from seit_ray.augment.chain import Augment
from seit_ray.augment.geometry import warp_pixels
from seit_ray.augment.lookup import PixelAdapter, mirror_codes, mirrored
from seit_ray.tokenizers.codebook import embed_codes
from tests.augment.draws import rows, shifted, tokens_of
from tests.tokenizers.test_pixels import centroids


def test_a_shift_by_whole_patches_is_exact_and_black_outside():
    tokenizer, tokens = centroids(), tokens_of(3, 4, 9)
    moved = warp_pixels(tokenizer.decode(tokens), shifted(3, x=0.25, y=-0.5), (12, 12))
    black = tokenizer.encode(torch.zeros(1, 3, 12, 12, dtype=torch.uint8))[0, 0]
    expected = torch.full((3, 4, 4), black.item())
    expected[:, :2, 1:] = tokens.view(3, 4, 4)[:, 2:, :3]
    assert torch.equal(tokenizer.encode(moved), expected.flatten(1))
    assert moved[:, :, 6:].sum() == moved[:, :, :, :3].sum() == 0


def test_codes_to_pixels_and_back():
    tokenizer, tokens = centroids(), tokens_of(5, 4, 9).view(5, 4, 4)
    adapter = PixelAdapter(tokenizer.codebook, grid=(4, 4), out_grid=(4, 4))
    image = adapter.to_feature(embed_codes(tokens, tokenizer.codebook))
    assert tuple(image.shape) == (5, 3, *adapter.map_size)
    decoded = tokenizer.decode(tokens.flatten(1))
    assert torch.equal(image.mul(255).round().clamp(0, 255).to(torch.uint8), decoded)
    assert torch.equal(adapter.to_codes(image), tokens)


def test_a_flip_is_that_of_the_pixels():
    tokenizer, tokens = centroids(num_codes=40), tokens_of(6, 4, 40)
    augment = Augment(
        tokenizer.codebook,
        token_adapt=PixelAdapter(tokenizer.codebook, grid=(4, 4), out_grid=(4, 4)),
        grid=(4, 4),
        output="codes",
        metric="l2",
        adapt_share=1.0,
        flip_prob=1.0,
        affine_prob=0.0,
        crop_area=(1.0, 1.0),
    )
    found = augment(tokens, None, rows(6)).inputs
    assert torch.equal(found, tokenizer.encode(tokenizer.decode(tokens).flip(3)))


@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (1, 1)])
def test_mirror_images_are_those_of_the_pixels(grid):
    tokenizer, (height, width) = centroids(num_codes=40), grid
    tokens = torch.randint(40, (6, height * width), generator=torch.Generator().manual_seed(1))
    adapter = PixelAdapter(tokenizer.codebook, grid=grid, out_grid=grid)
    image = adapter.to_feature(embed_codes(tokens.view(6, *grid), tokenizer.codebook))
    found = mirrored(tokens, mirror_codes(tokenizer.codebook), grid)
    assert torch.equal(found, adapter.to_codes(image.flip(3)).flatten(1))


def test_smaller_grids_come_out():
    tokenizer = centroids()
    adapter = PixelAdapter(tokenizer.codebook, grid=(4, 4), out_grid=(3, 2))
    image = torch.rand(2, 3, *adapter.map_size)
    assert tuple(adapter.to_codes(image).shape) == (2, 3, 2)


@pytest.mark.parametrize("width", [4, 32, 47])
def test_codes_that_are_no_patches_are_refused(width):
    with pytest.raises(ValueError, match=f"codebook of width {width}; expected 3"):
        PixelAdapter(torch.rand(5, width), grid=(4, 4), out_grid=(4, 4))
