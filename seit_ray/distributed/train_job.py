"""A training run on Ray Train workers, or in this process; live progress comes back through a small actor."""

from __future__ import annotations

import os
import pkgutil
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Ray Train looks at its workers this often: a run of a minute should not wait two seconds for each change of state
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
# and for nodes that are about to be taken away: a notice may come 30 seconds before
os.environ.setdefault("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "1")

import ray
import ray.train
import ray.train.torch
import torch
from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.train.v2._internal.execution.context import get_train_context
from ray.train.v2._internal.execution.controller.state import ResizingState

from seit_ray.distributed.board import Progress, following, listening, look, new_board, save_now
from seit_ray.distributed.cluster import Cluster, user_error
from seit_ray.distributed.stopping import sigterm_asks
from seit_ray.training.requests import Requests, Stopped
from seit_ray.training.world import World

AFTER_DEADLINE_S = 3.0  # by then Ray Train, which looks every half second, has seen it pass
NumWorkers = int | tuple[int, int]  # so many, or between (least, most), as the cluster has room


def run_training(
    function: Callable[..., dict[str, Any]],
    arguments: dict[str, Any],
    *,
    name: str,
    cluster: Cluster | None,
    num_workers: NumWorkers,
    gpus_per_worker: float | None,
    cpus_per_worker: int,
    max_failures: int,
    resize_every_s: float = 60.0,
    on_progress: Progress = lambda done, total, note: None,
) -> dict[str, Any]:
    """Run one of `training.runs` and return its metrics; num_workers 0 runs it here, without Ray.

    The function is called in every worker with `world`, `on_progress`, `on_metrics` and `requests` added. ValueError
    for what the user can mend; a lost worker restarts the group, which continues from the run's newest checkpoint.
    SIGTERM ends the run at the end of a step, with a checkpoint, and the process with status 143.
    """
    requests = Requests()
    with sigterm_asks(requests):
        if num_workers == 0:
            hooks = {"on_progress": on_progress, "on_metrics": lambda record: None, "requests": requests}
            return function(**arguments, world=World(), **hooks)
        gpus = cluster.gpus_each(gpus_per_worker)
        check_resources(cluster, num_workers, gpus, cpus_per_worker)
        board = new_board()
        trainer = RunTrainer(
            train_worker,
            board=board,
            is_local=cluster.is_local,
            train_loop_config={
                # by name: Ray Train's controller unpickles this too, and need not import torch models to do so
                "function": f"{function.__module__}:{function.__qualname__}",
                "arguments": arguments,
                "board": board,
                "threads": cpus_per_worker,
            },
            scaling_config=ray.train.ScalingConfig(
                num_workers=num_workers if isinstance(num_workers, int) else tuple(num_workers),
                use_gpu=gpus > 0,
                resources_per_worker={"CPU": cpus_per_worker, **({"GPU": gpus} if gpus else {})},
                elastic_resize_monitor_interval_s=resize_every_s,
            ),
            run_config=ray.train.RunConfig(
                # Ray's own bookkeeping gets a fresh name each time: what a run continues from are its own checkpoints
                name=f"{name}-{uuid.uuid4().hex[:8]}",
                storage_path=str(Path(tempfile.gettempdir()) / "seit_ray-train"),
                failure_config=ray.train.FailureConfig(max_failures=max_failures),
            ),
        )
        return fit(trainer, board, on_progress, requests)


def fit(trainer: RunTrainer, board: Any, on_progress: Progress, requests: Requests) -> dict[str, Any]:
    """Run the trainer to its end; the metrics that rank 0 returns. `Stopped` when it was asked to."""
    with following(board, on_progress, requests):
        try:
            returned = trainer.fit().return_value
        except Exception as error:
            _, mistake = look(board)
            raise (ValueError(mistake) if mistake else user_error(error) or error) from error
    if "mistake" in returned:
        raise ValueError(returned["mistake"])
    if "stopped" in returned:
        raise Stopped(returned["stopped"])
    return returned


class RunTrainer(ray.train.torch.TorchTrainer):
    """A TorchTrainer that has its workers write a checkpoint before their number is changed.

    On a local ray, which ends with this process and its placement groups with it, it leaves out Ray's guard against
    leaked groups: that asks the dashboard for the state of the run, and where there is none its last question delays
    the end of every run by 12 s.
    """

    def __init__(self, *arguments: Any, board: Any, is_local: bool, **settings: Any):
        self.board, self.is_local = board, is_local
        super().__init__(*arguments, **settings)

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = [*super()._create_default_callbacks(), SaveBeforeResize(self.board)]
        return [c for c in callbacks if not self.is_local or type(c).__name__ != "PlacementGroupCleanerCallback"]


class SaveBeforeResize(ControllerCallback):
    """Ray stops the workers where they stand when it changes their number: without this, steps would be lost."""

    def __init__(self, board: Any):
        self.board, self.is_running = board, False

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """Remember whether the group that is about to start replaces one that runs."""
        self.is_running = isinstance(previous_state, ResizingState)

    def before_controller_execute_resize_decision(self, resize_decision: Any) -> None:
        """Wait for a checkpoint, where there are workers that can write one."""
        del resize_decision
        if self.is_running:
            save_now(self.board)


def check_resources(cluster: Cluster, num_workers: NumWorkers, gpus: float, cpus_per_worker: int) -> None:
    """ValueError when a local ray, which cannot grow, is too small; without this, workers would wait for ever."""
    least = num_workers if isinstance(num_workers, int) else num_workers[0]
    for what, need, have in (
        ("CPUs", least * cpus_per_worker, cluster.num_cpus),
        ("GPUs", least * gpus, cluster.num_gpus),
    ):
        if cluster.is_local and need > have:
            raise ValueError(
                f"{least} workers need {need:g} {what}; expected at most {have:g} on this machine; lower "
                "workers.num_workers or name a cluster with --address"
            )


def train_worker(config: dict[str, Any]) -> dict[str, Any]:
    """What runs in each worker."""
    board, context = config["board"], ray.train.get_context()
    _, mistake = look(board)
    if mistake:  # a retry cannot mend it: end at once, on all ranks alike
        return {"mistake": mistake}
    torch.set_num_threads(config["threads"])
    world = World(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())
    # of this worker alone: ray.train.get_preemption_info() waits for all, too long for every step
    fate = get_train_context().preemption_context
    try:
        with listening(board, is_main=world.is_main, is_preempted=lambda: fate.preemption_info is not None) as requests:
            return pkgutil.resolve_name(config["function"])(
                **config["arguments"],
                world=world,
                on_progress=(lambda *state: board.post.remote(*state)) if world.is_main else (lambda *state: None),
                on_metrics=ray.train.report,
                requests=requests,
            )
    except Stopped as stopped:
        return {"stopped": stopped.step}
    except ValueError as error:
        ray.get(board.post_mistake.remote(str(error)))
        raise
    except Exception:
        outlast(fate.preemption_info)
        raise


def outlast(notice: Any) -> None:
    """Wait out a notice before an error: the connections to a node that was taken back break when it goes.

    What fails before Ray Train has seen the deadline pass counts as one of the run's `max_failures`. A node that is
    taken back need not, unless Ray Train finds its worker gone before it looks at the clock.
    """
    if notice is not None and notice.deadline_ms is not None:
        time.sleep(max(0.0, notice.deadline_ms / 1000 - time.time()) + AFTER_DEADLINE_S)
