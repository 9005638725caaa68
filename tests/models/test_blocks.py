"""The block of every model: the stream's type, norms, dropout of attention weights."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seit_ray.models.beit import Block as BeitBlock
from seit_ray.models.blocks import Block, DropPath, StreamNorm, build_blocks, stream
from seit_ray.models.build import build_model
from seit_ray.models.variants import Size

SIZE = Size(16, 2, 2, decoder_width=8, decoder_depth=1, decoder_num_heads=2)
MASKED = {"size": SIZE, "grid": (4, 4), "num_codes": 9, "stem_kernel": 2, "token_dim": 4}
HALF = torch.bfloat16


def half():
    return torch.autocast("cpu", HALF)


def kinds_of(model, run):
    """Types of what goes into and out of blocks and norms, under autocast."""
    found = []

    def look(module, given, out):
        found.extend([given[0].dtype, out.dtype])

    for module in model.modules():
        if isinstance(module, Block | BeitBlock | StreamNorm):
            module.register_forward_hook(look)
    with half():
        run(model)
    return set(found)


def models():
    """(model, what to call it with)."""
    torch.manual_seed(0)
    tokens, noise = torch.randint(9, (3, 16)), torch.rand(3, 4)
    images, masked = torch.randn(3, 3, 16, 16), torch.zeros(3, 4, dtype=torch.bool)
    pixels = {"size": SIZE, "grid": (16, 16), "kernel": 8, "inputs": "pixels"}
    classifier = {"size": SIZE, "grid": (4, 4), "num_codes": 9, "num_classes": 2, "stem_kernel": 2}
    ccvit = build_model("ccvit", **pixels, num_codes=5, code_dim=48, head_layers=1, early_layers=1)
    return {
        "mtm": (build_model("mtm", **MASKED), lambda model: model(tokens, noise, 2)[0]),
        "classifier": (build_model("classifier", **classifier), lambda model: model(tokens)),
        "ccvit": (ccvit, lambda model: model(images, masked, torch.zeros(3, 1, dtype=torch.int64))[0]),
        "dtm": (build_model("dtm", **pixels, output_dim=4, own_bias=True), lambda model: model(images, masked)),
    }


@pytest.mark.parametrize("name", ["mtm", "classifier", "ccvit", "dtm"])
def test_the_stream_is_in_16_bits_under_autocast_and_gradients_are_not(name):
    model, run = models()[name]
    assert kinds_of(model, run) == {HALF}
    with half():
        run(model).float().square().mean().backward()
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}


@pytest.mark.parametrize("name", ["mtm", "classifier", "ccvit", "dtm"])
def test_what_comes_out_is_near_that_of_full_precision(name):
    model, run = models()[name]
    model.eval()
    with torch.no_grad():
        whole = run(model)
        with half():
            found = run(model).float()
    assert (found - whole).abs().mean() <= 0.05 * whole.abs().mean()


def test_without_autocast_nothing_is_converted():
    x = torch.randn(2, 3, 16)
    assert stream(x) is x
    norm = StreamNorm(16, eps=1e-6)
    assert torch.equal(norm(x), F.layer_norm(x, (16,), norm.weight, norm.bias, 1e-6))


def test_a_norm_has_its_statistics_in_float32():
    """Of values that 16 bits add up wrongly: the mean of many is lost in them."""
    x = (300 + torch.randn(2, 4096)).to(HALF)
    norm = StreamNorm(4096)
    with half():
        found = norm(x)
    assert found.dtype == HALF
    expected = F.layer_norm(x.double(), (4096,))
    assert (found.double() - expected).abs().max() < 0.05


def test_beit_blocks_are_timms():
    """In full precision to the bit: only types are another matter."""
    from timm.models import beit

    settings = {"qkv_bias": True, "init_values": 0.1, "norm_layer": nn.LayerNorm, "window_size": (2, 2)}
    torch.manual_seed(0)
    mine, theirs = BeitBlock(16, 2, **settings), beit.Block(16, 2, **settings)
    theirs.load_state_dict(mine.state_dict())
    x, bias = torch.randn(3, 5, 16), torch.randn(1, 2, 5, 5)
    assert torch.equal(mine(x, shared_rel_pos_bias=bias), theirs(x, shared_rel_pos_bias=bias))
    mine, theirs = BeitBlock(16, 2, drop_path=0.5, **settings), beit.Block(16, 2, drop_path=0.5, **settings)
    theirs.load_state_dict(mine.state_dict())
    found = []
    for block in (mine, theirs):
        torch.manual_seed(3)
        found.append(block.train()(x))
    assert torch.equal(*found)


def test_attention_weights_are_dropped_as_published_or_not_at_all():
    for reference, rate in ((False, 0.0), (True, 0.1)):
        model = build_model("mtm", **MASKED, dropout=0.1, reference=reference)
        assert {block.attn.attention_dropout for block in model.decoder_blocks} == {rate}
        assert {block.attn.dropout for block in model.decoder_blocks} == {0.1}
        assert {block.attn.attention_dropout for block in model.blocks} == {0.0}
    torch.manual_seed(0)
    x, found = torch.randn(2, 5, 16), []
    for rate in (0.0, 0.5):
        block = Block(16, 2, attention_dropout=rate).train()
        found.append(torch.equal(block(x), block(x)))
    assert found == [True, False]
    with pytest.raises(ValueError, match=r"attention_dropout 1\.0; expected 0 <= rate < 1"):
        build_blocks(16, 1, 2, attention_dropout=1.0)


def test_drop_path_leaves_out_whole_samples_and_is_no_part_of_the_weights():
    module = DropPath(0.5).train()
    torch.manual_seed(0)
    out = module(torch.ones(1000, 4))
    assert set(out.unique().tolist()) == {0.0, 2.0}
    assert (out == out[:, :1]).all()
    assert not module.state_dict()
    assert torch.equal(DropPath(0.0).train()(out), out)
