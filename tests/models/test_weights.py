"""Weights by name: strict loading, pre-training to fine-tuning, safetensors bytes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from seit_ray.models.embed import CodebookEmbedding, TokenEmbedding
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.models.variants import Size
from seit_ray.models.vit import TokenViT
from seit_ray.models.weights import encoder_weights, init_from_pretrained, load_named, load_weights, save_weights

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = Size(16, 2, 2, 12, 1, 3)


def small_vit(seed=0, embedding=None, **changes):
    torch.manual_seed(seed)
    settings = {"grid": (4, 6), "num_classes": 5, "size": TINY, "kernel": 2, "stride": 2} | changes
    return TokenViT(embedding=embedding or TokenEmbedding(11, 8), **settings)


def small_mtm(seed=0):
    torch.manual_seed(seed)
    return MaskedTokenModel(grid=(4, 6), num_codes=11, size=TINY, token_dim=8)


def test_models_have_exactly_the_published_names():
    def recorded(file):
        return {key[3:] for key in np.load(GOLDEN / file).files if key.startswith("sd/")}

    size = Size(64, 2, 4, 48, 2, 3)
    vit = {"grid": (28, 28), "num_classes": 10, "size": size}
    assert set(MaskedTokenModel(grid=(28, 28), num_codes=391, size=size).state_dict()) == recorded("seitpp_mtm.npz")
    learned = TokenViT(embedding=TokenEmbedding(391, 32), kernel=2, stride=2, **vit)
    assert set(learned.state_dict()) == recorded("seitpp_finetune.npz")
    frozen = TokenViT(embedding=CodebookEmbedding(torch.zeros(391, 32)), kernel=4, stride=2, padding=1, **vit)
    assert set(frozen.state_dict()) == recorded("seit_vit.npz")


def test_bytes_bring_a_model_back():
    source, target = small_mtm(0), small_mtm(1)
    data = save_weights(source)
    assert isinstance(data, bytes)
    load_named(target, load_weights(data))
    for name, value in source.state_dict().items():
        assert torch.equal(value, target.state_dict()[name]), name


def test_shared_and_strided_tensors_are_written_and_come_back():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(7, 3)
            self.head = nn.Linear(3, 7, bias=False)
            self.head.weight = self.embedding.weight
            self.register_buffer("turned", torch.arange(6.0).reshape(2, 3).t())

    model = Tied()
    state = load_weights(save_weights(model))
    assert torch.equal(state["head.weight"], state["embedding.weight"])
    assert torch.equal(state["turned"], model.turned)
    other = Tied()
    load_named(other, state)
    assert other.head.weight is other.embedding.weight
    assert torch.equal(other.head.weight, model.head.weight)


def test_saved_bytes_do_not_follow_the_model():
    model = small_vit()
    before = model.head.weight.detach().clone()
    data = save_weights(model)
    with torch.no_grad():
        model.head.weight.add_(1)
    assert torch.equal(load_weights(data)["head.weight"], before)


def test_one_error_lists_all_that_differs_and_loads_nothing():
    model = small_vit()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = {name: value + 1 for name, value in before.items()}
    del state["norm.bias"]
    state["extra.weight"] = torch.zeros(3)
    state["head.weight"] = torch.zeros(9, 16)
    message = (
        r"differ in 3 entries \(missing norm\.bias \[16\]; unexpected extra\.weight \[3\]; "
        r"head\.weight \[9, 16\] where the model has \[5, 16\]\); expected exactly the "
        r"entries of TokenViT; build"
    )
    with pytest.raises(ValueError, match=message):
        load_named(model, state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_ignored_prefixes_and_the_unused_published_table_are_left_out():
    source, target = small_mtm(0), small_mtm(1)
    state = source.state_dict() | {"decoder_pos_embed": torch.zeros(1, 7, 12), "reverse.w": torch.zeros(2)}
    with pytest.raises(ValueError, match=r"differ in 1 entries \(unexpected reverse\.w"):
        load_named(target, state)
    load_named(target, state, ignore=("reverse.",))
    assert torch.equal(target.mlm_layer.fc.weight, source.mlm_layer.fc.weight)


def test_loading_keeps_the_models_dtype():
    model = small_vit().double()
    load_named(model, small_vit(1).state_dict())
    assert model.head.weight.dtype == torch.float64
    torch.testing.assert_close(model.head.weight.float(), small_vit(1).head.weight)


def test_pretrained_encoder_goes_into_the_classifier_and_the_head_stays_new():
    mtm, vit = small_mtm(0), small_vit(1)
    head = vit.head.weight.detach().clone()
    assert init_from_pretrained(vit, mtm.state_dict()) == ["head.weight", "head.bias"]
    assert torch.equal(vit.head.weight, head)
    for name, value in encoder_weights(mtm.state_dict()).items():
        assert torch.equal(vit.state_dict()[name], value), name
    assert vit.pos_embed.requires_grad  # fixed in pre-training, trained here
    # The same function: what the encoder gives for unmasked tokens.
    tokens = torch.randint(11, (2, 24))
    mtm.eval(), vit.eval()
    mtm.num_dropped = 0
    hidden = mtm._encode(tokens, torch.arange(6).expand(2, -1), 0, torch.zeros(2, 6, dtype=torch.bool))
    vit.pool = "cls"
    torch.testing.assert_close(vit.forward_features(tokens), hidden[:, 0])


def test_classifier_of_other_classes_is_a_start_too():
    source, vit = small_vit(0, num_classes=9), small_vit(1)
    assert init_from_pretrained(vit, source.state_dict()) == ["head.weight", "head.bias"]
    assert torch.equal(vit.blocks[1].mlp.fc2.weight, source.blocks[1].mlp.fc2.weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": (4, 8)}, r"pos_embed \[1, 7, 16\] where the model has \[1, 9, 16\]"),
        (
            {"embedding": TokenEmbedding(12, 8)},
            r"word_embeddings\.weight \[11, 8\] where the model has \[12, 8\]",
        ),
        (
            {"embedding": CodebookEmbedding(torch.zeros(11, 8))},
            r"unexpected token_emb\.word_embeddings\.weight",
        ),
        ({"size": Size(16, 3, 2, 12, 1, 3)}, r"missing blocks\.2\.norm1\.weight"),
        ({"size": Size(16, 1, 2, 12, 1, 3)}, r"unexpected blocks\.1\.norm1\.weight"),
    ],
)
def test_a_classifier_of_another_shape_is_refused(changes, message):
    vit = small_vit(1, **changes)
    before = vit.cls_token.detach().clone()
    with pytest.raises(ValueError, match=message):
        init_from_pretrained(vit, small_mtm().state_dict())
    assert torch.equal(vit.cls_token, before)


def test_things_that_are_no_weights_are_refused():
    with pytest.raises(ValueError, match="weights of 9 bytes that are no safetensors"):
        load_weights(b"no weight")
    with pytest.raises(ValueError, match="weights of 0 bytes that are no safetensors"):
        load_weights(b"")
    with pytest.raises(ValueError, match=r"state dict with module\.cls_token.*expected the entries of a pre-trained"):
        encoder_weights({"module.cls_token": torch.zeros(1)})
    with pytest.raises(ValueError, match="state dict with nothing"):
        encoder_weights({})
