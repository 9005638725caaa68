"""Muon: what is orthogonal, how large its steps are, what takes them, beside torch's own."""

import math

import pytest
import torch

from seit_ray.models.tokenadapt import TokenAdapt
from seit_ray.storage import Folder
from seit_ray.training.muon import MATRICES, MOMENTUM, Muon, orthogonalized
from seit_ray.training.optimizer import build_optimizer, set_lr
from seit_ray.training.requests import Requests, Stopped
from seit_ray.training.settings import OptimizerSettings
from tests.tiny_trainers import tiny_ccvit, tiny_classifier, tiny_masked, tiny_trainer

SETTINGS = OptimizerSettings(name="muon", weight_decay=0.1, layer_decay=0.5)


def matrices_of(model, settings=SETTINGS):
    """Names of the parameters whose steps are orthogonal."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = build_optimizer(model, settings).param_groups
    return {names[p] for group in groups if group[MATRICES] for p in group["params"]}


def with_gradients(model, seed):
    """The model, with a random gradient for each parameter."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return model


def in_blocks(block):
    """Names of the four matrices of a block."""
    return {f"{block}.{name}.weight" for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")}


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 8, 64), (2, 32, 48)])
def test_singular_values_are_about_one_and_directions_are_kept(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalized(matrices)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.5
    assert values.max() < 1.3
    # the same singular vectors: between them the found one is diagonal
    turned = left.mT @ found @ right.mT
    torch.testing.assert_close(turned, torch.diag_embed(turned.diagonal(dim1=-2, dim2=-1)), atol=1e-4, rtol=0)


def test_a_matrix_of_zeros_stays():
    assert not orthogonalized(torch.zeros(2, 4, 8)).any()


def test_matrices_of_blocks_alone_take_such_steps():
    assert matrices_of(tiny_classifier()) == in_blocks("blocks.0") | in_blocks("blocks.1")
    blocks = ("blocks.0", "blocks.1", "decoder_blocks.0")
    assert matrices_of(tiny_masked()) == set().union(*map(in_blocks, blocks))
    found = matrices_of(tiny_ccvit()[0])
    assert in_blocks("blocks.0") | in_blocks("cls_pt_layers.0") <= found
    assert not {name for name in found if not name.startswith(("blocks.", "cls_pt_layers."))}


def test_layers_of_tokenadapt_are_blocks_and_its_ends_are_not():
    sizes = {"width": 24, "depth": 1, "num_heads": 2, "head_dim": 12, "mlp_width": 48}
    model = TokenAdapt(grid=(4, 4), out_grid=(4, 4), num_codes=16, dim=8, **sizes)
    found = matrices_of(model, OptimizerSettings(name="muon"))
    assert len(found) == 8
    assert all(".layers.0." in name for name in found)


def test_groups_keep_rates_and_decays():
    model = tiny_classifier()
    optimizer = build_optimizer(model, SETTINGS)
    assert isinstance(optimizer, Muon)
    groups = {(g["lr_scale"], g["weight_decay"]) for g in optimizer.param_groups if g[MATRICES]}
    assert groups == {(0.25, 0.1), (0.5, 0.1)}
    grouped = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(grouped) == len(set(grouped)) == len(list(model.parameters()))


def test_steps_are_those_of_torch():
    """It computes in bfloat16, with eight bits."""
    model, other = tiny_classifier(), tiny_classifier()
    settings = OptimizerSettings(name="muon", weight_decay=0.1)
    ours = build_optimizer(model, settings)
    chosen = [p for name, p in other.named_parameters() if name in matrices_of(model, settings)]
    how = {"weight_decay": 0.1, "momentum": MOMENTUM, "adjust_lr_fn": "match_rms_adamw"}
    theirs = torch.optim.Muon(chosen, lr=0.02, **how)
    start = [p.detach().clone() for p in chosen]
    set_lr(ours, 0.02)
    for seed in range(3):
        with_gradients(model, seed)
        with_gradients(other, seed)
        ours.step()
        theirs.step()
    found = dict(model.named_parameters())
    for name, expected in other.named_parameters():
        if any(expected is p for p in chosen):
            moved = expected - start.pop(0)
            assert (found[name] - expected).norm() < 0.03 * moved.norm()
    assert not start


def test_the_rest_takes_the_steps_of_adamw():
    model, other = tiny_classifier(), tiny_classifier()
    for net, name in ((model, "muon"), (other, "adamw")):
        optimizer = build_optimizer(net, OptimizerSettings(name=name))
        set_lr(optimizer, 1e-2)
        for seed in range(2):
            with_gradients(net, seed)
            optimizer.step()
    matrices = matrices_of(tiny_classifier())
    for (name, ours), expected in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, expected) == (name not in matrices)


def test_steps_are_as_large_as_those_of_adamw():
    model = with_gradients(tiny_classifier(), 0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, OptimizerSettings(name="muon", weight_decay=0.0))
    set_lr(optimizer, 1.0)
    optimizer.step()
    for name, parameter in model.named_parameters():
        if name in matrices_of(tiny_classifier()):
            step = (parameter.detach() - before[name]).square().mean().sqrt()
            assert step == pytest.approx(0.2, rel=0.2)


def test_a_model_without_blocks_that_are_trained_is_refused():
    model = tiny_classifier()
    model.blocks.requires_grad_(False)
    text = r"^optimizer.name muon for TokenViT; expected a model with matrices in its blocks that are trained; set"
    with pytest.raises(ValueError, match=text):
        build_optimizer(model, OptimizerSettings(name="muon"))


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"^optimizer.name 'lion'; expected one of adamw, muon; choose one$"):
        OptimizerSettings(name="lion")


def test_it_learns_and_continues_as_if_it_had_not_stopped(tmp_path, run):
    optimizer = {"name": "muon", "lr": 3e-3}
    whole = tiny_trainer(run, optimizer=optimizer, loop={"epochs": 4})
    metrics = whole.train()
    assert metrics["train_loss"] < 0.9 * math.log(4)
    requests = Requests()
    again = {"optimizer": optimizer, "loop": {"epochs": 4, "checkpoint_every_steps": 3}}
    first = tiny_trainer(Folder(tmp_path / "again"), **again, requests=requests)
    save = first.save_where_due
    first.save_where_due = lambda done, *more: (setattr(requests, "stop", done >= 5), save(done, *more))
    with pytest.raises(Stopped):
        first.train()
    second = tiny_trainer(Folder(tmp_path / "again"), **again)
    assert second.train()["step"] == metrics["step"]
    for ours, expected in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, expected)
