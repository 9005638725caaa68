"""One trial as Ray Tune runs it: stages that, in a sweep, report, wait for a verdict, and may be ended."""

from __future__ import annotations

import asyncio
import math
import pkgutil
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray import tune
from ray.exceptions import RayError

from seit_ray.distributed.resources import Resources
from seit_ray.distributed.train.train_job import run_training
from seit_ray.distributed.tune.follower import last_line
from seit_ray.runs.settings import WorkerSettings
from seit_ray.storage.errors import may_pass
from seit_ray.studies.trials import Stage, Trial, error_line
from seit_ray.training.device_memory import keep_to_share
from seit_ray.training.metrics import read_metrics
from seit_ray.training.world import World


@dataclass(frozen=True)
class Fault:
    """Why an attempt of a trial failed: a line, the traceback, and whether it is the storage, which may pass."""

    line: str
    trace: str
    may_pass: bool


class Talk:
    """Between one attempt of a trial and its training: messages one way, verdicts on them the other."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.verdict: asyncio.Future[bool] | None = None  # on the record that was reported last
        self.is_taken = False  # whether the trial has that record
        self.is_stopped = False


class Desk:
    """Actor, one a sweep: between trainings, wherever they run, and the trials that speak with Ray Tune for them.

    Each attempt of a trial has a name of its own: Tune may start one process for a trial and then use another.
    """

    def __init__(self) -> None:
        self.talks: dict[str, Talk] = {}
        self.progress: dict[str, tuple[int, int, str]] = {}
        self.faults: dict[str, Fault] = {}

    async def open(self, attempt: str) -> None:
        """Begin an attempt."""
        self.talks[attempt] = Talk()

    async def report(self, attempt: str, record: dict[str, Any]) -> bool:
        """From a training: a record; returns whether to go on, when that is known."""
        talk = self.talks[attempt]
        if talk.is_stopped:
            return False
        talk.verdict, talk.is_taken = asyncio.get_running_loop().create_future(), False
        talk.messages.put_nowait(("record", record))
        return await talk.verdict

    async def end(self, attempt: str, kind: str, content: Any) -> None:
        """From a trial's thread: training ended; kind "end" with metrics, "mistake" or "error" with a line."""
        self.talks[attempt].messages.put_nowait((kind, content))

    async def next(self, attempt: str) -> tuple[str, Any]:
        """From a trial: let the training go on behind what it has said, and wait for what it says next."""
        talk = self.talks[attempt]
        if talk.verdict and talk.is_taken and not talk.verdict.done():
            talk.verdict.set_result(True)
        message = await talk.messages.get()
        talk.is_taken = True
        return message

    async def stop(self, attempt: str) -> None:
        """From a trial: end the training, now where it waits for a verdict, else at its next report."""
        talk = self.talks[attempt]
        talk.is_stopped = True
        if talk.verdict and not talk.verdict.done():
            talk.verdict.set_result(False)

    async def post(self, trial: str, done: int, total: int, note: str) -> None:
        """From a training: how far it is."""
        self.progress[trial] = (done, total, note)

    async def read(self) -> dict[str, tuple[int, int, str]]:
        """From the driver: the newest progress of each trial."""
        return self.progress

    async def post_fault(self, trial: str, fault: Fault) -> None:
        """From a trial's thread: why an attempt failed."""
        self.faults[trial] = fault

    async def fault(self, trial: str) -> Fault | None:
        """From the driver: the last one of a trial."""
        return self.faults.get(trial)


class EndedEarly(Exception):
    """The verdict on a training: it is not worth going on."""


def run_stage(
    *,
    stage: str,
    desk: Any,
    attempt: str,
    metric: str | None,
    world: World,
    on_metrics: Callable[[dict[str, Any]], None],
    **arguments: Any,
) -> dict[str, Any]:
    """In each worker: the run named `stage`, which reports every record that has the metric; its last metrics.

    {"ended_early": True} where the verdict was not to go on. A continued run reports again what it had reported.
    `arguments` are those of the run. Without a metric, nothing is reported.
    """
    if metric is None:
        return pkgutil.resolve_name(stage)(**arguments, world=world, on_metrics=on_metrics)

    def report(record: dict[str, Any]) -> None:
        go_on = True
        if world.is_main and metric in record:
            go_on = ray.get(desk.report.remote(attempt, {k: record[k] for k in ("epoch", metric)}))
        if not world.gather(go_on)[0]:
            raise EndedEarly

    def report_here_too(record: dict[str, Any]) -> None:
        on_metrics(record)
        report(record)

    try:
        for record in world.gather(read_metrics(arguments["run"]) if world.is_main else None)[0]:
            report(record)
        return pkgutil.resolve_name(stage)(**arguments, world=world, on_metrics=report_here_too)
    except EndedEarly:
        return {"ended_early": True}


class TrialActor(tune.Trainable):
    """Trains in a thread, so that Ray Tune's questions are answered, and an early end is a clean one.

    metric: what a sweep compares; of a study, None, all figures are what it is for, and an early end is as a kill.
    """

    def setup(  # type: ignore[override]  # Tune adds the shared arguments
        self,
        config: dict[str, Any],
        build: Callable[[dict[str, Any]], Trial],
        desk: Any,
        cluster: Resources,
        metric: str | None,
        workers: WorkerSettings,
    ) -> None:
        """Take what all trials share, and begin."""
        self.build, self.desk, self.cluster = build, desk, cluster
        self.metric, self.workers = metric, workers
        self.prepare(config)

    def prepare(self, config: dict[str, Any]) -> None:
        """Take a trial. Its training begins with the first step: Tune drops some of the processes that it starts."""
        self.trial = self.build(config)
        self.attempt = uuid.uuid4().hex
        self.since = time.perf_counter()
        self.thread: threading.Thread | None = None

    def begin(self) -> None:
        """Start the thread of the trial."""
        torch.set_num_threads(self.workers.cpus_per_worker)
        ray.get(self.desk.open.remote(self.attempt))
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self) -> None:
        """In the thread: every stage; how it ended goes to the desk."""
        kind = "end"
        content: Any = None  # metrics, or a line
        try:
            for stage in self.trial.stages:
                content = self.train_stage(stage)
                if "ended_early" in content:
                    return
        except Exception as error:
            # what a network or a node did may not happen again; a process whose GPU failed is not used again
            again = isinstance(error, OSError | RayError) or torch.cuda.is_initialized()
            kind = "error" if may_pass(error) or (again and not isinstance(error, ValueError)) else "mistake"
            content = line_of(error)
            fault = Fault(content, traceback.format_exc(), may_pass(error))
            ray.get(self.desk.post_fault.remote(self.trial.name, fault))
        ray.get(self.desk.end.remote(self.attempt, kind, content))

    def train_stage(self, stage: Stage) -> dict[str, Any]:
        """The metrics of a stage, trained in this process or by workers of its own."""
        last = stage is self.trial.stages[-1]
        asked = {"desk": self.desk, "attempt": self.attempt, "metric": self.metric if last else None}
        if self.workers.num_workers == 0:  # else the trial itself has no GPU, and its workers keep to theirs
            keep_to_share(World().device, self.cluster.gpus_each(self.workers.gpus_per_worker))
        return run_training(
            run_stage,
            {"stage": stage.function, **asked, **stage.arguments},
            name=f"{self.trial.name}-{stage.name}",
            cluster=self.cluster,
            on_progress=lambda phase, done, total, note: self.desk.post.remote(
                self.trial.name, done, total, f"{stage.name} {note}"
            ),
            workers=self.workers,
        )

    def step(self) -> dict[str, Any]:
        """The next record; `ended` with the last, `mistake` in place of one. RuntimeError: worth another attempt."""
        if self.thread is None:
            self.begin()
        kind, content = ray.get(self.desk.next.remote(self.attempt))
        seconds = {"seconds": time.perf_counter() - self.since}
        if kind == "record":
            return {**content, **seconds}
        if kind == "error":
            raise RuntimeError(content)
        if kind == "mistake":
            return {"mistake": content, "done": True, **seconds}
        if self.metric is None:
            return {"figures": content, "ended": True, "done": True, **seconds}
        value = content.get(self.metric)
        if value is None or not math.isfinite(value):
            return {"mistake": missing(self.metric, content), "done": True, **seconds}
        return {"epoch": content["epoch"], self.metric: value, "ended": True, "done": True, **seconds}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Another trial in the same process."""
        self.cleanup()
        self.prepare(new_config)
        return True

    def cleanup(self) -> None:
        """End the thread, where there is one."""
        if self.thread is not None:
            ray.get(self.desk.stop.remote(self.attempt))
            self.thread.join(None if self.metric is not None else 0)  # of a study there is no verdict to wait for


def line_of(error: BaseException) -> str:
    """What went wrong: of an error that Ray carried here, whose text is a traceback, its end."""
    return f"{type(error).__name__}: {last_line(str(error))}" if isinstance(error, RayError) else error_line(error)


def missing(metric: str, metrics: dict[str, Any]) -> str:
    """Why a run that ended has no value."""
    return (
        f"{metric} is {metrics.get(metric)} at the end of the run; expected a number, beside "
        f"{', '.join(metrics)}; choose another metric, or a dataset with labels and a val split"
    )
