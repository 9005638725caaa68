"""Counting codes and moving unused ones, on one rank."""

import pytest
import torch
from torch.nn import functional as F

from seit_ray.tokenizers.vit_vqgan.revival import code_statistics, draw_candidates, perplexity, refill_rows


def vectors_of(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_statistics_are_counts_and_sums_of_directions():
    vectors = vectors_of(2, 3, 5)
    codes = torch.tensor([[4, 0, 4], [2, 4, 0]])
    counts, sums = code_statistics(vectors, codes, 6, all_ranks=True)
    assert counts.tolist() == [2, 0, 1, 0, 3, 0]
    directions = F.normalize(vectors, dim=-1)
    torch.testing.assert_close(sums[4], directions[0, 0] + directions[0, 2] + directions[1, 1])
    assert sums[[1, 3, 5]].count_nonzero() == 0


@pytest.mark.parametrize(("counts", "expected"), [([1, 1, 1, 1], 4), ([9, 0, 0], 1), ([5, 5, 0, 0], 2), ([7], 1)])
def test_perplexity_counts_codes(counts, expected):
    assert perplexity(torch.tensor(counts, dtype=torch.float32)).item() == pytest.approx(expected)


def test_candidates_are_those_of_lowest_priority_in_its_order():
    vectors, priority = vectors_of(2, 2, 3), torch.tensor([[0.5, 0.1], [0.9, 0.1]])
    found = draw_candidates(vectors, priority, 3)
    torch.testing.assert_close(found, F.normalize(vectors, dim=-1)[[0, 1, 0], [1, 1, 0]])
    assert draw_candidates(vectors, priority, 100).shape == (4, 3)


def test_each_dead_code_gets_a_candidate_of_its_own():
    rows, candidates = vectors_of(5, 2), vectors_of(2, 2, seed=1)
    dead = torch.tensor([False, True, False, True, True])
    found = refill_rows(rows, dead, candidates)
    assert torch.equal(found[[1, 3]], candidates)
    assert torch.equal(found[[0, 2, 4]], rows[[0, 2, 4]])  # candidates ran out before the last
    assert torch.equal(refill_rows(rows, dead & False, candidates), rows)
