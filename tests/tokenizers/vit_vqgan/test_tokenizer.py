"""The ViT-VQGAN tokenizer keeps the contract of all tokenizers."""

import pytest
import torch

from seit_ray.storage import Folder
from seit_ray.tokenizers.contract import fingerprint
from seit_ray.tokenizers.files import load_tokenizer, save_tokenizer
from seit_ray.tokenizers.vit_vqgan import VitVqganTokenizer
from tests.tokenizers.vit_vqgan.tiny import random_images, tiny_network, tiny_tokenizer


@pytest.mark.parametrize(("image_size", "patch_size", "num_codes"), [(8, 2, 16), (9, 3, 5), (32, 8, 300)])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_images_to_tokens_and_back(image_size, patch_size, num_codes, batch):
    tokenizer = tiny_tokenizer(image_size=image_size, patch_size=patch_size, codebook_size=num_codes)
    side = image_size // patch_size
    images = random_images(batch, image_size)
    tokens = tokenizer.encode(images)
    assert tokens.shape == (batch, side * side)
    assert tokens.dtype == torch.int64
    assert tokenizer.grid == (side, side)
    assert not tokens.numel() or 0 <= tokens.min() <= tokens.max() < num_codes
    decoded = tokenizer.decode(tokens)
    assert (decoded.shape, decoded.dtype) == ((batch, 3, image_size, image_size), torch.uint8)
    assert torch.equal(tokenizer.decode(tokens.view(batch, side, side)), decoded)
    assert not tokens.requires_grad


def test_an_image_gets_its_codes_in_any_batch():
    tokenizer = tiny_tokenizer(codebook_size=40)
    images = random_images(7, 8)
    whole = tokenizer.encode(images)
    assert len(whole.unique()) > 3
    assert torch.equal(torch.cat([tokenizer.encode(images[i : i + 1]) for i in range(7)]), whole)
    assert torch.equal(tokenizer.encode(images.contiguous(memory_format=torch.channels_last)), whole)
    assert torch.equal(torch.cat([tokenizer.decode(t[None]) for t in whole]), tokenizer.decode(whole))


def test_tokens_are_the_networks_codes_of_pixels_between_0_and_1():
    network = tiny_network()
    images = random_images(2, 8)
    codes = network.quantizer(network.encode(images.float() / 255))[2]
    assert torch.equal(VitVqganTokenizer(network).encode(images), codes)


def test_codebook_is_the_raw_rows():
    network = tiny_network()
    with torch.no_grad():
        network.quantizer.embedding.weight.mul_(torch.linspace(0.5, 3, 16)[:, None])
    tokenizer = VitVqganTokenizer(network)
    assert (tokenizer.family, tokenizer.metric) == ("vit_vqgan", "cosine")
    assert torch.equal(tokenizer.codebook, network.quantizer.embedding.weight)
    assert not tokenizer.codebook.requires_grad
    rescaled = tiny_tokenizer()  # the same directions, all of length 1
    tokens = torch.arange(16).view(1, 16)
    assert torch.equal(rescaled.decode(tokens), tokenizer.decode(tokens))
    assert fingerprint(rescaled) != fingerprint(tokenizer)


def test_round_trip_of_files(tmp_path):
    tokenizer = tiny_tokenizer(resize="crop", codebook_size=21)
    mark = save_tokenizer(tokenizer, Folder(tmp_path), {"psnr_db": 20.0})
    found, about = load_tokenizer(Folder(tmp_path))
    images = random_images(3, 8)
    assert isinstance(found, VitVqganTokenizer)
    assert mark == about["fingerprint"] == fingerprint(found)
    assert (about["family"], about["grid"], about["codebook_size"]) == ("vit_vqgan", [4, 4], 21)
    assert (found.resize, found.image_size, found.config()) == ("crop", 8, tokenizer.config())
    assert torch.equal(found.encode(images), tokenizer.encode(images))
    assert torch.equal(found.decode(found.encode(images)), tokenizer.decode(tokenizer.encode(images)))


def test_fingerprint_is_of_settings_and_weights_alone():
    tokenizer = tiny_tokenizer()
    mark = fingerprint(tokenizer)
    tokenizer.encode(random_images(2, 8))
    assert fingerprint(tokenizer.to("cpu")) == mark == fingerprint(tiny_tokenizer())
    nudged = tiny_tokenizer()
    nudged.codebook[3, 2] += 1e-6
    deeper = tiny_tokenizer()
    deeper.network.decoder.to_pixel[1].bias.data[0] += 1e-6
    others = [nudged, deeper, tiny_tokenizer(resize="crop"), tiny_tokenizer(seed=1), tiny_tokenizer(codebook_size=17)]
    assert len({mark, *map(fingerprint, others)}) == 6


@pytest.mark.parametrize(
    "images", [random_images(2, 8).float(), random_images(2, 16), random_images(2, 8)[:, :1], random_images(2, 8)[0]]
)
def test_other_images_are_an_error(images):
    with pytest.raises(ValueError, match=r"expected uint8 \[B,3,8,8\]; decode them with"):
        tiny_tokenizer().encode(images)


@pytest.mark.parametrize("shape", [(2, 15), (16,), (2, 3, 5)])
def test_other_numbers_of_tokens_are_an_error(shape):
    with pytest.raises(ValueError, match=r"tokens .*; expected \[B,16\]"):
        tiny_tokenizer().decode(torch.zeros(shape, dtype=torch.int64))


def test_weights_that_do_not_fit_their_config_are_an_error():
    tokenizer = tiny_tokenizer()
    tensors = tokenizer.tensors()
    with pytest.raises(ValueError, match="weights that differ in 1 entries"):
        VitVqganTokenizer.build({**tokenizer.config(), "codebook_size": 17}, tensors)
    with pytest.raises(KeyError):
        VitVqganTokenizer.build({"image_size": 8}, tensors)
