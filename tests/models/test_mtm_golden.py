"""The masked token model against the recordings of the published code."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seit_ray.augment.mask_counts import num_units_at
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.models.variants import Size
from seit_ray.models.weights import load_named

GOLDEN = Path(__file__).parents[1] / "golden" / "seitpp_mtm.npz"
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
        torch.testing.assert_close(grad, record[f"out/r0.55/{key}/grad_{name}"].double(), atol=1e-6, rtol=1e-4)
    norms = {name: p.grad.norm().item() for name, p in recorded_model.named_parameters()}
    prefix = f"gradnorm/r0.55/{key}/"
    recorded = {k[len(prefix) :]: v.item() for k, v in record.items() if k.startswith(prefix)}
    # The release's fixed tables take no gradient: one is a buffer here, the other is left out.
    assert [recorded.pop("pos_embed"), recorded.pop("decoder_pos_embed")] == [-1, -1]
    assert norms == pytest.approx(recorded, rel=1e-4)
