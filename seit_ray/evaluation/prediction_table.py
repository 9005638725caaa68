"""Predictions as one table, joined from their parts: a `PredictOutput` (`prediction_output`)."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from seit_ray.evaluation.prediction_parts import WORK_FOLDERS, PredictFiles, check_total, read_tables
from seit_ray.evaluation.predictions import MAX_VALUES, counts_of, encode_table, join_parts, predictions_schema
from seit_ray.images.manifest import Manifest
from seit_ray.shards.parts import Part
from seit_ray.storage import Folder
from seit_ray.storage.output import claim

BEGUN = "commit.json"  # of the work on a table: what lies beside it is ours from here on


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
    def record_prefix(self) -> str:
        return f"{self.name}."

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
        for name in (*WORK_FOLDERS, "parts"):  # the plan last, for it says that they are ours
            self.work.delete_tree(name)
        self.work.delete(BEGUN)
        self.work.delete("plan.json")
        self.work.delete_tree()
