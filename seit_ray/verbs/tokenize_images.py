"""Tokenise images into a token dataset with a Ray Data job; a rerun does only what is missing.

seit-ray tokenize_images images=photos/ tokenizer=runs/tokenizer output=runs/tokens
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from seit_ray.config import TokenizeImages
from seit_ray.progress import Progress, duration, silent
from seit_ray.shards.marker import MARKER
from seit_ray.storage import Folder
from seit_ray.storage.output import OURS, claim, refuse_overlap
from seit_ray.verbs.command.places import Rows, cluster_rows, folder_of, left_out_rows, output_rows, source_rows

if TYPE_CHECKING:
    from seit_ray.distributed.data.tokenize_begin import TokenizeJob
    from seit_ray.shards.part_records import Spent


def check(config: TokenizeImages) -> Rows:
    """What would be read, by what, and where it would go."""
    from seit_ray.distributed.data.tokenize_begin import check_output
    from seit_ray.images.sources.maps import check_resize
    from seit_ray.tokenizers.about import describe, read_about

    about = read_about(folder_of(config.tokenizer, config.storage))
    check_resize(config.source.settings(), about["config"].get("resize", "squash"))
    settings = config.tokenize
    images, output = folder_of(config.images, config.storage), folder_of(config.output, config.storage)
    claim_output(output, images)
    check_output(job_of(config), about)
    return [
        *source_rows(
            images,
            config.source,
            val_fraction=settings.val_fraction,
            seed=settings.seed,
        ),
        ("tokenizer", describe(about)),
        *output_rows(output),
        *cluster_rows(config.cluster),
    ]


def job_of(config: TokenizeImages) -> TokenizeJob:
    """The job that a config describes."""
    from seit_ray.distributed.data.tokenize_begin import TokenizeJob

    source, tokenizer, output = (folder_of(u, config.storage) for u in (config.images, config.tokenizer, config.output))
    return TokenizeJob(
        source=source,
        source_settings=config.source.settings(),
        tokenizer_folder=tokenizer,
        output=output,
        settings=config.tokenize.settings(),
    )


def claim_output(output: Folder, images: Folder) -> None:
    """ValueError unless a folder is free for a token dataset, or holds one or its beginning."""
    refuse_overlap(output, images, "images")
    claim(output, OURS)


def tokenize_images(config: TokenizeImages, progress: Progress = silent) -> Rows:
    """Run the job; returns the table to print."""
    from seit_ray.tokenizers.about import read_about

    source, tokenizer = (folder_of(uri, config.storage) for uri in (config.images, config.tokenizer))
    read_about(tokenizer)  # the mistakes that show at once, before anything that takes seconds is imported
    source.check_readable()
    claim_output(folder_of(config.output, config.storage), source)
    from seit_ray.distributed.cluster import connected
    from seit_ray.distributed.data.tokenize_job import run_tokenize_job
    from seit_ray.verbs.command.record import end_record

    job = job_of(config)
    began, before, is_new = time.perf_counter(), rows_of(job.output), not job.output.exists(MARKER)
    spent = run_tokenize_job(job, partial(connected, **config.cluster.model_dump()), progress).spent
    figures: dict[str, Any] = {}
    if spent is not None:  # not all was there
        figures = {"seconds_of_actors": spent.seconds, "peak_bytes_of_an_actor": spent.peak_bytes}
    end_record(job.output, "tokenize_images", config, is_new=is_new, **figures)
    closing = closing_rows(config, job.output, before, time.perf_counter() - began)
    return [*summary(job.output), *spent_rows(spent), *closing]


def rows_of(output: Folder) -> int:
    """Rows of the dataset that is there already."""
    from seit_ray.shards.dataset import TokenDataset

    if not output.exists(MARKER):
        return 0
    return sum(split.listed for split in TokenDataset(output).info.splits.values())


def spent_rows(spent: Spent | None) -> Rows:
    """Where the time of the actors went; none where all was there."""
    if spent is None:
        return []
    return [
        ("time of actors", f"{duration(sum(spent.seconds.values()))} for {spent.images} images: {spent.words()}"),
        ("memory of an actor", f"{spent.peak_bytes / (1 << 20):.0f} MiB at most"),
    ]


def closing_rows(config: TokenizeImages, output: Folder, before: int, seconds: float) -> Rows:
    """Classes, speed, and what to run next."""
    from seit_ray.shards import TokenDataset

    info = TokenDataset(output).info
    names = info.class_names
    done = rows_of(output) - before
    looked = config.tokenize.check_source or config.tokenize.mode == "append"
    same = "compared with the source" if looked else "not looked at again; tokenize.check_source=true compares"
    return [
        ("classes", f"{len(names)} ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})" if names else "none"),
        *left_out_rows(info.left_out, info.notes),
        ("speed", f"{done / seconds:,.0f} images/s, start-up included") if done else ("source", same),
        ("next", f"seit-ray inspect_tokens dataset={output.uri} contact_sheet=sheet.png"),
        ("", f"seit-ray pretrain dataset={output.uri} run=NAME"),
    ]


def summary(folder: Folder) -> Rows:
    """Counts and sizes of a token dataset."""
    from seit_ray.shards import TokenDataset

    dataset = TokenDataset(folder)
    rows: Rows = [("token dataset", folder.uri)]
    for name, split in dataset.info.splits.items():
        rows.append((name, f"{split.listed} listed = {split.rows} written + {split.rejected} rejected"))
    splits = dataset.info.splits.values()
    total = max(1, sum(s.rows for s in splits))
    source, tokens, files = (
        sum(getattr(s, k) for s in splits) / total for k in ("source_bytes", "token_bytes", "file_bytes")
    )
    rows += [
        ("bytes an image", f"{source:.0f} source -> {tokens:.1f} tokens ({files:.1f} with keys and labels)"),
        ("order-0 entropy", f"{dataset.entropy_bytes():.1f} bytes an image"),
    ]
    if (maps := dataset.info.map_labels) is not None:
        size = sum(s.mask_bytes for s in splits) / total
        rows.append(("label maps", f"{size:.1f} bytes an image, {maps.num_classes} classes, void {maps.void} there"))
    return rows
