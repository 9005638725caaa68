"""The report that `evaluate` leaves beside its figures: page, picture and table, by one writer at a time.

STEM.json         the figures, written last
STEM.html, ...    beside them
_STEM.lock        who writes them
_STEM.work/       what a kill leaves of work that goes on; `report` in it says that the files beside are ours
"""

from __future__ import annotations

import contextlib
import json
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from seit_ray.config import Evaluate
from seit_ray.progress import Progress
from seit_ray.storage import Folder
from seit_ray.storage.lock import Lock, locked
from seit_ray.storage.output import remove_empty
from seit_ray.verbs.command.figures_file import figures_place, work_of

BEGUN = "report"


@dataclass(frozen=True)
class ReportFiles:
    """Where they go, while we are the only one that writes them."""

    folder: Folder
    stem: str
    lock: Lock

    @property
    def work(self) -> Folder:
        """What is kept to go on from after a kill."""
        return work_of(self.folder, self.stem)

    def uri(self, ending: str) -> str:
        """The address of one of them."""
        return self.folder.uri_of(f"{self.stem}.{ending}")

    def write(self, figures: dict[str, Any], **beside: bytes | None) -> None:
        """Write what lies beside the figures, by the endings of its names, and the figures last."""
        self.lock.check()
        self.work.write(BEGUN, b"the files of the report are being written\n")
        for ending, data in beside.items():
            if data is not None:
                self.folder.write(f"{self.stem}.{ending}", data)
        self.folder.write(f"{self.stem}.json", json.dumps(figures, indent=1).encode())
        self.work.delete(BEGUN)
        remove_empty(self.work)


@contextlib.contextmanager
def report_files(kind: str, config: Evaluate, progress: Progress) -> Iterator[ReportFiles]:
    """Those of figures of this kind; LockedError while another writes them."""
    folder, name = figures_place(kind, config)
    stem = posixpath.splitext(name)[0]
    folder.check_writable()
    with locked(folder, f"_{stem}.lock", on_note=lambda note: progress("evaluate", 0, 0, note)) as lock:
        yield ReportFiles(folder, stem, lock)
