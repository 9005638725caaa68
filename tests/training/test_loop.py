"""The training loop: learning, resuming, accumulation, workers, averages, errors."""

import itertools
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seit_ray.batches import num_steps
from seit_ray.evaluation.classification import classification_metrics
from seit_ray.objectives import MTMObjective, SupervisedObjective
from seit_ray.storage import Folder
from seit_ray.training.checkpoints import checkpoint_names, load_checkpoint
from seit_ray.training.metrics import read_metrics
from seit_ray.training.world import World
from tests.training.tiny_runs import CPU, tiny_classifier, tiny_masked, tiny_store, tiny_trainer
from tests.training.workers import main as train_both

ROOT = Path(__file__).parents[2]

NOISY = {"loop": {"epochs": 4, "ema_decay": 0.9}, "store": tiny_store(56)}  # 14 steps, epochs of 3.5 steps


class Interrupted(Exception):
    """A killed worker."""


@pytest.fixture
def run(tmp_path):
    return Folder(tmp_path / "run")


def evaluation(net):
    return {f"val_{k}": v for k, v in classification_metrics(net, tiny_store(24, seed=1), 4, CPU).items()}


def noisy_trainer(run, **more):
    """Everything that could make a continued run differ: dropout, drop path, EMA, clipping, evaluation."""
    model = tiny_classifier(dropout=0.2, drop_path=0.3)
    return tiny_trainer(run, model, **{**NOISY, "evaluate": evaluation, **more})


def comparable(run):
    """The run's records without their speed."""
    return [{k: v for k, v in r.items() if k != "samples_per_s"} for r in read_metrics(run)]


def losses(run):
    return [record["train_loss"] for record in read_metrics(run)]


def stop_at(step):
    """A progress callback that kills the run once it is so far."""

    def on_progress(done, total, note):
        if done >= step:
            raise Interrupted

    return on_progress


def test_loss_falls_and_accuracy_rises(run):
    trainer = tiny_trainer(run, store=tiny_store(128), loop={"epochs": 12}, evaluate=evaluation)
    metrics = trainer.train()
    assert losses(run)[0] == pytest.approx(math.log(4), abs=0.1)
    assert metrics["train_loss"] < 0.4
    assert metrics["val_top1"] > 0.9


def test_masked_modelling_learns(run):
    trainer = tiny_trainer(
        run,
        tiny_masked(),
        objective=MTMObjective(),
        store=tiny_store(128),
        loop={"epochs": 15, "checkpoint_every_epochs": 15},
        optimizer={"lr": 1e-2, "layer_decay": 1.0, "warmup_epochs": 2},
    )
    metrics = trainer.train()
    assert losses(run)[0] == pytest.approx(math.log(16), abs=0.1)
    assert metrics["train_loss"] < 2.65  # what guesses the class of a row comes to 1.97
    assert 0.4 <= metrics["train_mask_ratio"] <= 1.0


def test_records_say_where_the_run_is(run):
    seen = []
    trainer = tiny_trainer(
        run,
        store=tiny_store(56),
        loop={"epochs": 2, "eval_every_epochs": 1, "checkpoint_every_epochs": 2},
        evaluate=lambda net: {"val_loss": 0.5},
        on_metrics=seen.append,
    )
    metrics = trainer.train()
    records = read_metrics(run)
    assert trainer.steps == num_steps(56, 16, 2) == 7
    assert [r["step"] for r in records] == [3, 4, 6, 7]  # every 3; the step that ends an epoch; the last
    assert [r["epoch"] for r in records] == pytest.approx([s * 16 / 56 for s in (3, 4, 6, 7)], abs=1e-4)
    assert [r["step"] for r in records if "val_loss" in r] == [4, 7]
    assert metrics == records[-1] == seen[-1]
    assert [r["step"] for r in seen] == [4, 7]
    assert all(r["samples_per_s"] > 0 and r["train_grad_norm"] > 0 for r in records)
    assert records[-1]["lr"] == pytest.approx(0.0, abs=1e-12)
    assert checkpoint_names(run) == ["step-000000007"]


def test_train_loss_is_the_mean_since_the_last_record(tmp_path):
    every, third = Folder(tmp_path / "every"), Folder(tmp_path / "third")
    settings = {"store": tiny_store(96)}  # 12 steps, epochs of 6
    for run, interval in ((every, 1), (third, 3)):
        tiny_trainer(run, loop={"log_every_steps": interval}, **settings).train()
    means = [sum(losses(every)[at : at + 3]) / 3 for at in (0, 3, 6, 9)]
    assert losses(third) == pytest.approx(means, abs=1e-6)


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
    continued.on_progress = lambda done, total, note: starts.append(done)
    metrics = continued.train()
    assert starts[0] == continued_from
    assert comparable(broken) == comparable(whole)
    assert {k: v for k, v in metrics.items() if k != "samples_per_s"} == comparable(whole)[-1]
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
    assert read_metrics(broken)[-1]["step"] == 11  # the records are ahead of the checkpoint
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


@pytest.mark.parametrize(
    ("changes", "text"),
    [
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


@pytest.mark.parametrize("accum_steps", [3, 4, 16, 100])
@pytest.mark.parametrize("masked", [False, True])
def test_accumulation_gives_the_same_losses(tmp_path, accum_steps, masked):
    found = []
    for steps in (1, accum_steps):
        run = Folder(tmp_path / str(steps))
        tiny_trainer(
            run,
            tiny_masked() if masked else tiny_classifier(),
            objective=MTMObjective() if masked else SupervisedObjective(label_smoothing=0.1),
            loop={"accum_steps": steps, "log_every_steps": 1},
        ).train()
        found.append(losses(run))
    assert len(found[0]) == 8
    assert found[1] == pytest.approx(found[0], abs=1e-5)


def test_one_process_of_several_would_see_its_own_samples(run):
    seen = []

    class Recorder(SupervisedObjective):
        def loss(self, model, batch, step_rng):
            seen.append((batch.labels.tolist(), step_rng.rows.tolist()))
            return super().loss(model, batch, step_rng)

    whole = tiny_trainer(run, objective=Recorder(), loop={"global_batch_size": 10})
    whole.step(whole.model, 5)
    for rank in range(3):
        world = World(rank, 3, CPU.device)
        part = tiny_trainer(run, objective=Recorder(), loop={"global_batch_size": 10}, world=world)
        part.step(part.model, 5)
    labels, rows = zip(*seen, strict=True)
    assert rows[0] == list(range(10))
    assert list(itertools.chain(*rows[1:])) == rows[0]
    assert list(itertools.chain(*labels[1:])) == labels[0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run(run, bad):
    class Exploding(SupervisedObjective):
        def loss(self, model, batch, step_rng):
            loss, metrics = super().loss(model, batch, step_rng)
            return loss * (bad if step_rng.step == 4 else 1.0), metrics

    with pytest.raises(
        ValueError, match=r"^loss (nan|inf) at step 6 \(epoch 1.50\); expected finite numbers; lower"
    ):
        tiny_trainer(run, objective=Exploding()).train()
    assert [r["step"] for r in read_metrics(run)] == [3, 4]  # what led there can be seen
    assert checkpoint_names(run) == ["step-000000004"]


def test_average_of_the_weights_is_evaluated_beside_them(run):
    trainer = noisy_trainer(run)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    metrics = trainer.train()
    assert {"ema_val_loss", "ema_val_top1", "ema_val_top5"} <= metrics.keys()
    assert metrics["ema_val_loss"] != pytest.approx(metrics["val_loss"], abs=1e-4)
    weights = trainer.model.state_dict()
    evaluated = evaluation(trainer.model)
    assert evaluated["val_loss"] == pytest.approx(metrics["val_loss"])  # the model has its own weights again
    trainer.model.load_state_dict(trainer.ema)
    assert evaluation(trainer.model)["val_loss"] == pytest.approx(metrics["ema_val_loss"])
    assert not torch.equal(before["head.weight"], weights["head.weight"])


def test_average_of_the_weights_is_exponential(run):
    trainer = tiny_trainer(run, loop={"ema_decay": 0.75})
    expected = trainer.model.state_dict()["head.bias"].clone()
    for step in range(4):
        trainer.step(trainer.model, step)
        expected = 0.75 * expected + 0.25 * trainer.model.state_dict()["head.bias"]
    torch.testing.assert_close(trainer.ema["head.bias"], expected)


def test_without_average_there_are_no_metrics_of_it(run):
    metrics = tiny_trainer(run, evaluate=evaluation).train()
    assert not [name for name in metrics if name.startswith("ema")]
    assert not [name for name in load_checkpoint(run)[0] if name.startswith("ema")]


def test_clipping_bounds_the_step(run):
    norms = []
    for clip in (None, 1e-3):
        trainer = tiny_trainer(run, optimizer={"clip_grad": clip, "warmup_epochs": 0})
        kept = []
        step = trainer.optimizer.step
        trainer.optimizer.step = lambda step=step, kept=kept, model=trainer.model: (
            kept.append(torch.stack([p.grad.norm() for p in model.parameters()]).norm().item()),
            step(),
        )
        trainer.step(trainer.model, 0)
        norms.append(kept[0])
        assert ("grad_norm" in trainer._window) == (clip is not None)
    assert norms[0] > 1e-2
    assert norms[1] == pytest.approx(1e-3, rel=1e-3)


def test_bf16_trains_with_weights_in_float32(run):
    trainer = tiny_trainer(run, loop={"precision": "bf16", "epochs": 6})
    metrics = trainer.train()
    assert metrics["train_loss"] < losses(run)[0] - 0.1
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}


def test_rates_follow_the_schedule_in_every_step(run):
    trainer = tiny_trainer(run, optimizer={"warmup_epochs": 1, "layer_decay": 0.5, "lr": 0.008})
    rates = []
    for step in range(8):
        trainer.step(trainer.model, step)
        rates.append({g["lr_scale"]: g["lr"] for g in trainer.optimizer.param_groups})
    assert [r[1.0] for r in rates[:5]] == pytest.approx([0.0, 0.002, 0.004, 0.006, 0.008])
    assert [r[0.125] for r in rates] == pytest.approx([r[1.0] / 8 for r in rates])
    assert rates[6][1.0] == pytest.approx(0.004)


def test_a_base_rate_is_scaled_to_the_batch(run):
    trainer = tiny_trainer(run, optimizer={"lr": None, "blr": 0.016, "lr_rule": "linear"})
    assert trainer.peak == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("loop", "world", "text"),
    [
        ({"global_batch_size": 200}, CPU, "64 samples x 2 epochs with global_batch_size 200 give no step"),
        ({"global_batch_size": 2}, World(0, 3, CPU.device), "global_batch_size 2 for 3 workers; expected a"),
    ],
)
def test_batches_that_cannot_be(run, loop, world, text):
    with pytest.raises(ValueError, match=text):
        tiny_trainer(run, loop=loop, world=world)


def test_the_run_is_written_by_the_first_rank_alone(run):
    class Follower(World):
        is_main = False

    trainer = tiny_trainer(run)
    trainer.world = Follower(device=CPU.device)
    assert trainer.train()["step"] == 8
    assert list(run.list()) == []


def test_checkpoints_hold_what_the_run_is(run):
    tiny_trainer(run).train()
    tensors, about = load_checkpoint(run)
    assert {
        k: about[k] for k in ("step", "steps", "seed", "tokenizer", "num_samples", "global_batch_size")
    } == {
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
    assert evaluation(model) == evaluation(expected.model)


def test_two_processes_train_as_one(tmp_path):
    """The batch of 9 does not divide: one of them has a row more. This process is the first of the two."""
    command = [sys.executable, "-m", "tests.training.workers", str(tmp_path / "two"), "2", "1"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as second:
        train_both(tmp_path / "one", 1, 0)
        train_both(tmp_path / "two", 2, 0)
        errors = second.communicate(timeout=60)[1]
    assert second.returncode == 0, errors
    for objective in ("supervised", "mtm"):
        one, two = (Folder(tmp_path / name / objective) for name in ("one", "two"))
        numbers = [[v for r in comparable(run) for _, v in sorted(r.items())] for run in (one, two)]
        assert len(read_metrics(one)) == 14
        assert numbers[1] == pytest.approx(numbers[0], abs=1e-5)
        weights = [load_checkpoint(run)[0] for run in (one, two)]
        for name, value in weights[0].items():
            torch.testing.assert_close(weights[1][name], value, atol=1e-4, rtol=1e-3)
