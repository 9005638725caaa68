"""Every name of Ray that is not public API, with the reason; `tests/distributed/test_private.py` tells when one moves.

- ControllerCallback, ResizingState: Ray Train stops its workers where they stand when it changes their number. Only
  a controller callback is told before, and can have a checkpoint written first.
- RunTrainer: on a local ray, which ends with this process and its placement groups with it, it leaves out Ray's guard
  against leaked groups: that asks the dashboard for the state of the run, and where there is none its last question
  delays the end of every run by 12 s. Everywhere it leaves out Ray's handler of Ctrl-C, which ends the process with a
  status of its own and without a word, and stays when the run is over: later it asks a controller that is gone.
- streaming_task: a generator that runs ahead of who takes its values would fill the object store.
- preemption_of: `ray.train.get_preemption_info()` waits for all workers, too long for every step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import ray
import ray.train.torch
from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.train.v2._internal.execution.context import get_train_context
from ray.train.v2._internal.execution.controller.state import ResizingState

__all__ = ["BeforeResize", "RunTrainer", "preemption_of", "streaming_task"]

LEAK_GUARD = "PlacementGroupCleanerCallback"
STREAM_AHEAD = 2


class BeforeResize(ControllerCallback):
    """Calls `act` before the number of running workers is changed."""

    def __init__(self, act: Callable[[], None]):
        self.act, self.is_running = act, False

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """Remember whether the group that is about to start replaces one that runs."""
        self.is_running = isinstance(previous_state, ResizingState)

    def before_controller_execute_resize_decision(self, resize_decision: Any) -> None:
        """Act, where there are workers."""
        del resize_decision
        if self.is_running:
            self.act()


class RunTrainer(ray.train.torch.TorchTrainer):
    """A TorchTrainer with controller callbacks of ours; without Ray's guard against leaks where nothing can leak.

    Ctrl-C does in it what it did before.
    """

    def __init__(self, *arguments: Any, callbacks: Sequence[ControllerCallback], guards: bool, **settings: Any):
        self.callbacks, self.guards = list(callbacks), guards
        super().__init__(*arguments, **settings)

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = [*super()._create_default_callbacks(), *self.callbacks]  # type: ignore[misc]  # mypy sees v1
        return [c for c in callbacks if self.guards or type(c).__name__ != LEAK_GUARD]

    def _register_sigint_handler(self, controller: Any) -> None:
        """None: the interrupt ends this process, and the controller and its workers with it."""


def preemption_of() -> Callable[[], Any]:
    """In a training worker: a callable for the notice that its node is about to be taken away, None without one."""
    fate = get_train_context().preemption_context
    return lambda: fate.preemption_info


def streaming_task(function: Callable[..., Any], *, may_wait: bool, **options: Any) -> Any:
    """A Ray task of a generator, whose values come as they are made; may_wait: few of them before they are taken."""
    ahead = {"_generator_backpressure_num_objects": STREAM_AHEAD if may_wait else -1}
    return remote_function(function).options(num_returns="streaming", **ahead, **options)


@cache
def remote_function(function: Callable[..., Any]) -> Any:
    """Ray's form of a function; one, for each is stored with the head anew."""
    return ray.remote(function)
