"""The masked token model against the recordings, and on other grids, units, ratios and code counts."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from seit_ray.models import SIZES, MaskedTokenModel, Size, load_named
from seit_ray.models.mtm import num_units_at

GOLDEN = Path(__file__).parents[1] / "golden" / "seitpp_mtm.npz"
TINY = Size(16, 2, 2, 12, 1, 3)
COUNTS = {"r0.4": 79, "r0.55": 108, "r0.7312": 144, "r1.0": 196}


@pytest.fixture(scope="module")
def record():
    arrays = np.load(GOLDEN)
    return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


@pytest.fixture
def recorded_model(record):
    # In float64, so that what is left is the recordings' own rounding, on any processor.
    model = MaskedTokenModel(grid=(28, 28), num_codes=391, size=Size(64, 2, 4, 48, 2, 3))
    load_named(model, {key[3:]: value for key, value in record.items() if key.startswith("sd/")})
    return model.double().eval()


def small_model(seed=0, **changes):
    torch.manual_seed(seed)
    settings = {"grid": (6, 8), "num_codes": 13, "size": TINY, "token_dim": 8} | changes
    return MaskedTokenModel(**settings)


def draw(model, num_rows=3, seed=0, num_codes=13):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(num_codes, (num_rows, math.prod(model.grid)), generator=generator)
    return tokens, torch.rand(num_rows, model.num_patches, generator=generator)


@pytest.mark.parametrize("ratio", COUNTS)
def test_masks_and_losses_equal_the_recording(record, recorded_model, ratio):
    num_masked = num_units_at(float(ratio[1:]), 196)
    assert num_masked == COUNTS[ratio] == record[f"out/{ratio}/num_masked"]
    assert recorded_model.num_dropped == record[f"out/{ratio}/num_dropped"] == 79
    noise = record["in/noise"]
    logits, targets, mask = recorded_model(record["in/tokens"], noise, num_masked)
    assert torch.equal(mask, record[f"out/{ratio}/token_all_mask"][:, 1:])
    dropped = noise.argsort(dim=1).argsort(dim=1) < recorded_model.num_dropped
    assert torch.equal(dropped, record[f"out/{ratio}/token_drop_mask"][:, 1:])
    for smoothing, key in ((0.0, "s0"), (0.1, "s01")):
        loss = F.cross_entropy(logits.flatten(0, 2), targets.flatten(), label_smoothing=smoothing)
        assert loss.item() == pytest.approx(record[f"out/{ratio}/{key}/loss"].item(), rel=1e-6)


def test_latent_and_logits_equal_the_recording(record, recorded_model):
    tokens, noise = record["in/tokens"], record["in/noise"]
    latent = recorded_model.encode(tokens, noise, 108)
    torch.testing.assert_close(latent, record["out/r0.55/latent"].double(), atol=1e-5, rtol=0)
    logits, mask = recorded_model.all_logits(tokens, noise, 108)
    assert logits.shape == (3, 784, 391)
    torch.testing.assert_close(logits[:, ::17], record["out/r0.55/logits"].double(), atol=1e-5, rtol=0)
    assert torch.equal(mask, record["out/r0.55/token_all_mask"][:, 1:])
    in_float32 = recorded_model.float().all_logits(tokens, noise, 108)[0]
    torch.testing.assert_close(in_float32[:, ::17], record["out/r0.55/logits"], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("smoothing", "key"), [(0.0, "s0"), (0.1, "s01")])
def test_gradients_equal_the_recording(record, recorded_model, smoothing, key):
    logits, targets, _ = recorded_model(record["in/tokens"], record["in/noise"], 108)
    F.cross_entropy(logits.flatten(0, 2), targets.flatten(), label_smoothing=smoothing).backward()
    for name, grad in (
        ("word_embeddings", recorded_model.token_emb.word_embeddings.weight.grad),
        ("mask_token_label", recorded_model.mask_token_label.grad),
    ):
        torch.testing.assert_close(
            grad, record[f"out/r0.55/{key}/grad_{name}"].double(), atol=1e-6, rtol=1e-4
        )
    norms = {name: p.grad.norm().item() for name, p in recorded_model.named_parameters()}
    prefix = f"gradnorm/r0.55/{key}/"
    recorded = {k[len(prefix) :]: v.item() for k, v in record.items() if k.startswith(prefix)}
    # The release's fixed tables take no gradient: one is a buffer here, the other is left out.
    assert [recorded.pop("pos_embed"), recorded.pop("decoder_pos_embed")] == [-1, -1]
    assert norms == pytest.approx(recorded, rel=1e-4)


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
    each = F.cross_entropy(everywhere.flatten(0, 1), tokens.flatten(), reduction="none").reshape(
        3, rows, unit, -1
    )
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
    model = small_model(size=Size(32, 2, 2, 24, 1, 2), token_dim=16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(250):
        tokens = torch.randint(13, (32, 1), generator=generator).expand(-1, 48)
        logits, targets, _ = model(tokens, torch.rand(32, 12, generator=generator), 8)
        loss = F.cross_entropy(logits.flatten(0, 2), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3
    tokens = torch.arange(13).unsqueeze(1).expand(-1, 48)
    mask = torch.rand(13, 12, generator=generator).argsort(dim=1) < 8
    hidden = torch.where(model.tokens_of(mask.unsqueeze(-1).expand(-1, -1, 4)), 0, tokens)
    assert (model.predict(hidden, mask) == tokens).float().mean() > 0.95


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
        torch.testing.assert_close(
            compiled(tokens, noise, num_masked)[0], model(tokens, noise, num_masked)[0]
        )


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


def test_counts_of_units_are_ceilings_without_rounding_noise():
    assert [num_units_at(r, 100) for r in (0.0, 0.001, 0.55, 0.551, 1.0)] == [0, 1, 55, 56, 100]
    assert num_units_at(0.4, 196) == 79


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
