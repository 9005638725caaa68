"""What the trials of a sweep or study have read: contents.json, from the address of a file to what tells its content.

Trials are called by the addresses of what they read. Without this, those that have finished would stand beside others
that were trained on another tokenizer, other tokens or other weights of the same address.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from seit_ray.storage import Folder

CONTENTS = "contents.json"


def read_contents(folder: Folder) -> dict[str, str]:
    """Address -> mark; nothing of what was begun by a version that did not keep them."""
    return json.loads(folder.read(CONTENTS)) if folder.exists(CONTENTS) else {}


def refuse_other_contents(folder: Folder, now: Mapping[str, str]) -> None:
    """ValueError where a file that trials have read is another now."""
    before = read_contents(folder)
    for address, mark in now.items():
        if before.get(address, mark) != mark:
            raise ValueError(
                f"{folder.uri} has trials that read another {address} ({before[address]}, now {mark}); expected the "
                "same, so that they can be compared; restore it, or choose another name or output"
            )


def note_contents(folder: Folder, now: Mapping[str, str]) -> None:
    """Keep what is read, beside what has been."""
    before = read_contents(folder)
    found = {**before, **now}
    if found != before:
        folder.write(CONTENTS, json.dumps(found, indent=1).encode())
