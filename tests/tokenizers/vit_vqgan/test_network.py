"""The ViT-VQGAN against the recording of the published code, and at other sizes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seit_ray.tokenizers.fit_numbers import VqganSize, build_vqgan_size
from seit_ray.tokenizers.vit_vqgan.build import build_vqgan
from seit_ray.tokenizers.vit_vqgan.network import VitVqgan
from tests.tokenizers.vit_vqgan.tiny import random_images, tiny_network

GOLDEN = Path(__file__).parents[2] / "golden" / "vit_vqgan.npz"
RECORDED = VqganSize(64, 2, 2, 128)


@pytest.fixture(scope="module")
def record():
    arrays = np.load(GOLDEN)
    return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}


@pytest.fixture(scope="module")
def recorded_network(record):
    settings = {"image_size": 64, "patch_size": 8, "codebook_size": 391, "code_width": 32}
    fresh = VitVqgan(**settings, encoder=RECORDED)
    positions = {name: value for name, value in fresh.state_dict().items() if name.endswith("pos_embedding")}
    assert len(positions) == 2
    state = positions | {key[3:]: value for key, value in record.items() if key.startswith("sd/")}
    return build_vqgan(fresh.settings(), state).eval()


def test_entries_are_those_of_the_release(record, recorded_network):
    state = recorded_network.state_dict()
    published = {key[3:]: value.shape for key, value in record.items() if key.startswith("sd/")}
    positions = dict.fromkeys(("encoder.en_pos_embedding", "decoder.de_pos_embedding"), (1, 64, 64))
    assert {name: value.shape for name, value in state.items()} == published | positions


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autoencoder_equals_the_recording(record, recorded_network, dtype):
    network, images = recorded_network.to(dtype), record["in/x"].to(dtype)
    with torch.no_grad():
        vectors = network.encode(images)
        rows, loss, codes = network.quantizer(vectors)
        images = network.decode(rows)
    network.float()
    close = {"atol": 1e-5, "rtol": 0, "check_dtype": False}
    torch.testing.assert_close(vectors[:, ::5], record["out/pre_quant"], **close)
    assert torch.equal(codes, record["out/codes"].long())
    torch.testing.assert_close(rows[:, ::5], record["out/quantized"], **close)
    torch.testing.assert_close(images[..., ::3], record["out/reconstruction"], **close)
    assert loss.item() == pytest.approx(record["f64/quantizer_loss"].item(), rel=1e-6)


def test_decoding_reads_normalised_rows(recorded_network):
    codes = torch.arange(0, 391, 30)
    rows = recorded_network.quantizer.lookup(codes)
    raw = recorded_network.quantizer.embedding.weight[codes]
    torch.testing.assert_close(rows, raw / raw.norm(dim=1, keepdim=True))
    assert not torch.allclose(raw.norm(dim=1), torch.ones(len(codes)), atol=1e-2)


def test_half_precision_does_not_reach_the_quantiser(recorded_network):
    vectors = torch.randn(2, 64, 32, generator=torch.Generator().manual_seed(0))
    rows, loss, codes = recorded_network.quantizer(vectors)
    with torch.autocast("cpu", torch.bfloat16):
        found = recorded_network.quantizer(vectors)
        blurred = recorded_network.quantizer(vectors.bfloat16())
    assert torch.equal(found[0], rows)
    assert torch.equal(found[1], loss)
    assert torch.equal(found[2], codes)
    assert blurred[0].dtype == blurred[1].dtype == torch.float32


def test_gradient_goes_straight_through_the_quantiser():
    quantizer = tiny_network().quantizer
    vectors = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rows, _, codes = quantizer(vectors)
    torch.testing.assert_close(rows, quantizer.lookup(codes))
    wanted = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(1))
    (found,) = torch.autograd.grad((rows * wanted).sum(), vectors)
    (expected,) = torch.autograd.grad((F.normalize(vectors, dim=-1) * wanted).sum(), vectors)
    torch.testing.assert_close(found, expected)


def test_the_loss_moves_vectors_a_quarter_as_much_as_codes():
    quantizer = tiny_network().quantizer
    vectors = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))
    both = quantizer(vectors)[1]
    quantizer.embedding.weight.requires_grad_(False)
    alone = quantizer(vectors)[1]
    assert both.item() == pytest.approx(5 * alone.item())


@pytest.mark.parametrize(
    ("image_size", "patch_size", "num_codes", "width"), [(6, 3, 1, 1), (15, 5, 9, 7), (16, 16, 3, 4)]
)
def test_other_sizes(image_size, patch_size, num_codes, width):
    network = tiny_network(image_size=image_size, patch_size=patch_size, codebook_size=num_codes, code_width=width)
    side = image_size // patch_size
    vectors = network.encode(random_images(3, image_size).float() / 255)
    assert vectors.shape == (3, side * side, width)
    rows, _, codes = network.quantizer(vectors)
    assert codes.shape == (3, side * side)
    assert network.decode(rows).shape == (3, 3, image_size, image_size)
    again = build_vqgan(network.settings(), network.state_dict())
    images = torch.ones(1, 3, image_size, image_size)
    assert torch.equal(again.encode(images), network.encode(images))


def test_named_sizes_are_those_of_the_release():
    small, base, large = (build_vqgan_size(name) for name in ("small", "base", "large"))
    assert small == VqganSize(512, 8, 8, 2048)
    assert base == VqganSize(768, 12, 12, 3072)
    assert large == VqganSize(1280, 32, 16, 5120)
    assert build_vqgan_size("small", depth=2, mlp_width=100) == VqganSize(512, 2, 8, 100)


def test_impossible_sizes_are_errors():
    with pytest.raises(ValueError, match="size 'bass'; expected one of nano, small, base, large; did you mean 'base'"):
        build_vqgan_size("bass")
    with pytest.raises(ValueError, match="depth 0; expected 1 or more"):
        build_vqgan_size("small", depth=0)
    with pytest.raises(ValueError, match="width 70; expected a multiple of 4; take 72"):
        build_vqgan_size("nano", width=70)
    with pytest.raises(ValueError, match=r"image_size 30 with patch_size 8; expected a multiple .* use image_size 24"):
        tiny_network(image_size=30, patch_size=8)
    with pytest.raises(ValueError, match="codebook of 0 codes x 6"):
        tiny_network(codebook_size=0)


def test_a_new_network_begins_with_grey():
    images = random_images(4, 8).float() / 255
    network = tiny_network()
    decoded = network.decode(network.quantizer(network.encode(images))[0])
    assert 0.3 < decoded.mean().item() < 0.7
    assert 0.1 < decoded.std().item() < 0.6
