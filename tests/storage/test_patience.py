"""Calls of a storage that does not answer at once."""

import asyncio

import pytest

from seit_ray.storage import StorageError, patience
from seit_ray.storage.patience import patiently, repeated


@pytest.fixture
def slept(monkeypatch):
    """How long each pause was; no time passes otherwise."""
    found = []

    class Clock:
        monotonic = staticmethod(lambda: float(sum(found)))
        sleep = staticmethod(found.append)

    monkeypatch.setattr(patience, "time", Clock)
    return found


def failing(times, kind="unavailable"):
    calls = []

    def call():
        calls.append(1)
        if len(calls) <= times:
            raise StorageError("away", kind)
        return len(calls)

    return call


def test_what_comes_late_comes(slept):
    assert patiently(failing(3)) == 4
    assert slept == [1, 2, 4]


def test_patience_ends(slept):
    with pytest.raises(StorageError, match="away"):
        patiently(failing(99), 60.0)
    assert slept == [1, 2, 4, 8, 16]


@pytest.mark.parametrize("kind", ["denied", "missing", "credentials"])
def test_what_will_not_pass_is_not_waited_for(slept, kind):
    with pytest.raises(StorageError):
        patiently(failing(1, kind))
    assert slept == []


def test_requests_are_made_again_while_it_may_pass(monkeypatch):
    pauses = []

    async def no_pause(seconds):
        pauses.append(seconds)

    monkeypatch.setattr(patience.asyncio, "sleep", no_pause)

    def request_of(call):
        async def request():
            return call()

        return request

    assert asyncio.run(repeated(request_of(failing(3)), 6)) == 4
    assert pauses == [0.5, 1.0, 2.0]
    with pytest.raises(StorageError, match="away"):
        asyncio.run(repeated(request_of(failing(9)), 2))
    assert len(pauses) == 4
    with pytest.raises(StorageError, match="away"):
        asyncio.run(repeated(request_of(failing(1, "denied")), 6))
    assert len(pauses) == 4
