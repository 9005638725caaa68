"""Batches of the coming steps, made by a thread while the device computes."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Calls make(step) for the steps from `start` on in a thread, `depth` ahead; `next` gives the results in order.

    `wait_s` adds up how long the caller waited. An error of `make` is raised by the `next` of its step.
    """

    def __init__(self, make: Callable[[int], T], start: int, stop: int, depth: int = 2):
        self.wait_s = 0.0
        self._made: queue.Queue[Future[T]] = queue.Queue(depth)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(make, start, stop), daemon=True, name="prefetch")
        self._thread.start()

    def _run(self, make: Callable[[int], T], start: int, stop: int) -> None:
        for step in range(start, stop):
            made: Future[T] = Future()
            try:
                made.set_result(make(step))
            except BaseException as error:
                made.set_exception(error)
            if not self._put(made) or made.exception() is not None:
                return

    def _put(self, made: Future[T]) -> bool:
        """Whether it found room before the end."""
        while not self._ended.is_set():
            try:
                self._made.put(made, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def next(self) -> T:
        """What was made for the next step."""
        since = time.perf_counter()
        made = self._made.get()
        self.wait_s += time.perf_counter() - since
        return made.result()

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()
