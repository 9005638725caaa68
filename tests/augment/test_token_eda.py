"""Token-EDA: exchanged squares, their distribution, and the choice of what happens to a sample."""

import pytest
import torch

from seit_ray.augment.random import StepRandom
from seit_ray.augment.token_eda import draw_squares, random_swap, swap_squares, token_eda
from tests.augment.seit_aug import golden

SYNONYMS = (torch.arange(50)[:, None] + 1 + torch.arange(3)) % 50


def rng(rows, total=None):
    return StepRandom(2, 7, rows if isinstance(rows, slice) else slice(0, rows), total or rows)


def test_squares_are_exchanged_as_recorded():
    params = golden("in/swap/ps_y0_x0_y1_x1")
    tokens = golden("in/swap/tokens").flatten().expand(len(params), -1)
    out = swap_squares(tokens, (32, 32), params[:, 0], params[:, 1:3], params[:, 3:])
    for i in range(len(params)):
        assert torch.equal(out[i].view(32, 32), golden(f"out/swap/{i}")), i


def test_the_published_draw_keeps_its_oddities_and_ours_does_not():
    recorded = golden("out/swap/params_seed17_first20")
    sides, first, second = draw_squares(rng(40_000), (32, 32), reference=True)
    assert (sides == 0).float().mean().item() == pytest.approx(1 / 8, abs=0.01)
    assert (sides.min(), sides.max()) == (0, 7)
    last = torch.cat([(corner.amax(1) + sides) for corner in (first, second)])
    assert last.max() == 31  # of 0 to 31, rows below 31 only
    assert (recorded[:, 0] + recorded[:, 1:].amax(1)).max() <= 31
    sides, first, second = draw_squares(rng(40_000), (32, 32))
    assert torch.bincount(sides, minlength=8)[1:].min() > 40_000 / 7 * 0.95
    assert (sides.min(), sides.max()) == (1, 7)
    last = torch.cat([(corner + sides[:, None]) for corner in (first, second)])
    assert last.amax(0).tolist() == [32, 32]
    assert torch.cat([first, second]).amin(0).tolist() == [0, 0]
    assert ((first - second).square().sum(1) > sides**2).all()


@pytest.mark.parametrize("grid", [(8, 8), (5, 12), (2, 2), (3, 1), (1, 1)])
@pytest.mark.parametrize("reference", [False, True])
def test_any_grid_exchanges_within_its_samples(grid, reference):
    length = grid[0] * grid[1]
    tokens = torch.arange(length).expand(500, -1)
    sides, first, second = draw_squares(rng(500), grid, reference=reference)
    for side, corner in ((sides, first), (sides, second)):
        assert (corner >= 0).all()
        assert (corner + side[:, None] <= torch.tensor(grid)).all()
    out = random_swap(tokens, grid, rng(500), reference=reference)
    apart = ((first - second).abs() >= sides[:, None]).any(dim=1)  # squares that overlap lose tokens
    assert torch.equal(out[apart].sort(dim=1).values, tokens[apart])
    changed = (out != tokens).any(dim=1)
    assert torch.equal(changed, sides > 0)
    assert changed.any().item() == (length > 2 and not (reference and min(grid) < 5))


def test_each_sample_has_one_of_three():
    tokens = torch.randint(50, (4000, 64), generator=torch.Generator().manual_seed(0))
    out = token_eda(tokens, (8, 8), SYNONYMS, rng(4000), synonym_prob=0.3, swap_prob=0.2, synonym_share=0.25)
    changed = out != tokens
    same_codes = (out.sort(1).values == tokens.sort(1).values).all(dim=1)
    assert (~changed.any(dim=1)).float().mean().item() == pytest.approx(0.5, abs=0.03)
    swapped, replaced = same_codes & changed.any(dim=1), ~same_codes
    assert swapped.float().mean().item() == pytest.approx(0.2, abs=0.025)
    assert replaced.float().mean().item() == pytest.approx(0.3, abs=0.025)
    assert changed[replaced].float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert (SYNONYMS[tokens[replaced]] == out[replaced].unsqueeze(2)).any(2)[changed[replaced]].all()
    assert changed[swapped].sum(1).max() == 2  # two squares of one token on a grid of 8x8


def test_splits_draw_the_same_and_nothing_on_changes_nothing():
    tokens = torch.randint(50, (11, 30), generator=torch.Generator().manual_seed(0))
    settings = {"synonym_prob": 0.5, "swap_prob": 0.5}
    whole = token_eda(tokens, (5, 6), SYNONYMS, rng(11), **settings)
    parts = [token_eda(tokens[s], (5, 6), SYNONYMS, rng(s, 11), **settings) for s in (slice(0, 4), slice(4, 11))]
    assert torch.equal(torch.cat(parts), whole)
    assert (whole != tokens).any(dim=1).all()
    assert torch.equal(token_eda(tokens, (5, 6), None, rng(11), synonym_prob=0.0, swap_prob=0.0), tokens)


def test_wrong_input_is_refused():
    tokens = torch.zeros(2, 16, dtype=torch.long)
    with pytest.raises(ValueError, match="16 tokens a sample for a grid of 4x5; expected 20"):
        random_swap(tokens, (4, 5), rng(2))
    with pytest.raises(ValueError, match=r"both 1\.[12]\d*; expected 0 to 1"):
        token_eda(tokens, (4, 4), SYNONYMS, rng(2), synonym_prob=0.6, swap_prob=0.6)
    with pytest.raises(ValueError, match=r"synonyms None with synonym_prob 0\.25"):
        token_eda(tokens, (4, 4), None, rng(2))
