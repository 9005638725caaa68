"""What driver and training workers tell each other while Ray Train runs: an actor, and the threads that look at it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError

from seit_ray.progress import Progress
from seit_ray.training.requests import Requests

POLL_S = 0.5
HEAD = "node:__internal_head__"  # a resource that Ray gives to the head node
SILENT_S = 30.0  # a first rank that has not looked for so long is gone; a busy machine makes it late
SAVE_TIMEOUT_S = 120.0
SAY_EVERY_S = 60.0  # that workers are waited for
SAVE_AGAIN_S = 10.0  # between checkpoints of a node that is about to go: so much work is lost at most


class Board:
    """Actor: how far rank 0 is, a mistake of the user's that no retry mends, and what is asked of the workers."""

    def __init__(self) -> None:
        self.progress: tuple[str, int, int, str] | None = None
        self.mistake: str | None = None
        self.stop, self.save = False, False
        self.looked_at = float("-inf")

    def post(self, phase: str, done: int, total: int, note: str) -> None:
        """Replace the newest progress."""
        self.progress = (phase, done, total, note)

    def post_mistake(self, text: str) -> None:
        """Keep the first mistake."""
        self.mistake = self.mistake or text

    def read(self) -> tuple[tuple[str, int, int, str] | None, str | None]:
        """(newest progress, mistake)."""
        return self.progress, self.mistake

    def ask(self, *, stop: bool = False, save: bool = False) -> None:
        """Ask the workers to stop, or to save, at the end of a step."""
        self.stop, self.save = self.stop or stop, self.save or save

    def asked(self) -> tuple[bool, bool]:
        """(stop, save), for rank 0, which looks here all the time."""
        self.looked_at = time.monotonic()
        return self.stop, self.save

    def post_saved(self) -> None:
        """A checkpoint stands: what asked for one has it."""
        self.save = False

    def saving(self) -> bool:
        """Whether a checkpoint is asked for and there is a worker to write it."""
        return self.save and time.monotonic() - self.looked_at < SILENT_S


def new_board() -> Any:
    """A board on the head node: those of the workers come and go."""
    # of no placement group: a trial of a sweep runs in one, which has nothing of the head's
    return ray.remote(num_cpus=0, resources={HEAD: 0.001}, scheduling_strategy="DEFAULT")(Board).remote()


def look(board: Any) -> tuple[tuple[str, int, int, str] | None, str | None]:
    """(newest progress, mistake); neither while the board cannot be reached, which is no reason to stop."""
    try:
        return ray.get(board.read.remote())
    except RayError:
        return None, None


def save_now(board: Any) -> None:
    """Have the workers, if there are any, write a checkpoint, and wait for it; without a board, go on."""
    with contextlib.suppress(RayError):
        ray.get(board.ask.remote(save=True))
        deadline = time.monotonic() + SAVE_TIMEOUT_S
        while ray.get(board.saving.remote()) and time.monotonic() < deadline:
            time.sleep(0.1)
        ray.get(board.post_saved.remote())


class following:
    """A block of the driver during which a thread hands progress on, and what is asked of the driver to the workers."""

    def __init__(
        self, board: Any, on_progress: Progress, requests: Requests, waiting_for: Callable[[], str] = lambda: ""
    ):
        self.board, self.on_progress, self.requests = board, on_progress, requests
        self.waiting_for = waiting_for  # what the workers lack to start; empty when they only take their time
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.poll, daemon=True)

    def poll(self) -> None:
        """Until the block ends: read, hand on what is new."""
        shown, asked, said_at = None, False, time.monotonic()
        while not self.ended.wait(POLL_S):
            progress, _ = look(self.board)
            if shown is None and progress is None and time.monotonic() - said_at > SAY_EVERY_S:
                said_at = time.monotonic()
                self.on_progress("train", 0, 0, self.waiting_for() or "waiting for the workers to start")
            if progress is not None and progress != shown:
                self.requests.listening = True
                self.on_progress(*progress)
                shown = progress
            if self.requests.stop and not asked:
                with contextlib.suppress(RayError):
                    ray.get(self.board.ask.remote(stop=True))
                    asked = True

    def __enter__(self) -> following:
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            time.sleep(POLL_S)  # the last post may still be on its way
        self.ended.set()
        self.thread.join()


class listening:
    """A block of a worker during which a thread turns what is asked of it into `Requests`.

    Rank 0 looks at the board; every rank knows by itself when the node of one is about to be taken away. From that
    notice on, the workers go on with their steps until the node is gone, and rank 0 has a checkpoint written again
    and again: a notice may come minutes before the end.
    """

    def __init__(self, board: Any, *, is_main: bool, is_preempted: Callable[[], bool]):
        self.board, self.is_main, self.is_preempted = board, is_main, is_preempted
        self.requests = Requests(on_saved=self.on_saved)
        self.save_at = float("-inf")  # not before, when there is a notice
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.poll, daemon=True)

    def poll(self) -> None:
        """Until the block ends: look what is asked."""
        while not self.ended.wait(POLL_S):
            if self.is_main:
                with contextlib.suppress(RayError):
                    stop, save = ray.get(self.board.asked.remote())
                    self.requests.stop |= stop
                    self.requests.save |= save
            if self.is_preempted() and time.monotonic() >= self.save_at:
                self.save_at, self.requests.save = float("inf"), True  # until that checkpoint stands

    def on_saved(self, step: int) -> None:
        """A checkpoint stands."""
        del step
        self.save_at = time.monotonic() + SAVE_AGAIN_S
        self.board.post_saved.remote()

    def __enter__(self) -> Requests:
        self.thread.start()
        return self.requests

    def __exit__(self, *exception: object) -> None:
        self.ended.set()
        self.thread.join()
