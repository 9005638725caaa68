"""BEiT's encoder: it is timm's, reads centroids as the pixels that they are, and goes to other grids."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.beit import Beit

from seit_ray.models.beit import BeitViT, code_patch
from seit_ray.models.beit_transfer import as_timm, code_stem, init_beit, pixel_stem, resampled_bias
from seit_ray.models.build import build_model
from seit_ray.models.embed import CodebookEmbedding, PixelEmbedding
from seit_ray.models.variants import SIZES, Size, early_layers_of
from seit_ray.objectives.ccvit import CentroidObjective
from seit_ray.tokenizers.centroid import CentroidTokenizer

TINY = Size(16, 2, 2, 1, 1, 1)


def noisy(model, seed=0):
    """The model with every parameter drawn anew, so that none is at 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def on_pixels(grid=(24, 24), kernel=8, **more):
    settings = {"size": TINY, "num_classes": 3, "embedding": PixelEmbedding(), "head_init_std": 0.02}
    return noisy(BeitViT(**settings, grid=grid, kernel=kernel, **more))


def on_codes(codebook, grid, unit, **more):
    settings = {"size": TINY, "num_classes": 3, "embedding": CodebookEmbedding(codebook)}
    return noisy(BeitViT(**settings, grid=grid, kernel=unit, **more), seed=1)


@pytest.mark.parametrize("pool", ["mean", "cls"])
@pytest.mark.parametrize("own_bias", [False, True])
def test_it_is_timms_beit(pool, own_bias):
    model = on_pixels(pool=pool, own_bias=own_bias)
    timm_model = as_timm(model)
    assert isinstance(timm_model, Beit)
    assert timm_model.state_dict().keys() == model.state_dict().keys()
    images = torch.randint(256, (2, 3, 24, 24)).byte()
    torch.testing.assert_close(timm_model(model.embed(images)), model(images))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(0, 99))
def test_a_stem_on_centroids_is_the_patch_embedding_of_the_decoded_image(unit, patch, seed):
    generator = torch.Generator().manual_seed(seed)
    grid, codebook = (2 * unit, 3 * unit), torch.rand(11, 3 * patch**2, generator=generator)
    codes = on_codes(codebook, grid, unit)
    pixels = on_pixels((grid[0] * patch, grid[1] * patch), unit * patch)
    tokens = torch.randint(11, (2, grid[0] * grid[1]), generator=generator)
    tokenizer = CentroidTokenizer(codebook, image_size=patch, patch_size=patch)
    decoded = CentroidObjective(tokenizer=tokenizer, grid=grid, unit=unit, num_masked=1).decoded(tokens)
    # Both ways: the weights of one, turned, give the other's outputs.
    new = init_beit(pixels, codes.state_dict(), codes.patch_grid)
    assert new == ["fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"]
    maps = pixels.token_emb.standardise(255 * decoded)
    wanted = codes.patches(codes.embed(tokens))
    torch.testing.assert_close(pixels.patches(maps), wanted, atol=1e-5, rtol=1e-5)
    back = on_codes(codebook, grid, unit)
    init_beit(back, pixels.state_dict(), pixels.patch_grid)
    assert torch.equal(back.state_dict()["patch_embed.proj.weight"], codes.state_dict()["patch_embed.proj.weight"])
    torch.testing.assert_close(back.patch_features(tokens), codes.patch_features(tokens))


def test_the_published_case_of_8x8_centroids_and_16x16_patches():
    weight = torch.randn(4, 192, 2, 2)
    turned = pixel_stem(weight)
    assert turned.shape == (4, 3, 16, 16)
    # row 3, column 5 of the right lower centroid, green
    assert torch.equal(turned[:, 1, 8 + 3, 8 + 5], weight[:, 64 + 3 * 8 + 5, 1, 1])
    assert torch.equal(code_stem(turned, 8), weight)


def test_other_patches_start_a_new_stem_and_other_grids_resample_the_bias():
    old = on_pixels((24, 24), 8)
    new = on_pixels((40, 32), 8)
    with pytest.raises(ValueError, match="relative_position_bias_table"):
        init_beit(new, old.state_dict(), old.patch_grid)
    init_beit(new, old.state_dict(), old.patch_grid, transfer=True)
    table, wanted = (m.rel_pos_bias.relative_position_bias_table for m in (new, old))
    assert torch.equal(table[-3:], wanted[-3:])
    torch.testing.assert_close(table[0], wanted[0])  # the farthest stays the farthest
    other = on_pixels((24, 24), 4)
    before = other.patch_embed.proj.weight.clone()
    assert "patch_embed.proj.weight" in init_beit(other, old.state_dict(), old.patch_grid, transfer=True)
    assert torch.equal(before, other.patch_embed.proj.weight)
    with pytest.raises(ValueError, match="expected the entries of a BEiT encoder"):
        init_beit(other, {"a": torch.zeros(1)}, (3, 3))


def test_a_resampled_bias_of_a_plane_is_that_plane():
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 5), torch.linspace(-1, 1, 7), indexing="ij")
    table = torch.cat([(2 * rows + columns).reshape(-1, 1), torch.zeros(3, 1)])
    found = resampled_bias(table, (3, 4), (5, 6))
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 9), torch.linspace(-1, 1, 11), indexing="ij")
    inner = (found[:-3].view(9, 11) - (2 * rows + columns))[2:-2, 2:-2]
    assert inner.abs().max() < 0.08


def test_what_is_masked_is_not_seen():
    settings = {"grid": (16, 16), "kernel": 4, "size": TINY, "num_codes": 5, "code_dim": 48, "inputs": "pixels"}
    for more in ({}, {"shared_head": True, "morph_dim": 6}):
        model = noisy(build_model("ccvit", **settings, head_layers=1, early_layers=1, **more))
        maps, masked = torch.randn(2, 3, 16, 16), torch.zeros(2, 16, dtype=torch.bool)
        masked[:, 3] = True
        changed = maps.clone()
        changed[:, :, :4, 12:] += 1
        positions = torch.arange(16).expand(2, -1)
        for one, other in zip(model(maps, masked, positions), model(changed, masked, positions), strict=True):
            assert one is None or torch.equal(one, other)
        assert not torch.equal(model(maps, ~masked, positions)[0], model(maps, masked, positions)[0])


def test_every_parameter_takes_part():
    # What DistributedDataParallel needs.
    settings = {"grid": (16, 16), "kernel": 4, "size": TINY, "inputs": "pixels"}
    masked = torch.zeros(2, 16, dtype=torch.bool)
    masked[:, :5] = True
    for shared, morph in ((False, 0), (True, 0), (False, 7)):
        codes = {"num_codes": 5, "code_dim": 48, "head_layers": 1, "early_layers": 1}
        model = build_model("ccvit", **settings, **codes, shared_head=shared, morph_dim=morph)
        found = model(torch.randn(2, 3, 16, 16), masked, torch.arange(8).expand(2, -1))
        sum(x.square().mean() for x in found if x is not None).backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []
    model = build_model("dtm", **settings, output_dim=3, own_bias=True)
    model(torch.randn(2, 3, 16, 16), masked).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_deeper_blocks_add_less_at_the_start():
    model = build_model("dtm", grid=(16, 16), kernel=4, size=Size(64, 8, 2, 1, 1, 1), inputs="pixels", output_dim=3)
    stds = [block.mlp.fc2.weight.std().item() for block in model.blocks]
    assert stds[0] == pytest.approx(0.02 / 2**0.5, rel=0.1)
    assert stds[7] == pytest.approx(0.02 / 16**0.5, rel=0.1)


def test_early_layers():
    assert [early_layers_of(depth, None) for depth in (2, 12, 24)] == [1, 9, 21]
    with pytest.raises(ValueError, match="expected 1 to 4"):
        early_layers_of(4, 5)


def test_wrong_settings_are_one_line():
    assert code_patch(192) == 8
    with pytest.raises(ValueError, match="codes of 32 values; expected 3"):
        code_patch(32)
    with pytest.raises(ValueError, match="layer_scale 0"):
        on_pixels(layer_scale=0.0)
    with pytest.raises(ValueError, match="pool 'max'"):
        on_pixels(pool="max")
    with pytest.raises(ValueError, match=r"maps of shape .* expected \[B,3,24,24\]"):
        on_pixels().patches(torch.zeros(1, 3, 16, 16))
    settings = {"size": TINY, "grid": (4, 4), "num_classes": 2, "stem_kernel": 2, "num_codes": 9}
    with pytest.raises(ValueError, match=r"set model.inputs=codebook"):
        build_model("classifier", **settings, encoder="beit")
    with pytest.raises(ValueError, match="encoder 'swin'"):
        build_model("classifier", **settings, encoder="swin")
    with pytest.raises(ValueError, match="expected pixels or codebook"):
        build_model("dtm", grid=(4, 4), kernel=2, size=TINY, inputs="learned", output_dim=3)


def test_forward_is_one_graph():
    # What loop.compile gets: nothing in it falls back to Python.
    settings = {"grid": (16, 16), "kernel": 4, "size": TINY, "inputs": "pixels"}
    masked = torch.zeros(2, 16, dtype=torch.bool)
    masked[:, :5] = True
    maps, positions = torch.randn(2, 3, 16, 16), torch.arange(8).expand(2, -1)
    centroids = build_model("ccvit", **settings, num_codes=5, code_dim=48, head_layers=1, early_layers=1, morph_dim=3)
    student = build_model("dtm", **settings, output_dim=3, own_bias=True)
    for model, inputs in ((centroids, (maps, masked, positions)), (student, (maps, masked))):
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        found, expected = (each(*inputs) for each in (compiled, model))
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)


def test_base_has_the_published_shape():
    settings = {"size": SIZES["base"], "grid": (224, 224), "kernel": 16, "inputs": "pixels"}
    with torch.device("meta"):
        model = build_model("ccvit", **settings, num_codes=8192, code_dim=768)
        student = build_model("dtm", **settings, output_dim=512, own_bias=True)
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    assert shapes["rel_pos_bias.relative_position_bias_table"] == [27 * 27 + 3, 12]
    assert shapes["lm_head.weight"] == [8192, 768]
    assert shapes["cls_pt_lm_head.weight"] == [16 * 16 * 3, 768]
    assert shapes["cls_pt_layers.1.gamma_2"] == [768]
    assert (model.early_layers, len(model.blocks), len(model.cls_pt_layers)) == (9, 12, 2)
    assert "pos_embed" not in shapes
    shapes = {name: list(value.shape) for name, value in student.state_dict().items()}
    assert shapes["blocks.11.attn.relative_position_bias_table"] == [732, 12]
    assert shapes["lm_head.weight"] == [512, 768]
