"""Rewrite a token dataset in another encoding, in shards of another size, or without the codes that it never uses.

seit-ray recode_tokens dataset=runs/tokens output=runs/plain encoding=plain
"""

from typing import Any

from seit_ray.config import RecodeTokens
from seit_ray.progress import Progress, silent
from seit_ray.verbs.command.places import Rows, dataset_rows, folder_of, output_rows


def check(config: RecodeTokens) -> Rows:
    """What would be read, how written, and where it would go."""
    from seit_ray.shards import TokenDataset
    from seit_ray.shards.rewrite_plan import existing, plan_of
    from seit_ray.storage.output import OURS, claim, refuse_overlap

    dataset = TokenDataset(folder_of(config.dataset, config.storage))
    output = folder_of(config.output, config.storage)
    refuse_overlap(output, dataset.folder, "dataset")
    claim(output, OURS)
    existing(output, plan_of(dataset, **written_as(config)))
    used = int((dataset.histogram() > 0).sum())
    kept = f" -> {used}" if config.drop_unused else ", kept"
    return [
        *dataset_rows(dataset.folder),
        ("encoding", f"{dataset.info.encoding} -> {config.encoding or dataset.info.encoding}"),
        ("codes", f"K {dataset.info.codebook_size}{kept}"),
        *output_rows(output),
    ]


def recode_tokens(config: RecodeTokens, progress: Progress = silent) -> Rows:
    """Rewrite and check; returns the table to print."""
    from seit_ray.shards import TokenDataset
    from seit_ray.shards.marker import MARKER
    from seit_ray.shards.rewrite import rewrite_dataset
    from seit_ray.verbs.command.record import end_record
    from seit_ray.verbs.tokenize_images import summary

    output = folder_of(config.output, config.storage)
    is_new = not output.exists(MARKER)
    info = rewrite_dataset(
        TokenDataset(folder_of(config.dataset, config.storage)),
        output,
        **written_as(config),
        on_progress=progress,
    )
    end_record(output, "recode_tokens", config, is_new=is_new)
    return [*summary(output), ("codes", f"K {info.codebook_size}"), ("encoding", info.encoding)]


def written_as(config: RecodeTokens) -> dict[str, Any]:
    """How it is written."""
    return {name: getattr(config, name) for name in ("encoding", "drop_unused", "rows_per_shard")}
