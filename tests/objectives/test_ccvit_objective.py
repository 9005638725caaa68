"""CCViT's objective: what is corrupted, what counts, and equal results for any number of ranks."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from seit_ray.augment.chain import Augmented
from seit_ray.augment.random import StepRandom
from seit_ray.augment.synonyms import nearest_codes
from seit_ray.models.build import build_model
from seit_ray.models.variants import Size
from seit_ray.objectives import (
    OBJECTIVES,
    Batch,
    CentroidObjective,
    MorphedMTMObjective,
    MorphingObjective,
    MTMObjective,
)
from seit_ray.objectives.ccvit_losses import (
    code_loss,
    grid_of_units,
    patch_pixels,
    soft_labels,
    standardised_pixels,
    unit_pixels,
    units_of,
)
from seit_ray.objectives.morph_loss import Morphing
from seit_ray.objectives.morph_targets import AverageTarget, CodebookTarget
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.training.averages import new_average

TINY = Size(16, 2, 2, 12, 1, 3)
CODES, PATCH = 13, 2
GRID = (4, 6)


def tokenizer():
    codebook = torch.rand(CODES, 3 * PATCH**2, generator=torch.Generator().manual_seed(0))
    return CentroidTokenizer(codebook, image_size=2 * PATCH, patch_size=PATCH)


def objective_of(sees="codebook", unit=2, **more):
    settings = {"num_masked": 2, "num_replaced": 2, "num_near": 3, "replace": "near"}
    change, morphing = more.pop("augment", None), more.pop("morphing", None)
    plain = CentroidObjective(tokenizer=tokenizer(), grid=GRID, unit=unit, sees=sees, **{**settings, **more})
    return plain.changed(change, morphing)


def model_of(sees="codebook", unit=2, **more):
    torch.manual_seed(0)
    codebook = tokenizer().codebook
    grid, kernel = (GRID, unit) if sees == "codebook" else ((GRID[0] * PATCH, GRID[1] * PATCH), unit * PATCH)
    sizes = {"num_codes": CODES, "code_dim": codebook.shape[1], "head_layers": 1, "early_layers": 1, "size": TINY}
    return build_model("ccvit", inputs=sees, codebook=codebook, grid=grid, kernel=kernel, unit=unit, **sizes, **more)


def some_tokens(rows=6):
    return torch.randint(CODES, (rows, GRID[0] * GRID[1]), generator=torch.Generator().manual_seed(1))


def some_images(rows=6):
    size = (rows, 3, GRID[0] * PATCH, GRID[1] * PATCH)
    return torch.randint(256, size, generator=torch.Generator().manual_seed(2)).byte()


def rng(rows=6, step=3):
    return StepRandom(0, step, slice(0, rows), rows)


def average_of(objective, model):
    """The objective with a moving average that is not the model itself."""
    objective.average = {name: value * 0.9 for name, value in new_average(model).items()}
    return objective


def morphing_of(target, **more):
    return Morphing(target, patch_grid=(2, 3), unit=2, **more)


def cases():
    """(model, objective, inputs) of everything that is pre-trained by here."""
    codebook = CodebookTarget(tokenizer().codebook, 4)
    mtm = build_model("mtm", grid=GRID, num_codes=CODES, size=TINY, token_dim=8, stem_kernel=2, dropout=0.0)
    with_head = build_model(
        "mtm", grid=GRID, num_codes=CODES, size=TINY, token_dim=8, stem_kernel=2, dropout=0.0, morph_dim=16
    )
    student = build_model(
        "dtm", inputs="pixels", grid=(GRID[0] * PATCH, GRID[1] * PATCH), kernel=4, size=TINY, output_dim=16
    )
    averaged = average_of(MorphedMTMObjective(MTMObjective(), morphing_of(AverageTarget(16))), with_head)
    alone = Morphing(AverageTarget(16), patch_grid=(2, 3))
    return {
        "tokens": (model_of(), objective_of(), some_tokens()),
        "soft": (model_of(shared_head=True), objective_of(loss="two_ce_shared", soft_tau=1.0), some_tokens()),
        "images": (model_of("pixels"), objective_of("pixels", replace="own"), some_images()),
        "morphed": (model_of(morph_dim=codebook.dim), objective_of(morphing=morphing_of(codebook)), some_tokens()),
        "bags": (mtm, MorphedMTMObjective(MTMObjective(), morphing_of(codebook, kind="histograms")), some_tokens()),
        "average": (with_head, averaged, some_tokens()),
        "student": (student, average_of(MorphingObjective(alone), student), some_images()),
    }


@pytest.mark.parametrize("cuts", [(0, 3, 6), (0, 2, 4, 6), (0, 1, 6)])
@pytest.mark.parametrize("name", cases())
def test_ranks_weighted_by_their_rows_give_the_global_gradient(name, cuts):
    model, objective, inputs = cases()[name]
    whole, _ = objective.loss(model, Batch(inputs), rng())
    whole.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    total = 0.0
    for start, stop in itertools.pairwise(cuts):
        loss, _ = objective.loss(model, Batch(inputs[start:stop]), StepRandom(0, 3, slice(start, stop), 6))
        (loss * (stop - start) / 6).backward()
        total += loss.item() * (stop - start) / 6
    assert total == pytest.approx(whole.item(), rel=1e-5)
    for parameter, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[parameter], atol=1e-6, rtol=1e-3, msg=parameter)


def test_every_objective_is_in_the_registry():
    assert {"ccvit", "dtm", "dtm_tokens"} <= set(OBJECTIVES)


def test_masked_and_replaced_patches_count_and_nothing_else():
    model, objective, tokens = model_of(), objective_of(), some_tokens()
    seen = objective.seen(tokens, rng())
    corrupted = objective.corrupt(model, seen, rng())
    positions = objective.positions(corrupted)
    assert positions.shape == (6, 4)
    changed = units_of(corrupted.codes != tokens, GRID, 2)
    assert (changed.any(2) == corrupted.replaced).all()  # a near code is never the code itself
    assert changed[corrupted.replaced].all()
    first, second, _ = model(corrupted.maps, corrupted.masked, positions)
    loss, metrics = objective.loss(model, Batch(tokens), rng())
    codes = objective.at(units_of(tokens, GRID, 2), positions)
    pixels = unit_pixels(tokenizer().codebook[codes], PATCH)
    plain = (pixels - pixels.mean(2, keepdim=True)) / (pixels.var(2, keepdim=True) + 1e-6).sqrt()
    expected = [F.cross_entropy(first.flatten(0, 2), codes.flatten()), F.mse_loss(second, plain)]
    torch.testing.assert_close(loss, sum(expected))
    torch.testing.assert_close(metrics["code_loss"], expected[0])
    torch.testing.assert_close(metrics["pixel_loss"], expected[1])
    assert metrics["masked_accuracy"].item() == pytest.approx((first.argmax(3) == codes).float().mean().item())
    assert not any(value.requires_grad or value.ndim for value in metrics.values())


def test_what_replaces_a_patch():
    model, tokens = model_of(), some_tokens()
    table = nearest_codes(tokenizer().codebook, 3)
    for replace in ("own", "near", "random", "none"):
        objective = objective_of(replace=replace, num_replaced=4)
        corrupted = objective.corrupt(model, objective.seen(tokens, rng()), rng())
        places = grid_of_units(corrupted.replaced.unsqueeze(2).expand(-1, -1, 4), GRID, 2)
        assert places.sum() == 6 * 4 * 4
        assert torch.equal(corrupted.codes[~places], tokens[~places])
        found, before = corrupted.codes[places], tokens[places]
        if replace in ("own", "none"):
            assert torch.equal(found, before)
        if replace == "near":
            assert (found.unsqueeze(1) == table[before]).any(1).all()
        if replace == "random":
            assert found.unique().numel() > 8


def test_images_get_their_own_centroid_where_replaced():
    model, objective, images = model_of("pixels"), objective_of("pixels", replace="own"), some_images()
    seen = objective.seen(images, rng())
    corrupted = objective.corrupt(model, seen, rng())
    maps = model.token_emb.standardise(images.float())
    patches, plain = patch_pixels(corrupted.maps, 4), patch_pixels(maps, 4)
    torch.testing.assert_close(patches[~corrupted.replaced], plain[~corrupted.replaced])
    centroids = patch_pixels(model.token_emb.standardise(255 * objective.decoded(seen.codes)), 4)
    torch.testing.assert_close(patches[corrupted.replaced], centroids[corrupted.replaced])
    assert not torch.allclose(patches[corrupted.replaced], plain[corrupted.replaced])


def test_codebook_and_pixels_are_one_thing():
    """The same tokens, weights and draws: an equal loss, whether rows of centroids are read or decoded pixels."""
    from seit_ray.models.beit_transfer import pixel_stem

    rows, pixels = model_of(), model_of("pixels")
    state = rows.state_dict()
    state["patch_embed.proj.weight"] = pixel_stem(state["patch_embed.proj.weight"])
    pixels.load_state_dict(state)
    losses = [
        objective_of(sees).loss(model, Batch(some_tokens()), rng())[0]
        for sees, model in (("codebook", rows), ("pixels", pixels))
    ]
    torch.testing.assert_close(losses[0], losses[1], atol=1e-5, rtol=1e-5)


def test_images_are_changed_and_tokenised_again():
    def flip(images, labels, rng):
        return Augmented(images.flip(3), labels)

    objective = objective_of("pixels", augment=flip)
    seen = objective.seen(some_tokens(), rng())
    assert torch.equal(seen.codes.view(6, *GRID), encoded_flip(objective))
    assert not torch.equal(seen.codes, some_tokens())


def encoded_flip(objective):
    """The nearest centroid of each patch of the mirrored decoded image, by brute force."""
    images = objective.decoded(some_tokens()).mul(255).round().flip(3)
    patches = patch_pixels(images / 255, PATCH)
    return torch.cdist(patches, tokenizer().codebook).argmin(2).view(6, *GRID)


def test_units_and_their_pixels_are_laid_out_as_patches():
    codes = torch.arange(24).view(1, 24)
    units = units_of(codes, GRID, 2)
    assert units[0, 0].tolist() == [0, 1, 6, 7]
    assert torch.equal(grid_of_units(units, GRID, 2), codes)
    images = torch.rand(1, 3, 8, 12)
    small = patch_pixels(images, 2)  # [1,24,12], patches of 2x2
    joined = unit_pixels(small[0][units[0]], 2)
    assert torch.equal(joined, patch_pixels(images, 4)[0])


def test_flat_patches_stay_small():
    flat = 0.5 + 1e-4 * torch.randn(1, 12)
    assert standardised_pixels(flat, min_std=0.01).abs().max() < 0.05
    assert standardised_pixels(flat, min_std=1e-9).std() > 0.9
    assert standardised_pixels(torch.full((1, 12), 0.3)).abs().max() < 1e-3


def test_soft_labels_sum_to_one_and_fade_with_distance():
    codebook = tokenizer().codebook
    soft = soft_labels(codebook, nearest_codes(codebook, 4), 0.5)
    assert torch.equal(soft.codes[:, 0], torch.arange(CODES))
    torch.testing.assert_close(soft.shares.sum(1), torch.ones(CODES))
    assert (soft.shares.diff(dim=1) <= 0).all()
    scores, targets = torch.randn(7, CODES), torch.randint(CODES, (7,))
    dense = torch.zeros(7, CODES).scatter_(1, soft.codes[targets], soft.shares[targets])
    torch.testing.assert_close(code_loss(scores, targets, soft), F.cross_entropy(scores, dense))
    sharp = soft_labels(codebook, nearest_codes(codebook, 4), 1e-6)
    torch.testing.assert_close(code_loss(scores, targets, sharp), code_loss(scores, targets))


def test_the_average_is_read_without_dropout_and_the_mode_is_kept():
    model, objective, tokens = cases()["average"]
    model.token_emb.dropout.p = 0.9
    model.train()
    given_ = objective.given(model, tokens, rng())
    one, other = (objective.morphing.target_of(model, given_) for _ in range(2))
    assert torch.equal(one, other)
    assert model.training
    objective.average = None
    with pytest.raises(ValueError, match=r"expected loop.ema_decay above 0"):
        objective.morphing.target_of(model, given_)


def test_what_does_not_fit_is_one_line():
    with pytest.raises(ValueError, match="loss 'triple'"):
        objective_of(loss="triple")
    with pytest.raises(ValueError, match="replace 'all'"):
        objective_of(replace="all")
    with pytest.raises(ValueError, match="expected a multiple in both"):
        objective_of(unit=4)
    with pytest.raises(ValueError, match="at most 6 together"):
        objective_of(num_masked=5)
    with pytest.raises(ValueError, match="which has no labels"):
        objective_of(loss="two_ce_soft_shared", soft_tau=1.0)
    with pytest.raises(ValueError, match="expected 1 to 12"):
        objective_of(num_near=13)
