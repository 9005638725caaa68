"""Killed runs go on as if they had not been killed; runs of something else are refused."""

from dataclasses import replace

import pytest
import torch

from seit_ray.objectives import MTMObjective, SupervisedObjective
from seit_ray.storage import Folder
from seit_ray.training.checkpoints import checkpoint_names, load_checkpoint
from seit_ray.training.metrics import read_metrics
from seit_ray.training.requests import Requests, Stopped
from seit_ray.training.world import World
from tests.tiny_trainers import (
    CPU,
    comparable,
    evaluation,
    noisy_trainer,
    tiny_augmentation,
    tiny_classifier,
    tiny_codebook,
    tiny_masked,
    tiny_store,
    tiny_trainer,
    without_speed,
)


class Interrupted(Exception):
    """A killed worker."""


def stop_at(step):
    """A progress callback that kills the run once it is so far."""

    def on_progress(phase, done, total, note):
        if done >= step:
            raise Interrupted

    return on_progress


@pytest.mark.parametrize(("killed_at", "continued_from"), [(1, 0), (4, 4), (8, 7), (14, 14)])
def test_a_continued_run_equals_an_undisturbed_one(tmp_path, killed_at, continued_from):
    whole, broken = Folder(tmp_path / "whole"), Folder(tmp_path / "broken")
    expected = noisy_trainer(whole)
    expected_metrics = expected.train()
    with pytest.raises(Interrupted):
        noisy_trainer(broken, on_progress=stop_at(killed_at)).train()
    continued = noisy_trainer(broken)
    torch.manual_seed(killed_at)  # the state of torch's generator does not matter
    starts = []
    continued.on_progress = lambda phase, done, total, note: starts.append(done)
    metrics = continued.train()
    assert starts[0] == continued_from
    assert comparable(broken) == comparable(whole)
    assert without_speed(metrics) == comparable(whole)[-1]
    assert expected_metrics["step"] == 14
    found, wanted = (load_checkpoint(run)[0] for run in (broken, whole))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    state = expected.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in continued.model.state_dict().items())


def test_a_run_killed_while_saving_goes_on_from_the_checkpoint_before(tmp_path, monkeypatch):
    whole, broken = Folder(tmp_path / "whole"), Folder(tmp_path / "broken")
    noisy_trainer(whole).train()
    write = Folder.write

    def dying_write(folder, name, data):
        if folder.uri.endswith("step-000000011") and name == "checkpoint.json":
            raise Interrupted
        write(folder, name, data)

    monkeypatch.setattr(Folder, "write", dying_write)
    with pytest.raises(Interrupted):
        noisy_trainer(broken).train()
    monkeypatch.undo()
    assert checkpoint_names(broken)[-1] == "step-000000007"
    assert read_metrics(broken)[-1]["step"] >= 11  # the records are ahead of the checkpoint
    noisy_trainer(broken).train()
    assert comparable(broken) == comparable(whole)


def test_a_finished_run_is_not_trained_again(run):
    first = noisy_trainer(run).train()
    before = run.read("metrics.jsonl")
    for world in (CPU, World(rank=1, device=CPU.device)):
        again = noisy_trainer(run, world=world)
        again.step = None  # would be called
        assert again.train() == first
    assert run.read("metrics.jsonl") == before


def ask(requests, what, step):
    """A progress callback that asks a run, once, to stop or to save when it is so far."""
    left = [step]

    def on_progress(phase, done, total, note):
        if left and done >= step:
            left.clear()
            setattr(requests, what, True)

    return on_progress


@pytest.mark.parametrize("log_every_steps", [1, 3])
@pytest.mark.parametrize("stopped_after", [1, 5, 9])
def test_a_run_that_was_asked_to_stop_goes_on_as_if_it_had_not_been(tmp_path, stopped_after, log_every_steps):
    whole, broken = Folder(tmp_path / "whole"), Folder(tmp_path / "broken")
    settings = {"loop": {"epochs": 4, "ema_decay": 0.9, "log_every_steps": log_every_steps}}
    noisy_trainer(whole, **settings).train()
    requests = Requests()
    with pytest.raises(Stopped) as stopped:
        noisy_trainer(broken, **settings, requests=requests, on_progress=ask(requests, "stop", stopped_after)).train()
    assert (
        stopped_after < stopped.value.step <= stopped_after + log_every_steps + 1
    )  # asked at a record, at the next step
    assert checkpoint_names(broken)[-1] == f"step-{stopped.value.step:09d}"
    noisy_trainer(broken, **settings).train()
    assert comparable(broken) == comparable(whole)
    assert all_equal(load_checkpoint(broken)[0], load_checkpoint(whole)[0])


def test_a_run_that_ends_as_it_is_asked_to_stop_has_ended(run):
    requests = Requests(stop=True)
    metrics = tiny_trainer(run, loop={"epochs": 1, "global_batch_size": 64}, requests=requests).train()
    assert metrics["step"] == 1


def test_a_checkpoint_between_those_that_are_due(run):
    saved, requests = [], Requests()
    requests.on_saved = saved.append
    tiny_trainer(run, requests=requests, on_progress=ask(requests, "save", 5), loop={"epochs": 4}).train()
    assert saved == [4, 7, 8, 12, 16]  # asked for at the record of step 6; the others are the epochs' own
    assert not requests.save


@pytest.mark.parametrize(("interval", "killed_at", "continued_from"), [(3, 6, 6), (5, 9, 7)])
def test_checkpoints_within_an_epoch(tmp_path, interval, killed_at, continued_from):
    whole, broken = Folder(tmp_path / "whole"), Folder(tmp_path / "broken")
    augmented = {
        "model": tiny_classifier(codebook=tiny_codebook(), drop_path=0.2),
        "objective": SupervisedObjective(augment=tiny_augmentation()),
    }
    loop = {"epochs": 4, "ema_decay": 0.9, "log_every_steps": 1}
    state = {name: value.clone() for name, value in augmented["model"].state_dict().items()}
    tiny_trainer(whole, **augmented, loop=loop, store=tiny_store(56)).train()
    loop["checkpoint_every_steps"] = interval
    augmented["model"].load_state_dict(state)
    with pytest.raises(Interrupted):
        tiny_trainer(broken, **augmented, loop=loop, store=tiny_store(56), on_progress=stop_at(killed_at)).train()
    augmented["model"].load_state_dict({name: torch.zeros_like(value) for name, value in state.items()})
    continued = tiny_trainer(broken, **augmented, loop=loop, store=tiny_store(56))
    starts = []
    continued.on_progress = lambda phase, done, total, note: starts.append(done)
    continued.train()
    assert starts[0] == continued_from
    assert comparable(broken) == comparable(whole)


def test_checkpoints_by_the_clock(run):
    saved, requests = [], Requests()
    requests.on_saved = saved.append
    loop = {"epochs": 2, "checkpoint_every_epochs": 2, "checkpoint_every_minutes": 1e-9}
    tiny_trainer(run, loop=loop, requests=requests).train()
    assert len(saved) > 1
    assert saved[-1] == 8


def all_equal(found, expected):
    """Whether two sets of named tensors are the same."""
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_order_of_samples_is_that_of_the_run(run):
    """A run that began as a stream, shuffled in parts, goes on in that order where all fits into memory."""
    whole = replace(tiny_store(), shard_rows=(16,) * 4)
    parts = whole.in_order(32)
    first = tiny_trainer(run, store=parts, on_progress=stop_at(4))
    with pytest.raises(Interrupted):
        first.train()
    again = tiny_trainer(run, store=whole)
    assert again.resume() == 4
    for step in range(8):
        assert again.store.step_rows(16, 0, step).tolist() == parts.step_rows(16, 0, step).tolist()
    assert parts.step_rows(16, 0, 0).tolist() != whole.step_rows(16, 0, 0).tolist()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"identity": {"tokenizer": "0123456789abcdef", "grid": [4, 4]}}, r"made with grid None; expected \[4, 4\]"),
        ({"identity": {"codebook_size": 9}}, "made with codebook_size None; expected 9"),
        ({"identity": {"tokenizer": "fedcba"}}, "made with tokenizer '0123456789abcdef'; expected 'fedcba'"),
        ({"loop": {"seed": 1}}, "made with seed 0; expected 1"),
        ({"loop": {"epochs": 3}}, "made with steps 8; expected 12"),
        ({"loop": {"epochs": 4, "global_batch_size": 32}}, "made with global_batch_size 16; expected 32"),
        ({"store": tiny_store(65)}, "made with num_samples 64; expected 65"),
        ({"loop": {"ema_decay": 0.5}}, "checkpoint without averaged weights; expected one with them"),
        ({"model": tiny_masked()}, "checkpoint of another model"),
    ],
)
def test_a_run_is_continued_with_what_it_began_with(run, changes, text):
    tiny_trainer(run).train()
    objective = MTMObjective() if "model" in changes else SupervisedObjective()
    with pytest.raises(ValueError, match=text) as caught:
        tiny_trainer(run, objective=objective, **changes).train()
    assert "\n" not in str(caught.value)


def test_how_often_to_look_may_change_on_the_way(run):
    with pytest.raises(Interrupted):
        tiny_trainer(run, on_progress=stop_at(4)).train()
    tiny_trainer(run, loop={"log_every_steps": 1, "keep_checkpoints": 1}).train()
    assert [r["step"] for r in read_metrics(run)] == [3, 4, 5, 6, 7, 8]
    assert checkpoint_names(run) == ["step-000000008"]


def test_checkpoints_hold_what_the_run_is(run):
    tiny_trainer(run).train()
    tensors, about = load_checkpoint(run)
    assert {k: about[k] for k in ("step", "steps", "seed", "tokenizer", "num_samples", "global_batch_size")} == {
        "step": 8,
        "steps": 8,
        "seed": 0,
        "tokenizer": "0123456789abcdef",
        "num_samples": 64,
        "global_batch_size": 16,
    }
    model = tiny_classifier(seed=9)
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model/")})
    expected = tiny_trainer(run)
    expected.resume()
    assert evaluation(model, 1.0) == evaluation(expected.model, 1.0)


@pytest.mark.parametrize("damage", ["tensors", "marker", "gone"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(tmp_path, damage):
    whole, broken = Folder(tmp_path / "whole"), Folder(tmp_path / "broken")
    noisy_trainer(whole).train()
    with pytest.raises(Interrupted):
        noisy_trainer(broken, on_progress=stop_at(12)).train()
    assert checkpoint_names(broken) == ["step-000000007", "step-000000011"]
    newest = broken.join("checkpoints", "step-000000011")
    if damage == "tensors":
        newest.write("state.safetensors", newest.read("state.safetensors")[:-9])
    elif damage == "marker":
        newest.write("checkpoint.json", b"{")
    else:
        newest.delete("state.safetensors")
    told = []
    noisy_trainer(broken, on_progress=lambda phase, done, total, note: told.append((done, note))).train()
    assert "step-000000011" in told[0][1]
    assert told[0][1].endswith("the one before it is taken, if there is one")
    assert told[1][0] == 7
    assert comparable(broken) == comparable(whole)


def test_ranks_begin_at_the_checkpoint_of_the_first(run):
    """A listing that comes late on the first rank, or early on another, must not part them."""

    class Second(World):
        is_main = False

        def gather(self, value):
            return [4, value] if value is None else [value, value]

    loop = {"checkpoint_every_steps": 4, "keep_checkpoints": 9}
    tiny_trainer(run, loop=loop).train()
    assert len(checkpoint_names(run)) == 2
    trainer = tiny_trainer(run, loop=loop, world=Second(1, 2, CPU.device))
    assert trainer.resume() == 4


def test_other_settings_that_decide_are_refused_by_name(run):
    tiny_trainer(run, decided_by={"optimizer.lr": 3e-3, "augment.crop_area": (0.2, 1.0)}).train()
    tiny_trainer(run, decided_by={"optimizer.lr": 3e-3, "augment.crop_area": (0.2, 1.0), "new.key": 1}).train()
    with pytest.raises(ValueError, match=r"made with optimizer\.lr 0\.003; expected 1e-06"):
        tiny_trainer(run, decided_by={"optimizer.lr": 1e-6}).train()


def test_how_often_a_run_is_evaluated_is_part_of_it_where_that_chooses_the_best_weights(tmp_path):
    free, best = Folder(tmp_path / "free"), Folder(tmp_path / "best")
    tiny_trainer(free, loop={"eval_every_epochs": 1}, evaluate=evaluation).train()
    tiny_trainer(free, loop={"eval_every_epochs": 2}, evaluate=evaluation).train()
    tiny_trainer(best, loop={"keep_best": "val_top1"}, evaluate=evaluation).train()
    with pytest.raises(ValueError, match=r"was made with loop\.eval_every_epochs 1; expected 2"):
        tiny_trainer(best, loop={"keep_best": "val_top1", "eval_every_epochs": 2}, evaluate=evaluation).train()
