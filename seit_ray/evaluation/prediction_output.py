"""Where predictions go: a folder of Parquet parts with a marker, or one table that is joined from them.

    FOLDER/<split>/part-00000.parquet, rejected-00000.parquet   of each part of the images; a marker, predictions.json
    NAME.parquet or NAME.csv, NAME-rejected..., NAME....json    of all of them, which have to fit into memory

What is kept until then: `_work` in the folder, `_NAME.work` beside the table.
"""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from seit_ray.evaluation.prediction_parts import PredictFiles, read_tables
from seit_ray.evaluation.predictions import (
    MAX_VALUES,
    SUFFIXES,
    counts_of,
    encode_table,
    join_parts,
    predictions_schema,
)
from seit_ray.images.manifest import Manifest
from seit_ray.shards.parts import Part
from seit_ray.storage import Folder, StorageError
from seit_ray.storage.lock import LOCK
from seit_ray.storage.output import WORK, claim, end_work, note_names, remove_unknown, write_plan

MARKER = "predictions.json"
BEGUN = "commit.json"  # of the work on a table: what lies beside it is ours from here on
FOLDERS = ("manifest", "records", "attempts")  # of the work


class PredictOutput(Protocol):
    """What a job writes to."""

    @property
    def folder(self) -> Folder:
        """Where it lies."""

    @property
    def uri(self) -> str:
        """What the user named."""

    @property
    def rejected_uri(self) -> str:
        """Where the images stand that could not be read."""

    @property
    def lock_name(self) -> str:
        """Of the object in the folder that keeps two jobs from one output."""

    @property
    def work(self) -> Folder:
        """What is kept until it is complete."""

    def files(self, listing: str) -> PredictFiles:
        """Where the parts go; listing: digest of the manifest."""

    def claim(self) -> None:
        """ValueError unless the place is free, or ours."""

    def finished(self) -> dict[str, Any] | None:
        """What is said of the finished output; None where there is none."""

    def check_size(self, num_images: int, plan: dict[str, Any]) -> None:
        """ValueError for more than it holds."""

    def begin(self, plan: dict[str, Any]) -> None:
        """Store the plan: from here on the place is ours."""

    def note(self, manifest: Manifest, splits: Sequence[str]) -> None:
        """Write down what may be written."""

    def commit(
        self,
        plan: dict[str, Any],
        files: PredictFiles,
        parts: list[Part],
        total: int,
        *,
        before_marker: Callable[[], None],
    ) -> dict[str, Any]:
        """Make of finished parts what the user asked for, the marker last, and clean up; what is said of it."""

    def remove(self, plan: dict[str, Any]) -> None:
        """Remove a finished output, and its work, to begin another."""

    def end_work(self) -> None:
        """Remove the work alone."""


@dataclass(frozen=True)
class OneTable:
    """A table of a folder, CSV or Parquet, with the rows in the order of the source."""

    folder: Folder
    name: str

    @property
    def uri(self) -> str:
        return self.folder.uri_of(self.name)

    @property
    def suffix(self) -> str:
        """Ending of the table's name, which decides its format."""
        return posixpath.splitext(self.name)[1].lower()

    @property
    def rejected_name(self) -> str:
        """Name of the table of rejected images."""
        stem, suffix = posixpath.splitext(self.name)
        return f"{stem}-rejected{suffix}"

    @property
    def about_name(self) -> str:
        """Name of the JSON with plan and counts."""
        return f"{self.name}.json"

    @property
    def rejected_uri(self) -> str:
        return self.folder.uri_of(self.rejected_name)

    @property
    def lock_name(self) -> str:
        return f"_{self.name}.lock"

    @property
    def work(self) -> Folder:
        return self.folder.join(f"_{self.name}.work")

    def files(self, listing: str) -> PredictFiles:
        return PredictFiles(self.work.join("parts"), self.work.join("records"), listing)

    def claim(self) -> None:
        claim(self.work, ("plan.json",))
        if not (self.folder.exists(self.name) or self.work.exists(BEGUN) or self.has_about()):
            for name in (self.rejected_name, self.about_name):
                if self.folder.exists(name):
                    raise ValueError(
                        f"{self.folder.uri_of(name)} exists, which this output would replace; expected a free name; "
                        "choose another output"
                    )

    def has_about(self) -> bool:
        """Whether the JSON beside is ours, and so what it tells of: somebody has deleted the table alone."""
        try:
            about = json.loads(self.folder.read(self.about_name))
            return {"plan", "counts"} <= set(about)
        except (ValueError, TypeError):  # of storage too: a missing file
            return False

    def finished(self) -> dict[str, Any] | None:
        if not self.folder.exists(self.name):
            return None
        try:
            about = json.loads(self.folder.read(self.about_name))
            about["plan"], about["counts"]
        except (ValueError, KeyError, TypeError) as error:  # of storage too: a missing file
            raise ValueError(
                f"{self.uri} exists, and no {self.about_name} says what it is of; expected a free name; choose another "
                "output"
            ) from error
        return about

    def check_size(self, num_images: int, plan: dict[str, Any]) -> None:
        if plan["probabilities"] and num_images * len(plan["class_names"]) > MAX_VALUES:
            raise ValueError(
                f"{num_images} images x {len(plan['class_names'])} probabilities; expected at most {MAX_VALUES} "
                f"numbers in a table; name a folder as output, which holds parts, or set probabilities=false and top_k"
            )

    def begin(self, plan: dict[str, Any]) -> None:
        self.folder.check_writable()
        self.work.write("plan.json", json.dumps(plan, indent=1).encode())

    def note(self, manifest: Manifest, splits: Sequence[str]) -> None:
        """Nothing: the parts lie in the work, which goes as a whole."""

    def commit(
        self,
        plan: dict[str, Any],
        files: PredictFiles,
        parts: list[Part],
        total: int,
        *,
        before_marker: Callable[[], None],
    ) -> dict[str, Any]:
        schema = predictions_schema(probabilities=plan["probabilities"], top_k=plan["top_k"])
        table, rejected = join_parts(read_tables(files, parts), schema)
        check_total(total, len(table), len(rejected))
        form = {"class_names": plan["class_names"], "top_k": plan["top_k"]}
        about = {"plan": plan, "counts": {"listed": total, "rejected": len(rejected), **counts_of(table)}}
        before_marker()
        self.claim()  # once more, for others may have put tables there meanwhile
        self.work.write(BEGUN, b"{}")
        self.folder.write(self.rejected_name, encode_table(rejected, self.suffix, **form))
        self.folder.write(self.about_name, json.dumps(about, indent=1).encode())
        self.folder.write(self.name, encode_table(table, self.suffix, **form))
        self.end_work()
        return about

    def remove(self, plan: dict[str, Any]) -> None:
        self.end_work()
        self.begin(plan)
        self.work.write(BEGUN, b"{}")  # what is left after a kill is ours
        for name in (self.name, self.rejected_name, self.about_name):  # the table first: without it, none is finished
            self.folder.delete(name)

    def end_work(self) -> None:
        for name in (*FOLDERS, "parts"):  # the plan last, for it says that they are ours
            self.work.delete_tree(name)
        self.work.delete(BEGUN)
        self.work.delete("plan.json")
        self.work.delete_tree()


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
        sizes = {entry.name: entry.size_bytes for entry in self.folder.list()}
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
        end_work(self.folder, FOLDERS)

    def remove(self, plan: dict[str, Any]) -> None:
        about = self.finished()
        for name in FOLDERS:
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
            end_work(self.folder, FOLDERS)


def output_at(folder: Folder, parent: Folder, name: str) -> PredictOutput:
    """The output that a name means: one table by its suffix, else a folder, in `parent`; ValueError for others."""
    suffix = posixpath.splitext(name)[1].lower()
    if suffix in SUFFIXES:
        return OneTable(parent, name)
    if suffix:
        raise ValueError(
            f"output {folder.uri}; expected a name that ends in {' or '.join(SUFFIXES)}, or a folder, which has no "
            "ending; correct it"
        )
    return PartsFolder(folder)


def check_map_output(output: PredictOutput, run: Folder, *, top_k: int, probabilities: bool | None) -> None:
    """ValueError for an output that holds no label maps, and keys of classes of images."""
    if not isinstance(output, PartsFolder):
        raise ValueError(
            f"output {output.uri} for {run.uri}, a segmenter; expected a folder, into which its label maps go as PNG; "
            "leave the ending out"
        )
    if top_k or probabilities:
        raise ValueError(
            f"top_k or probabilities for {run.uri}, a segmenter; expected them with a classifier; leave them out"
        )


def check_total(total: int, predicted: int, rejected: int) -> None:
    """RuntimeError unless counts add up."""
    if predicted + rejected != total:
        raise RuntimeError(f"{total} images listed but {predicted} predicted and {rejected} rejected")
