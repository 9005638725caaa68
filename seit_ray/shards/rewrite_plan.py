"""What a rewriting of a token dataset is, and what stands of it in its output. Imports no torch: a dry run asks too."""

from __future__ import annotations

from typing import Any

from seit_ray.shards.dataset import TokenDataset
from seit_ray.shards.marker import MARKER, DatasetInfo
from seit_ray.storage import Folder
from seit_ray.storage.output import read_plan


def plan_of(
    dataset: TokenDataset, *, encoding: str | None, drop_unused: bool, rows_per_shard: int | None
) -> dict[str, Any]:
    """Whatever decides the content: how it is written, and the dataset, by its tokenizer and its shards' checksums.

    encoding: as it is where it is None.
    """
    info = dataset.info
    shards = {name: [shard.sha256 for shard in split.shards] for name, split in info.splits.items()}
    plan: dict[str, Any] = {
        "rewritten": {"tokenizer": info.tokenizer, "shards": shards},
        "encoding": encoding or info.encoding,
        "drop_unused": drop_unused,
        "rows_per_shard": rows_per_shard,
    }
    # what evaluates images goes by how the dataset's were decoded, and by what it has held out of which images
    return plan | {name: info.plan[name] for name in ("decode", "images", "val_fraction", "seed") if name in info.plan}


def existing(output: Folder, plan: dict[str, Any]) -> DatasetInfo | None:
    """The finished dataset of the same plan; None when there is work to do; ValueError when it is of another."""
    if output.exists(MARKER):
        found = TokenDataset(output).info
        if found.plan != plan:
            raise ValueError(
                f"{output.uri} holds another token dataset; expected none, or the same rewriting; choose another output"
            )
        return found
    if read_plan(output) not in (None, plan):
        raise ValueError(
            f"{output.uri} holds the beginning of another token dataset; expected none, or the same rewriting; choose "
            "another output, or delete that folder"
        )
    return None
