"""Parameter groups: who decays, and at which rate each layer learns."""

import pytest
import torch

from seit_ray.training.optimizer import build_optimizer, layer_of, parameter_groups, set_lr
from seit_ray.training.settings import OptimizerSettings
from tests.tiny_trainers import tiny_classifier, tiny_masked


def by_name(model, **settings):
    """name -> (lr_scale, weight_decay)."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, **settings)
    return {names[p]: (group["lr_scale"], group["weight_decay"]) for group in groups for p in group["params"]}


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("cls_token", 0),
        ("pos_embed", 0),
        ("patch_embed.proj.weight", 0),
        ("token_emb.word_embeddings.weight", 0),
        ("token_emb.LayerNorm.bias", 0),
        ("mask_token_label", 0),
        ("blocks.0.norm1.weight", 1),
        ("blocks.1.attn.qkv.weight", 2),
        ("blocks.11.mlp.fc2.bias", 12),
        ("norm.weight", 13),
        ("mask_token", 0),  # and these as BEiT has them
        ("blocks.0.attn.q_bias", 1),
        ("rel_pos_bias.relative_position_bias_table", 13),
        ("fc_norm.weight", 13),
        ("cls_pt_layers.0.attn.v_bias", 13),
        ("head.weight", 13),
        ("decoder_blocks.0.norm1.weight", 13),
        ("decoder_pos_embed_learned", 13),
        ("mlm_layer.bias", 13),
    ],
)
def test_layers(name, layer):
    assert layer_of(name, depth=12) == layer


def test_every_parameter_is_in_one_group():
    for model in (tiny_classifier(), tiny_masked()):
        groups = parameter_groups(model, weight_decay=0.1, layer_decay=0.5)
        grouped = [p for group in groups for p in group["params"]]
        assert len(grouped) == len(set(grouped))
        assert set(grouped) == {p for p in model.parameters() if p.requires_grad}
        keys = [(group["lr_scale"], group["weight_decay"]) for group in groups]
        assert len(keys) == len(set(keys))


def test_fine_tuning_groups():
    found = by_name(tiny_classifier(), weight_decay=0.1, layer_decay=0.5, decay_positions=False)
    expected = {
        "cls_token": (0.125, 0.0),
        "pos_embed": (0.125, 0.0),
        "token_emb.word_embeddings.weight": (0.125, 0.1),
        "token_emb.LayerNorm.weight": (0.125, 0.0),
        "patch_embed.proj.weight": (0.125, 0.1),
        "patch_embed.proj.bias": (0.125, 0.0),
        "blocks.0.attn.qkv.weight": (0.25, 0.1),
        "blocks.0.attn.qkv.bias": (0.25, 0.0),
        "blocks.1.mlp.fc1.weight": (0.5, 0.1),
        "blocks.1.norm2.weight": (0.5, 0.0),
        "norm.weight": (1.0, 0.0),
        "head.weight": (1.0, 0.1),
        "head.bias": (1.0, 0.0),
    }
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("decays", [True, False])
def test_positions_of_a_decoder_decay_as_those_of_an_encoder(decays):
    found = by_name(tiny_masked(), weight_decay=0.1, layer_decay=1.0, decay_positions=decays)
    assert found["decoder_pos_embed_learned"] == found["cls_token"] == (1.0, 0.1 * decays)


def test_pre_training_groups():
    found = by_name(tiny_masked(), weight_decay=0.05, layer_decay=1.0)
    assert {scale for scale, _ in found.values()} == {1.0}
    decayed = {name for name, (_, decay) in found.items() if decay}
    assert {decay for _, decay in found.values()} == {0.0, 0.05}
    # as published: the vectors for masks and classes and the decoder's positions decay, biases do not
    assert {"cls_token", "mask_token_label", "decoder_pos_embed_learned", "decoder_embed.weight"} <= decayed
    assert not {name for name in decayed if name.endswith("bias") or "norm" in name.lower()}
    assert "mlm_layer.bias" not in decayed
    assert "pos_embed" not in found  # a fixed table


def test_frozen_parameters_are_left_out():
    model = tiny_classifier()
    model.head.requires_grad_(False)
    found = by_name(model, weight_decay=0.1, layer_decay=1.0)
    assert not [name for name in found if name.startswith("head")]
    assert "norm.weight" in found


def test_rates_are_scaled_a_group():
    model = tiny_classifier()
    optimizer = build_optimizer(model, OptimizerSettings(weight_decay=0.1, betas=(0.8, 0.9), layer_decay=0.5))
    set_lr(optimizer, 0.4)
    rates = {group["lr_scale"]: group["lr"] for group in optimizer.param_groups}
    assert rates == pytest.approx({0.125: 0.05, 0.25: 0.1, 0.5: 0.2, 1.0: 0.4})
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.9)}


def test_decay_and_scale_are_applied():
    model = tiny_classifier()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, OptimizerSettings(weight_decay=0.5, layer_decay=0.5, decay_positions=False))
    set_lr(optimizer, 0.1)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)  # no gradient moves them: what does is decay
    optimizer.step()
    after = dict(model.named_parameters())
    torch.testing.assert_close(after["head.weight"], before["head.weight"] * (1 - 0.1 * 0.5))
    torch.testing.assert_close(
        after["blocks.0.attn.qkv.weight"], before["blocks.0.attn.qkv.weight"] * (1 - 0.1 * 0.25 * 0.5)
    )
    for name in ("pos_embed", "cls_token", "norm.weight"):
        assert torch.equal(after[name], before[name])
