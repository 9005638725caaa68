"""Synonyms: which codes they are, and how many tokens they replace."""

import pytest
import torch

from seit_ray.augment.random import StepRandom
from seit_ray.augment.synonyms import nearest_codes, replace_synonyms


def rng(rows: slice, total: int, step: int = 3) -> StepRandom:
    return StepRandom(1, step, rows, total)


def test_nearest_first_and_never_itself():
    codebook = torch.tensor([[0.0], [1.0], [3.0], [3.0], [7.0]])
    assert nearest_codes(codebook, 2).tolist() == [[1, 2], [0, 2], [3, 1], [2, 1], [2, 3]]


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
