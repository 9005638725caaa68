"""CCViT's network against the recordings of the published code."""

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


def recorded_model(record, shared_head):
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
        early_layers=2,
        head_layers=len({name.split(".")[1] for name in state if name.startswith("cls_pt_layers.")}),
        shared_head=shared_head,
    )
    load_named(model, state, ignore=("cls_pt_norm.", "cls_pt_lm_head.") if shared_head else ())
    return model.double()


@pytest.mark.parametrize("shared_head", [False, True])
def test_both_branches_equal_the_golden_recording(record, shared_head):
    model = recorded_model(record, shared_head)
    masked = record["in/bool_masked_pos"].bool().flatten(1)
    positions = torch.stack([row.nonzero().flatten() for row in record["out/loss_positions"].bool()])
    images = record.pixels("in/samples")
    replaced = record["in/bool_replaced_pos"].bool()
    ids = torch.cdist(patches_of(record.pixels("in/images")), record["in/centroids"].double()).argmin(2)
    assert torch.equal(ids, record["out/assign/ids"].long())
    squares = record["in/centroids"].double()[ids].view(*replaced.shape, 3, 16, 16)
    side = squares.permute(0, 3, 1, 4, 2, 5).reshape(images.shape)
    covered = replaced.repeat_interleave(16, 1).repeat_interleave(16, 2).unsqueeze(1)
    seen = torch.where(covered, side, images)
    record.same("out/samples_replaced", seen, atol=1e-6, rtol=0)
    maps = model.token_emb.standardise(255 * seen)
    record.same("out/model_input", maps, atol=1e-5, rtol=0)
    first, second, features = model(maps, masked, positions)
    assert features is None
    record.same("out/dual/head1_logits", first.flatten(0, 2), atol=2e-5, rtol=1e-5)
    name = "two_ce_shared" if shared_head else "dual"
    second = second.flatten(0, 2) if shared_head else second.flatten(0, 1)
    record.same(f"out/{name}/head2", second, atol=2e-5, rtol=1e-5)


def patches_of(images):
    """Written out: [B,3,H,W] -> [B,P,768]."""
    return torch.nn.functional.unfold(images, 16, stride=16).transpose(1, 2)
