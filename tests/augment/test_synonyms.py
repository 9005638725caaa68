"""Synonyms: which codes they are, and how many tokens they replace."""

import pytest
import torch

from seit_ray.augment.random import StepRandom
from seit_ray.augment.synonyms import nearest_codes, replace_synonyms, smallest
from tests.augment.seit_aug import golden


def rng(rows: slice, total: int, step: int = 3) -> StepRandom:
    return StepRandom(1, step, rows, total)


def test_nearest_first_and_never_itself():
    codebook = torch.tensor([[0.0], [1.0], [3.0], [3.0], [7.0]])
    assert nearest_codes(codebook, 2).tolist() == [[1, 2], [0, 2], [3, 1], [2, 1], [2, 3]]


def test_cosine_looks_at_directions_only():
    codebook = torch.tensor([[1.0, 0.0], [9.0, 1.0], [0.0, 2.0], [1.0, 1.0], [5.0, 0.0]])
    assert nearest_codes(codebook, 3, "cosine").tolist() == [[4, 1, 3], [0, 4, 3], [3, 1, 0], [1, 0, 2], [0, 1, 3]]
    assert nearest_codes(codebook, 3, "l2")[0].tolist() == [3, 2, 4]
    random = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    lengths = torch.rand(40, 1, generator=torch.Generator().manual_seed(1)) + 0.1
    assert torch.equal(nearest_codes(random * lengths, 39, "cosine"), nearest_codes(random, 39, "cosine"))
    with pytest.raises(ValueError, match="metric 'dot'; expected one of cosine, l2"):
        nearest_codes(random, 3, "dot")


def test_recorded_replacements():
    table, tokens = golden("in/synonym/table_top10"), golden("in/synonym/tokens")
    first = replace_synonyms(tokens, table[:, :1], 1.0, rng(slice(0, 32), 32))
    assert torch.equal(first, golden("out/synonym/p1_top1"))
    recorded = golden("out/synonym/p025_top5_seed77")
    out = replace_synonyms(tokens, table[:, :5], 0.25, rng(slice(0, 32), 32))
    for result in (recorded, out):
        changed = result != tokens
        assert changed.float().mean().item() == pytest.approx(0.25, abs=0.055)  # 4 standard errors
        assert (table[tokens[changed], :5] == result[changed].unsqueeze(1)).any(1).all()


@pytest.mark.parametrize("num", [0, 5])
def test_too_many_or_none_is_refused(num):
    with pytest.raises(ValueError, match="synonyms of 5 codes; expected 1 to 4"):
        nearest_codes(torch.randn(5, 3), num)


def test_share_and_choice():
    synonyms = nearest_codes(torch.randn(64, 8, generator=torch.Generator().manual_seed(0)), 5)
    tokens = torch.arange(64).repeat(400, 4)
    out = replace_synonyms(tokens, synonyms, 0.25, rng(slice(0, 400), 400))
    changed = out != tokens
    assert abs(changed.float().mean().item() - 0.25) < 0.005
    picked = (synonyms[tokens[changed]] == out[changed][:, None]).float().mean(0)
    assert torch.allclose(picked, torch.full((5,), 0.2), atol=0.01)
    assert torch.equal(replace_synonyms(tokens, synonyms, 0.0, rng(slice(0, 400), 400)), tokens)


def test_rows_draw_the_same_however_the_batch_is_split():
    synonyms = nearest_codes(torch.randn(16, 4, generator=torch.Generator().manual_seed(0)), 3)
    tokens = torch.randint(16, (10, 7), generator=torch.Generator().manual_seed(1))
    whole = replace_synonyms(tokens, synonyms, 0.5, rng(slice(0, 10), 10))
    parts = [replace_synonyms(tokens[s], synonyms, 0.5, rng(s, 10)) for s in (slice(0, 3), slice(3, 10))]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(replace_synonyms(tokens, synonyms, 0.5, rng(slice(0, 10), 10, step=4)), whole)


@pytest.mark.parametrize("levels", [1, 3, 50, 10**6])
@pytest.mark.parametrize("num", [1, 7, 60, 80])
def test_the_smallest_are_those_of_a_stable_sort(levels, num):
    generator = torch.Generator().manual_seed(levels + num)
    values = torch.randint(levels, (20, 80), generator=generator).double()
    assert torch.equal(smallest(values, num), values.argsort(dim=1, stable=True)[:, :num])
