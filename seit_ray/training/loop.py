"""The training loop: knows steps, not papers. G global batch size, N samples of the train split."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from seit_ray.batches.contract import SampleStore
from seit_ray.batches.prefetch import Prefetch
from seit_ray.batches.sampler import epoch_at, num_steps
from seit_ray.objectives.contract import Objective
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder
from seit_ray.training.agreement import Agreement, Told
from seit_ray.training.averages import Evaluate, evaluations, new_average, update_average
from seit_ray.training.bad_steps import BadSteps
from seit_ray.training.best import Best
from seit_ray.training.checkpoints import agreed_checkpoint, restore, state_tensors, tensors_of
from seit_ray.training.compiling import compiles_on, uncompiled
from seit_ray.training.first_step import take_first_step
from seit_ray.training.forward_state import ForwardState
from seit_ray.training.gradients import add_gradients
from seit_ray.training.identity import DECIDED_BY, check_same
from seit_ray.training.metrics import MetricsLog, describe, read_metrics
from seit_ray.training.micro_batches import MicroBatches, Parts
from seit_ray.training.optimizer import build_optimizer, gradient_norm, set_lr, take_step
from seit_ray.training.requests import Requests, Stopped
from seit_ray.training.saving import CheckpointWriter
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from seit_ray.training.throughput import Throughput
from seit_ray.training.window import Window
from seit_ray.training.world import World


class Trainer:
    """One run of one objective: `train()` starts or continues it and returns the last metrics.

    identity: what a checkpoint must agree on (tokenizer, grid, ...), with decided_by, the user's keys that decide the
    result. evaluate: (model, steps done) -> metrics. replay: the step that is wanted instead (`replay_step`).
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        objective: Objective,
        store: SampleStore,
        evaluate: Evaluate,
        run: Folder,
        loop: LoopSettings,
        optimizer: OptimizerSettings,
        identity: dict[str, Any],
        world: World,
        on_progress: Progress = silent,
        decided_by: dict[str, Any] | None = None,
        replay: int | None = None,
        on_metrics: Callable[[dict[str, Any]], None] = lambda record: None,
        requests: Requests | None = None,
    ):
        settings = self.settings = loop
        batch = settings.global_batch_size
        settings.check_workers(world.size)
        self.model, self.objective, self.store, self.evaluate = model.to(world.device), objective, store, evaluate
        self.run, self.world, self.on_progress, self.on_metrics = run, world, on_progress, on_metrics
        self.requests, self.replay = requests or Requests(), replay
        self.steps = num_steps(len(store), batch, settings.epochs)
        optimizer.check_schedule(settings.epochs, batch)
        # with these, a step number says which samples come next
        numbers = {"steps": self.steps, "num_samples": len(store), "global_batch_size": batch, "seed": settings.seed}
        self.eval_every, self._saved_at = settings.eval_interval(world.device), 0
        looks = {"loop.eval_every_epochs": self.eval_every} if settings.keep_best else {}  # these choose the best
        self.identity = {**identity, **numbers, DECIDED_BY: {**(decided_by or {}), **looks}}
        self.optimizer = build_optimizer(self.model, optimizer)
        self.rates, self.peak = optimizer, optimizer.peak(batch)
        self.ema = new_average(self.model) if settings.ema_decay > 0 else {}
        if hasattr(objective, "average"):  # that may take its targets from it
            objective.average = self.ema or None
        self.best, self.window = Best(settings.keep_best), Window(world)
        self.moved = ForwardState(self.model)
        self.agreement = Agreement(world, self.requests)
        self.precision = settings.precision_on(world.device)
        self.compiles = compiles_on(world.device, settings.compile)
        self.micro_batches = MicroBatches(settings, world, lambda note: self.on_progress("train", 0, 0, note))
        average = self.ema if self.takes_average else None
        self.bad_steps = BadSteps(self.model, settings, world, self.agreement.lag, average)

    @property
    def takes_average(self) -> bool:
        """Whether the objective takes its targets from the moving average."""
        return getattr(self.objective, "average", None) is not None

    def train(self, start: int | None = None) -> dict[str, Any]:
        """Run from `start`, which `resume` finds, to the last step; `Stopped` when asked to stop."""
        start = self.resume() if start is None else start
        if start == self.steps:
            self.on_progress("train", start, self.steps, "nothing is left to do: the run had ended")
            return read_metrics(self.run)[-1]
        with contextlib.ExitStack() as stack:
            log = writer = None
            if self.world.is_main:
                log = MetricsLog(self.run, start, self.settings.trackers, self.identity)
                stack.enter_context(contextlib.closing(log))
                writer = CheckpointWriter(self.run, self.settings.keep_checkpoints, self.requests.on_saved)
                stack.enter_context(contextlib.closing(writer))
            batches = stack.enter_context(contextlib.closing(Prefetch(self.host_parts, start, self.steps)))
            try:
                metrics = self.run_steps(start, batches, log, writer)
            except BaseException:
                self.store.close()
                raise
        return metrics

    def run_steps(
        self, start: int, batches: Prefetch[Parts], log: MetricsLog | None, writer: CheckpointWriter | None
    ) -> dict[str, Any]:
        """Steps from `start` to the last; the last metrics."""
        model, speed = self.world.distributed(self.model), Throughput(self.world, self.precision)
        self.on_progress("train", start, self.steps, f"{'continued' if start else 'started'}, {self.store.describe()}")
        began, last = time.perf_counter(), start
        speed.restart(batches.wait_s)
        metrics: dict[str, Any] = {}
        self.requests.listening = True
        for step in range(start, self.steps):
            parts, done = batches.next(), step + 1
            evaluates = self.is_due(done, self.eval_every)
            records = evaluates or not done % self.settings.log_every_steps
            if hasattr(self.objective, "looks"):
                self.objective.looks = records
            if step == start:
                take_first_step(self, model, step, parts, speed)
            else:
                self.step(model, step, parts)
            told = self.agreement.read(last=done == self.steps)
            self.bad_steps.heed(told, self.store, self.run if log else None, self.micro_batches.limit)
            if records:
                means = self.window.flush()  # waits for the device: what is timed has been computed
                figures = speed.record((done - last) * self.settings.global_batch_size, batches.wait_s)
                metrics, last = self.record(done, {**figures, **means}, evaluates), done
                if log:
                    log.add(metrics)
            self.save_where_due(done, told, log, writer)
            if records:
                left_s = (self.steps - done) * (time.perf_counter() - began) / (done - start)
                self.on_progress("train", done, self.steps, describe(metrics, left_s))
                if evaluates:
                    self.on_metrics(dict(metrics))
                speed.restart(batches.wait_s)
        return metrics

    def record(self, done: int, figures: dict[str, float], evaluates: bool) -> dict[str, Any]:
        """The record of step number `done`: figures of the steps since the last one, and the evaluation where due."""
        epoch = epoch_at(len(self.store), self.settings.global_batch_size, done)
        metrics = {"step": done, "epoch": epoch, "lr": self.rate_of(done - 1), **figures}
        if evaluates:
            how = (self.world.device, self.precision)
            with uncompiled(self.compiles):
                metrics |= evaluations(self.evaluate, done, self.model, self.ema, *how)
            self.best.update(metrics, done, self.model, self.ema)
        return metrics

    def resume(self) -> int:
        """Restore the newest checkpoint; the step to go on from. ValueError where it is of other settings."""
        found = agreed_checkpoint(self.run, self.world, lambda note: self.on_progress("train", 0, 0, note))
        if found is None:
            wanted = self.world.gather(self.store.shuffle_rows)
            self.keep_order(min((rows for rows in wanted if rows), default=0))  # nodes may have less memory than others
            return 0
        tensors, about = found
        check_same(about, self.identity, self.run.uri)
        restore(tensors, self.model, self.optimizer, self.ema)
        self.best.restore(about.get("best"), tensors_of(tensors, "best"))
        self.window.restore(tensors_of(tensors, "window"), about.get("window_steps", 0))
        self.micro_batches.restore(about.get("micro_batch"))
        self.agreement.bad_in_a_row.fill_(about.get("bad_in_a_row", 0))
        self.keep_order(about.get("shuffle_rows", 0))
        return about["step"]

    def keep_order(self, shuffle_rows: int) -> None:
        """Take the samples in the order of a run that shuffles so many at a time; 0 for all."""
        if self.store.shuffle_rows != shuffle_rows:
            self.store = self.store.in_order(shuffle_rows or len(self.store))

    def host_parts(self, step: int) -> Parts:
        """This rank's micro-batches of a step."""
        return self.micro_batches.of_step(self.store, step)

    def step(self, model: nn.Module, step: int, parts: Parts) -> None:
        """One optimizer step. Every rank scales by its share of the global batch, so uneven shares stay exact."""
        set_lr(self.optimizer, self.rate_of(step))
        self.moved.keep()
        bad = self.gradients(model, step, parts)
        norm = gradient_norm(self.optimizer)
        self.window.add({"grad_norm": norm}, 1 / self.world.size)
        skipped = self.agreement.settle(step + 1, bad, norm)
        self.window.end_step(skipped)
        self.moved.settle(skipped)
        take_step(self.optimizer, norm, skipped, clip_grad=self.rates.clip_grad)
        self.bad_steps.remember(step + 1, self.agreement.bad_in_a_row)
        if self.ema:
            update_average(self.ema, self.model, self.settings.ema_decay, skipped)

    def gradients(self, model: nn.Module, step: int, parts: Parts) -> Tensor:
        """Gradients of a step; whether a loss is bad."""
        how: dict[str, Any] = {"settings": self.settings, "world": self.world, "precision": self.precision}
        add = functools.partial(add_gradients, model, self.objective, step, on_loss=self.window.add, **how)
        return self.micro_batches.fitting(add, step, parts, drop=self.drop_step)

    def drop_step(self) -> None:
        """Forget what a step has left so far."""
        self.optimizer.zero_grad(set_to_none=True)
        self.window.drop_step()
        self.moved.drop()
        if hasattr(self.objective, "drop_step"):
            self.objective.drop_step()

    def rate_of(self, step: int) -> float:
        """The learning rate of the step with this number, from 0."""
        epoch = step * self.settings.global_batch_size / len(self.store)
        return self.rates.rate(epoch, peak=self.peak, epochs=self.settings.epochs)

    def is_due(self, done: int, every_epochs: int) -> bool:
        """Whether step number `done` ends so many epochs, or a multiple of them; the last step always does."""
        return done == self.steps or self.settings.ends_epochs(done, every_epochs, len(self.store))

    def save_where_due(self, done: int, told: Told, log: MetricsLog | None, writer: CheckpointWriter | None) -> None:
        """Write a checkpoint where one is due or asked for; `Stopped` when that was asked for."""
        every_steps, minutes = self.settings.checkpoint_every_steps, self.settings.checkpoint_every_minutes
        if writer and minutes and writer.age_s() > 60 * minutes:
            self.requests.save = True
        again = done - self._saved_at <= self.agreement.lag  # flags come late: this one has been heeded
        stops, saves = any(flags.stop for flags in told), any(flags.save for flags in told)
        asked = stops or (saves and not again)
        stepped = every_steps is not None and done % every_steps == 0
        if not (asked or stepped or self.is_due(done, self.settings.checkpoint_every_epochs)):
            return
        self._saved_at, self.requests.save = done, False
        window = self.window.total()  # of all ranks: all have to be here
        if writer and log:
            tensors = state_tensors(self.model, self.optimizer, self.ema, best=self.best.weights, window=window)
            more = {"step": done, "window_steps": self.window.steps, "best": self.best.about()}
            more |= {"micro_batch": self.micro_batches.limit, "shuffle_rows": self.store.shuffle_rows}
            more |= {"bad_in_a_row": int(self.agreement.bad_in_a_row)}
            writer.submit(tensors, {**self.identity, **more}, after=log.flush_later())
        if stops and done < self.steps:
            if writer:
                writer.wait()
            raise Stopped(done)
