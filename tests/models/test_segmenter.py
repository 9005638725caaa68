"""Segmenters: shapes of their heads, what they take over from trained encoders, and what is refused."""

import pytest
import torch

from seit_ray.models.beit_transfer import init_beit
from seit_ray.models.build import build_model
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.models.segment_heads import SegmentHead
from seit_ray.models.segmenter import as_maps
from seit_ray.models.transfer import freeze_all_but, resample_positions, transfer_weights
from seit_ray.models.variants import Size, taken_blocks
from seit_ray.training.optimizer import parameter_groups

SIZE = Size(16, 4, 2, decoder_width=8, decoder_depth=1, decoder_num_heads=2)
GRID, CLASSES = (8, 6), 5


def segmenter(**more):
    """A seeded one on 8x6 tokens of 7 codes, in units of 2x2."""
    torch.manual_seed(0)
    settings = {"size": SIZE, "grid": GRID, "num_classes": CLASSES, "stem_kernel": 2, "num_codes": 7, "token_dim": 4}
    return build_model("segmenter", **{**settings, "head_width": 16, "aux_width": 16, **more})


def centroids(**more):
    """One of BEiT's blocks on rows of a codebook of 2x2 pixels."""
    codebook = torch.rand(7, 12, generator=torch.Generator().manual_seed(0))
    return segmenter(encoder="beit", inputs="codebook", codebook=codebook, num_codes=None, **more)


TOKENS = torch.randint(0, 7, (2, 48), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("build", [segmenter, centroids])
@pytest.mark.parametrize(("head", "size"), [("uper", (16, 12)), ("linear", (4, 3))])
def test_logits_are_of_each_patch_or_of_four_to_a_side(build, head, size):
    net = build(head=head).train()
    logits, aux = net(TOKENS)
    assert logits.shape == (2, CLASSES, *size)
    assert aux.shape == (2, CLASSES, 4, 3)
    logits, aux = net.eval()(TOKENS)
    assert (logits.shape, aux) == ((2, CLASSES, *size), None)
    assert build(head=head, aux_width=0).train()(TOKENS)[1] is None


@pytest.mark.parametrize("build", [segmenter, centroids])
@pytest.mark.parametrize("head", ["uper", "linear"])
def test_every_parameter_has_a_gradient(build, head):
    """Else DistributedDataParallel waits for those that have none."""
    net = build(head=head, taken=(1, 2, 3, 4)).train()
    sum(part.square().sum() for part in net(TOKENS)).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("build", [segmenter, centroids])
def test_the_stream_between_blocks_has_16_bits_under_autocast(build):
    net, kinds = build().train(), []
    for block in net.blocks:
        block.register_forward_hook(lambda block, given, x: kinds.extend([given[0].dtype, x.dtype]))
    with torch.autocast("cpu", torch.bfloat16):
        logits, aux = net(TOKENS)
    assert kinds == [torch.bfloat16] * 2 * len(net.blocks)
    with torch.no_grad():
        expected = build().train()(TOKENS)[0]
    assert (logits.float() - expected).std() < 0.2 * expected.std()
    assert torch.isfinite(aux).all()


def test_pixels_are_segmented_too():
    net = segmenter(inputs="pixels", num_codes=None, grid=(8, 8), stem_kernel=4)
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    assert net.eval()(images)[0].shape == (2, CLASSES, 8, 8)


def test_patches_become_maps_in_raster_order():
    patches = torch.arange(6.0).view(1, 6, 1)
    assert as_maps(patches, (2, 3))[0, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("depth", "expected"), [(12, (4, 6, 8, 12)), (24, (8, 12, 16, 24)), (4, (1, 2, 3, 4)), (1, (1,) * 4)]
)
def test_the_blocks_are_those_of_the_paper_by_default(depth, expected):
    assert taken_blocks(depth, None) == expected


@pytest.mark.parametrize("blocks", [(1, 2, 3, 3), (2, 1, 3, 4), (1, 2, 4), (0, 1, 2, 4), (1, 2, 3, 5)])
def test_blocks_that_leave_some_unread_are_refused(blocks):
    with pytest.raises(ValueError, match=r"segment.blocks .* of 4 blocks; expected 4 numbers"):
        taken_blocks(4, blocks)


def test_widths_and_heads_that_do_not_fit_are_refused():
    wrong = (("uper", 12, 16, "head_width 12"), ("uper", 16, 8, "aux_width 8"), ("fcn", 16, 0, "head 'fcn'"))
    for head, width, aux, what in wrong:
        with pytest.raises(ValueError, match=what):
            SegmentHead(head, 16, width, aux, CLASSES)


@pytest.mark.parametrize("grid", [GRID, (12, 8)])
def test_a_masked_model_gives_its_encoder_and_positions_of_another_grid_are_resampled(grid):
    torch.manual_seed(1)
    masked = MaskedTokenModel(grid=grid, num_codes=7, size=SIZE, token_dim=4, unit=2)
    net = segmenter()
    new = transfer_weights(net, masked.state_dict(), masked.patch_grid, same_tokens=True)
    assert new
    assert all(name.startswith("head.") for name in new)
    assert torch.equal(net.blocks[3].mlp.fc1.weight, masked.blocks[3].mlp.fc1.weight)
    assert torch.equal(net.token_emb.word_embeddings.weight, masked.token_emb.word_embeddings.weight)
    assert torch.equal(net.pos_embed, resample_positions(masked.pos_embed, masked.patch_grid, net.patch_grid))


def test_a_centroid_model_gives_its_encoder():
    torch.manual_seed(1)
    codebook = torch.rand(7, 12)
    given = {"inputs": "codebook", "codebook": codebook, "num_codes": 7, "code_dim": 12, "unit": 2}
    trained = build_model("ccvit", size=SIZE, grid=(12, 8), kernel=2, head_layers=1, **given)
    net = centroids()
    new = init_beit(net, trained.state_dict(), trained.patch_grid, transfer=True)
    assert new
    assert all(name.startswith("head.") for name in new)
    assert torch.equal(net.blocks[2].attn.qkv.weight, trained.blocks[2].attn.qkv.weight)
    assert net.rel_pos_bias.relative_position_bias_table.shape == (7 * 5 + 3, 2)


def test_heads_learn_at_the_full_rate_and_stay_when_the_rest_is_frozen():
    net = segmenter()
    groups = parameter_groups(net, weight_decay=0.1, layer_decay=0.5)
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    rates = {name: scale[id(p)] for name, p in net.named_parameters()}
    assert rates["head.main.classify.weight"] == rates["head.aux.classify.bias"] == 1.0
    assert rates["blocks.3.mlp.fc1.weight"] == 0.5
    assert rates["pos_embed"] == 0.5**5
    freeze_all_but(net, "attention", [])
    free = {name for name, p in net.named_parameters() if p.requires_grad}
    assert all(name.startswith("head.") or ".attn." in name for name in free)
    assert "head.main.classify.weight" in free
