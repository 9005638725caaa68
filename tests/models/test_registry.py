"""The models by name in timm."""

import subprocess
import sys

import pytest
import timm
import torch

from seit_ray.models import registry
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.models.variants import SIZES
from seit_ray.models.vit import TokenViT
from tests.shards.published_files import refusal

SMALL = {"num_codes": 11, "grid": (4, 6)}


def create(name, **settings):
    torch.manual_seed(0)
    return timm.create_model(name, **SMALL | settings)


def test_every_size_of_both_families_is_listed():
    assert set(timm.list_models("seit_vit_*")) == {f"seit_vit_{size}" for size in SIZES}
    assert set(timm.list_models("mtm_vit_*")) == {f"mtm_vit_{size}" for size in SIZES}
    assert timm.list_pretrained("*_vit_nano*") == []


@pytest.mark.parametrize("size", ["nano", "tiny"])
def test_a_name_makes_the_size(size):
    vit, mtm = create(f"seit_vit_{size}", num_classes=5), create(f"mtm_vit_{size}")
    assert isinstance(vit, TokenViT)
    assert isinstance(mtm, MaskedTokenModel)
    assert vit.patch_embed.proj.out_channels == mtm.patch_embed.proj.out_channels == SIZES[size].width
    assert len(vit.blocks) == len(mtm.blocks) == SIZES[size].depth
    assert len(mtm.decoder_blocks) == SIZES[size].decoder_depth
    assert vit(torch.randint(11, (2, 24))).shape == (2, 5)


def test_the_published_base_has_the_published_number_of_parameters():
    with torch.device("meta"):
        codebook = torch.zeros(391, 32)
        vit = timm.create_model("seit_vit_base", num_codes=391, grid=(28, 28), num_classes=1000, codebook=codebook)
    assert sum(p.numel() for p in vit.parameters()) == 86_371_048


def test_settings_of_timm_reach_the_model():
    vit = create("seit_vit_nano", num_classes=3, drop_path_rate=0.3, drop_rate=0.2, global_pool="cls", cache_dir="x")
    assert vit.pool == "cls"
    assert vit.token_emb.dropout.p == 0.2
    assert vit.blocks[-1].drop_path1.drop_prob == 0.3
    assert create("seit_vit_nano", num_classes=3, global_pool="avg").pool == "mean"
    weight = create("seit_vit_nano", num_classes=3, stem=(1, 1, 0), token_dim=7).patch_embed.proj.weight
    assert weight.shape[1:] == (7, 1, 1)
    assert create("mtm_vit_nano", unit=1, token_dim=7, mask_ratio_min=0.5).num_dropped == 12


def test_a_codebook_is_the_embedding():
    codebook = torch.randn(11, 3)
    vit = create("seit_vit_nano", num_classes=3, grid=(8, 8), codebook=codebook)
    assert torch.equal(vit.token_emb.codebook, codebook)
    assert vit.patch_grid == (4, 4)


@pytest.mark.parametrize("changes", [{"num_codes": 12}, {"token_dim": 4}, {"drop_rate": 0.1}])
def test_settings_that_do_not_go_with_a_codebook(changes):
    text = refusal(create, "seit_vit_nano", num_classes=3, grid=(8, 8), codebook=torch.zeros(11, 3), **changes)
    assert text.startswith("codebook [11, 3] with num_codes")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("seit_vit_nano", {"pretrained": True}),
        ("seit_vit_nano.in1k", {}),
        ("mtm_vit_nano", {"pretrained": True}),
        ("mtm_vit_nano", {"pretrained_cfg": {"url": "https://example.org/x"}}),
        ("mtm_vit_nano", {"pretrained_cfg_overlay": {"file": "x"}}),
    ],
)
def test_there_are_no_hosted_weights(name, changes):
    text = refusal(create, name, **changes)
    assert f"pretrained weights of {name.partition('.')[0]}; expected pretrained=False and no tag, since none" in text


def test_importing_the_models_registers_them_without_a_word():
    names = "timm.is_model('seit_vit_large') and timm.is_model('mtm_vit_large')"
    program = f"import timm, seit_ray.models.registry; assert {names}"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    assert all(hasattr(registry, name) for name in registry.__all__)
