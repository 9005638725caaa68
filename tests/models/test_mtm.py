"""The masked token model on many grids, units, ratios and code counts."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.models.variants import SIZES, Size

TINY = Size(16, 2, 2, 12, 1, 3)


def small_model(seed=0, **changes):
    torch.manual_seed(seed)
    settings = {"grid": (6, 8), "num_codes": 13, "size": TINY, "token_dim": 8} | changes
    return MaskedTokenModel(**settings)


def draw(model, num_rows=3, seed=0, num_codes=13):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(num_codes, (num_rows, math.prod(model.grid)), generator=generator)
    return tokens, torch.rand(num_rows, model.num_patches, generator=generator)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(2, 4), st.integers(0, 1000), st.data())
def test_scores_of_masked_units_are_those_of_all_positions(unit, rows, columns, seed, data):
    model = small_model(seed, grid=(rows * unit, columns * unit), unit=unit, mask_ratio_min=0.3).eval()
    tokens, noise = draw(model, seed=seed)
    num_masked = data.draw(st.integers(max(1, model.num_dropped), model.num_patches))
    logits, targets, mask = model(tokens, noise, num_masked)
    assert logits.shape == (3, num_masked, unit * unit, 13)
    assert (mask.sum(dim=1) == num_masked).all()
    everywhere, same_mask = model.all_logits(tokens, noise, num_masked)
    assert torch.equal(mask, same_mask)
    # The published way, written out: the loss of every token, averaged over units, then over masked units.
    each = F.cross_entropy(everywhere.flatten(0, 1), tokens.flatten(), reduction="none").reshape(3, rows, unit, -1)
    each = each.unflatten(-1, (columns, unit)).mean(dim=(2, 4)).flatten(1)
    expected = (each * mask).sum() / mask.sum()
    loss = F.cross_entropy(logits.flatten(0, 2), targets.flatten())
    torch.testing.assert_close(loss, expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(2, 4))
def test_units_are_squares_and_turn_back_into_tokens(unit, rows, columns):
    model = small_model(grid=(rows * unit, columns * unit), unit=unit, mask_ratio_min=0.0)
    tokens = torch.arange(rows * columns * unit * unit).reshape(1, rows * unit, columns * unit)
    units = model.units(tokens)
    assert units[0, -1].tolist() == tokens[0, -unit:, -unit:].flatten().tolist()
    assert torch.equal(model.tokens_of(units), tokens.flatten(1))


def test_no_prediction_sees_what_is_masked():
    model = small_model().eval()
    tokens, noise = draw(model)
    logits, _, mask = model(tokens, noise, 8)
    masked_tokens = model.tokens_of(mask.unsqueeze(-1).expand(-1, -1, 4))
    changed = torch.where(masked_tokens, (tokens + 1) % 13, tokens)
    torch.testing.assert_close(model(changed, noise, 8)[0], logits)
    visible = torch.where(masked_tokens, tokens, (tokens + 1) % 13)
    assert not torch.allclose(model(visible, noise, 8)[0], logits, atol=1e-4)


def test_row_order_of_noise_decides_and_ties_have_an_order():
    model = small_model().eval()
    tokens, noise = draw(model)
    logits, targets, mask = model(tokens, noise, 7)
    scaled = model(tokens, noise * 5 - 3, 7)
    assert torch.equal(logits, scaled[0])
    assert torch.equal(targets, scaled[1])
    assert torch.equal(mask, scaled[2])
    _, _, tied = model(tokens, torch.zeros_like(noise), 7)
    assert tied[:, :7].all()
    assert not tied[:, 7:].any()


def test_head_ties_to_embeddings_without_a_gradient():
    model = small_model(dropout=0.0)
    tokens, noise = draw(model)
    table = model.token_emb.word_embeddings.weight
    scores = model._score(torch.randn(2, 12, 12))
    weights = [table, model.mlm_layer.bias]
    grads = torch.autograd.grad(scores.sum(), weights, allow_unused=True)
    assert grads[0] is None
    assert grads[1].abs().min() > 0
    # All masked: nothing but the mask vector enters the encoder, so the table gets no gradient at all.
    logits, targets, _ = model(tokens, noise, model.num_patches)
    F.cross_entropy(logits.flatten(0, 2), targets.flatten()).backward()
    assert table.grad.abs().max() == 0
    assert model.mask_token_label.grad.abs().max() > 0
    with torch.no_grad():
        table.add_(1.0)  # the tie is there all the same
    assert not torch.allclose(model(tokens, noise, model.num_patches)[0], logits)


@pytest.mark.parametrize("num_masked", [5, 8, 12])
def test_every_parameter_takes_part_at_every_ratio(num_masked):
    # What DistributedDataParallel needs: no parameter without a gradient, also when no mask vector is used.
    model = small_model()
    tokens, noise = draw(model)
    logits, targets, _ = model(tokens, noise, num_masked)
    F.cross_entropy(logits.flatten(0, 2), targets.flatten()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    used = model.mask_token_label.grad.abs().max() > 0
    assert bool(used) == (num_masked > model.num_dropped == 5)


def test_first_loss_is_that_of_guessing():
    model = small_model(num_codes=500, grid=(16, 16)).eval()
    tokens, noise = draw(model, num_rows=8, num_codes=500)
    logits, targets, _ = model(tokens, noise, 40)
    loss = F.cross_entropy(logits.flatten(0, 2), targets.flatten())
    assert loss.item() == pytest.approx(math.log(500), abs=0.1)


def test_it_learns_grids_of_one_code():
    model = small_model(grid=(4, 6), num_codes=5, size=Size(16, 1, 2, 16, 1, 2), dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)  # slowly: a larger rate is at times thrown back
    generator = torch.Generator().manual_seed(0)
    for _ in range(500):
        tokens = torch.randint(5, (32, 1), generator=generator).expand(-1, 24)
        logits, targets, _ = model(tokens, torch.rand(32, 6, generator=generator), 4)
        loss = F.cross_entropy(logits.flatten(0, 2), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3  # from log 5 = 1.6
    tokens = torch.arange(5).unsqueeze(1).expand(-1, 24)
    mask = torch.rand(5, 6, generator=generator).argsort(dim=1) < 4
    hidden = torch.where(model.tokens_of(mask.unsqueeze(-1).expand(-1, -1, 4)), 0, tokens)
    assert (model.predict(hidden, mask) == tokens).float().mean() > 0.9


@pytest.mark.parametrize("num_masked", [2, 5, 9, 12])
def test_predict_fills_masked_places_only(num_masked):
    model = small_model().train()
    tokens, noise = draw(model)
    mask = noise.argsort(dim=1).argsort(dim=1) < num_masked
    filled = model.predict(tokens, mask)
    assert model.training
    assert filled.shape == tokens.shape
    keep = ~model.tokens_of(mask.unsqueeze(-1).expand(-1, -1, 4))
    assert torch.equal(filled[keep], tokens[keep])
    assert torch.equal(filled, model.predict(tokens.reshape(3, 6, 8), mask.long()))
    if num_masked == model.num_dropped:  # all that is masked is dropped, as in training: the same scores
        logits, same = model.eval().all_logits(tokens, (~mask).float(), num_masked)
        assert torch.equal(same, mask)
        assert torch.equal(filled[~keep], logits.argmax(dim=-1)[~keep])


def test_predict_with_uneven_rows_leaves_each_row_its_own_mask():
    model = small_model()
    tokens, _ = draw(model)
    mask = torch.zeros(3, 12, dtype=torch.bool)
    mask[1, :4] = True
    mask[2, 3:] = True
    filled = model.predict(tokens, mask)
    assert torch.equal(filled[0], tokens[0])
    keep = ~model.tokens_of(mask.unsqueeze(-1).expand(-1, -1, 4))
    assert torch.equal(filled[keep], tokens[keep])


def test_bfloat16_autocast_stays_finite():
    model = small_model()
    tokens, noise = draw(model)
    with torch.autocast("cpu", torch.bfloat16):
        logits, targets, _ = model(tokens, noise, 8)
        loss = F.cross_entropy(logits.flatten(0, 2).float(), targets.flatten())
    loss.backward()
    assert logits.dtype == torch.bfloat16
    assert loss.item() == pytest.approx(math.log(13), rel=0.2)
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_forward_is_one_graph_for_changing_counts():
    model = small_model().eval()
    tokens, noise = draw(model)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for num_masked in (5, 8, 11):
        torch.testing.assert_close(compiled(tokens, noise, num_masked)[0], model(tokens, noise, num_masked)[0])


def test_encoder_length_does_not_depend_on_the_ratio():
    model = small_model(mask_ratio_min=0.5)
    tokens, noise = draw(model)
    lengths = {model.encode(tokens, noise, n).shape[1] for n in (6, 9, 12)}
    assert lengths == {1 + 12 - 6}


def test_base_has_the_published_shape():
    with torch.device("meta"):
        model = MaskedTokenModel(grid=(28, 28), num_codes=391, size=SIZES["base"])
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    assert shapes["decoder_embed.weight"] == [512, 768]
    assert shapes["mlm_layer.fc.weight"] == [128, 512]
    assert (len(model.blocks), len(model.decoder_blocks), model.num_dropped) == (12, 4, 79)
    assert "decoder_pos_embed" not in shapes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": (7, 8)}, "grid 7x8 under a stem of kernel 2"),
        ({"mask_ratio_min": -0.1}, "mask_ratio_min -0.1 of 12 units"),
        ({"mask_ratio_min": 0.95}, "mask_ratio_min 0.95 of 12 units; expected .*unit left for the encoder"),
        ({"size": Size(18, 1, 2, 12, 1, 3)}, "width 18 for sin-cos positions"),
        ({"dropout": 1.0}, "dropout 1.0; expected 0 <= rate < 1"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small_model(**changes)


def test_wrong_inputs_are_refused():
    model = small_model()
    tokens, noise = draw(model)
    with pytest.raises(ValueError, match=r"noise of shape \[3, 11\]; expected \[B,12\]"):
        model(tokens, noise[:, 1:], 6)
    with pytest.raises(ValueError, match="num_masked 4; expected 5 to 12, since the model drops 5 units"):
        model(tokens, noise, 4)
    with pytest.raises(ValueError, match="num_masked 13; expected 5 to 12"):
        model(tokens, noise, 13)
    with pytest.raises(ValueError, match="num_masked 0; expected 1 to 12"):
        small_model(mask_ratio_min=0.0)(tokens, noise, 0)
    with pytest.raises(ValueError, match=r"tokens of shape \[3, 47\]"):
        model(tokens[:, 1:], noise, 6)
    with pytest.raises(ValueError, match=r"mask of shape \[3, 48\]; expected \[B,12\]"):
        model.predict(tokens, torch.zeros(3, 48))


@pytest.mark.parametrize("unit", [1, 2])
def test_features_are_the_mean_of_an_encoding_without_masks(unit):
    model = small_model(unit=unit, mask_ratio_min=0.0).eval()
    tokens, noise = draw(model)
    # `encode` masks one unit at least: the pieces that it is made of, with none.
    order = noise.argsort(dim=1)
    latent = model._encode(tokens, order, 0, torch.zeros_like(order, dtype=torch.bool))
    features = model.features(tokens)
    assert features.shape == (3, TINY.width)
    torch.testing.assert_close(features, latent[:, 1:].mean(dim=1))
    torch.testing.assert_close(model.features(tokens.reshape(3, *model.grid)), features)
    # All units count, though the model drops some in training, and each row is seen alone.
    dropping = small_model(unit=unit, mask_ratio_min=0.4).eval()
    torch.testing.assert_close(dropping.features(tokens), features)
    torch.testing.assert_close(dropping.features(tokens[1:2]), features[1:2])
    for place in (0, tokens.shape[1] - 1):
        changed = tokens.clone()
        changed[0, place] = (changed[0, place] + 1) % 13
        found = model.features(changed)
        assert not torch.allclose(found[0], features[0], atol=1e-6)
        torch.testing.assert_close(found[1:], features[1:])


def test_features_refuse_another_grid():
    with pytest.raises(ValueError, match="crop the tokens to the model's grid"):
        small_model().features(torch.zeros(2, 47, dtype=torch.int64))
