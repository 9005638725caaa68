"""What Swift's proxy keeps between requests, in its own memory; else each asks anew whether account and bucket exist.

In place of a memcached, which no package index has.
"""

from __future__ import annotations

import time
from typing import Any


class Cache:
    """The part of swift.common.memcached.MemcacheRing that the proxy calls."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[float, Any]] = {}

    def get(self, key: str, *_: Any, **__: Any) -> Any:
        """What is kept and not too old, or None."""
        ends, value = self.kept.get(key, (0.0, None))
        return value if ends > now() else None

    def set(self, key: str, value: Any, *_: Any, time: float = 0, **__: Any) -> None:
        """Keep it for some seconds; 0: for good."""
        self.kept[key] = (now() + time if time else float("inf"), value)

    def incr(self, key: str, delta: int = 1, time: float = 0, **_: Any) -> int:
        """Add to a number."""
        value = int(self.get(key) or 0) + delta
        self.set(key, value, time=time)
        return value

    def decr(self, key: str, delta: int = 1, time: float = 0, **_: Any) -> int:
        """Take from a number, which does not become negative."""
        return self.incr(key, max(-delta, -int(self.get(key) or 0)), time)

    def delete(self, key: str, *_: Any, **__: Any) -> None:
        """Keep it no longer."""
        self.kept.pop(key, None)

    def set_multi(self, values: dict[str, Any], *_: Any, time: float = 0, **__: Any) -> None:
        """Keep several."""
        for key, value in values.items():
            self.set(key, value, time=time)

    def get_multi(self, keys: list[str], *_: Any, **__: Any) -> list[Any]:
        """Several."""
        return [self.get(key) for key in keys]


def now() -> float:
    """Seconds."""
    return time.monotonic()


def filter_factory(*_: Any, **__: Any) -> Any:
    """For paste: a filter that gives all requests one cache."""
    cache = Cache()

    def filtered(app: Any) -> Any:
        def with_cache(environ: dict[str, Any], start_response: Any) -> Any:
            environ["swift.cache"] = cache
            return app(environ, start_response)

        return with_cache

    return filtered
