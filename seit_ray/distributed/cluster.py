"""Connect to a Ray cluster, or start one on this machine."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

# Before ray is imported: these silence notices on the terminal that a user can do nothing about.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # an error-level line appears for every healthy actor pool

import ray
from ray.exceptions import RayError

from seit_ray.distributed.resources import Resources, check_answers, named_address
from seit_ray.storage import StorageError

SLOW_START, START_ATTEMPTS = "timed out during startup", 5
_LOCAL: set[str] = set()  # clusters that this process started: they cannot grow


Connect = Callable[[], AbstractContextManager[Resources]]


@contextlib.contextmanager
def connected(
    address: str | None = None, num_cpus: int | None = None, object_store_mib: int = 1024, show_logs: bool = False
) -> Iterator[Resources]:
    """A connection to the cluster at `address` or RAY_ADDRESS, or a local ray that ends with the block.

    A connection that already stands is used as it is. show_logs: what Ray and its workers print goes to the terminal;
    else an error of the block says where it lies. ValueError when the cluster cannot be reached.
    """
    if ray.is_initialized():
        current = ray.get_runtime_context().gcs_address
        yield resources_now(current, is_local=current in _LOCAL)
        return
    address = named_address(address)
    is_local = address == "local"
    options: dict[str, Any] = {}
    if is_local:
        options = {"num_cpus": num_cpus, "object_store_memory": object_store_mib << 20}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options["include_dashboard"] = False
    level = logging.INFO if show_logs else logging.ERROR
    try:
        if not is_local:
            check_answers(address)
        with contextlib.nullcontext() if show_logs else stderr_aside(), sigterm_kept():
            session = started(address=address, log_to_driver=show_logs, logging_level=level, **options)
    except (ConnectionError, RayError, RuntimeError, OSError) as error:
        raise unreachable(address, error) from error
    if not show_logs:
        quieten_ray_data()
    current = ray.get_runtime_context().gcs_address
    if is_local:
        _LOCAL.add(current)
    try:
        yield resources_now(current, is_local)
    except Exception as error:
        logs = getattr(session, "address_info", {}).get("session_dir")
        error.add_note(f"The logs of Ray and its workers are in {logs or 'its session folder on each node'}/logs.")
        raise
    finally:
        _LOCAL.discard(current)
        ray.shutdown()


@contextlib.contextmanager
def kept_open(connect: Connect) -> Iterator[Connect]:
    """What gives the cluster of `connect`, connected to at the first call and until the end of the block."""
    with contextlib.ExitStack() as stack:
        found: list[Resources] = []

        def connected_once() -> AbstractContextManager[Resources]:
            if not found:
                found.append(stack.enter_context(connect()))
            return contextlib.nullcontext(found[0])

        yield connected_once


def started(*, attempts: int = START_ATTEMPTS, **options: Any) -> Any:
    """What ray.init gives. On a machine that is busy a node needs more than the 30 s that Ray waits: again then."""
    try:
        return ray.init(**options)
    except Exception as error:  # Ray raises no other kind
        if SLOW_START not in str(error):
            raise
        ray.shutdown()
        if attempts == 1:
            raise OSError(f"it did not start within 30 s, {START_ATTEMPTS} times: too much else runs") from error
    return started(attempts=attempts - 1, **options)


def unreachable(address: str, error: object) -> ValueError:
    """What is said of a cluster that cannot be connected to."""
    return ValueError(
        f"ray at {address} cannot be reached ({' '.join(str(error).split())[:300]}); expected a running cluster; "
        "check --address or RAY_ADDRESS, and that RAY_AUTH_MODE is the same on both sides"
    )


@contextlib.contextmanager
def sigterm_kept() -> Iterator[None]:
    """Put a SIGTERM handler of the program back: ray.init installs its own, which ends with exit status 15."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as ended:
        if ended.code == signal.SIGTERM and callable(before):  # it came while Ray started
            before(signal.SIGTERM, None)
        raise
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def stderr_aside() -> Iterator[None]:
    """Keep what Ray's C++ core writes while it starts off the terminal; it announces its own log level there."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def resources_now(address: str, is_local: bool) -> Resources:
    """What the connected cluster has."""
    total = ray.cluster_resources()
    memory, store = total.get("memory", math.inf), total.get("object_store_memory", math.inf)
    return Resources(address, is_local, total.get("CPU", 0.0), total.get("GPU", 0.0), memory, store)


def quieten_ray_data() -> None:
    """Ray Data's own bars and logs give way to this project's progress lines."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what fails is raised, and told once


def user_error(error: BaseException) -> ValueError | None:
    """The ValueError for the user inside an error that Ray wrapped, if there is one."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, ValueError) and not isinstance(link, RayError):
            line = str(link).partition("\n")[0]  # Ray adds lines on how to repeat tasks
            return StorageError(line, link.kind) if isinstance(link, StorageError) else ValueError(line)
        link = getattr(link, "cause", None) or link.__cause__  # what was handled meanwhile is none of its causes
    return None
