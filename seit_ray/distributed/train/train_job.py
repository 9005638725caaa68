"""A training run on Ray Train workers, or in this process; live progress comes back through a small actor."""

from __future__ import annotations

import os
import pkgutil
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import partial
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

from seit_ray.distributed.cluster import resources_now, user_error
from seit_ray.distributed.private import BeforeResize, RunTrainer, preemption_of
from seit_ray.distributed.resources import Resources, check_room, shortage
from seit_ray.distributed.train.board import following, listening, look, new_board, save_now
from seit_ray.progress import Progress, silent
from seit_ray.runs.here import run_here
from seit_ray.runs.settings import WorkerSettings
from seit_ray.storage.errors import may_pass
from seit_ray.training.device_memory import keep_to_share
from seit_ray.training.requests import Requests, Stopped
from seit_ray.training.stopping import sigterm_asks
from seit_ray.training.world import World

AFTER_DEADLINE_S = 3.0  # by then Ray Train, which looks every half second, has seen it pass


def run_training(
    function: Callable[..., dict[str, Any]],
    arguments: dict[str, Any],
    *,
    name: str,
    cluster: Resources | None,
    workers: WorkerSettings,
    on_progress: Progress = silent,
) -> dict[str, Any]:
    """Run one of `runs` and return its metrics; num_workers 0 runs it here, without Ray.

    The function is called in every worker with `world`, `on_progress`, `on_metrics` and `requests` added. ValueError
    for what the user can mend; a lost worker restarts the group, which continues from the run's newest checkpoint.
    SIGTERM ends the run at the end of a step, with a checkpoint, and the process with status 143.
    """
    if workers.num_workers == 0:
        return run_here(function, arguments, on_progress)
    assert cluster is not None  # only a run in this process has none
    num_workers, cpus = workers.num_workers, workers.cpus_per_worker
    requests = Requests()
    with sigterm_asks(requests):
        gpus = cluster.gpus_each(workers.gpus_per_worker)
        check_room(cluster, workers)
        board = new_board()
        trainer = RunTrainer(
            train_worker,
            callbacks=[BeforeResize(partial(save_now, board))],
            guards=not cluster.is_local,
            train_loop_config={
                # by name: Ray Train's controller unpickles this too, and need not import torch models to do so
                "function": f"{function.__module__}:{function.__qualname__}",
                "arguments": arguments,
                "board": board,
                "threads": cpus,
                "gpu_share": gpus,
            },
            # Ray annotates its Train v1, and runs v2
            scaling_config=ray.train.ScalingConfig(  # type: ignore[call-arg]
                num_workers=num_workers if isinstance(num_workers, int) else tuple(num_workers),  # type: ignore[arg-type]
                use_gpu=gpus > 0,
                resources_per_worker={"CPU": cpus, **({"GPU": gpus} if gpus else {})},
                elastic_resize_monitor_interval_s=workers.resize_every_s,
            ),
            run_config=ray.train.RunConfig(
                # Ray's own bookkeeping gets a fresh name each time: what a run continues from are its own checkpoints
                name=f"{name}-{uuid.uuid4().hex[:8]}",
                storage_path=str(Path(tempfile.gettempdir()) / "seit_ray-train"),
                failure_config=ray.train.FailureConfig(max_failures=workers.max_failures),
            ),
        )
        return fit(trainer, board, on_progress, requests, lambda: what_is_missing(cluster, workers))


def what_is_missing(cluster: Resources, workers: WorkerSettings) -> str:
    """What the workers wait for; empty where the cluster has it all."""
    short = shortage(resources_now(cluster.address, cluster.is_local), workers)
    return f"{short} that the cluster has: waiting until it has grown" if short else ""


def fit(
    trainer: RunTrainer, board: Any, on_progress: Progress, requests: Requests, waiting_for: Callable[[], str]
) -> dict[str, Any]:
    """Run the trainer to its end; the metrics that rank 0 returns. `Stopped` when it was asked to."""
    with following(board, on_progress, requests, waiting_for):
        try:
            result: Any = trainer.fit()  # Ray annotates that of its Train v1
        except Exception as error:
            _, mistake = look(board)
            raise (ValueError(mistake) if mistake else user_error(error) or error) from error
    returned: dict[str, Any] = result.return_value
    if "mistake" in returned:
        raise ValueError(returned["mistake"])
    if "stopped" in returned:
        raise Stopped(returned["stopped"])
    return returned


def train_worker(config: dict[str, Any]) -> dict[str, Any]:
    """What runs in each worker."""
    board, context = config["board"], ray.train.get_context()
    _, mistake = look(board)
    if mistake:  # a retry cannot mend it: end at once, on all ranks alike
        return {"mistake": mistake}
    torch.set_num_threads(config["threads"])
    world = World(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())
    keep_to_share(world.device, config["gpu_share"])
    notice = preemption_of()
    try:
        with listening(board, is_main=world.is_main, is_preempted=lambda: notice() is not None) as requests:
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
        if not may_pass(error):  # else the group is started again, as often as `max_failures` says
            ray.get(board.post_mistake.remote(str(error)))
        raise
    except Exception:
        outlast(notice())
        raise


def outlast(notice: Any) -> None:
    """Wait out a notice before an error: the connections to a node that was taken back break when it goes.

    What fails before Ray Train has seen the deadline pass counts as one of the run's `max_failures`. A node that is
    taken back need not, unless Ray Train finds its worker gone before it looks at the clock.
    """
    if notice is not None and notice.deadline_ms is not None:
        time.sleep(max(0.0, notice.deadline_ms / 1000 - time.time()) + AFTER_DEADLINE_S)
