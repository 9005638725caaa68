"""Training of TokenAdapt: the same augmentation on pixels and maps, its loss and its figures."""

import pytest
import torch
from torch.nn import functional as F

from seit_ray.augment.geometry import Geometry, apply_geometry
from seit_ray.augment.random import StepRandom
from seit_ray.models.tokenadapt import TokenAdapt
from seit_ray.objectives import Batch
from seit_ray.objectives.tokenadapt import TokenAdaptObjective, warp_codes
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.codebook import nearest_in_codebook
from seit_ray.tokenizers.codebook_only import CodebookTokenizer
from seit_ray.tokenizers.device_search import search_on_device
from tests.augment.draws import STILL, WILD, rows, shifted, tokens_of
from tests.tokenizers.test_device_search import NothingWaits
from tests.tokenizers.test_pixels import centroids, images


class Lookup:
    """f that repeats cells and g that takes their mean's nearest code: right where A moves whole cells."""

    def __init__(self, tokenizer, out_grid):
        self.codebook, self.out_grid = tokenizer.codebook, out_grid

    def __call__(self, maps, geometry, judge=None):
        feature = maps.repeat_interleave(2, 2).repeat_interleave(2, 3)
        out = apply_geometry(feature, geometry, (2 * self.out_grid[0], 2 * self.out_grid[1]))
        cells = F.avg_pool2d(out, 2).permute(0, 2, 3, 1).flatten(1, 2)
        codes = nearest_in_codebook(cells, self.codebook, "l2")
        scores = 50.0 * F.one_hot(codes, len(self.codebook)).float()
        same = torch.eye(len(self.codebook)), torch.zeros(len(self.codebook))  # scores of themselves
        return scores if judge is None else judge(scores.flatten(0, 1), *same)


def adapt(tokenizer, out_grid, seed=0):
    """A small seeded TokenAdapt for a tokenizer."""
    torch.manual_seed(seed)
    num_codes, dim = tokenizer.codebook.shape
    sizes = {"width": 16, "num_heads": 2, "head_dim": 8, "mlp_width": 32}
    return TokenAdapt(grid=tokenizer.grid, out_grid=out_grid, num_codes=num_codes, dim=dim, **sizes)


def distinct(image_size, patch_size):
    """A tokenizer whose first code is black and whose codes lie far apart."""
    tokenizer = centroids(image_size=image_size, patch_size=patch_size)
    tokenizer.codebook[0] = 0.0
    return tokenizer


def exact(objective, tokens, geometry):
    """Hit rates of the lookup and of the naive way under a given geometry, on images that decode these tokens."""
    objective.draw = lambda rng: geometry
    pixels = objective.tokenizer.decode(tokens)
    model = Lookup(objective.tokenizer, objective.out_grid)
    loss, metrics = objective.loss(model, Batch(pixels), rows(len(tokens)))
    assert (loss < 1e-6) == (metrics["hit_rate"] == 1)
    return metrics["hit_rate"].item(), metrics["naive_hit_rate"].item()


def test_flips_go_the_same_way_through_pixels_maps_and_codes():
    objective = TokenAdaptObjective(tokenizer=distinct(6, 1), out_grid=(6, 6), geometry=STILL)
    geometry = shifted(5, flip=True)
    geometry.flip[::2] = False
    assert exact(objective, tokens_of(5, 6, 9), geometry) == (1.0, 1.0)


@pytest.mark.parametrize(("x", "y"), [(0.25, 0.0), (0.0, -0.5), (-0.5, 0.25)])
@pytest.mark.parametrize("patch_size", [1, 3, 4])
def test_shifts_by_whole_patches_are_exact(x, y, patch_size):
    objective = TokenAdaptObjective(tokenizer=distinct(4 * patch_size, patch_size), out_grid=(4, 4), geometry=STILL)
    assert exact(objective, tokens_of(5, 4, 9), shifted(5, x=x, y=y)) == (1.0, 1.0)


def test_a_shift_the_other_way_would_be_seen():
    objective = TokenAdaptObjective(tokenizer=distinct(12, 3), out_grid=(4, 4), geometry=STILL)
    tokens = tokens_of(5, 4, 9)
    pairs = objective.pairs(objective.tokenizer.decode(tokens), rows(5))
    wrong = Lookup(objective.tokenizer, (4, 4))(
        F.embedding(pairs.tokens, objective.tokenizer.codebook).permute(0, 3, 1, 2), shifted(5, x=0.25)
    )
    assert (wrong.argmax(2) == pairs.targets).float().mean() < 0.5


def test_crops_of_whole_cells_repeat_codes():
    """The lower right quarter on the whole grid again: each pixel, and each code, four times."""
    objective = TokenAdaptObjective(tokenizer=distinct(4, 1), out_grid=(4, 4), geometry=STILL)
    tokens = torch.tensor([[1, 2, 3, 4] * 2 + [5, 5, 6, 6] * 2])  # even quarters: bicubic keeps them
    geometry = shifted(1)
    geometry = Geometry(**{**vars(geometry), "boxes": torch.tensor([[0.5, 0.5, 0.5, 0.5]])})
    objective.draw = lambda rng: geometry
    pairs = objective.pairs(objective.tokenizer.decode(tokens), rows(1))
    assert pairs.targets.tolist() == [[6] * 16]
    assert exact(objective, tokens, geometry) == (1.0, 1.0)


def test_quarter_turns_of_codes():
    zero = torch.zeros(1)
    geometry = Geometry(zero.bool(), zero + 90.0, zero, zero, zero, zero, torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
    tokens = tokens_of(1, 5, 99).view(1, 5, 5)
    found = warp_codes(tokens, geometry, (5, 5), torch.full((5, 5), -1))
    assert torch.equal(found, tokens.rot90(-1, (1, 2)))  # positive is clockwise


def test_codes_from_outside_are_those_of_black_images():
    outside = torch.arange(16).view(4, 4) + 100
    tokens = tokens_of(2, 4, 9).view(2, 4, 4)
    found = warp_codes(tokens, shifted(2, x=0.5), (4, 4), outside)
    assert torch.equal(found[:, :, 2:], tokens[:, :, :2])
    assert torch.equal(found[:, :, :2], outside[:, :2].expand(2, -1, -1))


@pytest.mark.parametrize("out_grid", [(4, 4), (3, 5)])
def test_loss_and_metrics_are_means_over_all_codes(out_grid):
    tokenizer, pixels = centroids(), images(5, 12, 12)
    objective = TokenAdaptObjective(tokenizer=tokenizer, out_grid=out_grid, geometry=WILD)
    model = adapt(tokenizer, out_grid)
    loss, metrics = objective.loss(model, Batch(pixels), rows(5))
    pairs = objective.pairs(pixels, rows(5))
    assert pairs.augmented.shape == (5, 3, 3 * out_grid[0], 3 * out_grid[1])
    logits = objective.logits(model, pairs)
    chosen = logits.log_softmax(2).gather(2, pairs.targets.unsqueeze(2))
    assert loss.item() == pytest.approx(-chosen.mean().item())
    assert metrics["hit_rate"].item() == pytest.approx((logits.argmax(2) == pairs.targets).double().mean().item())
    assert set(metrics) == {"hit_rate", "naive_hit_rate"}
    assert not any(value.requires_grad for value in metrics.values())


def test_f_and_g_are_both_trained():
    tokenizer = centroids()
    model = adapt(tokenizer, (4, 4))
    objective = TokenAdaptObjective(tokenizer=tokenizer, out_grid=(4, 4), geometry=WILD)
    objective.loss(model, Batch(images(3, 12, 12)), rows(3))[0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_each_row_and_step_has_its_own_draw():
    objective = TokenAdaptObjective(tokenizer=centroids(), out_grid=(4, 4), geometry=WILD)
    same = images(1, 12, 12).expand(16, -1, -1, -1)
    augmented = objective.pairs(same, rows(16)).augmented
    assert len(augmented.unique(dim=0)) == 16
    assert not torch.equal(objective.pairs(same, rows(16, step=1)).augmented, augmented)


def test_any_split_of_the_batch_gives_the_same_loss():
    tokenizer, pixels = centroids(), images(7, 12, 12)
    objective, model = (
        TokenAdaptObjective(tokenizer=tokenizer, out_grid=(4, 4), geometry=WILD),
        adapt(centroids(), (4, 4)),
    )
    whole, metrics = objective.loss(model, Batch(pixels), rows(7))
    parts = [
        (b - a, *objective.loss(model, Batch(pixels[a:b]), StepRandom(7, 0, slice(a, b), 7)))
        for a, b in ((0, 2), (2, 3), (3, 7))
    ]
    assert sum(n * loss.item() for n, loss, _ in parts) / 7 == pytest.approx(whole.item(), rel=1e-5)
    for name, value in metrics.items():
        assert sum(n * found[name].item() for n, _, found in parts) / 7 == pytest.approx(value.item())


def test_half_precision_keeps_pairs_and_geometry():
    tokenizer, pixels = centroids(num_codes=120), images(5, 12, 12)
    objective, model = (
        TokenAdaptObjective(tokenizer=tokenizer, out_grid=(4, 4), geometry=WILD),
        adapt(tokenizer, (4, 4)),
    )
    pairs, (loss, _) = objective.pairs(pixels, rows(5)), objective.loss(model, Batch(pixels), rows(5))
    with torch.autocast("cpu", torch.bfloat16):
        half = objective.pairs(pixels, rows(5))
        half_loss, _ = objective.loss(model, Batch(pixels), rows(5))
    assert torch.equal(half.targets, pairs.targets)
    assert torch.equal(half.augmented, pairs.augmented)
    assert half_loss.dtype == torch.float32
    assert half_loss.item() == pytest.approx(loss.item(), rel=0.02)


def test_a_model_of_another_grid_is_refused():
    objective = TokenAdaptObjective(tokenizer=centroids(), out_grid=(4, 4), geometry=WILD)
    with pytest.raises(ValueError, match=r"out_grid \(3, 4\) of the model; expected \(4, 4\)"):
        objective.loss(adapt(centroids(), (3, 4)), Batch(images(2, 12, 12)), rows(2))


def test_images_of_another_size_are_refused():
    objective = TokenAdaptObjective(tokenizer=centroids(), out_grid=(4, 4), geometry=WILD)
    with pytest.raises(ValueError, match="expected"):
        objective.loss(adapt(centroids(), (4, 4)), Batch(images(2, 9, 9)), rows(2))


def test_a_network_tokenizer_gives_the_middle_of_its_grid():
    class Whole(CentroidTokenizer):
        """Centroids that count as a network: only whole images are tokenised."""

        family = "network"

    tokenizer = Whole(centroids(num_codes=30).codebook, image_size=12, patch_size=3)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("seit_ray.tokenizers.pixels", "seit_ray.objectives.tokenadapt"):
            patch.setattr(f"{module}.encodes_any_grid", lambda tokenizer: False)
        objective = TokenAdaptObjective(tokenizer=tokenizer, out_grid=(2, 2), geometry=WILD)
        with pytest.raises(ValueError, match=r"out_grid \(5, 4\) of a network tokenizer; expected at most its own"):
            TokenAdaptObjective(tokenizer=tokenizer, out_grid=(5, 4), geometry=WILD)
        still = TokenAdaptObjective(tokenizer=tokenizer, out_grid=(2, 2), geometry=STILL)
        found = still.pairs(images(3, 12, 12), rows(3))
        assert torch.equal(found.targets.view(3, 2, 2), found.tokens[:, 1:3, 1:3])
        assert torch.equal(still.naive_codes(found), found.targets)
        assert torch.equal(still.decode(found.targets, found), tokenizer.decode(found.tokens.flatten(1)))
        pairs = objective.pairs(images(6, 12, 12), rows(6))
    assert pairs.augmented.shape[2:] == (12, 12)
    assert pairs.targets.shape == (6, 4)
    model = adapt(tokenizer, (2, 2))
    assert objective.logits(model, pairs).shape == (6, 4, 30)


def test_a_codebook_alone_is_refused():
    tokenizer = CodebookTokenizer(torch.rand(5, 3), grid=(4, 4), image_size=12)
    with pytest.raises(ValueError, match="to encode with a tokenizer of family 'codebook'"):
        TokenAdaptObjective(tokenizer=tokenizer, out_grid=(4, 4), geometry=WILD)


@pytest.mark.parametrize("geometry", [{"link_prob": -0.5}, {"max_shear": 90.0}, {"area": (0.0, 1.0)}])
def test_wrong_ranges_are_refused_at_once(geometry):
    with pytest.raises(ValueError, match="expected"):
        TokenAdaptObjective(tokenizer=centroids(), out_grid=(4, 4), geometry=geometry)


def test_a_loss_on_a_gpu_waits_for_nothing(monkeypatch):
    """With the search that a GPU takes, on the CPU."""
    tokenizer = distinct(8, 2)

    def on_device(points, codebook):
        return lambda x: search_on_device(x, codebook, codebook.mean(0))

    monkeypatch.setattr("seit_ray.tokenizers.centroid.search_for", on_device)
    objective = TokenAdaptObjective(tokenizer=tokenizer, out_grid=(4, 4), geometry=WILD)
    model, batch = adapt(tokenizer, (4, 4)), Batch(images(6, 8, 8))
    with NothingWaits() as mode:
        loss, _ = objective.loss(model, batch, rows(6))
        loss.backward()
    assert mode.calls > 100
    monkeypatch.undo()
    expected = TokenAdaptObjective(tokenizer=distinct(8, 2), out_grid=(4, 4), geometry=WILD).loss(model, batch, rows(6))
    assert loss.item() == pytest.approx(expected[0].item())
