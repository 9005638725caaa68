"""Images in, token dataset out: list, tokenise slices, pack shards, write the marker. Each step survives a kill.

In the output's folder `_work/` holds plan.json, the manifest and the fragments until the marker stands.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
import torch

from seit_ray.augment.synonyms import nearest_codes
from seit_ray.distributed.cluster import Cluster, user_error
from seit_ray.distributed.slices import run_slices
from seit_ray.images.listing import list_images
from seit_ray.images.manifest import Manifest, load_manifest
from seit_ray.shards.dataset import MARKER, DatasetInfo, Split, TokenDataset
from seit_ray.shards.fragments import Fragment, list_fragments
from seit_ray.shards.packing import Packed, pack_rejected, pack_shard, plan_shards, split_of
from seit_ray.shards.synonyms import write_synonyms
from seit_ray.storage import Folder
from seit_ray.tokenizers import Tokenizer, load_tokenizer, save_tokenizer

Progress = Callable[[str, int, int, str], None]  # (phase, done, total, a few words); total 0 = not known

NUM_SYNONYMS = 10  # of each code, stored with a dataset: twice as many as SeiT picks from


@dataclass(frozen=True)
class TokenizeJob:
    """One job: where from, by what, where to, how. `settings` are those of `config.TokenizeSettings`."""

    source: Folder
    source_settings: dict[str, Any]
    tokenizer_folder: Folder
    output: Folder
    settings: dict[str, Any]

    @property
    def work(self) -> Folder:
        """What is kept until the dataset is complete."""
        return self.output.join("_work")

    def plan(self, fingerprint: str) -> dict[str, Any]:
        """Whatever decides the dataset's content."""
        names = (
            "val_fraction",
            "seed",
            "slice_size",
            "rows_per_shard",
            "encoding",
            "max_image_pixels",
            "max_image_mib",
        )
        return {
            "images": self.source.uri,
            "source": self.source_settings,
            "tokenizer": fingerprint,
            **{name: self.settings[name] for name in names},
        }


def run_tokenize_job(
    job: TokenizeJob, cluster: Cluster, on_progress: Progress = lambda phase, done, total, note: None
) -> DatasetInfo:
    """Do what is missing of a job and return the dataset's info; ValueError for what the user can mend."""
    tokenizer, about = load_tokenizer(job.tokenizer_folder)
    plan = job.plan(about["fingerprint"])
    finished = existing(job, plan)
    if finished is not None:
        on_progress("tokenise", 1, 1, "already complete")
        return finished
    manifest = listing(job, on_progress)
    fragments = job.work.join("fragments")
    done = list_fragments(fragments)
    total = sum(s.num_images for s in manifest.splits.values())
    counts = [f for by_slice in done.values() for f in by_slice.values()]
    rejects = RejectLimit(total, job.settings["max_reject_fraction"], sum(f.rejected for f in counts))
    seen = sum(f.rows + f.rejected for f in counts)
    todo = [
        (split, index)
        for split, listed in manifest.splits.items()
        for index in range(listed.num_slices)
        if index not in done.get(split, {})
    ]
    on_progress("tokenise", seen, total, f"{len(todo)} of {len(todo) + len(counts)} slices to do")

    def on_fragment(fragment: Fragment) -> None:
        nonlocal seen
        seen += fragment.rows + fragment.rejected
        done.setdefault(fragment.split, {})[fragment.slice] = fragment
        rejects.add(fragment.rejected)
        on_progress("tokenise", seen, total, rejects.words())

    if todo:
        run_slices(
            todo,
            manifest_folder=job.work.join("manifest"),
            source=job.source,
            tokenizer_folder=job.tokenizer_folder,
            fragments=fragments,
            cluster=cluster,
            num_actors=job.settings["num_actors"],
            gpus_per_actor=job.settings["gpus_per_actor"],
            batch_size=job.settings["batch_size"],
            image_column=job.source_settings["image_column"],
            limits={
                "max_bytes": job.settings["max_image_mib"] << 20,
                "max_pixels": job.settings["max_image_pixels"],
            },
            on_fragment=on_fragment,
        )
    rejects.check()
    splits = pack(job, manifest, done, tokenizer, on_progress)
    return commit(job, plan, manifest, splits, tokenizer, about)


def existing(job: TokenizeJob, plan: dict[str, Any]) -> DatasetInfo | None:
    """The finished dataset of the same plan; None when there is work to do; ValueError when it is of another."""
    if job.output.exists(MARKER):
        info = TokenDataset(job.output).info
        refuse_other_plan(job, {k: v for k, v in info.plan.items() if k in plan}, plan)
        job.work.delete_tree()  # a kill between marker and clean-up leaves it
        return info
    if job.work.exists("plan.json"):
        refuse_other_plan(job, json.loads(job.work.read("plan.json")), plan)
    else:
        job.output.check_writable()
        job.work.write("plan.json", json.dumps(plan, indent=1).encode())
    return None


def refuse_other_plan(job: TokenizeJob, stored: dict[str, Any], plan: dict[str, Any]) -> None:
    """ValueError naming what differs between what was begun in the output folder and what is asked now."""
    differs = [f"{k} {stored.get(k)!r} (now {plan[k]!r})" for k in plan if stored.get(k) != plan[k]]
    if differs:
        raise ValueError(
            f"{job.output.uri} was made with {', '.join(differs)}; expected the same images, tokenizer and settings; "
            "choose another output, or delete that folder"
        )


def listing(job: TokenizeJob, on_progress: Progress) -> Manifest:
    """The manifest of the job, listed once: a continued job tokenises what its first attempt found."""
    folder = job.work.join("manifest")
    names = ("val_fraction", "seed", "slice_size")
    found = load_manifest(folder)
    if found is not None:
        return found
    try:
        return list_images(
            job.source,
            job.source_settings,
            folder,
            on_progress=on_progress,
            **{name: job.settings[name] for name in names},
        )
    except ValueError:
        job.work.delete_tree()  # nothing is done yet: the output stays free for the mended command
        raise


class RejectLimit:
    """Counts rejects; more than the allowed share of all listed images ends the job."""

    def __init__(self, total: int, max_fraction: float, rejected: int):
        self.total, self.max_fraction, self.rejected = total, max_fraction, rejected

    def add(self, rejected: int) -> None:
        """Count; ValueError as soon as the limit is passed."""
        self.rejected += rejected
        self.check()

    def check(self) -> None:
        """ValueError when the limit is passed."""
        if self.rejected > self.max_fraction * self.total:
            raise ValueError(
                f"{self.rejected} of {self.total} images could not be read; expected at most "
                f"{self.max_fraction:.1%} (tokenize.max_reject_fraction); mend the images or raise the share and "
                "run again: finished work is kept"
            )

    def words(self) -> str:
        """For a progress line."""
        return f"{self.rejected} rejected" if self.rejected else ""


def pack(
    job: TokenizeJob,
    manifest: Manifest,
    done: dict[str, dict[int, Fragment]],
    tokenizer: Tokenizer,
    on_progress: Progress,
) -> dict[str, Split]:
    """Write every split's shards and rejects as Ray tasks; the splits' files and counts."""
    fragments, num_tokens, num_codes = (
        job.work.join("fragments"),
        tokenizer.grid[0] * tokenizer.grid[1],
        len(tokenizer.codebook),
    )
    num_classes = len(manifest.class_names or [])
    remote_pack, remote_rejected = ray.remote(num_cpus=1)(pack_shard), ray.remote(num_cpus=1)(pack_rejected)
    tasks: dict[Any, tuple[str, int]] = {}
    rejected_tasks: dict[str, Any] = {}
    ordered = {split: [done[split][i] for i in sorted(done.get(split, {}))] for split in manifest.splits}
    for split, parts in ordered.items():
        for index, pieces in enumerate(plan_shards(parts, job.settings["rows_per_shard"])):
            reference = remote_pack.remote(
                pieces,
                index=index,
                fragments=fragments,
                output=job.output,
                encoding=job.settings["encoding"],
                num_tokens=num_tokens,
                num_codes=num_codes,
                num_classes=num_classes,
            )
            tasks[reference] = (split, index)
        if any(f.rejected for f in parts):
            rejected_tasks[split] = remote_rejected.remote(split, parts, fragments, job.output, num_tokens)
    packed: dict[tuple[str, int], Packed] = {}
    waiting = list(tasks)
    try:
        while waiting:
            ready, waiting = ray.wait(waiting, num_returns=1)
            packed[tasks[ready[0]]] = ray.get(ready[0])
            on_progress("pack", len(packed), len(tasks), "shards")
        checksums = {split: ray.get(reference) for split, reference in rejected_tasks.items()}
    except ray.exceptions.RayError as error:
        raise user_error(error) or error from error
    return {
        split: split_of(
            [packed[k] for k in sorted(packed) if k[0] == split],
            rejected=sum(f.rejected for f in parts),
            rejected_sha256=checksums.get(split),
            num_codes=num_codes,
            num_classes=num_classes,
        )
        for split, parts in ordered.items()
    }


def commit(
    job: TokenizeJob,
    plan: dict[str, Any],
    manifest: Manifest,
    splits: dict[str, Split],
    tokenizer: Tokenizer,
    about: dict[str, Any],
) -> DatasetInfo:
    """Check that counts add up, store the tokenizer, write the marker last, and clean up."""
    for name, listed in manifest.splits.items():
        if splits[name].listed != listed.num_images:
            raise RuntimeError(f"split {name}: {listed.num_images} listed but {splits[name].listed} accounted for")
    save_tokenizer(tokenizer, job.output.join("tokenizer"), about["report"])
    write_synonyms(
        job.output, nearest_codes(tokenizer.codebook, min(NUM_SYNONYMS, len(tokenizer.codebook) - 1), tokenizer.metric)
    )
    info = DatasetInfo(
        tokenizer=about["fingerprint"],
        family=tokenizer.family,
        image_size=tokenizer.image_size,
        grid=list(tokenizer.grid),
        codebook_size=len(tokenizer.codebook),
        encoding=job.settings["encoding"],
        class_names=manifest.class_names,
        splits=splits,
        plan={**plan, "manifest": manifest.digest},
        versions={"python": platform.python_version(), "pyarrow": pa.__version__, "torch": torch.__version__},
    )
    job.output.write(MARKER, info.to_json())
    job.work.delete_tree()
    return info
