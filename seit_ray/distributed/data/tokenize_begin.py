"""What a tokenising job is, and what stands of it in its output when it is begun, or taken up.

Imports no torch: a dry run asks here too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from seit_ray.images.decoded import Decoding
from seit_ray.images.sources.identity import NAMES, differing, identity
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.progress import Progress
from seit_ray.shards import dataset_files
from seit_ray.shards.appending import compare_source
from seit_ray.shards.dataset import TokenDataset
from seit_ray.shards.dataset_files import sizes_of
from seit_ray.shards.marker import MARKER, DatasetInfo
from seit_ray.storage import Folder
from seit_ray.storage.lock import LOCK, LockedError, locked, remove_ended
from seit_ray.storage.output import WORK, end_work, read_plan, write_plan
from seit_ray.storage.patience import PATIENCE_S

if TYPE_CHECKING:
    from seit_ray.tokenizers.contract import Tokenizer

MOST_ROWS = 65_536  # a shard
FOLDERS = ("manifest", "records", "attempts")  # of the work


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

    def decoding(self, tokenizer: Tokenizer) -> Decoding:
        """How its images are decoded."""
        settings = self.settings
        return Decoding(
            tokenizer.image_size,
            tokenizer.resize,
            self.source_settings.image_column,
            settings.decode,
            settings.max_image_mib << 20,
            settings.max_image_pixels,
            settings.patience_s,
            masks=True,
        )

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
        read = identity(self.source, self.source_settings)
        if self.settings.moved_from is not None:  # the server that they came from is not known
            read["images"] = self.settings.moved_from
            read.pop("server", None)
        return {
            **read,
            "tokenizer": fingerprint,
            **{name: getattr(self.settings, name) for name in names},
        }


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


def finished_dataset(job: TokenizeJob, plan: dict[str, Any]) -> DatasetInfo | None:
    """The finished dataset of the same plan; None when there is none; ValueError when it is of another plan."""
    if not job.output.exists(MARKER):
        return None
    info = TokenDataset(job.output).info
    if job.settings.mode == "append":  # the names of new classes come behind those of before: `extended_classes` looks
        plan = {name: value for name, value in plan.items() if name != NAMES}
    refuse_other_plan(job, info.plan, plan)
    return info


def check_output(job: TokenizeJob, about: dict[str, Any]) -> None:
    """For a dry run: ValueError where the output holds, or was begun with, what the job would refuse.

    about: of its tokenizer, as in tokenizer.json.
    """
    job = moved(job)
    job = replace(job, settings=job.settings.for_tokens(math.prod(about["grid"]), about["codebook_size"]))
    plan = job.plan(about["fingerprint"])
    if finished_dataset(job, plan) is None and (stored := read_plan(job.output)) is not None:
        refuse_other_plan(job, stored, plan)


def already_complete(job: TokenizeJob, info: DatasetInfo, on_progress: Progress) -> DatasetInfo:
    """A finished dataset as it is; ValueError when the source is to be compared and has changed."""
    stored = read_plan(job.output)
    if stored is not None and stored.get("appends_to") != info.plan["manifest"]:
        try:  # a kill between marker and clean-up leaves it
            with locked(job.output, LOCK):
                clean_up(job, info)
        except LockedError:
            return info  # the job that made it is at it
    else:
        remove_ended(job.output)
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
        known |= {f"{name}/{file.name}": file.bytes for file in split.rejects}  # 0: not known
        missing = [file for file, size in known.items() if not sizes.get(file) or size not in (0, sizes[file])]
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
    differs = [f"{name} {stored.get(name)!r} (now {plan[name]!r})" for name in differing(stored, plan)]
    if differs:
        raise ValueError(
            f"{job.output.uri} was made with {', '.join(differs)}; expected the same images, tokenizer and settings; "
            "choose another output, or delete that folder"
        )


def clean_up(job: TokenizeJob, info: DatasetInfo) -> None:
    """Remove what is no part of the dataset."""
    dataset_files.clean_up(job.output, info, FOLDERS)
