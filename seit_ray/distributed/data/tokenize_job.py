"""Images in, token dataset out: list, tokenise the parts, each of which is a shard, write the marker.

Each step survives a kill: in the output's folder `_work/` holds plan.json, the manifest and a record of each finished
part until the marker stands; `_lock.json` keeps a second job away meanwhile. A finished dataset can be appended to: see
`appending`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from seit_ray.distributed.cluster import Connect, kept_open
from seit_ray.distributed.data.commit import Adding, Standing, commit, stand
from seit_ray.distributed.data.list_job import make_on_tasks
from seit_ray.distributed.data.parts import PartSource, map_parts
from seit_ray.distributed.data.tokenize_begin import (
    FOLDERS,
    TokenizeJob,
    already_complete,
    begin,
    clean_up,
    finished_dataset,
    moved,
)
from seit_ray.distributed.data.tokenize_parts import TokenizeParts
from seit_ray.images.listing import list_images
from seit_ray.images.manifest import Manifest, load_manifest
from seit_ray.images.sources.maps import check_resize
from seit_ray.progress import Progress, silent
from seit_ray.shards.appending import new_images, retried_rejects
from seit_ray.shards.marker import DatasetInfo
from seit_ray.shards.part_records import Spent
from seit_ray.shards.parts import Part, list_parts, remove_doubles
from seit_ray.shards.rejects import RejectLimit
from seit_ray.storage.errors import may_pass
from seit_ray.storage.lock import LOCK, Lock, locked
from seit_ray.storage.output import OURS, claim, end_work, refuse_overlap
from seit_ray.tokenizers.contract import Tokenizer, fingerprint
from seit_ray.tokenizers.files import load_tokenizer

MAX_ROUNDS = 3  # of making parts and looking at them
Done = dict[str, dict[int, Part]]  # split -> number -> part


class Finished(NamedTuple):
    """The dataset of a job, and what its parts have taken; None where all was there."""

    info: DatasetInfo
    spent: Spent | None = None


def run_tokenize_job(job: TokenizeJob, connect: Connect, on_progress: Progress = silent) -> Finished:
    """Do what is missing of a job; ValueError for what the user can mend.

    `connect` gives the cluster: for a listing of many pieces, else after it, so that a mistake in a place is told at
    once.
    """
    refuse_overlap(job.output, job.source, "images")
    job = moved(job)
    tokenizer, about = load_tokenizer(job.tokenizer_folder)
    job = replace(job, settings=job.settings.for_tokens(math.prod(tokenizer.grid), len(tokenizer.codebook)))
    check_resize(job.source_settings, tokenizer.resize)
    plan = job.plan(about["fingerprint"])
    finished = finished_dataset(job, plan)
    if finished is not None and job.settings.mode == "create":
        return Finished(already_complete(job, finished, on_progress))
    claim(job.output, OURS)
    with (
        kept_open(connect) as connect,
        locked(job.output, LOCK, on_note=lambda note: on_progress("lock", 1, 1, note)) as lock,
    ):
        base = finished_dataset(job, plan)  # again: another job may have finished it meanwhile
        if base is not None and job.settings.mode == "create":
            return Finished(already_complete(job, base, on_progress))
        begin(job, plan, base)
        manifest = listing(job, base, connect, on_progress)
        if base is not None and not any(split.num_images for split in manifest.splits.values()):
            clean_up(job, base)
            on_progress("tokenise", 1, 1, "already complete: no images were added")
            return Finished(base)
        retried = retried_rejects(job.output, manifest, base) if base is not None else {}
        rejects = RejectLimit.of(manifest, base, retried, job.settings.max_reject_fraction)
        adding = Adding.of(job.output, job.settings.encoding, tokenizer, manifest, base, retried)
        lock.check()
        standing = Making(job, adding, tokenizer, rejects, connect, lock, on_progress).all_parts()
        # what fails from here on leaves plan and journal: another job may have ended this one's work meanwhile
        info = commit(adding, plan, standing.sums, tokenizer, about, before_marker=lock.check)
        clean_up(job, info)
    return Finished(info, standing.spent)


def listing(job: TokenizeJob, base: DatasetInfo | None, connect: Connect, on_progress: Progress) -> Manifest:
    """The manifest of the job, listed once: a continued job tokenises what its first attempt found."""
    folder = job.work.join("manifest")
    found = load_manifest(folder)
    if found is not None:
        if job.settings.moved_from is not None:
            raise ValueError(
                f"{job.output.uri} is not finished, and its listing names images in {job.settings.moved_from}; "
                "expected a finished dataset to go on from another place; finish it from there, or delete that folder"
            )
        return found
    job.work.delete_tree("records")  # of another listing
    how: dict[str, Any] = {**job.settings.hold_out, "rows_per_part": job.settings.rows_per_shard}
    how |= {"make": make_on_tasks(connect, job.settings.patience_s), "on_progress": on_progress}
    try:
        if base is None:
            return list_images(job.source, job.source_settings, folder, **how)
        kept = job.settings.keep_changed
        return new_images(job.output, job.source, job.source_settings, base, folder, keep_changed=kept, **how)
    except ValueError as error:
        if not may_pass(error):  # nothing is done yet: the output stays free for the mended command
            end_work(job.output, FOLDERS)
        raise


@dataclass
class Making:
    """Makes those parts of a job that do not stand."""

    job: TokenizeJob
    adding: Adding
    tokenizer: Tokenizer
    rejects: RejectLimit
    connect: Connect
    lock: Lock
    on_progress: Progress

    def all_parts(self) -> Standing:
        """All parts, when they stand; ValueError for too many rejects."""
        for _ in range(MAX_ROUNDS):
            found = self._round()
            splits = self.adding.manifest.splits.items()
            if not found.faulty and all(len(found.parts.get(s, {})) == listed.num_parts for s, listed in splits):
                return found
        raise RuntimeError(f"parts of {self.job.output.uri} do not stay as they were written; expected one writer")

    def _round(self) -> Standing:
        """Make what is missing, and look at all of them."""
        records = self.adding.files.records
        remove_doubles(records)
        found = stand(self.adding, list_parts(records))
        for part in found.faulty:  # of another listing, or without its files
            records.delete(part.name)
        return stand(self.adding, list_parts(records)) if self._make(found.parts) else found

    def _make(self, done: Done) -> bool:
        """Make the parts that `done` has not, and enter them there; whether there were any."""
        splits = self.adding.manifest.splits
        made = [part for by_index in done.values() for part in by_index.values()]
        total, seen = sum(s.num_images for s in splits.values()), sum(part.images for part in made)
        self.rejects.begin(sum(part.rejected for part in made))
        todo = [(s, i) for s, listed in splits.items() for i in range(listed.num_parts) if i not in done.get(s, {})]
        self.on_progress("tokenise", seen, total, f"{len(todo)} of {len(todo) + len(made)} parts to do")
        self.rejects.check()
        if not todo:
            return False

        def on_part(part: Part) -> None:
            nonlocal seen
            if part.index in done.get(part.split, {}):  # told twice, after a node was lost
                return
            seen += part.images
            done.setdefault(part.split, {})[part.index] = part
            self.rejects.add(part.rejected)
            self.rejects.check_early(sum(map(len, done.values())), seen)
            if self.lock.lost:
                self.lock.check()
            self.on_progress("tokenise", seen, total, self.rejects.words())

        self.adding.note_names()
        self.job.work.delete_tree("attempts")  # of earlier calls
        self._hand_out(todo, on_part)
        return True

    def _hand_out(self, todo: list[tuple[str, int]], on_part: Callable[[Part], None]) -> None:
        """Have the cluster's actors make some parts."""
        job, settings = self.job, self.job.settings
        source = PartSource(job.work.join("manifest"), job.source, job.decoding(self.tokenizer), job.work)
        how = (self.adding.files, self.rejects, job.tokenizer_folder, fingerprint(self.tokenizer), settings.batch_size)
        with self.connect() as cluster:
            if not (cluster.is_local or cluster.num_gpus or settings.gpus_per_actor):
                note = f"{cluster.words()}: CPUs encode; tokenize.gpus_per_actor=1 waits for GPUs"
                self.on_progress("actors", 1, 1, note)
            map_parts(
                todo,
                TokenizeParts,
                (source, *how),
                cluster=cluster,
                num_actors=settings.num_actors,
                gpus_per_actor=settings.gpus_per_actor,
                memory_mib=settings.memory_mib,
                on_part=on_part,
            )
