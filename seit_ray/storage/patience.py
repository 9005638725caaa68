"""A storage that does not answer is asked again, for as long as somebody has patience."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from seit_ray.storage.errors import StorageError, explain, may_pass

T = TypeVar("T")
PATIENCE_S, FIRST_PAUSE_S, LONGEST_PAUSE_S = 180.0, 1.0, 30.0
DOUBTS, DOUBT_PAUSE_S = 3, 5.0  # of an outage that may have ended between a request and a look at others
REQUESTS, REQUESTS_OF_CHECKS = 6, 2  # at most of each kind; with the pauses about 20 s, and a second
REQUEST_PAUSE_S = 0.5  # before the second request, then twice as long each time


def patiently(function: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """function(), which may be called again; a StorageError of an outage is raised once patience ends."""
    pause, end = FIRST_PAUSE_S, time.monotonic() + patience_s
    while True:
        try:
            return function()
        except StorageError as error:
            if error.kind != "unavailable" or time.monotonic() + pause > end:
                raise
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)


def doubted(function: Callable[[], T], answers: Callable[[], bool]) -> T:
    """function() a few times more, while what it asks for may be at fault itself; its error once it stays.

    answers: whether the storage answers, when function() has failed: if not, the outage is raised at once.
    """
    for attempts_left in reversed(range(DOUBTS)):
        time.sleep(DOUBT_PAUSE_S)
        try:
            return function()
        except StorageError as error:
            if not attempts_left or not may_pass(error) or not answers():
                raise
    raise AssertionError("there are doubts")


async def repeated(request: Callable[[], Awaitable[T]], requests: int) -> T:
    """What request() gives, made again while its error may pass, for libraries that do not do it themselves."""
    pause = REQUEST_PAUSE_S
    while True:
        requests -= 1
        try:
            return await request()
        except Exception as error:
            if not requests or not may_pass(explain(error, "")):
                raise
        await asyncio.sleep(pause)
        pause *= 2
