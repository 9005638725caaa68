"""A training run on Ray Train workers, or in this process; live progress comes back through a small actor."""

from __future__ import annotations

import os
import pkgutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Ray Train looks at its workers this often: a run of a minute should not wait two seconds for each change of state
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")

import ray
import ray.train
import ray.train.torch
import torch

from seit_ray.distributed.cluster import Cluster, user_error
from seit_ray.training.world import World

Progress = Callable[[int, int, str], None]
POLL_S = 0.5


class Board:
    """Actor: where rank 0 writes how far it is, and any rank a mistake of the user's that no retry mends."""

    def __init__(self):
        self.progress: tuple[int, int, str] | None = None
        self.mistake: str | None = None

    def post(self, done: int, total: int, note: str) -> None:
        """Replace the newest progress."""
        self.progress = (done, total, note)

    def post_mistake(self, text: str) -> None:
        """Keep the first mistake."""
        self.mistake = self.mistake or text

    def read(self) -> tuple[tuple[int, int, str] | None, str | None]:
        """(newest progress, mistake)."""
        return self.progress, self.mistake


def run_training(
    function: Callable[..., dict[str, Any]],
    arguments: dict[str, Any],
    *,
    name: str,
    cluster: Cluster | None,
    num_workers: int,
    gpus_per_worker: float | None,
    cpus_per_worker: int,
    max_failures: int,
    on_progress: Progress = lambda done, total, note: None,
) -> dict[str, Any]:
    """Run one of `training.runs` and return its metrics; num_workers 0 runs it here, without Ray.

    The function is called in every worker with `world`, `on_progress` and `on_metrics` added. ValueError for what the
    user can mend; a lost worker restarts the group, which continues from the run's newest checkpoint.
    """
    if num_workers == 0:
        return function(**arguments, world=World(), on_progress=on_progress, on_metrics=lambda record: None)
    gpus = cluster.gpus_each(gpus_per_worker)
    check_resources(cluster, num_workers, gpus, cpus_per_worker)
    board = ray.remote(num_cpus=0)(Board).remote()
    resources = {"CPU": cpus_per_worker, **({"GPU": gpus} if gpus else {})}
    trainer = (LocalTrainer if cluster.is_local else ray.train.torch.TorchTrainer)(
        train_worker,
        train_loop_config={
            # by name: Ray Train's controller unpickles this too, and need not import torch models to do so
            "function": f"{function.__module__}:{function.__qualname__}",
            "arguments": arguments,
            "board": board,
            "threads": cpus_per_worker,
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=num_workers, use_gpu=gpus > 0, resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(
            # Ray's own bookkeeping gets a fresh name each time: what a run continues from are its own checkpoints
            name=f"{name}-{uuid.uuid4().hex[:8]}",
            storage_path=str(Path(tempfile.gettempdir()) / "seit_ray-train"),
            failure_config=ray.train.FailureConfig(max_failures=max_failures),
        ),
    )
    with following(board, on_progress):
        try:
            result = trainer.fit()
        except Exception as error:
            _, mistake = ray.get(board.read.remote())
            raise (ValueError(mistake) if mistake else user_error(error) or error) from error
    if "mistake" in result.return_value:
        raise ValueError(result.return_value["mistake"])
    return result.return_value


class LocalTrainer(ray.train.torch.TorchTrainer):
    """For a ray that ends with this process, and its placement groups with it.

    Leaves out Ray's guard against leaked groups: it asks the dashboard for the state of the run, and where there is
    none its last question delays the end of every run by 12 s.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return [c for c in callbacks if type(c).__name__ != "PlacementGroupCleanerCallback"]


def check_resources(cluster: Cluster, num_workers: int, gpus: float, cpus_per_worker: int) -> None:
    """ValueError when a local ray, which cannot grow, is too small; without this, workers would wait for ever."""
    for what, need, have in (
        ("CPUs", num_workers * cpus_per_worker, cluster.num_cpus),
        ("GPUs", num_workers * gpus, cluster.num_gpus),
    ):
        if cluster.is_local and need > have:
            raise ValueError(
                f"{num_workers} workers need {need:g} {what}; expected at most {have:g} on this machine; lower "
                "workers.num_workers or name a cluster with --address"
            )


def train_worker(config: dict[str, Any]) -> dict[str, Any]:
    """What runs in each worker."""
    board, context = config["board"], ray.train.get_context()
    _, mistake = ray.get(board.read.remote())
    if mistake:  # a retry cannot mend it: end at once, on all ranks alike
        return {"mistake": mistake}
    torch.set_num_threads(config["threads"])
    world = World(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())
    try:
        return pkgutil.resolve_name(config["function"])(
            **config["arguments"],
            world=world,
            on_progress=(lambda *state: board.post.remote(*state)) if world.is_main else (lambda *state: None),
            on_metrics=ray.train.report,
        )
    except ValueError as error:
        ray.get(board.post_mistake.remote(str(error)))
        raise


class following:
    """A block during which a thread hands the board's progress on."""

    def __init__(self, board: Any, on_progress: Progress):
        self.board, self.on_progress = board, on_progress
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.poll, daemon=True)

    def poll(self) -> None:
        """Until the block ends: read, hand on what is new."""
        shown = None
        while not self.ended.wait(POLL_S):
            progress, _ = ray.get(self.board.read.remote())
            if progress != shown:
                self.on_progress(*progress)
                shown = progress

    def __enter__(self) -> following:
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            time.sleep(POLL_S)  # the last post may still be on its way
        self.ended.set()
        self.thread.join()
