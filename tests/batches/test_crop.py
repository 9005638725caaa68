"""The middle of stored token grids."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seit_ray.batches.crop import center_crop_tokens


@given(st.tuples(*[st.integers(1, 9)] * 4), st.integers(0, 3))
def test_the_crop_is_the_middle(sides, rows):
    (height, width), out = sides[:2], (min(sides[0], sides[2]), min(sides[1], sides[3]))
    tokens = np.arange(rows * height * width, dtype=np.uint16).reshape(rows, height * width)
    found = center_crop_tokens(tokens, (height, width), out)
    assert found.dtype == np.uint16
    assert found.shape == (rows, out[0] * out[1])
    top, left = (height - out[0]) // 2, (width - out[1]) // 2
    for row, crop in zip(tokens.reshape(rows, height, width), found.reshape(rows, *out), strict=True):
        assert crop.tolist() == [r[left : left + out[1]].tolist() for r in row[top : top + out[0]]]
    as_tensor = center_crop_tokens(torch.from_numpy(tokens.astype(np.int64)), (height, width), out)
    assert as_tensor.tolist() == found.tolist()


@pytest.mark.parametrize(
    ("shape", "grid", "out", "text"),
    [
        ((2, 15), (4, 4), (2, 2), r"tokens of shape \[2, 15\] on a grid of 4x4; expected \[B,16\]"),
        ((2, 4, 4), (4, 4), (2, 2), r"\[2, 4, 4\]"),
        ((2, 16), (4, 4), (5, 2), "crop to 5x2 of a grid of 4x4"),
        ((2, 16), (4, 4), (0, 2), "crop to 0x2"),
    ],
)
def test_wrong_shapes_are_named(shape, grid, out, text):
    with pytest.raises(ValueError, match=text):
        center_crop_tokens(np.zeros(shape, np.uint16), grid, out)
