"""The training loop: learning, records, averages, clipping, errors."""

import math

import pytest
import torch

from seit_ray.batches.sampler import num_steps
from seit_ray.objectives import MTMObjective
from seit_ray.storage import Folder
from seit_ray.training.checkpoints import checkpoint_names, load_checkpoint
from seit_ray.training.metrics import read_metrics
from seit_ray.training.world import World
from tests.tiny_trainers import (
    CPU,
    evaluation,
    losses,
    noisy_trainer,
    take_step,
    tiny_masked,
    tiny_store,
    tiny_trainer,
)


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
        evaluate=lambda net, epoch: {"val_loss": 0.5},
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
    assert records[-1]["lr"] == trainer.rate_of(6) > 0  # of the last step, not of one behind it
    assert checkpoint_names(run) == ["step-000000007"]


def test_train_loss_is_the_mean_since_the_last_record(tmp_path):
    every, third = Folder(tmp_path / "every"), Folder(tmp_path / "third")
    settings = {"store": tiny_store(96)}  # 12 steps, epochs of 6
    for run, interval in ((every, 1), (third, 3)):
        tiny_trainer(run, loop={"log_every_steps": interval}, **settings).train()
    means = [sum(losses(every)[at : at + 3]) / 3 for at in (0, 3, 6, 9)]
    assert losses(third) == pytest.approx(means, abs=1e-6)


def test_average_of_the_weights_is_evaluated_beside_them(run):
    trainer = noisy_trainer(run)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    metrics = trainer.train()
    assert {"ema_val_loss", "ema_val_top1", "ema_val_top5"} <= metrics.keys()
    assert metrics["ema_val_loss"] != pytest.approx(metrics["val_loss"], abs=1e-4)
    weights = trainer.model.state_dict()
    evaluated = evaluation(trainer.model, 1.0)
    assert evaluated["val_loss"] == pytest.approx(metrics["val_loss"])  # the model has its own weights again
    trainer.model.load_state_dict(trainer.ema)
    assert evaluation(trainer.model, 1.0)["val_loss"] == pytest.approx(metrics["ema_val_loss"])
    assert not torch.equal(before["head.weight"], weights["head.weight"])


def test_average_of_the_weights_is_exponential(run):
    trainer = tiny_trainer(run, loop={"ema_decay": 0.75})
    expected = trainer.model.state_dict()["head.bias"].clone()
    for step in range(4):
        take_step(trainer, step)
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
        take_step(trainer, 0)
        norms.append(kept[0])
        assert trainer.window.sums["grad_norm"].item() == pytest.approx(norms[0], rel=1e-4)
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
        take_step(trainer, step)
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


def test_the_recorded_rate_is_that_of_the_step(run):
    trainer = tiny_trainer(run, loop={"log_every_steps": 1}, optimizer={"warmup_epochs": 1, "lr": 0.008})
    used = []
    step = trainer.step
    trainer.step = lambda *arguments: (step(*arguments), used.append(trainer.optimizer.param_groups[0]))[0]
    rates = []
    trainer.on_progress = lambda *state: rates.append(max(g["lr"] for g in trainer.optimizer.param_groups))
    trainer.train()
    assert [record["lr"] for record in read_metrics(run)] == pytest.approx(rates[1:])
    assert rates[1] == 0.0  # the first step of a warm-up


@pytest.mark.parametrize("warmup", [2, 40])
def test_a_warm_up_that_does_not_end_is_refused(run, warmup):
    with pytest.raises(ValueError, match=rf"warmup_epochs {warmup} of loop.epochs 2; expected a warm-up that ends"):
        tiny_trainer(run, optimizer={"warmup_epochs": warmup})


def test_evaluation_is_in_the_precision_of_the_training(run):
    seen = []

    def evaluate(net, epoch):
        seen.append((torch.is_autocast_enabled("cpu"), net(torch.zeros(2, 16, dtype=torch.int64)).dtype))
        return {"val_loss": 1.0}

    for precision in ("fp32", "bf16"):
        run = Folder(f"{run.uri}-{precision}")
        loop = {"precision": precision, "epochs": 1, "ema_decay": 0.5}
        tiny_trainer(run, loop=loop, optimizer={"warmup_epochs": 0}, evaluate=evaluate).train()
    assert seen == [(False, torch.float32)] * 2 + [(True, torch.bfloat16)] * 2
