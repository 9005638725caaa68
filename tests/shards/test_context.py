"""What neighbours tell of a token: found where it is there, left alone where it is not."""

import numpy as np
import pytest

from seit_ray.shards.context import MAX_CODES, Context, coded_bits, fit_context, grouped, line_width
from seit_ray.shards.statistics import entropy_bits


def pictures(num, shape, *, num_codes=64, seed=0):
    """Tokens [num, h*w] that change little from one place to the next, in both directions."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(2, size=(2, num, max(shape)))
    down, right = (np.cumsum(s[:, : shape[i]], axis=1) for i, s in enumerate(steps))
    noise = rng.random((num, *shape)) < 0.2
    tokens = (rng.integers(num_codes, size=(num, 1, 1)) + down[:, :, None] + right[:, None, :] + noise) % num_codes
    return tokens.reshape(num, -1).astype(np.uint16)


def test_pairs_are_of_the_left_and_the_upper_code():
    context = Context(3, np.array([1, 2, 1], np.uint8), np.zeros((3, 3), np.uint8))
    tokens = np.array([[0, 1, 2, 1, 1, 0]], np.uint16)
    assert context.pairs(tokens).tolist() == [[0, 3 * 1, 3 * 2, 1, 3 * 2 + 2, 3 * 2 + 1]]


@pytest.mark.parametrize("shape", [(8, 8), (4, 16), (16, 4), (5, 7), (14, 14)])
def test_the_width_of_a_line_is_found(shape):
    assert line_width(pictures(200, shape)) == shape[1]


@pytest.mark.parametrize(("num_tokens", "widths"), [(1, {1}), (2, {1}), (7, {7}), (36, {3, 4, 6, 9, 12})])
def test_the_width_divides_the_tokens(num_tokens, widths):
    tokens = np.random.default_rng(0).integers(9, size=(50, num_tokens)).astype(np.uint16)
    assert line_width(tokens) in widths


def test_neighbours_that_tell_something_are_used():
    tokens = pictures(2000, (8, 8))
    context, counts = fit_context(tokens, 64)
    alone = entropy_bits(np.bincount(tokens.ravel())) * tokens.size
    assert context.width == 8
    assert len(counts) > 1
    assert counts.sum() == tokens.size
    assert coded_bits(counts) < 0.7 * alone
    table = context.groups.ravel()[context.pairs(tokens)]
    found = np.bincount((table.astype(int) * 64 + tokens).ravel(), minlength=counts.size).reshape(counts.shape)
    np.testing.assert_array_equal(found, counts)


@pytest.mark.parametrize(("num", "num_codes"), [(2000, 64), (3, 64), (40, MAX_CODES + 1)])
def test_neighbours_that_tell_nothing_are_not(num, num_codes):
    tokens = np.random.default_rng(0).integers(num_codes, size=(num, 64)).astype(np.uint16)
    context, counts = fit_context(tokens, num_codes)
    assert counts.shape == (1, num_codes)
    assert context.groups.tolist() == [[0]]


def test_more_data_pays_for_more_tables():
    few, many = (len(fit_context(pictures(num, (8, 8)), 64)[1]) for num in (60, 4000))
    assert few < many


def test_rows_that_are_alike_are_grouped():
    rng = np.random.default_rng(1)
    kinds = rng.integers(3, size=40)
    counts = rng.poisson(np.eye(3)[kinds] @ rng.dirichlet(np.full(30, 0.2), size=3) * 500)
    groups = grouped(counts, 8)
    assert all(len(set(kinds[groups == g])) == 1 for g in set(groups.tolist()))
    assert sorted(set(groups.tolist())) == list(range(groups.max() + 1))


def test_a_token_outside_the_codebook_is_an_error():
    with pytest.raises(ValueError, match="token 64; expected below 64"):
        fit_context(np.full((3, 4), 64, np.uint16), 64)
