"""CCViT's network against the recordings of the published code."""

import functools

import pytest
import torch

from seit_ray.models.ccvit import CentroidModel
from seit_ray.models.embed import PixelEmbedding
from seit_ray.models.variants import Size
from seit_ray.models.weights import load_named
from tests.recordings import Recording


@pytest.fixture(scope="module")
def record():
    return Recording("ccvit")


def patch_of(record):
    """Side in pixels of a patch."""
    return record["sd/patch_embed.proj.weight"].shape[2]


@functools.cache
def early_layers_of(record):
    """Behind which block branch 2 begins: weights do not tell, what was recorded of it does."""
    errors = {}
    for number in range(1, 1 + len({name.split(".")[1] for name in record.state() if name.startswith("blocks.")})):
        with torch.no_grad():
            second = outputs(record, recorded_model(record, False, number))[1].flatten(0, 1)
        errors[number] = record.error("out/dual/head2", second)
    return min(errors, key=errors.get)


def recorded_model(record, shared_head, early_layers=None):
    """Sizes are those of the recording; heads are told by the bias table."""
    state = record.state()
    width, _, patch, _ = state["patch_embed.proj.weight"].shape
    depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    heads = state["rel_pos_bias.relative_position_bias_table"].shape[1]
    num_codes, code_dim = record["in/centroids"].shape
    model = CentroidModel(
        grid=tuple(record.pixels("in/images").shape[2:]),
        num_codes=num_codes,
        code_dim=code_dim,
        size=Size(width, depth, heads, 1, 1, 1),
        embedding=PixelEmbedding(),
        kernel=patch,
        early_layers=early_layers or early_layers_of(record),
        head_layers=len({name.split(".")[1] for name in state if name.startswith("cls_pt_layers.")}),
        shared_head=shared_head,
    )
    load_named(model, state, ignore=("cls_pt_norm.", "cls_pt_lm_head.") if shared_head else ())
    return model.double()


def positions_of(record):
    """Positions that count [B,Q]."""
    return torch.stack([row.nonzero().flatten() for row in record["out/loss_positions"].bool()])


def outputs(record, model):
    """What a model gives of the recorded input, masks and positions; written out from the pictures on."""
    masked, replaced = (record[f"in/bool_{name}_pos"].bool() for name in ("masked", "replaced"))
    images, side = record.pixels("in/samples"), patch_of(record)
    squares = record["in/centroids"].double()[record["out/assign/ids"].long()].view(*replaced.shape, 3, side, side)
    centroids = squares.permute(0, 3, 1, 4, 2, 5).reshape(images.shape)
    covered = replaced.repeat_interleave(side, 1).repeat_interleave(side, 2).unsqueeze(1)
    seen = torch.where(covered, centroids, images)
    record.same("out/samples_replaced", seen, atol=1e-6, rtol=0)
    maps = model.token_emb.standardise(255 * seen)
    record.same("out/model_input", maps, atol=1e-5, rtol=0)
    return model(maps, masked.flatten(1), positions_of(record))


@pytest.mark.parametrize("shared_head", [False, True])
def test_both_branches_equal_the_golden_recording(record, shared_head):
    first, second, features = outputs(record, recorded_model(record, shared_head))
    assert features is None
    record.same("out/dual/head1_logits", first.flatten(0, 2), atol=2e-5, rtol=1e-5)
    name = "two_ce_shared" if shared_head else "dual"
    second = second.flatten(0, 2) if shared_head else second.flatten(0, 1)
    record.same(f"out/{name}/head2", second, atol=2e-5, rtol=1e-5)
