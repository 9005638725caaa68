"""Rows: partners, splits of pairs, and changing only some rows."""

import pytest
import torch

from seit_ray.augment.random import StepRandom
from seit_ray.augment.rows import change_rows, check_shares, global_draws, pair_draws, partners, split_pairs


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (range(4), [1, 0, 3, 2]),
        (range(5), [1, 0, 3, 2, 4]),
        (range(3, 8), [0, 2, 1, 4, 3]),
        (range(6, 7), [0]),
        ([0, 2, 3, 9], [0, 2, 1, 3]),
        ([], []),
    ],
)
def test_partners_are_neighbours_and_odd_ones_their_own(rows, expected):
    index = partners(torch.tensor(list(rows), dtype=torch.int64))
    assert index.tolist() == expected
    assert torch.equal(index[index], torch.arange(len(expected)))


def test_pairs_and_batches_draw_one_number():
    rng = StepRandom(1, 2, slice(2, 7), 8)
    pair = pair_draws(rng).uniform("x")
    assert (pair[0] == pair[1]) & (pair[2] == pair[3]) & (pair[0] != pair[2])
    everyone = global_draws(rng).uniform("x")
    assert everyone.shape == (5,)
    assert torch.equal(everyone, StepRandom(1, 2, slice(0, 1), 8).uniform("x").expand(5))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 2 / 3, 1.0])
def test_splits_keep_pairs_and_do_not_depend_on_the_rank(share):
    stay, go = split_pairs(StepRandom(0, 0, slice(0, 48), 48), share)
    assert sorted([*stay.tolist(), *go.tolist()]) == list(range(48))
    assert len(go) == round(48 * share)
    assert {row ^ 1 for row in go.tolist()} == set(go.tolist())
    for start, stop in ((0, 10), (10, 14), (14, 48)):
        part = split_pairs(StepRandom(3, 5, slice(start, stop), 48), share)[1] + start
        assert part.tolist() == [row for row in go.tolist() if start <= row < stop]
    rows = torch.tensor([0, 1, 6, 7, 9])
    by_tensor = split_pairs(StepRandom(0, 0, rows, 48), share)[1]
    assert rows[by_tensor].tolist() == [row for row in rows.tolist() if row in go.tolist()]


def test_only_chosen_rows_change_and_each_draws_its_own_numbers():
    rng = StepRandom(0, 1, slice(4, 10), 16)
    values, chosen = torch.zeros(6, 3), torch.tensor([True, False, True, True, False, False])
    out = change_rows(values, chosen, rng, lambda rows, r: rows + 1 + r.uniform("u", 3))
    assert torch.equal(out, torch.where(chosen[:, None], 1 + rng.uniform("u", 3), values))
    assert torch.equal(values, torch.zeros(6, 3))
    assert torch.equal(change_rows(values, ~chosen & chosen, rng, lambda rows, r: rows + 1), values)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_shares_outside_their_range_are_refused(value):
    with pytest.raises(ValueError, match=r"prob .*; expected 0 to 1"):
        check_shares(prob=value)
