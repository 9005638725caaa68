"""Predictions as a folder of Parquet files, one of each part: a `PredictOutput` (`prediction_output`)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from seit_ray.evaluation.prediction_parts import WORK_FOLDERS, PredictFiles, check_total
from seit_ray.images.manifest import Manifest
from seit_ray.shards.dataset_files import sizes_of
from seit_ray.shards.parts import Part
from seit_ray.storage import Folder, StorageError
from seit_ray.storage.lock import LOCK
from seit_ray.storage.output import WORK, claim, end_work, note_names, remove_unknown, write_plan

MARKER = "predictions.json"


@dataclass(frozen=True)
class PartsFolder:
    """A folder of Parquet files, one of each part of the images, of any number."""

    folder: Folder

    @property
    def uri(self) -> str:
        return self.folder.uri

    @property
    def rejected_uri(self) -> str:
        return self.folder.uri_of("*/rejected-*.parquet")

    @property
    def lock_name(self) -> str:
        return LOCK

    @property
    def record_prefix(self) -> str:
        return ""

    @property
    def work(self) -> Folder:
        return self.folder.join(WORK)

    def files(self, listing: str) -> PredictFiles:
        return PredictFiles(self.folder, self.work.join("records"), listing)

    def claim(self) -> None:
        claim(self.folder, (MARKER, f"{WORK}/plan.json"))

    def finished(self) -> dict[str, Any] | None:
        if not self.folder.exists(MARKER):
            return None
        try:
            about = json.loads(self.folder.read(MARKER))
            about["plan"], about["counts"]
            known = {file["name"]: file["bytes"] for file in about["parts"]}
        except StorageError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.folder.uri_of(MARKER)} cannot be read ({error!r}); expected what predict wrote; choose another "
                "output"
            ) from error
        sizes = sizes_of(self.folder, "")
        missing = [name for name, size in known.items() if sizes.get(name) != size]
        if missing:
            raise ValueError(
                f"{self.folder.uri_of(missing[0])} is missing, or has another size than it had; expected all parts; "
                "restore it, or predict into a new folder"
            )
        return about

    def check_size(self, num_images: int, plan: dict[str, Any]) -> None:
        """Any number."""

    def begin(self, plan: dict[str, Any]) -> None:
        self.folder.check_writable()
        write_plan(self.folder, plan)

    def note(self, manifest: Manifest, splits: Sequence[str]) -> None:
        names = [
            name
            for split in splits
            for index in range(manifest.splits[split].num_parts)
            for name in self.files("").names(split, index)
        ]
        note_names(self.folder, "parts", names)

    def commit(
        self,
        plan: dict[str, Any],
        files: PredictFiles,
        parts: list[Part],
        total: int,
        *,
        before_marker: Callable[[], None],
    ) -> dict[str, Any]:
        predicted, rejected = sum(part.rows for part in parts), sum(part.rejected for part in parts)
        check_total(total, predicted, rejected)
        counts: dict[str, Any] = {"listed": total, "rejected": rejected, "predicted": predicted}
        labels: Counter[str] = Counter()
        sums: Counter[str] = Counter()
        written: list[dict[str, Any]] = []
        for part, record in zip(parts, files.read_records(parts), strict=True):
            if record is None:  # since it was looked at
                raise StorageError(f"{files.records.uri_of(part.name)} was damaged meanwhile; run again")
            labels.update(record["labels"])
            sums.update({name: record[name] for name in ("labelled", "agreeing")})
            written += record["files"]
        counts |= {"labels": dict(sorted(labels.items())), **sums}
        about = {"plan": plan, "counts": counts, "parts": written}
        before_marker()
        self.folder.write(MARKER, json.dumps(about, indent=1).encode())
        self.clean(about)
        return about

    def clean(self, about: dict[str, Any]) -> None:
        """Remove what is no part of a finished output."""
        remove_unknown(self.folder, {MARKER, *(file["name"] for file in about["parts"])})
        end_work(self.folder, WORK_FOLDERS)

    def remove(self, plan: dict[str, Any]) -> None:
        about = self.finished()
        for name in WORK_FOLDERS:
            self.work.delete_tree(name)
        note_names(self.folder, "replaced", [file["name"] for file in about["parts"]] if about is not None else [])
        self.begin(plan)  # before the marker goes: what is left after a kill is still ours
        self.folder.delete(MARKER)
        remove_unknown(self.folder, set())

    def end_work(self) -> None:
        about = self.finished()
        if about is not None:
            self.clean(about)
        else:
            remove_unknown(self.folder, set())
            end_work(self.folder, WORK_FOLDERS)
