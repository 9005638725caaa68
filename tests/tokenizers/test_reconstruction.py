"""PSNR of reconstructions."""

import math

import numpy as np
import pytest
import torch

from seit_ray.tokenizers.reconstruction import SLICE_ROWS, psnr


def random_images(count, seed=0):
    return torch.randint(0, 256, (count, 3, 4, 4), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def test_a_known_error_gives_the_known_ratio():
    a = torch.full((2, 3, 4, 4), 100, dtype=torch.uint8)
    assert psnr(a, a + 10) == pytest.approx(20 * math.log10(25.5), abs=1e-12)
    assert psnr(a + 10, a) == psnr(a, a + 10)
    zeros = torch.zeros_like(a)
    assert psnr(zeros, zeros + 255) == 0.0  # black against white: no wrap-around of uint8


def test_equal_images_are_infinitely_good_but_only_together():
    a = random_images(2)
    assert psnr(a, a) == math.inf
    b = a.clone()
    b[0, 0, 0, 0] ^= 1
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 * a.numel()))


def test_many_slices_agree_with_the_formula_and_arrays_with_tensors():
    a, b = random_images(2 * SLICE_ROWS + 3), random_images(2 * SLICE_ROWS + 3, seed=1)
    mse = ((a.double() - b.double()) ** 2).mean().item()
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 / mse), abs=1e-9)
    assert psnr(a.numpy(), np.asarray(b)) == psnr(a, b)


def test_other_types_and_shapes_are_refused():
    a = random_images(2)
    with pytest.raises(ValueError, match="expected uint8"):
        psnr(a.float(), a)
    with pytest.raises(ValueError, match="expected one shape"):
        psnr(a, a[:1])
    with pytest.raises(ValueError, match="expected one shape"):
        psnr(a[:0], a[:0])
