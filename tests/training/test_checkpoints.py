"""Checkpoints: whole or not there, exact, and refused where they do not fit."""

import json

import pytest
import torch

from seit_ray.shards.parquet import checksum
from seit_ray.storage import Folder
from seit_ray.training.checkpoints import checkpoint_names, load_checkpoint, restore, save_checkpoint, state_tensors
from seit_ray.training.identity import check_same
from seit_ray.training.optimizer import build_optimizer, set_lr
from seit_ray.training.settings import OptimizerSettings
from tests.tiny_dataset import learnable_rows
from tests.tiny_trainers import tiny_classifier, tiny_masked


def trained(seed, steps=2, model=None, name="adamw"):
    """A model, its optimizer after some steps, and an average of its weights."""
    model = model or tiny_classifier(seed=seed)
    optimizer = build_optimizer(model, OptimizerSettings(name=name, layer_decay=0.9))
    ema = {name: value.detach().clone() + 1 for name, value in model.state_dict().items()}
    for step in range(steps):
        take_step(model, optimizer, seed + step)
    return model, optimizer, ema


def take_step(model, optimizer, seed):
    """One step on fixed tokens."""
    tokens = torch.from_numpy(learnable_rows(8, seed=seed).tokens.astype("int64"))
    set_lr(optimizer, 1e-2)
    model(tokens).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def save(run, step, tensors=None, keep=2, **about):
    tensors = tensors or {"model/x": torch.full((3,), float(step))}
    save_checkpoint(run, tensors, {"step": step, **about}, keep)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_round_trip_is_exact_and_goes_on_alike(run, name):
    model, optimizer, ema = trained(0, name=name)
    save(run, 7, state_tensors(model, optimizer, ema), tokenizer="abc")
    tensors, about = load_checkpoint(run)
    assert (about["step"], about["tokenizer"]) == (7, "abc")
    other = trained(5, steps=0, name=name)
    restore(tensors, *other)
    found, expected = state_tensors(*other), state_tensors(model, optimizer, ema)
    assert found.keys() == expected.keys()
    assert {name.split("/")[0] for name in found} == {"model", "optimizer", "ema"}
    assert all(torch.equal(found[name], expected[name]) for name in found)
    for net, opt in ((model, optimizer), other[:2]):
        take_step(net, opt, 99)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other[0].parameters(), strict=True))


def test_restoring_keeps_the_groups_of_the_new_optimizer(run):
    model, optimizer, ema = trained(0)
    tensors = state_tensors(model, optimizer, ema)
    other, _, other_ema = trained(1)
    fresh = build_optimizer(other, OptimizerSettings(weight_decay=0.2, betas=(0.5, 0.6), layer_decay=0.5))
    restore(tensors, other, fresh, other_ema)
    assert {group["betas"] for group in fresh.param_groups} == {(0.5, 0.6)}
    assert {group["weight_decay"] for group in fresh.param_groups} == {0.0, 0.2}


def test_tensors_are_copies(run):
    model, optimizer, ema = trained(0)
    tensors = state_tensors(model, optimizer, ema)
    before = tensors["model/head.weight"].clone()
    take_step(model, optimizer, 1)
    assert torch.equal(tensors["model/head.weight"], before)


def test_before_the_first_step_there_is_no_optimizer_state(run):
    model, optimizer, _ = trained(0, steps=0)
    tensors = state_tensors(model, optimizer, {})
    assert {name.split("/")[0] for name in tensors} == {"model"}
    restore(tensors, *trained(1, steps=0)[:2], {})


def test_no_checkpoint(run):
    assert load_checkpoint(run) is None
    assert checkpoint_names(run) == []


def test_the_newest_is_loaded_and_the_last_n_are_kept(run):
    for step in (5, 10, 900, 1000):
        save(run, step, keep=2)
    assert checkpoint_names(run) == ["step-000000900", "step-000001000"]
    assert {e.name.split("/")[1] for e in run.list()} == {"step-000000900", "step-000001000"}
    tensors, about = load_checkpoint(run)
    assert about["step"] == 1000
    assert tensors["model/x"].tolist() == [1000.0] * 3


@pytest.mark.parametrize("keep", [1, 3])
def test_number_kept(run, keep):
    for step in range(1, 6):
        save(run, step, keep=keep)
        assert len(checkpoint_names(run)) == min(step, keep)
    assert checkpoint_names(run)[-1] == "step-000000005"


def test_the_marker_is_written_last(run, monkeypatch):
    save(run, 1)
    written = []
    real = Folder.write
    monkeypatch.setattr(Folder, "write", lambda folder, name, data: (written.append(name), real(folder, name, data)))
    save(run, 2)
    assert written == ["state.safetensors", "checkpoint.json"]


def test_a_folder_without_marker_is_ignored(run, tmp_path):
    save(run, 1)
    save(run, 2)
    (tmp_path / "run" / "checkpoints" / "step-000000002" / "checkpoint.json").unlink()
    assert load_checkpoint(run)[1]["step"] == 1
    save(run, 2, {"model/x": torch.zeros(1)})  # what a continued run does
    tensors, about = load_checkpoint(run)
    assert (about["step"], tensors["model/x"].tolist()) == (2, [0.0])


def test_an_interrupted_deletion_leaves_no_checkpoint(run, tmp_path, monkeypatch):
    save(run, 1, keep=1)

    def killed(folder, name=""):
        raise KeyboardInterrupt

    monkeypatch.setattr(Folder, "delete_tree", killed)
    with pytest.raises(KeyboardInterrupt):
        save(run, 2, keep=1)
    assert (tmp_path / "run" / "checkpoints" / "step-000000001" / "state.safetensors").exists()
    assert checkpoint_names(run) == ["step-000000002"]


@pytest.mark.parametrize("at", [0, 20, -1])
def test_wrong_checksum(run, tmp_path, at):
    save(run, 1)
    path = tmp_path / "run" / "checkpoints" / "step-000000001" / "state.safetensors"
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"step-000000001 cannot be read \(wrong checksum\); delete that folder"):
        load_checkpoint(run)


@pytest.mark.parametrize("garbage", [b"", b"\xff", b"[]", b"{}", b"null"])
def test_garbage_in_the_marker(run, tmp_path, garbage):
    save(run, 1)
    (tmp_path / "run" / "checkpoints" / "step-000000001" / "checkpoint.json").write_bytes(garbage)
    with pytest.raises(ValueError, match=r"^checkpoint \S+ cannot be read \([^\n]*\); delete that folder"):
        load_checkpoint(run)


def test_tensors_that_are_none(run):
    save(run, 1)
    folder = run.join("checkpoints", "step-000000001")
    folder.write("state.safetensors", b"nothing")
    folder.write("checkpoint.json", json.dumps({"step": 1, "sha256": checksum(b"nothing")}).encode())
    with pytest.raises(ValueError, match=r"step-000000001 cannot be read \([^\n]*\); delete that folder"):
        load_checkpoint(run)
    folder.delete("state.safetensors")
    with pytest.raises(ValueError, match=r"state.safetensors does not exist"):
        load_checkpoint(run)


@pytest.mark.parametrize("other", [tiny_masked, lambda: torch.nn.Linear(2, 2)])
def test_another_model_is_refused(other):
    tensors = state_tensors(*trained(0))
    model = other()
    with pytest.raises(ValueError, match=r"^checkpoint of another model \([^\n]*\); .*give the run another name$"):
        restore(tensors, model, torch.optim.AdamW(model.parameters()), {})


@pytest.mark.parametrize("stored", [True, False])
def test_averages_on_one_side_alone_are_refused(stored):
    model, optimizer, ema = trained(0)
    tensors = state_tensors(model, optimizer, ema if stored else {})
    have, want = ("with", "without") if stored else ("without", "with")
    with pytest.raises(ValueError, match=f"checkpoint {have} averaged weights; expected one {want} them"):
        restore(tensors, model, optimizer, {} if stored else ema)


def test_what_must_agree_is_named_with_both_values():
    about = {"tokenizer": "aaaa", "grid": [4, 4], "step": 3}
    check_same(about, {"tokenizer": "aaaa", "grid": [4, 4]}, "runs/a")
    with pytest.raises(ValueError, match=r"^runs/a was made with tokenizer 'aaaa'; expected 'bbbb' of what"):
        check_same(about, {"tokenizer": "bbbb", "grid": [4, 4]}, "runs/a")
    with pytest.raises(ValueError, match="made with codebook_size None; expected 9"):
        check_same(about, {"codebook_size": 9}, "runs/a")


def test_later_ones_that_were_passed_over_go_when_another_is_saved(run):
    for step in (100, 200):
        save(run, step)
    run.write("checkpoints/step-000000200/state.safetensors", b"damaged")
    assert load_checkpoint(run)[1]["step"] == 100
    save(run, 150, keep=1)
    assert checkpoint_names(run) == ["step-000000150"]
    assert load_checkpoint(run)[1]["step"] == 150
