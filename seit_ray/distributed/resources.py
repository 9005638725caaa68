"""What a cluster has, and whether a piece of work fits. Imports no ray: a dry run asks here too."""

from __future__ import annotations

import math
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from seit_ray.runs.settings import WorkerSettings

ANSWER_S = 10.0


@dataclass(frozen=True)
class Resources:
    """What a cluster has now; an autoscaling one may grow beyond it."""

    address: str
    is_local: bool
    num_cpus: float
    num_gpus: float
    memory_bytes: float = math.inf
    object_store_bytes: float = math.inf

    def gpus_each(self, wanted: float | None) -> float:
        """GPUs for one actor or worker: what is wanted, else one where there are any."""
        return wanted if wanted is not None else float(self.num_gpus >= 1)

    def words(self) -> str:
        """For a table."""
        where = "local" if self.is_local else self.address
        return f"{where}: {self.num_cpus:g} CPUs, {self.num_gpus:g} GPUs"


def local_resources(num_cpus: int | None = None) -> Resources:
    """What a ray would have that is started on this machine."""
    return Resources("local", True, float(num_cpus or os.cpu_count() or 1), float(local_gpus()))


def named_address(given: str | None) -> str:
    """The address that is given, else that of RAY_ADDRESS; "local" where there is neither."""
    return given or os.environ.get("RAY_ADDRESS") or "local"


def check_answers(address: str) -> None:
    """ConnectionError when nothing listens at host:port within ANSWER_S; Ray itself would try for minutes."""
    place = re.fullmatch(r"(?:\w+://)?\[?([^\[\]/]+?)\]?:(\d+)/?", address)
    if place is None:  # "auto", and what Ray itself has to make sense of
        return
    try:
        socket.create_connection((place[1], int(place[2])), timeout=ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"tried for {ANSWER_S:g} s at most: {error}") from error


def local_gpus() -> int:
    """NVIDIA GPUs of this machine that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1", "NoDevFiles")])
    found = Path("/proc/driver/nvidia/gpus")
    return len(list(found.iterdir())) if found.is_dir() else 0


def shortage(cluster: Resources, workers: WorkerSettings) -> str:
    """What the workers need at least and the cluster has not now; empty where it has all."""
    needs = workers.least * workers.cpus_per_worker, workers.least * cluster.gpus_each(workers.gpus_per_worker)
    pairs = zip(("CPUs", "GPUs"), needs, (cluster.num_cpus, cluster.num_gpus), strict=True)
    short = [f"{need:g} {what} of {have:g}" for what, need, have in pairs if need > have]
    return f"{workers.least} workers need {' and '.join(short)}" if short else ""


def check_room(cluster: Resources, workers: WorkerSettings) -> None:
    """ValueError when a local ray, which cannot grow, is too small; without this, workers would wait for ever."""
    short = shortage(cluster, workers)
    if short and cluster.is_local:
        raise ValueError(
            f"{short} that this machine has; expected no more; lower workers.num_workers or name a cluster with "
            "--address"
        )


def trial_resources(workers: WorkerSettings, cluster: Resources) -> dict[str, float]:
    """What one trial of a sweep needs of the cluster, its own training included."""
    processes = max(1, workers.least)  # the trial's own where it has no workers
    gpus = cluster.gpus_each(workers.gpus_per_worker)
    return {"CPU": processes * workers.cpus_per_worker, **({"GPU": processes * gpus} if gpus else {})}


def num_concurrent(workers: WorkerSettings, cluster: Resources, wanted: int | None) -> int:
    """Trials at a time: what is wanted, but no more than a local ray holds; else what the cluster holds now."""
    check_room(cluster, workers)
    have = {"CPU": cluster.num_cpus, "GPU": cluster.num_gpus}
    room = max(1, min(int(have[name] / need + 1e-9) for name, need in trial_resources(workers, cluster).items()))
    if wanted is None:
        return room
    return min(wanted, room) if cluster.is_local else wanted
