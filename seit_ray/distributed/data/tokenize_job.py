"""Images in, token dataset out: list, tokenise the parts, each of which is a shard, write the marker.

Each step survives a kill: in the output's folder `_work/` holds plan.json, the manifest and a record of each finished
part until the marker stands; `_lock.json` keeps a second job away meanwhile. A finished dataset can be appended to: see
`appending`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from seit_ray.distributed.cluster import Connect
from seit_ray.distributed.data.commit import Adding, Standing, commit, names_of, sizes_of, stand
from seit_ray.distributed.data.parts import PartSource, map_parts
from seit_ray.distributed.data.tokenize_parts import TokenizeParts
from seit_ray.images.decoded import Decoding
from seit_ray.images.listing import list_images
from seit_ray.images.manifest import Manifest, load_manifest
from seit_ray.images.sources.maps import check_resize
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.progress import Progress, silent
from seit_ray.shards.appending import compare_source, new_images, retried_rejects
from seit_ray.shards.dataset import MARKER, DatasetInfo, TokenDataset
from seit_ray.shards.parts import Part, Spent, list_parts, remove_doubles
from seit_ray.shards.rejects import RejectLimit
from seit_ray.storage import Folder
from seit_ray.storage.lock import LOCK, Lock, LockedError, locked
from seit_ray.storage.output import OURS, WORK, claim, end_work, read_plan, refuse_overlap, remove_unknown, write_plan
from seit_ray.storage.patience import PATIENCE_S
from seit_ray.tokenizers.contract import Tokenizer, fingerprint
from seit_ray.tokenizers.files import load_tokenizer

MOST_ROWS = 65_536  # a shard
MAX_ROUNDS = 3  # of making parts and looking at them
FOLDERS = ("manifest", "records", "attempts")  # of the work
Done = dict[str, dict[int, Part]]  # split -> number -> part


@dataclass(frozen=True)
class TokenizeSettings:
    """How images become a token dataset; fields as in `config.Tokenize`."""

    mode: str = "create"
    check_source: bool = False
    keep_changed: bool = False
    moved_from: str | None = None
    val_fraction: float = 0.0
    seed: int = 0
    rows_per_shard: int | None = None
    shard_mib: float | None = None
    encoding: str = "plain"
    decode: str = "exact"
    max_reject_fraction: float = 0.01
    max_image_pixels: int = 178_956_970
    max_image_mib: int = 64
    num_actors: int | None = None
    gpus_per_actor: float | None = None
    memory_mib: int | None = None
    batch_size: int = 256
    patience_s: float = PATIENCE_S

    @property
    def hold_out(self) -> dict[str, Any]:
        """Which images are held out."""
        return {"val_fraction": self.val_fraction, "seed": self.seed}

    def for_tokens(self, num_tokens: int, num_codes: int) -> TokenizeSettings:
        """With shard_mib as rows of so many tokens of so many codes; ValueError beside rows_per_shard."""
        if self.shard_mib is None:
            return self
        if self.rows_per_shard is not None:
            raise ValueError(
                f"shard_mib {self.shard_mib:g} beside rows_per_shard {self.rows_per_shard}; expected one of them; "
                "drop the other"
            )
        rows = int(self.shard_mib * (1 << 20) / (num_tokens * math.log2(num_codes) / 8))
        return replace(self, shard_mib=None, rows_per_shard=min(max(1, rows), MOST_ROWS))


@dataclass(frozen=True)
class TokenizeJob:
    """One job: where from, by what, where to, how."""

    source: Folder
    source_settings: SourceSettings
    tokenizer_folder: Folder
    output: Folder
    settings: TokenizeSettings

    @property
    def work(self) -> Folder:
        """What is kept until the dataset is complete."""
        return self.output.join(WORK)

    def plan(self, fingerprint: str) -> dict[str, Any]:
        """Whatever decides the dataset's content."""
        names = (
            "val_fraction",
            "seed",
            "rows_per_shard",
            "encoding",
            "decode",
            "max_image_pixels",
            "max_image_mib",
        )
        return {
            "images": self.settings.moved_from or self.source.uri,
            "source": self.source_settings.as_dict(),
            "tokenizer": fingerprint,
            **{name: getattr(self.settings, name) for name in names},
        }


class Finished(NamedTuple):
    """The dataset of a job, and what its parts have taken; None where all was there."""

    info: DatasetInfo
    spent: Spent | None = None


def run_tokenize_job(job: TokenizeJob, connect: Connect, on_progress: Progress = silent) -> Finished:
    """Do what is missing of a job; ValueError for what the user can mend.

    `connect` gives the cluster: after the listing, so that a mistake in a place is told at once.
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
    with locked(job.output, LOCK, on_note=lambda note: on_progress("lock", 1, 1, note)) as lock:
        base = finished_dataset(job, plan)  # again: another job may have finished it meanwhile
        if base is not None and job.settings.mode == "create":
            return Finished(already_complete(job, base, on_progress))
        begin(job, plan, base)
        manifest = listing(job, base, on_progress)
        if base is not None and not any(split.num_images for split in manifest.splits.values()):
            clean_up(job, base)
            on_progress("tokenise", 1, 1, "already complete: no images were added")
            return Finished(base)
        retried = retried_rejects(job.output, manifest, base) if base is not None else {}
        rejects = RejectLimit.of(manifest, base, retried, job.settings.max_reject_fraction)
        adding = Adding.of(job.output, job.settings.encoding, tokenizer, manifest, base, retried)
        lock.check()
        for _ in range(MAX_ROUNDS):
            standing = make_parts(job, adding, tokenizer, rejects, connect, lock, on_progress)
            if not standing.faulty and is_whole(manifest, standing.parts):
                break
        else:
            raise RuntimeError(f"parts of {job.output.uri} do not stay as they were written; expected one writer")
        # what fails from here on leaves plan and journal: another job may have ended this one's work meanwhile
        info = commit(adding, plan, standing.sums, tokenizer, about, before_marker=lock.check)
        clean_up(job, info)
    return Finished(info, standing.spent)


def moved(job: TokenizeJob) -> TokenizeJob:
    """The job with the whole uri of where its images were; ValueError where no dataset was made of them there."""
    before = job.settings.moved_from
    if before is None:
        return job
    if not (job.output.exists(MARKER) or read_plan(job.output)):
        raise ValueError(
            f"moved_from {before} into {job.output.uri}, where nothing is; expected a finished dataset of the images "
            "as they lay there; leave it out for a new one"
        )
    return replace(job, settings=replace(job.settings, moved_from=job.source.at(before).uri))


def is_whole(manifest: Manifest, parts: Done) -> bool:
    """Whether all parts are there."""
    return all(len(parts.get(split, {})) == listed.num_parts for split, listed in manifest.splits.items())


def finished_dataset(job: TokenizeJob, plan: dict[str, Any]) -> DatasetInfo | None:
    """The finished dataset of the same plan; None when there is none; ValueError when it is of another plan."""
    if not job.output.exists(MARKER):
        return None
    info = TokenDataset(job.output).info
    refuse_other_plan(job, {k: v for k, v in info.plan.items() if k in plan}, plan)
    return info


def already_complete(job: TokenizeJob, info: DatasetInfo, on_progress: Progress) -> DatasetInfo:
    """A finished dataset as it is; ValueError when the source is to be compared and has changed."""
    stored = read_plan(job.output)
    if stored is not None and stored.get("appends_to") != info.plan["manifest"]:
        try:  # a kill between marker and clean-up leaves it
            with locked(job.output, LOCK):
                clean_up(job, info)
        except LockedError:
            return info  # the job that made it is at it
    note = "already complete"
    check_files(job.output, info)
    if job.settings.check_source:
        compare_source(job.output, job.source, job.source_settings, info, **job.settings.hold_out)
        note += ", of the same images"
    on_progress("tokenise", 1, 1, note)
    return info


def check_files(output: Folder, info: DatasetInfo) -> None:
    """ValueError unless all shards and tables of rejects of a finished dataset are there, as large as they were."""
    for name, split in info.splits.items():
        sizes = sizes_of(output, f"{name}/")
        known = {f"{name}/{shard.name}": shard.bytes for shard in split.shards}
        missing = [file for file, size in known.items() if sizes.get(file) != size]
        missing += [file for file in (f"{name}/{r.name}" for r in split.rejects) if not sizes.get(file)]
        if missing:
            raise ValueError(
                f"{output.uri_of(missing[0])} is missing, or has another size than it had; expected a whole dataset; "
                "restore it, or tokenise into a new output"
            )


def begin(job: TokenizeJob, plan: dict[str, Any], base: DatasetInfo | None) -> None:
    """Store the plan, unless the same was begun before; ValueError when another was."""
    appends_to = base.plan["manifest"] if base is not None else None
    stored = read_plan(job.output)
    if stored is not None:
        if stored.pop("appends_to", None) == appends_to:
            refuse_other_plan(job, stored, plan)
            return
        if base is not None:
            clean_up(job, base)  # of an append that is finished but for that
        else:
            end_work(job.output, FOLDERS)
    job.output.check_writable()
    write_plan(job.output, {**plan, "appends_to": appends_to} if base is not None else plan)


def refuse_other_plan(job: TokenizeJob, stored: dict[str, Any], plan: dict[str, Any]) -> None:
    """ValueError naming what differs between what was begun in the output folder and what is asked now."""
    stored = {"decode": "exact", **stored}  # what it was before there was a choice
    differs = [f"{k} {stored.get(k)!r} (now {plan[k]!r})" for k in plan if stored.get(k) != plan[k]]
    if differs:
        raise ValueError(
            f"{job.output.uri} was made with {', '.join(differs)}; expected the same images, tokenizer and settings; "
            "choose another output, or delete that folder"
        )


def listing(job: TokenizeJob, base: DatasetInfo | None, on_progress: Progress) -> Manifest:
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
    try:
        if base is not None:
            return new_images(
                job.output,
                job.source,
                job.source_settings,
                base,
                folder,
                rows_per_part=job.settings.rows_per_shard,
                keep_changed=job.settings.keep_changed,
                on_progress=on_progress,
                **job.settings.hold_out,
            )
        return list_images(
            job.source,
            job.source_settings,
            folder,
            on_progress=on_progress,
            rows_per_part=job.settings.rows_per_shard,
            **job.settings.hold_out,
        )
    except ValueError:
        end_work(job.output, FOLDERS)  # nothing is done yet: the output stays free for the mended command
        raise


def make_parts(
    job: TokenizeJob,
    adding: Adding,
    tokenizer: Tokenizer,
    rejects: RejectLimit,
    connect: Connect,
    lock: Lock,
    on_progress: Progress,
) -> Standing:
    """Make the parts that do not stand, and look at all of them; ValueError for too many rejects."""
    remove_doubles(adding.files.records)
    found = stand(adding, list_parts(adding.files.records))
    for part in found.faulty:  # of another listing, or without its files
        adding.files.records.delete(part.name)
    if not tokenise(job, adding, tokenizer, found.parts, rejects, connect, lock, on_progress):
        return found
    return stand(adding, list_parts(adding.files.records))


def tokenise(
    job: TokenizeJob,
    adding: Adding,
    tokenizer: Tokenizer,
    done: Done,
    rejects: RejectLimit,
    connect: Connect,
    lock: Lock,
    on_progress: Progress,
) -> bool:
    """Make the parts that `done` has not, and enter them there; whether there were any."""
    manifest = adding.manifest
    made = [part for by_index in done.values() for part in by_index.values()]
    total = sum(s.num_images for s in manifest.splits.values())
    rejects.begin(sum(part.rejected for part in made))
    seen = sum(part.images for part in made)
    todo = [
        (split, index)
        for split, listed in manifest.splits.items()
        for index in range(listed.num_parts)
        if index not in done.get(split, {})
    ]
    on_progress("tokenise", seen, total, f"{len(todo)} of {len(todo) + len(made)} parts to do")
    rejects.check()
    if not todo:
        return False

    def on_part(part: Part) -> None:
        nonlocal seen
        if part.index in done.get(part.split, {}):  # told twice, after a node was lost
            return
        seen += part.images
        done.setdefault(part.split, {})[part.index] = part
        rejects.add(part.rejected)
        rejects.check_early(sum(map(len, done.values())), seen)
        if lock.lost:
            lock.check()
        on_progress("tokenise", seen, total, rejects.words())

    adding.note_names()
    job.work.delete_tree("attempts")  # of earlier calls
    decoding = Decoding(
        tokenizer.image_size,
        tokenizer.resize,
        job.source_settings.image_column,
        job.settings.decode,
        job.settings.max_image_mib << 20,
        job.settings.max_image_pixels,
        job.settings.patience_s,
        masks=True,
    )
    source = PartSource(job.work.join("manifest"), job.source, decoding, job.work)
    with connect() as cluster:
        if not (cluster.is_local or cluster.num_gpus or job.settings.gpus_per_actor):
            on_progress("actors", 1, 1, f"{cluster.words()}: CPUs encode; tokenize.gpus_per_actor=1 waits for GPUs")
        map_parts(
            todo,
            TokenizeParts,
            (source, adding.files, rejects, job.tokenizer_folder, fingerprint(tokenizer), job.settings.batch_size),
            cluster=cluster,
            num_actors=job.settings.num_actors,
            gpus_per_actor=job.settings.gpus_per_actor,
            memory_mib=job.settings.memory_mib,
            on_part=on_part,
        )
    return True


def clean_up(job: TokenizeJob, info: DatasetInfo) -> None:
    """Remove what is no part of the dataset: unfinished work, and what killed writers left."""
    remove_unknown(job.output, names_of(info))
    end_work(job.output, FOLDERS)
