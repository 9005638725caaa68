"""A run in this process, without Ray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seit_ray.progress import Progress, silent
from seit_ray.training.requests import Hooks, Requests
from seit_ray.training.stopping import sigterm_asks
from seit_ray.training.world import World


def run_here(
    function: Callable[..., dict[str, Any]], arguments: dict[str, Any], on_progress: Progress = silent
) -> dict[str, Any]:
    """The metrics of one of `runs`. SIGTERM ends it at the end of a step, with a checkpoint and status 143."""
    requests = Requests()
    with sigterm_asks(requests):
        hooks: Hooks = {"on_progress": on_progress, "on_metrics": lambda record: None, "requests": requests}
        return function(**arguments, world=World(), **hooks)
