"""Embedding, stem and positions: shapes, conventions against the recordings, errors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from seit_ray.models.embed import CodebookEmbedding, Stem, TokenEmbedding, as_grid, sincos_positions
from seit_ray.tokenizers.centroid import CentroidTokenizer

GOLDEN = Path(__file__).parents[1] / "golden"


def test_sincos_positions_equal_the_recorded_table():
    recorded = np.load(GOLDEN / "seitpp_mtm.npz")["sd/pos_embed"][0]
    np.testing.assert_allclose(sincos_positions((14, 14), 64).numpy(), recorded, atol=1e-6, rtol=0)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 6))
def test_sincos_positions_of_any_grid(height, width, quarter):
    table = sincos_positions((height, width), 4 * quarter, class_slot=False).unflatten(0, (height, width))
    half = 2 * quarter
    # The first half knows the column only, the second the row only, and no two places are equal.
    assert torch.equal(table[..., :half], table[:1, :, :half].expand(height, -1, -1))
    assert torch.equal(table[..., half:], table[:, :1, half:].expand(-1, width, -1))
    assert len(table.flatten(0, 1).unique(dim=0)) == height * width
    with_class = sincos_positions((height, width), 4 * quarter)
    assert with_class[0].abs().max() == 0
    assert torch.equal(with_class[1:], table.flatten(0, 1))


def test_sincos_positions_refuse_a_width_without_quarters():
    with pytest.raises(ValueError, match=r"width 30 .*multiple of 4; take 32"):
        sincos_positions((4, 4), 30)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 5), st.integers(1, 7), st.integers(0, 99))
def test_token_embedding_normalises_each_looked_up_row(num_codes, dim, height, width, seed):
    torch.manual_seed(seed)
    embedding = TokenEmbedding(num_codes, dim)
    torch.nn.init.normal_(embedding.LayerNorm.weight)
    torch.nn.init.normal_(embedding.LayerNorm.bias)
    tokens = torch.randint(num_codes, (2, height, width))
    norm = embedding.LayerNorm
    rows = embedding.word_embeddings.weight[tokens]
    expected = F.layer_norm(rows, (dim,), norm.weight, norm.bias, 1e-6)
    torch.testing.assert_close(embedding(tokens), expected)


def test_token_embedding_starts_at_std_002_and_drops_in_training_only():
    torch.manual_seed(0)
    embedding = TokenEmbedding(4000, 8, dropout=0.5)
    assert embedding.word_embeddings.weight.std().item() == pytest.approx(0.02, rel=0.05)
    tokens = torch.arange(4000).unsqueeze(0)
    assert (embedding(tokens) == 0).float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert (embedding.eval()(tokens) == 0).sum() == 0


def test_codebook_rows_are_raw_frozen_and_no_weights():
    codebook = torch.randn(7, 3) * 5
    embedding = CodebookEmbedding(codebook)
    tokens = torch.tensor([[6, 0], [3, 3]])
    assert torch.equal(embedding(tokens), codebook[tokens])
    assert not list(embedding.parameters())
    assert not embedding.state_dict()
    codebook.zero_()
    assert embedding(tokens).abs().min() > 0


@pytest.mark.parametrize(
    ("grid", "stem", "patches"),
    [
        ((28, 28), (4, 2, 1), (14, 14)),
        ((28, 28), (2, 2, 0), (14, 14)),
        ((8, 8), (1, 1, 0), (8, 8)),
        ((6, 10), (2, 2, 0), (3, 5)),
        ((9, 6), (3, 3, 0), (3, 2)),
        ((7, 4), (4, 1, 1), (6, 3)),
    ],
)
def test_stem_gives_the_patches_it_announces(grid, stem, patches):
    module = Stem(5, 12, *stem)
    assert module.patch_grid(grid) == patches
    assert module(torch.randn(2, 5, *grid)).shape == (2, patches[0] * patches[1], 12)


def test_stem_lists_patches_in_raster_order():
    stem = Stem(1, 1, 2, 2)
    torch.nn.init.constant_(stem.proj.weight, 0.25)
    torch.nn.init.zeros_(stem.proj.bias)
    maps = torch.arange(6.0).reshape(1, 1, 2, 3).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(stem(maps).flatten(), torch.arange(6.0))


def test_standardized_rows_have_mean_0_and_deviation_1_over_the_codebook():
    codebook = torch.rand(50, 12, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.6
    embedding = CodebookEmbedding(codebook, standardize=True)
    rows = embedding.standardized(embedding(torch.arange(50)))
    assert (rows.mean().item(), rows.std(correction=0).item()) == pytest.approx((0.0, 1.0), abs=1e-5)
    # one shift and one scale for all: what is brighter stays brighter
    torch.testing.assert_close(rows, (codebook - codebook.mean()) / codebook.std(correction=0))
    plain = CodebookEmbedding(codebook)
    assert torch.equal(plain.standardized(codebook), codebook)
    assert not embedding.state_dict()
    flat = CodebookEmbedding(torch.full((2, 3), 0.5), standardize=True)
    assert flat.standardized(flat(torch.tensor([1]))).abs().max() == 0


def test_layers_before_the_stem_see_neighbours_and_keep_the_grid():
    torch.manual_seed(0)
    stem = Stem(5, 12, 3, 2, 1, layers=2, layer_width=16)
    assert stem.patch_grid((7, 9)) == (4, 5)
    maps = torch.randn(2, 5, 7, 9, requires_grad=True)
    patches = stem(maps)
    assert patches.shape == (2, 20, 12)
    assert [tuple(stem.early[i].weight.shape) for i in (0, 3)] == [(16, 5, 3, 3), (16, 16, 3, 3)]
    # the sample beside it is not looked at
    patches[0].sum().backward()
    assert maps.grad[1].abs().max() == 0
    torch.testing.assert_close(stem(maps[:1]), patches[:1])
    far = torch.zeros(1, 5, 7, 9)
    far[..., 3, 4] = 1.0
    reached = (stem.early[0](far) != 0).any(dim=1)[0]  # the norm after it looks at the whole sample
    assert torch.equal(reached.nonzero(), torch.cartesian_prod(torch.arange(2, 5), torch.arange(3, 6)))


def test_a_stem_without_layers_has_the_published_names():
    assert list(Stem(5, 12, 4, 2, 1).state_dict()) == ["proj.weight", "proj.bias"]


@pytest.mark.parametrize(("side", "layers"), [(2, 1), (2, 3), (4, 2), (4, 3)])
def test_rows_are_seen_as_the_pixels_they_are(side, layers):
    """The layers see just what the tokenizer decodes to, of any tokens."""
    generator = torch.Generator().manual_seed(0)
    codebook = torch.randint(256, (9, 3 * side**2), generator=generator) / 255
    tokenizer = CentroidTokenizer(codebook, image_size=3 * side, patch_size=side)
    tokens = torch.randint(9, (2, 9), generator=generator)
    stem = Stem(3 * side**2, 12, 3, 2, 1, layers=layers, layer_width=8, pixel_side=side)
    maps = CodebookEmbedding(codebook).maps(tokens, (3, 3))
    torch.testing.assert_close(stem.early[0](maps) * 255, tokenizer.decode(tokens).float(), atol=1e-3, rtol=0)
    assert stem.early(maps).shape == (2, 8, 3, 3)
    assert stem(maps).shape == (2, 4, 12)
    strides = [layer.stride[0] for layer in stem.early if isinstance(layer, torch.nn.Conv2d)]
    assert strides == [2] * (side.bit_length() - 1) + [1] * (layers - side.bit_length() + 1)


@pytest.mark.parametrize(("in_dim", "side", "layers"), [(27, 3, 3), (48, 4, 1), (32, 8, 3), (12, 2, 0)])
def test_rows_that_are_no_pixels_are_refused(in_dim, side, layers):
    with pytest.raises(ValueError, match=rf"rows of {in_dim} values as pixels of {side}x{side}, with {layers} stem"):
        Stem(in_dim, 8, 2, 2, layers=layers, pixel_side=side)


@pytest.mark.parametrize(("layers", "width"), [(-1, 64), (1, 12), (2, 0), (1, -8)])
def test_a_stem_refuses_layers_that_cannot_be(layers, width):
    with pytest.raises(ValueError, match=rf"{layers} stem layers, {width} wide; expected .*take 3 layers of 64"):
        Stem(4, 8, 2, 2, layers=layers, layer_width=width)


@pytest.mark.parametrize(("grid", "stem"), [((7, 8), (2, 2, 0)), ((1, 1), (2, 2, 0)), ((28, 27), (4, 2, 1))])
def test_stem_refuses_a_grid_it_does_not_tile(grid, stem):
    with pytest.raises(ValueError, match=rf"grid {grid[0]}x{grid[1]} .*expected sides .*crop the grid"):
        Stem(4, 8, *stem).patch_grid(grid)


@pytest.mark.parametrize("stem", [(0, 1, 0), (2, 0, 0), (2, 2, 2), (2, 2, -1)])
def test_stem_refuses_numbers_that_leave_no_kernel(stem):
    with pytest.raises(ValueError, match="expected kernel >= 1"):
        Stem(4, 8, *stem)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64])
def test_tokens_of_any_integer_type_and_both_layouts(dtype):
    flat = torch.arange(12).to(dtype).reshape(1, 12).repeat(2, 1)
    for tokens in (flat, flat.reshape(2, 3, 4)):
        grid = as_grid(tokens, (3, 4))
        assert grid.dtype in (torch.int32, torch.int64)
        assert grid.tolist() == torch.arange(12).reshape(3, 4).expand(2, -1, -1).tolist()


@pytest.mark.parametrize("shape", [(2, 11), (2, 4, 3), (12,), (2, 3, 4, 1)])
def test_tokens_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"tokens of shape .*expected \[B,12\] or \[B,3,4\]; crop"):
        as_grid(torch.zeros(shape, dtype=torch.int64), (3, 4))


def test_wrong_kinds_are_refused():
    with pytest.raises(ValueError, match=r"tokens of dtype torch\.float32; expected integers"):
        as_grid(torch.zeros(1, 4), (2, 2))
    with pytest.raises(ValueError, match="embedding of 0 codes x 4"):
        TokenEmbedding(0, 4)
    with pytest.raises(ValueError, match=r"codebook of shape \[4\]"):
        CodebookEmbedding(torch.zeros(4))
    with pytest.raises(ValueError, match=r"dtype torch.int64; expected floats \[K,D\]"):
        CodebookEmbedding(torch.zeros(4, 2, dtype=torch.int64))
