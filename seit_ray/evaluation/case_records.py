"""What is finished of a robustness table: the counts of each part of the images, kept beside the figures until the end.

WORK/plan.json            what is evaluated, and on which listing
WORK/parts/000012.json    the counts of a part and its rejected images, and their SHA-256
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from seit_ray.shards.parquet import checksum
from seit_ray.shards.part_records import checked_content
from seit_ray.storage import Folder
from seit_ray.storage.output import claim, remove_empty

PLAN, PARTS = "plan.json", "parts"
NAME = re.compile(r"(\d{6})\.json")
READ_TOGETHER = 256


@dataclass(frozen=True)
class CaseRecords:
    """Records in a folder of work."""

    work: Folder

    def begin(self, plan: dict[str, Any]) -> dict[int, dict[str, Any]]:
        """Number -> record of the parts that an earlier call with the same plan has finished.

        Those of another plan are removed: its figures were not written. ValueError for a folder that is not ours.
        """
        claim(self.work, (PLAN,))
        if not (self.work.exists(PLAN) and self.work.read(PLAN) == encoded(plan)):
            self.work.write(PLAN, encoded(plan))  # first: it says that the folder is ours
            self.work.delete_tree(PARTS)
            return {}
        return self.standing()

    def standing(self) -> dict[int, dict[str, Any]]:
        """All records that are whole."""
        folder, found = self.work.join(PARTS), dict[int, dict[str, Any]]()
        names = [entry.name for entry in folder.list() if NAME.fullmatch(entry.name)]
        for start in range(0, len(names), READ_TOGETHER):
            some = names[start : start + READ_TOGETHER]
            for name, data in zip(some, folder.read_many(some), strict=True):
                if isinstance(data, Exception):
                    raise data
                content = checked_content(data)
                if content is not None:  # else it is made again
                    found[int(name.partition(".")[0])] = json.loads(content)
        return found

    def write(self, index: int, record: dict[str, Any]) -> None:
        """Keep the record of a part."""
        content = json.dumps(record).encode()
        self.work.join(PARTS).write(f"{index:06d}.json", content + b"\n" + checksum(content).encode())

    def end(self) -> None:
        """Remove the work, if there is any; the plan last, for it says that the folder is ours."""
        if not self.work.exists(PLAN):
            return
        self.work.delete_tree(PARTS)
        self.work.delete(PLAN)
        remove_empty(self.work)


def encoded(plan: dict[str, Any]) -> bytes:
    """A plan as it is stored."""
    return json.dumps(plan, indent=1, sort_keys=True).encode()
