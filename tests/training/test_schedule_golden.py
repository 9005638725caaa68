"""Rates and parameter groups as the published training code uses them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from seit_ray.models.embed import CodebookEmbedding, TokenEmbedding
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.models.variants import Size
from seit_ray.models.vit import TokenViT
from seit_ray.training.optimizer import parameter_groups
from seit_ray.training.schedule import peak_lr, rate_at

GOLDEN = Path(__file__).parents[1] / "golden"
RATES = np.load(GOLDEN / "seit_sched.npz")
GROUPS = json.loads((GOLDEN / "seit_sched_groups.json").read_text())

PRETRAIN = {"epochs": 400, "warmup_epochs": 40, "peak": 2.4e-3, "min_lr": 0}


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("f64/pretrain_ep400_wu40_lr2.4e-3_min0_accum1", PRETRAIN),
        ("f64/pretrain_ep400_wu40_lr2.4e-3_min0_accum4", PRETRAIN),
        ("f64/finetune_ep100_wu5_lr4e-3_min1e-6", {"epochs": 100, "warmup_epochs": 5, "peak": 4e-3, "min_lr": 1e-6}),
        ("f64/finetune_ep3_wu1_lr1e-3_min1e-6", {"epochs": 3, "warmup_epochs": 1, "peak": 1e-3, "min_lr": 1e-6}),
    ],
)  # fmt: skip
def test_rate_of_every_step(key, settings):
    accum = 4 if key.endswith("accum4") else 1
    rows = [row for row in RATES[key] if row[1] % accum == 0]  # a step is `accum` iterations
    assert len(rows) > 20
    for epoch, iteration, rate, half in rows:
        found = rate_at(epoch + iteration / 10, **settings)
        assert found == pytest.approx(rate, rel=1e-9, abs=1e-15)
        assert 0.5 * found == pytest.approx(half, rel=1e-9, abs=1e-15)


def test_rate_of_every_epoch_of_seit():
    rates = RATES["f64/seit_epoch_lr_used_lr1.5e-3_300ep"]
    settings = {"epochs": 300, "warmup_epochs": 5, "peak": 1.5e-3, "min_lr": 1e-5, "warmup_lr": 1e-6}
    found = [rate_at(epoch + 0.4, schedule="seit_epochs", **settings) for epoch in range(300)]
    assert found == pytest.approx(rates.tolist(), rel=1e-9)


@pytest.mark.parametrize(
    ("key", "blr", "rule"),
    [
        ("f64/pretrain_lr_blr1.5e-4_linear256", 1.5e-4, "linear"),
        ("f64/finetune_lr_blr1e-3_sqrt8", 1e-3, "sqrt"),
        ("f64/seit_lr_7.5e-4_linear512", 3.75e-4, "linear"),  # 7.5e-4 per 512 is 3.75e-4 per 256
    ],
)
def test_peak_rates(key, blr, rule):
    for batch, rate in zip(RATES["f64/eff_batch"], RATES[key], strict=True):
        assert peak_lr(lr=None, blr=blr, lr_rule=rule, global_batch_size=int(batch)) == pytest.approx(rate, rel=1e-9)


def classifier(depth, embedding=None):
    size = Size(8, depth, 2, decoder_width=8, decoder_depth=2, decoder_num_heads=2)
    embedding = embedding or TokenEmbedding(5, 4)
    return TokenViT(grid=(4, 4), num_classes=3, size=size, embedding=embedding, kernel=2, stride=2)


def groups_of(model, **settings):
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, weight_decay=settings.pop("weight_decay", 0.1), **settings)
    return {names[p]: (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]}


@pytest.mark.parametrize(
    ("key", "depth"), [("small_depth2_ld065", 2), ("small_depth2_ld075", 2), ("base_depth12_ld065", 12)]
)
def test_groups_of_fine_tuning(key, depth):
    wanted = {n: (g["lr_scale"], g["weight_decay"]) for n, g in GROUPS[f"finetune_groups/{key}"].items()}
    layer_decay = float(key[-3:]) / 100
    found = groups_of(classifier(depth), layer_decay=layer_decay, decay_positions=False, token_emb_last=True)
    assert found.keys() == wanted.keys()
    for name, (scale, decay) in wanted.items():
        assert found[name] == (pytest.approx(scale, rel=1e-12), decay), name


def test_groups_of_pre_training():
    wanted = {name: group["weight_decay"] for name, group in GROUPS["pretrain_groups/small"].items()}
    size = Size(8, 2, 2, decoder_width=8, decoder_depth=2, decoder_num_heads=2)
    model = MaskedTokenModel(grid=(4, 4), num_codes=5, size=size, token_dim=4)
    found = groups_of(model, weight_decay=max(wanted.values()), layer_decay=1.0)
    assert {name: decay for name, (_, decay) in found.items()} == wanted
    assert not set(GROUPS["pretrain_not_trained"]) & found.keys()


def test_groups_of_seit():
    model = classifier(2, CodebookEmbedding(torch.ones(5, 4)))
    found = groups_of(model, layer_decay=1.0, decay_positions=False)
    assert {name: decay for name, (_, decay) in found.items()} == GROUPS["seit_groups/small"]
