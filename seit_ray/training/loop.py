"""The training loop: knows steps, not papers. G global batch size, N samples of the train split."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from seit_ray.augment.random import StepRandom
from seit_ray.batches import ImageStore, TokenStore, num_steps, rank_span, step_rows
from seit_ray.storage import Folder
from seit_ray.training.checkpoints import check_same, load_checkpoint, restore, save_checkpoint, state_tensors
from seit_ray.training.metrics import MetricsLog, read_metrics
from seit_ray.training.optimizer import build_optimizer, set_lr
from seit_ray.training.schedule import peak_lr, rate_at
from seit_ray.training.world import World

Progress = Callable[[int, int, str], None]  # (steps done, steps in all, a few words)


@dataclass(frozen=True)
class LoopSettings:
    """How long, in what batches, how often to look; fields as in `config.Loop`."""

    epochs: int
    global_batch_size: int
    accum_steps: int = 1
    precision: str = "auto"
    compile: bool = False
    ema_decay: float = 0.0
    seed: int = 0
    log_every_steps: int = 50
    eval_every_epochs: int = 1
    checkpoint_every_epochs: int = 1
    keep_checkpoints: int = 2


class Trainer:
    """One run of one objective: `train()` starts or continues it and returns the last metrics.

    identity: what a checkpoint must agree on (tokenizer, grid, ...). evaluate: (model, epoch) -> metrics.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        objective: Any,
        store: TokenStore | ImageStore,
        evaluate: Callable[[nn.Module, float], dict[str, float]],
        run: Folder,
        loop: dict[str, Any],
        optimizer: dict[str, Any],
        identity: dict[str, Any],
        world: World,
        on_progress: Progress = lambda done, total, note: None,
        on_metrics: Callable[[dict[str, Any]], None] = lambda record: None,
    ):
        settings = self.settings = LoopSettings(**loop)
        batch, schedule = settings.global_batch_size, dict(optimizer)
        if batch < world.size:
            raise ValueError(
                f"global_batch_size {batch} for {world.size} workers; expected a sample for each at least; raise it "
                "or lower workers.num_workers"
            )
        self.model, self.objective, self.store, self.evaluate = (
            model.to(world.device),
            objective,
            store,
            evaluate,
        )
        self.run, self.world, self.on_progress, self.on_metrics = run, world, on_progress, on_metrics
        self.steps = num_steps(len(store), batch, settings.epochs)
        # with these, a step number says which samples come next
        numbers = {
            "steps": self.steps,
            "num_samples": len(store),
            "global_batch_size": batch,
            "seed": settings.seed,
        }
        self.identity = {**identity, **numbers}
        names = ("weight_decay", "betas", "layer_decay", "decay_positions", "token_emb_last")
        groups = {name: schedule.pop(name) for name in names if name in schedule}
        self.optimizer = build_optimizer(self.model, **groups)
        self.clip_grad = schedule.pop("clip_grad")
        self.peak = peak_lr(global_batch_size=batch, **{k: schedule.pop(k) for k in ("lr", "blr", "lr_rule")})
        self.schedule = schedule
        averaged = settings.ema_decay > 0
        self.ema = {k: v.detach().clone() for k, v in self.model.state_dict().items()} if averaged else {}
        bf16 = settings.precision == "bf16" or (settings.precision == "auto" and world.device.type == "cuda")
        self.autocast = torch.autocast(world.device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()
        self._window: dict[str, Tensor] = {}

    def train(self) -> dict[str, Any]:
        """Run to the last step from the newest checkpoint, or from the beginning."""
        start = self.resume()
        log = MetricsLog(self.run, start) if self.world.is_main else None
        with contextlib.closing(log) if log else contextlib.nullcontext():
            metrics = self.run_steps(start, log)
        return metrics or read_metrics(self.run)[-1]  # nothing was left to do: the run had ended

    def run_steps(self, start: int, log: MetricsLog | None) -> dict[str, Any]:
        """Steps from `start` to the last; the last metrics."""
        model = self.wrapped_model()
        self.on_progress(start, self.steps, "continued" if start else "started")
        since, last = time.perf_counter(), start
        metrics: dict[str, Any] = {}
        for step in range(start, self.steps):
            self.step(model, step)
            done = step + 1
            evaluates, saves = (
                self.is_due(done, "eval_every_epochs"),
                self.is_due(done, "checkpoint_every_epochs"),
            )
            if done % self.settings.log_every_steps and not evaluates and not saves:
                continue
            rate = (done - last) * self.settings.global_batch_size / (time.perf_counter() - since)
            metrics = self.flush_window(done, done - last, rate)
            if evaluates:
                metrics |= self.evaluations(metrics["epoch"])
            if log:
                log.add(metrics)
            if saves and log:
                log.flush()
                tensors = state_tensors(self.model, self.optimizer, self.ema)
                save_checkpoint(self.run, tensors, {**self.identity, "step": done}, self.settings.keep_checkpoints)
            self.on_progress(done, self.steps, describe(metrics))
            if evaluates:
                self.on_metrics(dict(metrics))
            since, last = time.perf_counter(), done
        return metrics

    def resume(self) -> int:
        """Restore the newest checkpoint; the step to go on from."""
        found = load_checkpoint(self.run)
        if found is None:
            return 0
        tensors, about = found
        check_same(about, self.identity, self.run.uri)
        restore(tensors, self.model, self.optimizer, self.ema)
        return about["step"]

    def wrapped_model(self) -> nn.Module:
        """The model as the step calls it: compiled and distributed where asked."""
        if self.settings.compile:
            self.model.compile()
        if self.world.size == 1:
            return self.model
        ids = [self.world.device.index] if self.world.device.type == "cuda" else None
        return DistributedDataParallel(self.model, device_ids=ids, gradient_as_bucket_view=True)

    def step(self, model: nn.Module, step: int) -> None:
        """One optimizer step. Every rank scales by its share of the global batch, so uneven shares stay exact."""
        settings, world = self.settings, self.world
        batch_size = settings.global_batch_size
        rows = step_rows(len(self.store), batch_size, settings.seed, step)
        mine = rank_span(batch_size, world.rank, world.size)
        epoch = step * batch_size / len(self.store)
        set_lr(self.optimizer, rate_at(epoch, peak=self.peak, epochs=settings.epochs, **self.schedule))
        self.seed_dropout(step)
        model.train()
        parts = min(settings.accum_steps, mine.stop - mine.start)
        for part in range(parts):
            span = rank_span(mine.stop - mine.start, part, parts)
            span = slice(mine.start + span.start, mine.start + span.stop)
            batch = self.store.batch(rows[span], world.device)
            random = StepRandom(settings.seed, step, span, batch_size, world.device)
            share = (span.stop - span.start) / batch_size
            last = part == parts - 1
            with contextlib.nullcontext() if last or world.size == 1 else model.no_sync():
                with self.autocast:
                    loss, metrics = self.objective.loss(model, batch, random)
                (loss * (share * world.size)).backward()  # DDP averages over ranks; this makes it the global mean
            self.add_to_window({"loss": loss.detach(), **metrics}, share)
        if self.clip_grad is not None:
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad)
            self.add_to_window({"grad_norm": norm}, 1 / world.size)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.update_ema()

    def seed_dropout(self, step: int) -> None:
        """Dropout and drop path draw from torch's generator: start it anew each step, so that resuming is exact."""
        draw = StepRandom(self.settings.seed, step, slice(0, 0), 0).number(f"dropout of rank {self.world.rank}")
        torch.manual_seed(int(draw * 2**53))

    @torch.no_grad()
    def update_ema(self) -> None:
        """Move the averaged weights towards the model's."""
        if not self.ema:
            return
        state = self.model.state_dict()
        floats = [name for name, value in self.ema.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self.ema[n] for n in floats], [state[n] for n in floats], weight=1 - self.settings.ema_decay
        )

    def add_to_window(self, metrics: dict[str, Tensor], share: float) -> None:
        """Add up metrics on the device: no step waits for the host."""
        for name, value in metrics.items():
            value = value.float() * share
            self._window[name] = self._window[name] + value if name in self._window else value

    def flush_window(self, step: int, num: int, rate: float) -> dict[str, Any]:
        """Means over the last `num` steps and all ranks, as numbers; ValueError when the loss is not finite."""
        names = sorted(self._window)
        values = self.world.sum(torch.stack([self._window[n] for n in names])).tolist()
        self._window.clear()
        metrics = {"train_" + name: value / num for name, value in zip(names, values, strict=True)}
        epoch = step * self.settings.global_batch_size / len(self.store)
        if not all(abs(v) < float("inf") for v in values):
            raise ValueError(
                f"loss {metrics['train_loss']} at step {step} (epoch {epoch:.2f}); expected finite numbers; "
                "lower the learning rate, lengthen the warm-up or set clip_grad"
            )
        lr = rate_at(epoch, peak=self.peak, epochs=self.settings.epochs, **self.schedule)
        return {"step": step, "epoch": round(epoch, 4), "lr": lr, "samples_per_s": round(rate, 1), **metrics}

    def is_due(self, done: int, setting: str) -> bool:
        """Whether step number `done` ends an epoch at which something is to be done; the last step always is."""
        interval = getattr(self.settings, setting) * len(self.store)
        batch = self.settings.global_batch_size
        return done == self.steps or done * batch // interval > (done - 1) * batch // interval

    def evaluations(self, epoch: float) -> dict[str, float]:
        """Metrics of the val split, for the model and, with the prefix ema_, for its average."""
        metrics = self.evaluate(self.model, epoch)
        if self.ema:
            current = {k: v.clone() for k, v in self.model.state_dict().items()}
            self.model.load_state_dict(self.ema)
            metrics |= {"ema_" + name: value for name, value in self.evaluate(self.model, epoch).items()}
            self.model.load_state_dict(current)
        return metrics


def describe(metrics: dict[str, Any]) -> str:
    """A few words on the newest metrics, for a progress line."""
    shown = {"train_loss": "loss {:.3f}", "val_top1": "val top-1 {:.1%}", "val_loss": "val loss {:.3f}"}
    words = [text.format(metrics[name]) for name, text in shown.items() if name in metrics]
    return ", ".join([*words, f"{metrics['samples_per_s']:.0f} samples/s"])
