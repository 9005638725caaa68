"""The training loop: knows steps, not papers. G global batch size, N samples of the train split."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel as Distributed

from seit_ray.augment.random import StepRandom
from seit_ray.batches.batch import HostBatch
from seit_ray.batches.contract import SampleStore
from seit_ray.batches.prefetch import Prefetch
from seit_ray.batches.sampler import num_steps, part_spans, rank_span
from seit_ray.objectives.contract import Objective
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder
from seit_ray.training.agreement import Agreement, Flags, bad_steps_error
from seit_ray.training.averages import holding, new_average, update_average
from seit_ray.training.best import EMA, Best
from seit_ray.training.checkpoints import load_checkpoint, restore, state_tensors, tensors_of
from seit_ray.training.identity import check_same
from seit_ray.training.metrics import MetricsLog, describe, read_metrics
from seit_ray.training.optimizer import gradient_norm, optimizer_of, set_lr, take_step
from seit_ray.training.requests import Requests, Stopped
from seit_ray.training.saving import CheckpointWriter
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from seit_ray.training.throughput import Throughput, counting_flops
from seit_ray.training.window import Window
from seit_ray.training.world import World

Parts = list[tuple[slice, HostBatch]]  # micro-batches: rows of the global batch, and what they hold
Evaluate = Callable[[Any, float], dict[str, float]]  # (the model as it was given, epoch) -> metrics


class Trainer:
    """One run of one objective: `train()` starts or continues it and returns the last metrics.

    identity: what a checkpoint must agree on (tokenizer, grid, ...). evaluate: (model, epoch) -> metrics.
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
        on_metrics: Callable[[dict[str, Any]], None] = lambda record: None,
        requests: Requests | None = None,
    ):
        settings = self.settings = loop
        batch = settings.global_batch_size
        if batch < world.size:
            raise ValueError(
                f"global_batch_size {batch} for {world.size} workers; expected a sample for each at least; raise it "
                "or lower workers.num_workers"
            )
        self.model, self.objective, self.store, self.evaluate = model.to(world.device), objective, store, evaluate
        self.run, self.world, self.on_progress, self.on_metrics = run, world, on_progress, on_metrics
        self.requests = requests or Requests()
        self.steps = num_steps(len(store), batch, settings.epochs)
        # with these, a step number says which samples come next
        numbers = {"steps": self.steps, "num_samples": len(store), "global_batch_size": batch, "seed": settings.seed}
        self.identity = {**identity, **numbers}
        self.optimizer = optimizer_of(self.model, optimizer)
        self.rates, self.peak = optimizer, optimizer.peak(batch)
        self.ema = new_average(self.model) if settings.ema_decay > 0 else {}
        if hasattr(objective, "average"):  # that takes its targets from it
            objective.average = self.ema or None
        self.best, self.window = Best(settings.keep_best), Window(world)
        self.agreement = Agreement(world, self.requests)
        self.precision = settings.precision_on(world.device)
        bf16 = self.precision == "bf16"
        self.autocast = torch.autocast(world.device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()
        self._saved_at = 0

    def train(self) -> dict[str, Any]:
        """Run to the last step from the newest checkpoint, or from the beginning; `Stopped` when asked to stop."""
        start = self.resume()
        with contextlib.ExitStack() as stack:
            log = writer = None
            if self.world.is_main:
                log = MetricsLog(self.run, start, self.settings.trackers, self.identity)
                stack.enter_context(contextlib.closing(log))
                writer = CheckpointWriter(self.run, self.settings.keep_checkpoints, self.requests.on_saved)
                stack.enter_context(contextlib.closing(writer))
            batches = stack.enter_context(contextlib.closing(Prefetch(self.host_parts, start, self.steps)))
            metrics = self.run_steps(start, batches, log, writer)
        return metrics or read_metrics(self.run)[-1]  # nothing was left to do: the run had ended

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
            parts = batches.next()
            if step == start:
                self.first_step(model, step, parts, speed)
            else:
                self.step(model, step, parts)
            done = step + 1
            flags = self.agreement.read(last=done == self.steps)
            if flags.bad_in_a_row >= self.settings.max_skipped_steps:
                raise bad_steps_error(flags, self.settings, self.store, self.run if log else None)
            evaluates = self.is_due(done, "eval_every_epochs")
            records = evaluates or not done % self.settings.log_every_steps
            if records:
                means = self.window.flush()  # waits for the device: what is timed has been computed
                figures = speed.record((done - last) * self.settings.global_batch_size, batches.wait_s)
                metrics, last = self.record(done, {**figures, **means}, evaluates), done
                if log:
                    log.add(metrics)
            self.save_where_due(done, flags, log, writer)
            if records:
                left_s = (self.steps - done) * (time.perf_counter() - began) / (done - start)
                self.on_progress("train", done, self.steps, describe(metrics, left_s))
                if evaluates:
                    self.on_metrics(dict(metrics))
                speed.restart(batches.wait_s)
        return metrics

    def record(self, done: int, figures: dict[str, float], evaluates: bool) -> dict[str, Any]:
        """The record of step number `done`: figures of the steps since the last one, and the evaluation where due."""
        epoch = done * self.settings.global_batch_size / len(self.store)
        lr = self.rates.rate(epoch, peak=self.peak, epochs=self.settings.epochs)
        metrics = {"step": done, "epoch": round(epoch, 4), "lr": lr, **figures}
        if evaluates:
            metrics |= self.evaluations(metrics["epoch"])
            self.best.update(metrics, done, self.model, self.ema)
        return metrics

    def resume(self) -> int:
        """Restore the newest checkpoint; the step to go on from."""
        found = load_checkpoint(self.run)
        if found is None:
            wanted = self.world.gather(self.store.shuffle_rows)
            self.keep_order(min((rows for rows in wanted if rows), default=0))  # nodes may have less memory than others
            return 0
        tensors, about = found
        check_same(about, self.identity, self.run.uri)
        restore(tensors, self.model, self.optimizer, self.ema)
        self.best.restore(about.get("best"), tensors_of(tensors, "best"))
        self.window.restore(tensors_of(tensors, "window"), about.get("window_steps", 0))
        self.keep_order(about.get("shuffle_rows", 0))
        return about["step"]

    def keep_order(self, shuffle_rows: int) -> None:
        """Take the samples in the order of a run that shuffles so many at a time; 0 for all."""
        if self.store.shuffle_rows != shuffle_rows:
            self.store = self.store.in_order(shuffle_rows or len(self.store))

    def host_parts(self, step: int) -> Parts:
        """This rank's micro-batches of a step."""
        settings, world = self.settings, self.world
        rows = self.store.step_rows(settings.global_batch_size, settings.seed, step)
        mine = rank_span(settings.global_batch_size, world.rank, world.size)
        spans = part_spans(mine, settings.accum_steps, settings.max_micro_batch)
        pinned = world.device.type == "cuda"
        return [(span, self.store.host_batch(rows[span], pinned=pinned)) for span in spans]

    def first_step(self, model: nn.Module, step: int, parts: Parts, speed: Throughput) -> None:
        """The first step of this process: its operations are counted, and then the model is compiled where asked."""
        if not self.world.is_main:
            self.step(model, step, parts)
        else:
            with counting_flops() as counted:
                self.step(model, step, parts)
            speed.flops_per_sample = counted.flops / sum(len(batch) for _, batch in parts)
        if self.settings.compile:
            self.model.compile()

    def step(self, model: nn.Module, step: int, parts: Parts) -> None:
        """One optimizer step. Every rank scales by its share of the global batch, so uneven shares stay exact."""
        settings, world = self.settings, self.world
        batch_size = settings.global_batch_size
        epoch = step * batch_size / len(self.store)
        set_lr(self.optimizer, self.rates.rate(epoch, peak=self.peak, epochs=settings.epochs))
        self.seed_dropout(step)
        model.train()
        bad = torch.zeros((), dtype=torch.bool, device=world.device)
        for number, (span, batch) in enumerate(parts):
            random = StepRandom(settings.seed, step, span, batch_size, world.device)
            share = len(batch) / batch_size
            goes_on = number < len(parts) - 1  # the last micro-batch averages the gradients of all
            with model.no_sync() if goes_on and isinstance(model, Distributed) else contextlib.nullcontext():
                with self.autocast:
                    loss, metrics = self.objective.loss(model, batch.to(world.device), random)
                (loss * (share * world.size)).backward()  # DDP averages over ranks; this makes it the global mean
            bad |= ~loss.detach().isfinite()
            self.window.add({"loss": loss, **metrics}, share)
        norm = gradient_norm(self.optimizer)
        self.window.add({"grad_norm": norm}, 1 / world.size)
        skipped = self.agreement.settle(step + 1, bad, norm)
        self.window.end_step(skipped)
        take_step(self.optimizer, norm, skipped, clip_grad=self.rates.clip_grad)
        if self.ema:
            update_average(self.ema, self.model, settings.ema_decay)

    def seed_dropout(self, step: int) -> None:
        """Dropout and drop path draw from torch's generator: start it anew each step, so that resuming is exact."""
        draw = StepRandom(self.settings.seed, step, slice(0, 0), 0).number(f"dropout of rank {self.world.rank}")
        torch.manual_seed(int(draw * 2**53))

    def is_due(self, done: int, setting: str) -> bool:
        """Whether step number `done` ends an epoch at which something is to be done; the last step always is."""
        interval = getattr(self.settings, setting) * len(self.store)
        batch = self.settings.global_batch_size
        return done == self.steps or done * batch // interval > (done - 1) * batch // interval

    def save_where_due(self, done: int, flags: Flags, log: MetricsLog | None, writer: CheckpointWriter | None) -> None:
        """Write a checkpoint where one is due or asked for; `Stopped` when that was asked for."""
        every_steps, minutes = self.settings.checkpoint_every_steps, self.settings.checkpoint_every_minutes
        if writer and minutes and writer.age_s() > 60 * minutes:
            self.requests.save = True
        again = done - self._saved_at <= self.agreement.lag  # flags come late: this one has been heeded
        asked = flags.stop or (flags.save and not again)
        stepped = every_steps is not None and done % every_steps == 0
        if not (asked or stepped or self.is_due(done, "checkpoint_every_epochs")):
            return
        self._saved_at, self.requests.save = done, False
        window = self.window.total()  # of all ranks: all have to be here
        if writer and log:
            log.flush()
            tensors = state_tensors(self.model, self.optimizer, self.ema, best=self.best.weights, window=window)
            more = {"step": done, "window_steps": self.window.steps, "best": self.best.about()}
            more["shuffle_rows"] = self.store.shuffle_rows
            writer.submit(tensors, {**self.identity, **more})
        if flags.stop and done < self.steps:
            if writer:
                writer.wait()
            raise Stopped(done)

    def evaluations(self, epoch: float) -> dict[str, float]:
        """Metrics of the val split, for the model and, with the prefix ema_, for its average."""
        metrics = self.evaluate(self.model, epoch)
        if self.ema:
            with holding(self.model, self.ema):
                metrics |= {EMA + name: value for name, value in self.evaluate(self.model, epoch).items()}
        return metrics
