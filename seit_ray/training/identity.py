"""What a run must agree on with what it continues, starts from or is given. Imports no torch."""

from __future__ import annotations

import json
from typing import Any

DECIDED_BY = "decided_by"  # the user's keys that decide a result, compared one by one
CONTENTS = "contents"  # marks of the weights that a run reads from elsewhere, by the key that names them
BY_KEY = (DECIDED_BY, CONTENTS)


def check_same(about: dict[str, Any], expected: dict[str, Any], uri: str) -> None:
    """ValueError naming what differs between a stored run and what is asked of it now.

    Of `decided_by` and `contents`, keys that only one of the two has are not compared: they are younger than the
    other.
    """
    for key, value in expected.items():
        if key in BY_KEY:
            before, now = about.get(key) or {}, json.loads(json.dumps(value))
            shown = "weights of " if key == CONTENTS else ""
            check_same(
                {shown + name: before[name] for name in before},
                {shown + name: now[name] for name in now if name in before},
                uri,
            )
        elif about.get(key) != value:
            raise ValueError(
                f"{uri} was made with {key} {about.get(key)!r}; expected {value!r} of what is given now; "
                "use the matching token dataset and settings, or another run name"
            )
