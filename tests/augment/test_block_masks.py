"""Block-wise masks: exact counts, the published distribution, a draw of its own for every row."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seit_ray.augment import block_masks as module
from seit_ray.augment.block_masks import block_masks, positions_of, replaced_units
from seit_ray.augment.mask_counts import check_counts
from seit_ray.augment.random import StepRandom
from tests.recordings import Recording

RECORD = Recording("ccvit")


def rng(rows, step=0, total=None):
    return StepRandom(7, step, slice(0, rows), total or rows)


def published_mask(grid, num, least):
    """The published generator, written out: python's and numpy's global generators."""
    mask, count = np.zeros(grid, dtype=int), 0
    while count < num:
        left, delta = num - count, 0
        for _ in range(10):
            area = random.uniform(least, left)
            aspect = np.exp(random.uniform(np.log(0.3), np.log(1 / 0.3)))
            height, width = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
            if width < grid[1] and height < grid[0]:
                top = random.randint(0, grid[0] - height)
                side = random.randint(0, grid[1] - width)
                block = mask[top : top + height, side : side + width]
                new = int((block == 0).sum())
                if 0 < new <= left:
                    delta = new
                    block[:] = 1
                    break
        if not delta:
            break
        count += delta
    rest = np.flatnonzero(mask.ravel() == 0)
    mask.ravel()[np.random.choice(rest, num - count, replace=False)] = 1
    return mask


def test_the_published_generator_is_understood_as_the_golden_recording_has_it():
    recorded = RECORD["out/mask/block_seed0_15"]
    for seed, expected in enumerate(recorded):
        random.seed(seed)
        np.random.seed(seed)
        found = published_mask(tuple(expected.shape), int(expected.sum()), 16)
        assert found.tolist() == expected.tolist()


def test_marginals_equal_the_golden_recording():
    recorded = RECORD["out/mask/marginal_prob_3000"].double()
    grid, num = tuple(recorded.shape), round(recorded.sum().item())
    masks = block_masks(rng(3000), grid, num, min_cells=16)
    found = masks.double().mean(0).view(grid)
    deviation = (recorded * (1 - recorded) * (1 / 3000 + 1 / 3000)).sqrt()
    assert ((found - recorded).abs() / deviation).max() < 4.5
    assert ((found - recorded) / deviation).square().mean() < 1.6


@pytest.mark.parametrize(("grid", "num", "least"), [((14, 14), 75, 16), ((8, 10), 30, 6), ((7, 7), 12, 4)])
def test_neighbours_are_masked_together_as_often_as_published(grid, num, least):
    random.seed(1)
    np.random.seed(1)
    published = np.stack([published_mask(grid, num, least) for _ in range(300)])
    found = block_masks(rng(1500), grid, num, min_cells=least).view(-1, *grid).numpy()
    for shift in (1, 3):
        shares = [(m[:, shift:] & m[:, :-shift]).reshape(len(m), -1).mean(1) for m in (published, found.astype(int))]
        error = sum(s.var() / len(s) for s in shares) ** 0.5
        assert abs(shares[0].mean() - shares[1].mean()) < 4.5 * error


def test_so_many_rounds_are_enough(monkeypatch):
    usual = block_masks(rng(1000), (14, 14), 75)
    monkeypatch.setattr(module, "ROUNDS", 48)
    longer = block_masks(rng(1000), (14, 14), 75)
    blocks = [(m.view(-1, 14, 14)[:, 1:] & m.view(-1, 14, 14)[:, :-1]).float().mean() for m in (usual, longer)]
    assert abs(blocks[0] - blocks[1]) < 0.005


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 15), st.integers(1, 15), st.integers(0, 99), st.data())
def test_counts_are_exact_on_any_grid(height, width, step, data):
    cells = height * width
    num = data.draw(st.integers(1, cells))
    least = data.draw(st.one_of(st.none(), st.integers(1, cells)))
    masks = block_masks(rng(5, step), (height, width), num, min_cells=least)
    assert masks.shape == (5, cells)
    assert (masks.sum(1) == num).all()
    replaced = data.draw(st.integers(0, cells - num))
    others = replaced_units(rng(5, step), masks, replaced)
    assert (others.sum(1) == replaced).all()
    assert not (others & masks).any()
    places = positions_of(masks | others, num + replaced)
    assert torch.equal(torch.zeros_like(masks).scatter_(1, places, True), masks | others)
    assert (places.diff(dim=1) > 0).all()


def test_rows_and_steps_differ_and_ranks_agree():
    whole = block_masks(rng(8), (14, 14), 75)
    assert len({tuple(row.tolist()) for row in whole}) == 8
    assert not torch.equal(whole, block_masks(rng(8, step=1), (14, 14), 75))
    parts = [block_masks(StepRandom(7, 0, part, 8), (14, 14), 75) for part in (slice(0, 3), slice(3, 8))]
    assert torch.equal(torch.cat(parts), whole)
    replaced = replaced_units(rng(8), whole, 20)
    parts = [replaced_units(StepRandom(7, 0, p, 8), whole[p], 20) for p in (slice(0, 3), slice(3, 8))]
    assert torch.equal(torch.cat(parts), replaced)


def test_visible_patches_are_replaced_alike_often():
    masks = block_masks(rng(3000), (6, 6), 12)
    replaced = replaced_units(rng(3000), masks, 6)
    share = replaced.sum(0) / (~masks).sum(0)
    assert (share - 0.25).abs().max() < 0.05


@pytest.mark.parametrize(("masked", "replaced"), [(0, 0), (10, 0), (5, 5), (3, -1)])
def test_counts_that_do_not_fit_are_errors(masked, replaced):
    with pytest.raises(ValueError, match=r"of 9 \(3x3\); expected"):
        check_counts((3, 3), masked, replaced)


def test_blocks_of_nothing_are_errors():
    with pytest.raises(ValueError, match="expected 1 or more and 0 < aspect"):
        block_masks(rng(1), (4, 4), 3, aspect=(2.0, 1.0))
    with pytest.raises(ValueError, match="expected 1 or more and 0 < aspect"):
        block_masks(rng(1), (4, 4), 3, min_cells=0)
