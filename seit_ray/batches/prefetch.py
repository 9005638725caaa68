"""Batches of the coming steps, made by a thread while the device computes."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Calls make(step) for the steps from `start` on in a thread, `depth` ahead; `next` gives the results in order.

    `wait_s` adds up how long the caller waited. An error of `make` is raised by the `next` of its step.
    """

    def __init__(self, make: Callable[[int], T], start: int, stop: int, depth: int = 2):
        self.wait_s = 0.0
        self._made: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(make, start, stop), daemon=True, name="prefetch")
        self._thread.start()

    def _run(self, make: Callable[[int], T], start: int, stop: int) -> None:
        for step in range(start, stop):
            try:
                item = (make(step), None)
            except BaseException as error:
                item = (None, error)
            if not self._put(item) or item[1] is not None:
                return

    def _put(self, item: tuple[T | None, BaseException | None]) -> bool:
        """Whether the item found room before the end."""
        while not self._ended.is_set():
            try:
                self._made.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def next(self) -> T:
        """What was made for the next step."""
        since = time.perf_counter()
        made, error = self._made.get()
        self.wait_s += time.perf_counter() - since
        if error is not None:
            raise error
        return made

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()
