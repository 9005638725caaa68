"""The token transformer against the recordings, and on other grids, sizes and code counts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seit_ray.models.embed import CodebookEmbedding, TokenEmbedding
from seit_ray.models.variants import SIZES, Size, build_size
from seit_ray.models.vit import TokenViT
from seit_ray.models.weights import load_named

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = Size(16, 2, 2, 16, 1, 2)
RECORDED = Size(64, 2, 4, 48, 2, 3)


def recording(name):
    arrays = np.load(GOLDEN / f"{name}.npz")
    return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def weights_of(record):
    return {key[3:]: value for key, value in record.items() if key.startswith("sd/")}


def small_vit(seed=0, **changes):
    torch.manual_seed(seed)
    settings = {"grid": (4, 6), "num_classes": 5, "size": TINY, "kernel": 2, "stride": 2} | changes
    settings.setdefault("embedding", TokenEmbedding(11, 8))
    return TokenViT(**settings)


def check_recorded(model, logits, record):
    """Compare logits, features' loss and the norm of every parameter's gradient."""
    torch.testing.assert_close(logits, record["out/logits"].double(), atol=1e-5, rtol=0)
    loss = F.cross_entropy(logits, record["in/y"])
    assert loss.item() == pytest.approx(record["out/ce_loss"].item(), rel=1e-6)
    loss.backward()
    norms = {name: p.grad.norm().item() for name, p in model.named_parameters()}
    recorded = {key[9:]: value.item() for key, value in record.items() if key.startswith("gradnorm/")}
    assert norms == pytest.approx(recorded, rel=1e-4)


# In float64, so that what is left is the recordings' own rounding, on any processor.
@pytest.mark.parametrize(("name", "pool"), [("seit_vit", "mean"), ("seit_vit_cls", "cls")])
def test_seit_equals_the_recording(name, pool):
    common, record = recording("seit_vit"), recording(name)
    embedding = CodebookEmbedding(torch.zeros(391, 32))
    model = TokenViT(
        grid=(28, 28),
        num_classes=10,
        size=RECORDED,
        embedding=embedding,
        kernel=4,
        stride=2,
        padding=1,
        pool=pool,
    )
    load_named(model, weights_of(common))
    model.double().eval()
    maps = common["in/x"].double()
    stem = model.patch_embed(maps)[:, ::7]
    # Sums of 512 products, up to 40: the recording's own float32 rounding is 2e-5 (logits are well below 10).
    torch.testing.assert_close(stem, common["out/patch_embed"].double(), atol=3e-5, rtol=0)
    features = model.features_embedded(maps)
    torch.testing.assert_close(features, record["out/features"].double(), atol=1e-5, rtol=0)
    check_recorded(model, model.forward_embedded(maps), {**record, "in/y": common["in/y"]})


def test_seitpp_finetuning_equals_the_recording():
    record = recording("seitpp_finetune")
    model = TokenViT(
        grid=(28, 28), num_classes=10, size=RECORDED, embedding=TokenEmbedding(391, 32), kernel=2, stride=2
    )
    load_named(model, weights_of(record))
    tokens = record["in/tokens"]
    torch.testing.assert_close(model(tokens), record["out/logits"], atol=1e-4, rtol=0)
    model.double().eval()
    embedded = model.embed(tokens).flatten(2).transpose(1, 2)[:, ::17]
    torch.testing.assert_close(embedded, record["out/token_embeddings"].double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(model.forward_features(tokens), record["out/features"].double(), atol=1e-5, rtol=0)
    check_recorded(model, model(tokens.flatten(1)), record)


@pytest.mark.parametrize(
    ("grid", "stem", "num_codes", "num_classes", "pool"),
    [
        ((4, 4), (1, 1, 0), 2, 1, "mean"),
        ((6, 10), (2, 2, 0), 17, 3, "cls"),
        ((8, 6), (4, 2, 1), 300, 1000, "mean"),
        ((3, 9), (3, 3, 0), 65536, 7, "mean"),
    ],
)
def test_any_grid_codes_and_classes(grid, stem, num_codes, num_classes, pool):
    kernel, stride, padding = stem
    model = small_vit(
        grid=grid,
        num_classes=num_classes,
        kernel=kernel,
        stride=stride,
        padding=padding,
        pool=pool,
        embedding=TokenEmbedding(num_codes, 8),
    )
    tokens = torch.randint(num_codes, (3, grid[0] * grid[1]))
    logits = model(tokens)
    assert logits.shape == (3, num_classes)
    assert torch.equal(logits, model(tokens.reshape(3, *grid)))
    logits.square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without


def test_the_three_ways_in_agree():
    model = small_vit().eval()
    tokens = torch.randint(11, (3, 24))
    maps = model.embed(tokens)
    assert maps.shape == (3, 8, 4, 6)
    for logits in (model.forward_embedded(maps), model(maps), model.head(model.forward_features(tokens))):
        torch.testing.assert_close(logits, model(tokens))


def test_codebook_model_trains_everything_but_the_codebook():
    codebook = torch.randn(11, 8)
    model = small_vit(embedding=CodebookEmbedding(codebook))
    model(torch.randint(11, (2, 24))).sum().backward()
    assert torch.equal(model.token_emb.codebook, codebook)
    assert not any(name.startswith("token_emb") for name, _ in model.named_parameters())
    assert model.patch_embed.proj.weight.grad.abs().sum() > 0


def test_rows_do_not_see_each_other_and_places_matter():
    model = small_vit().eval()
    tokens = torch.randint(11, (4, 24), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(tokens)[1:2], model(tokens[1:2]))
    assert not torch.allclose(model(tokens), model(tokens.flip(1)), atol=1e-4)


def test_drop_path_rises_to_its_rate_and_sleeps_in_evaluation():
    model = small_vit(size=build_size("nano"), drop_path=0.3)
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in model.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])
    tokens = torch.randint(11, (8, 24))
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


def test_head_starts_with_the_given_std():
    model = small_vit(num_classes=2000, head_init_std=2e-5)
    assert model.head.weight.std().item() == pytest.approx(2e-5, rel=0.05)
    assert model.head.bias.abs().max() == 0


def test_a_seed_gives_the_same_model_and_another_another():
    first, second, other = (small_vit(seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])


def test_it_learns_a_rule_of_its_tokens():
    model = small_vit()
    tokens = torch.randint(11, (64, 24), generator=torch.Generator().manual_seed(0))
    labels = (tokens[:, 0] > 5).long()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(120):
        loss = F.cross_entropy(model(tokens), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_bfloat16_autocast_stays_finite_and_near():
    model = small_vit(num_classes=50, head_init_std=0.2).eval()
    tokens = torch.randint(11, (4, 24))
    exact = model(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(tokens)
        F.cross_entropy(logits.float(), torch.zeros(4, dtype=torch.int64)).backward()
    assert (logits.float() - exact).norm() < 0.05 * exact.norm()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_forward_is_one_graph():
    model = small_vit().eval()
    tokens = torch.randint(11, (2, 24))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(tokens), model(tokens))


def test_parameter_counts_of_the_papers():
    counts = {}
    for name in ("small", "base"):
        with torch.device("meta"):
            model = TokenViT(
                grid=(28, 28),
                num_classes=1000,
                size=SIZES[name],
                embedding=CodebookEmbedding(torch.zeros(391, 32)),
                kernel=4,
                stride=2,
                padding=1,
            )
        counts[name] = sum(p.numel() for p in model.parameters())
    assert counts == {"small": 21_952_360, "base": 86_371_048}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool": "max"}, "pool 'max'; expected one of mean, cls"),
        ({"num_classes": 0}, "num_classes 0; expected 1 or more"),
        ({"grid": (5, 6)}, "grid 5x6 under a stem of kernel 2"),
        ({"drop_path": 1.0}, "drop_path 1.0; expected 0 <= rate < 1"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small_vit(**changes)


def test_wrong_inputs_are_refused():
    model = small_vit()
    with pytest.raises(ValueError, match=r"tokens of shape \[2, 25\]; expected \[B,24\] or \[B,4,6\]"):
        model(torch.zeros(2, 25, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"maps of shape \[2, 8, 6, 4\]; expected \[B,8,4,6\]"):
        model.forward_embedded(torch.zeros(2, 8, 6, 4))


def test_sizes_take_overrides_and_name_what_is_wrong():
    assert build_size("base") == Size(768, 12, 12, 512, 4, 16)
    changed = build_size("nano", width=64, depth=2, decoder_depth=1)
    assert (changed.width, changed.depth, changed.num_heads, changed.decoder_depth) == (64, 2, 4, 1)
    with pytest.raises(ValueError, match=r"width 130 with num_heads 4; .*set width=128"):
        build_size("nano", width=130)
    with pytest.raises(ValueError, match="decoder_width 96 with decoder_num_heads 5"):
        build_size("nano", decoder_num_heads=5)
    with pytest.raises(ValueError, match=r"size 'bsae'; expected one of nano, .*did you mean 'base'"):
        build_size("bsae")
    with pytest.raises(ValueError, match=r"size 'xyz'; expected one of nano, .*override its numbers"):
        build_size("xyz")
    with pytest.raises(ValueError, match="depth 0; expected 1 or more"):
        build_size("nano", depth=0)
