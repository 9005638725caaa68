"""Crops and other sizes than a tokenizer's own."""

import pytest
import torch

from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.pixels import check_grid, decode_pixels, encode_pixels, pixel_size


def centroids(*, image_size=12, patch_size=3, num_codes=9, seed=0):
    """A seeded tokenizer whose codes are whole bytes."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(256, (num_codes, 3 * patch_size**2), generator=generator)
    return CentroidTokenizer(codes / 255, image_size=image_size, patch_size=patch_size)


def images(num, height, width, seed=0):
    """Seeded noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (num, 3, height, width), generator=generator, dtype=torch.uint8)


class Network:
    """What codes depend on the whole image with, as far as sizes go."""

    family, image_size, grid = "network", 12, (4, 4)

    def encode(self, images):
        return images.flatten(1).long().sum(1, keepdim=True).expand(-1, 16)

    def decode(self, tokens):
        return tokens.view(-1, 1, 4, 4).expand(-1, 3, -1, -1).to(torch.uint8)


def test_its_own_size_is_encoded_and_decoded_as_ever():
    tokenizer, pixels = centroids(), images(3, 12, 12)
    tokens = encode_pixels(tokenizer, pixels)
    assert torch.equal(tokens, tokenizer.encode(pixels))
    assert torch.equal(decode_pixels(tokenizer, tokens, (4, 4)), tokenizer.decode(tokens))


@pytest.mark.parametrize(("height", "width"), [(3, 3), (6, 12), (12, 6), (21, 15)])
@pytest.mark.parametrize("rows", [1, 4])
def test_other_sizes_have_the_codes_of_their_patches(height, width, rows):
    tokenizer, pixels = centroids(), images(rows, height, width)
    grid = height // 3, width // 3
    tokens = encode_pixels(tokenizer, pixels)
    assert tokens.shape == (rows, grid[0] * grid[1])
    assert tokens.dtype == torch.int64
    single = CentroidTokenizer(tokenizer.codebook, image_size=3, patch_size=3)
    for y in range(grid[0]):
        for x in range(grid[1]):
            patch = pixels[:, :, 3 * y : 3 * y + 3, 3 * x : 3 * x + 3]
            assert torch.equal(tokens[:, y * grid[1] + x], single.encode(patch)[:, 0])
    decoded = decode_pixels(tokenizer, tokens, grid)
    assert decoded.shape == pixels.shape
    assert torch.equal(encode_pixels(tokenizer, decoded), tokens)


def test_pixels_of_a_grid():
    assert pixel_size(centroids(), (7, 5)) == (21, 15)
    assert pixel_size(Network(), (4, 4)) == (12, 12)


def test_half_precision_changes_no_code():
    tokenizer, pixels = centroids(num_codes=200), images(8, 12, 15)
    tokens = encode_pixels(tokenizer, pixels)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encode_pixels(tokenizer, pixels), tokens)


def test_a_network_keeps_its_size():
    check_grid(Network(), (4, 4))
    with pytest.raises(ValueError, match=r"grid 3x4 of a network tokenizer; expected its own 4x4"):
        check_grid(Network(), (3, 4))
    with pytest.raises(ValueError, match=r"expected its own 4x4"):
        decode_pixels(Network(), torch.zeros(2, 12, dtype=torch.long), (3, 4))
    pixels = images(2, 12, 12)
    assert torch.equal(encode_pixels(Network(), pixels), Network().encode(pixels))


@pytest.mark.parametrize("grid", [(0, 4), (4, -1)])
def test_an_empty_grid_is_refused(grid):
    with pytest.raises(ValueError, match="expected sides of 1 or more"):
        check_grid(centroids(), grid)


@pytest.mark.parametrize("wrong", [images(1, 13, 12), images(1, 12, 11), images(1, 6, 6).float()])
def test_parts_of_patches_and_floats_are_refused(wrong):
    with pytest.raises(ValueError, match=r"expected uint8 with sides that are multiples of the patch size 3"):
        encode_pixels(centroids(), wrong)
