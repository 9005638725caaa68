"""SIGTERM during a training: finish the step, write a checkpoint, then end as the program would have at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from seit_ray.training.requests import Requests, Stopped


@contextlib.contextmanager
def sigterm_asks(requests: Requests) -> Iterator[None]:
    """A block in which SIGTERM asks for a stop at the end of the step; `Stopped` ends it with exit status 143.

    Before the first step, and the second time, the signal does what it did before the block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread: whoever runs it decides
        return
    before = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        if requests.listening and not requests.stop:
            requests.stop = True
            return
        signal.signal(signal.SIGTERM, before)
        if callable(before):
            before(number, frame)
        else:
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    except Stopped:
        if callable(before):
            before(signal.SIGTERM, None)
        raise SystemExit(128 + signal.SIGTERM) from None
    finally:
        signal.signal(signal.SIGTERM, before)
