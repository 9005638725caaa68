"""Published checkpoints: what is read off their shapes, and every way in which they can be something else."""

import io

import pytest
import torch
from safetensors.torch import save as save_safetensors
from torch import nn

from seit_ray.storage import Folder
from seit_ray.tokenizers.contract import fingerprint
from seit_ray.tokenizers.fit_numbers import VqganSize
from seit_ray.tokenizers.vit_vqgan.network import VitVqgan
from seit_ray.tokenizers.vit_vqgan.published import infer_settings, load_published
from tests.tokenizers.vit_vqgan.tiny import random_images, tiny_network, tiny_tokenizer


def saved(content):
    """Bytes that torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture
def state():
    return dict(tiny_network().state_dict())


def load(tmp_path, data, name="model.ckpt"):
    folder = Folder(tmp_path)
    folder.write(name, data)
    return load_published(folder, name)


def refusal(tmp_path, data, name="model.ckpt"):
    """The one line with which a file is refused."""
    with pytest.raises(ValueError, match=r"\S") as caught:
        load(tmp_path, data, name)
    text = str(caught.value)
    assert f"{tmp_path}/{name}" in text
    assert "\n" not in text
    return text


def test_checkpoint_in_either_format(tmp_path, state):
    loss = {"loss.discriminator.0.weight": torch.zeros(3), "loss.perceptual_loss.x": torch.zeros(2, 2)}
    files = {
        "a.ckpt": saved({"state_dict": {**state, **loss}, "epoch": 3, "global_step": 7}),
        "b.pt": saved({**state, **loss}),
        "c.safetensors": save_safetensors({**state, **loss}),
    }
    for name, data in files.items():
        found = load(tmp_path, data, name)
        assert fingerprint(found) == fingerprint(tiny_tokenizer())
        assert torch.equal(found.encode(random_images(2, 8)), tiny_tokenizer().encode(random_images(2, 8)))


def test_half_precision_weights_become_float32(tmp_path, state):
    found = load(tmp_path, saved({"state_dict": {name: value.half() for name, value in state.items()}}))
    assert {value.dtype for value in found.tensors().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("encoder", "decoder", "numbers"),
    [
        (VqganSize(64, 2, 2, 128), VqganSize(64, 2, 2, 128), (64, 8, 391, 32)),
        (VqganSize(8, 3, 1, 20), VqganSize(16, 1, 4, 8), (6, 2, 5, 3)),
        (VqganSize(512, 11, 8, 100), VqganSize(1280, 12, 16, 50), (256, 8, 8192, 32)),
    ],
)
def test_sizes_are_read_off_the_shapes(encoder, decoder, numbers):
    settings = dict(zip(("image_size", "patch_size", "codebook_size", "code_width"), numbers, strict=True))
    with torch.device("meta"):
        network = VitVqgan(**settings, encoder=encoder, decoder=decoder)
    assert infer_settings(network.state_dict()) == network.settings()


def test_all_differences_are_listed_at_once(tmp_path, state):
    state["extra.weight"] = torch.zeros(2)
    del state["post_quant.bias"]
    state["pre_quant.weight"] = torch.zeros(6, 17)
    text = refusal(tmp_path, saved({"state_dict": state}))
    assert "differ in 3 entries" in text
    for part in ("missing post_quant.bias [12]", "unexpected extra.weight [2]", "pre_quant.weight [6, 17]"):
        assert part in text


def test_a_missing_block_is_named(tmp_path, state):
    deep = dict(tiny_network().state_dict())
    lacking = {name: value for name, value in deep.items() if not name.startswith("decoder.transformer.layers.0.")}
    assert "missing decoder.transformer.layers.0.0.fn.to_qkv.weight" in refusal(tmp_path, saved(lacking))
    del deep["decoder.transformer.layers.1.0.norm.bias"]
    assert "differ in 1 entries (missing decoder.transformer.layers.1.0.norm.bias" in refusal(tmp_path, saved(deep))


def test_another_models_weights_are_an_error(tmp_path):
    text = refusal(tmp_path, saved({"state_dict": nn.Linear(3, 4).state_dict()}))
    assert "differ in 7 entries" in text
    assert "missing quantizer.embedding.weight" in text
    assert "ViT-VQGAN" in text


def test_shapes_that_say_nothing_are_errors(tmp_path, state):
    flat = {**state, "quantizer.embedding.weight": torch.zeros(9)}
    assert "quantizer.embedding.weight [9] where 2 dimensions are due" in refusal(tmp_path, saved(flat))
    oblong = {**state, "encoder.en_pos_embedding": torch.zeros(1, 15, 16)}
    assert "15 tokens; expected a square number" in refusal(tmp_path, saved(oblong))
    narrow = {**state, "encoder.transformer.layers.0.0.fn.to_qkv.weight": torch.zeros(96, 16)}
    assert "expected a multiple of 192 rows" in refusal(tmp_path, saved(narrow))


class Trap:
    """What runs code when it is unpickled."""

    def __reduce__(self):
        return (exec, ("import builtins; builtins.trapped = True",))


def test_nothing_is_unpickled(tmp_path, state):
    import builtins

    for content in (tiny_network(), Trap(), {"state_dict": state, "callbacks": Trap()}):
        assert "save the state dict" in refusal(tmp_path, saved(content))
    assert not hasattr(builtins, "trapped")


@pytest.mark.parametrize(
    "content", [torch.zeros(3, 4), [1, 2], {"state_dict": [1]}, {"state_dict": {"a": "b"}}, {1: 2}]
)
def test_other_contents_are_errors(tmp_path, content):
    assert "expected {'state_dict': {name: tensor}}" in refusal(tmp_path, saved(content))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\xff" * 64, b"{}"])
@pytest.mark.parametrize("name", ["model.ckpt", "model.safetensors"])
def test_garbage_is_an_error(tmp_path, data, name):
    assert "cannot be read" in refusal(tmp_path, data, name)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"model\.ckpt does not exist"):
        load_published(Folder(tmp_path), "model.ckpt")
