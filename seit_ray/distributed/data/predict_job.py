"""Images in, a table of predictions out: list, classify parts, join their tables. Each step survives a kill.

Beside the table lie `<table>.json` (what it is of, and counts) and the table of rejected images; it is written last.
Until then `_<table>.work/` holds plan.json, the manifest and the parts: one that stands is never made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from dataclasses import dataclass
from typing import Any

import torch

from seit_ray.distributed.cluster import Connect
from seit_ray.distributed.data.parts import PartSource, map_parts
from seit_ray.distributed.data.predict_parts import Classifying, ClassifyParts, read_tables
from seit_ray.evaluation.image_classifier import ImageClassifier
from seit_ray.evaluation.predictions import (
    MAX_DEFAULT_CLASSES,
    MAX_VALUES,
    check_name,
    counts_of,
    encode_table,
    join_parts,
)
from seit_ray.images.decoded import Decoding
from seit_ray.images.listing import list_images
from seit_ray.images.manifest import Manifest, chosen_splits, load_manifest
from seit_ray.images.reading import PATIENCE_S
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.progress import Progress, silent
from seit_ray.shards.parts import Part, list_parts
from seit_ray.storage import Folder
from seit_ray.storage.lock import locked
from seit_ray.storage.output import claim, refuse_overlap

Done = dict[str, dict[int, Part]]  # split -> number -> part
FEW_IMAGES = 1000  # up to here, starting Ray would take longer than the work
MAX_THREADS = 8  # that decode in this process


@dataclass(frozen=True)
class PredictSettings:
    """What is predicted and how; fields as in `config.Predict`."""

    split: str | None = None
    weights: str = "model"
    top_k: int = 0
    probabilities: bool | None = None
    overwrite: bool = False
    rows_per_part: int | None = None
    patience_s: float = PATIENCE_S
    batch_size: int = 256
    max_image_pixels: int = 178_956_970
    max_image_mib: int = 64
    num_actors: int | None = None
    gpus_per_actor: float | None = None


@dataclass(frozen=True)
class PredictJob:
    """One job: which images, by which run, into which table of a folder."""

    images: Folder
    source_settings: SourceSettings
    run: Folder
    tokenizer: Folder | None
    output: Folder
    name: str
    settings: PredictSettings

    def __post_init__(self) -> None:
        check_name(self.output.uri_of(self.name))

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
    def lock_name(self) -> str:
        """Name of the object that keeps two jobs from one table."""
        return f"_{self.name}.lock"

    @property
    def work(self) -> Folder:
        """What is kept until the table is complete."""
        return self.output.join(f"_{self.name}.work")

    def plan(self, class_names: list[str], decode: str) -> dict[str, Any]:
        """Whatever decides the table's content."""
        weights, given = self.run.read(f"{self.settings.weights}.safetensors"), self.settings.probabilities
        return {
            "images": self.images.uri,
            "source": self.source_settings.as_dict(),
            "run": self.run.uri,
            "model": hashlib.sha256(weights).hexdigest()[:16],
            "class_names": class_names,
            "decode": decode,
            "probabilities": len(class_names) <= MAX_DEFAULT_CLASSES if given is None else given,
            "top_k": min(self.settings.top_k, len(class_names)),
            **{n: getattr(self.settings, n) for n in ("split", "rows_per_part", "max_image_pixels", "max_image_mib")},
        }


def run_predict_job(job: PredictJob, connect: Connect, on_progress: Progress = silent) -> dict[str, Any]:
    """Do what is missing of a job; its plan, and counts of images listed, predicted and rejected.

    `connect` gives the cluster, if it takes one. ValueError for what the user can mend.
    """
    refuse_overlap(job.output.join(job.name), job.images, "images")
    classifier = ImageClassifier.load(job.run, tokenizer=job.tokenizer, weights=job.settings.weights)
    plan = job.plan(classifier.class_names, classifier.decode)
    claim(job.work, ("plan.json",))
    with locked(job.output, job.lock_name, on_note=lambda note: on_progress("predict", 0, 1, note)) as lock:
        finished = existing(job, plan)
        if finished is not None:
            on_progress("predict", 1, 1, "already complete")
            return finished
        classifier.check()
        manifest, splits = listing(job, plan, on_progress)
        job.work.delete_tree("attempts")
        done = list_parts(job.work.join("parts"))
        total = sum(manifest.splits[s].num_images for s in splits)
        classify(job, plan, classifier, manifest, splits, done, connect, on_progress)
        lock.check()
        return commit(job, plan, [done[s][i] for s in splits for i in sorted(done.get(s, {}))], total)


def existing(job: PredictJob, plan: dict[str, Any]) -> dict[str, Any] | None:
    """What a finished job of the same plan left; None when there is work to do; ValueError for another plan."""
    uri = job.output.uri_of(job.name)
    if job.output.exists(job.name):
        try:
            about = json.loads(job.output.read(job.about_name))
            stored = about["plan"]
        except (ValueError, KeyError, TypeError) as error:  # of storage too: a missing file
            raise ValueError(
                f"{uri} exists, and no {job.about_name} says what it is of; expected a free name; choose another output"
            ) from error
        if not (job.settings.overwrite and differences(stored, plan)):
            refuse_other_plan(uri, stored, plan)
            job.work.delete_tree()  # a kill between table and clean-up leaves it
            return about
        for name in (job.name, job.rejected_name, job.about_name):  # the table first: without it, none is finished
            job.output.delete(name)
    if job.work.exists("plan.json"):
        begun = json.loads(job.work.read("plan.json"))
        if job.settings.overwrite and differences(begun, plan):
            job.work.delete_tree()
        else:
            refuse_other_plan(uri, begun, plan)
    if not job.work.exists("plan.json"):
        job.output.check_writable()
        job.work.write("plan.json", json.dumps(plan, indent=1).encode())
    return None


def differences(stored: dict[str, Any], plan: dict[str, Any]) -> list[str]:
    """What of a plan is not as in the one that was begun or done."""
    stored = {"decode": "exact", **stored}  # what it was before there was a choice
    return [name for name in plan if stored.get(name) != plan[name]]


def refuse_other_plan(uri: str, stored: dict[str, Any], plan: dict[str, Any]) -> None:
    """ValueError naming what differs between what was begun or done and what is asked now."""
    differs = differences(stored, plan)
    if differs:
        before, now = (repr(p.get(differs[0]))[:80] for p in (stored, plan))
        raise ValueError(
            f"{uri} was made with other {', '.join(differs)} ({differs[0]} {before}, now {now}); "
            "expected the same images, run and settings; choose another output, or set overwrite=true"
        )


def listing(job: PredictJob, plan: dict[str, Any], on_progress: Progress) -> tuple[Manifest, list[str]]:
    """The manifest and the splits to classify; listed once: a continued job classifies what its first attempt found."""
    folder = job.work.join("manifest")
    found = load_manifest(folder)
    try:
        manifest = found or list_images(
            job.images,
            job.source_settings,
            folder,
            val_fraction=0.0,
            seed=0,
            rows_per_part=plan["rows_per_part"],
            on_progress=on_progress,
        )
        splits = chosen_splits(manifest, plan["split"], job.images.uri)
        num = sum(manifest.splits[s].num_images for s in splits)
        if plan["probabilities"] and num * len(plan["class_names"]) > MAX_VALUES:
            raise ValueError(
                f"{num} images x {len(plan['class_names'])} probabilities; expected at most {MAX_VALUES} numbers in a "
                "table; set probabilities=false and top_k, or predict split by split"
            )
    except ValueError:
        job.work.delete_tree()  # nothing is done yet: the output stays free for the mended command
        raise
    return manifest, splits


def classify(
    job: PredictJob,
    plan: dict[str, Any],
    classifier: ImageClassifier,
    manifest: Manifest,
    splits: list[str],
    done: Done,
    connect: Connect,
    on_progress: Progress,
) -> None:
    """Make the parts that `done` has not, and enter them there."""
    todo = [(s, i) for s in splits for i in range(manifest.splits[s].num_parts) if i not in done.get(s, {})]
    total = sum(manifest.splits[s].num_images for s in splits)
    made = [part for s in splits for part in done.get(s, {}).values()]
    seen, rejected = sum(part.images for part in made), sum(part.rejected for part in made)
    on_progress("predict", seen, total, f"{len(todo)} of {len(todo) + len(made)} parts to do")
    if not todo:
        return

    def on_part(part: Part) -> None:
        nonlocal seen, rejected
        seen, rejected = seen + part.images, rejected + part.rejected
        done.setdefault(part.split, {})[part.index] = part
        on_progress("predict", seen, total, f"{rejected} rejected" if rejected else "")

    decoding = Decoding(
        classifier.image_size,
        classifier.resize,
        job.source_settings.image_column,
        classifier.decode,
        max_bytes=plan["max_image_mib"] << 20,
        max_pixels=plan["max_image_pixels"],
        patience_s=job.settings.patience_s,
    )
    how = Classifying(
        job.run,
        job.tokenizer,
        job.settings.weights,
        job.settings.batch_size,
        job.work.join("parts"),
        source_names=manifest.class_names,
        **{name: plan[name] for name in ("class_names", "probabilities", "top_k")},
    )
    source, asked = PartSource(manifest.folder, job.images, decoding, job.work), job.settings.num_actors
    if asked == 0 or (asked is None and total - seen <= FEW_IMAGES):
        threads = min(MAX_THREADS, os.cpu_count() or 1)
        worker = ClassifyParts(source, how, on_gpu=torch.cuda.is_available(), num_threads=threads)
        for split, index in todo:
            on_part(worker.finish(split, index))
        return
    with connect() as cluster:
        map_parts(
            todo,
            ClassifyParts,
            (source, how),
            cluster=cluster,
            num_actors=asked,
            gpus_per_actor=job.settings.gpus_per_actor,
            on_part=on_part,
        )


def commit(job: PredictJob, plan: dict[str, Any], parts: list[Part], total: int) -> dict[str, Any]:
    """Check that counts add up, write the rejects, the JSON and, last, the table, and clean up."""
    table, rejected = join_parts(read_tables(job.work.join("parts"), parts))
    if len(table) + len(rejected) != total:
        raise RuntimeError(f"{total} images listed but {len(table)} predicted and {len(rejected)} rejected")
    form = {"class_names": plan["class_names"], "top_k": plan["top_k"]}
    about = {"plan": plan, "counts": {"listed": total, "rejected": len(rejected), **counts_of(table)}}
    job.output.write(job.rejected_name, encode_table(rejected, job.suffix, **form))
    job.output.write(job.about_name, json.dumps(about, indent=1).encode())
    job.output.write(job.name, encode_table(table, job.suffix, **form))
    job.work.delete_tree()
    return about
