"""What a run must agree on with what it continues, starts from or is given. Imports no torch."""

from __future__ import annotations

from typing import Any


def check_same(about: dict[str, Any], expected: dict[str, Any], uri: str) -> None:
    """ValueError naming what differs between a stored run and what is asked of it now."""
    for key, value in expected.items():
        if about.get(key) != value:
            raise ValueError(
                f"{uri} was made with {key} {about.get(key)!r}; expected {value!r} of what is given now; "
                "use the matching token dataset and settings, or another run name"
            )
