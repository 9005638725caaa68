"""What every tokenising job must end in, whatever happened on the way."""

from __future__ import annotations

from seit_ray.shards import TokenDataset
from seit_ray.shards.verify import verify
from seit_ray.storage import Folder
from tests.tiny_images import contents

RECORD = "tokenize_images.run.json"  # of the verb: holds time and command


def keys_of(dataset: TokenDataset) -> tuple[list[str], list[str]]:
    """(written, rejected) keys of all splits, in order."""
    written = [key for name in dataset.info.splits for key in dataset.read_split(name).meta["key"].to_pylist()]
    rejected = [key for name in dataset.info.splits for key in dataset.rejected(name)["key"].to_pylist()]
    return written, rejected


def check_complete(output: Folder, listed: set[str]) -> TokenDataset:
    """Each listed image written or rejected, once; the dataset sound; nothing else in its folder."""
    dataset = TokenDataset(output)
    written, rejected = keys_of(dataset)
    assert len(written) + len(rejected) == len(listed)
    assert set(written) | set(rejected) == listed
    assert sum(split.listed for split in dataset.info.splits.values()) == len(listed)
    assert verify(dataset) == []
    splits = dataset.info.splits.items()
    expected = {f"{name}/{shard.name}" for name, split in splits for shard in split.shards}
    expected |= {f"{name}/{file.name}" for name, split in splits for file in split.rejects}
    expected |= {"dataset.json", RECORD, *dataset.info.source}
    found = {entry.name for entry in output.list(include_hidden=True) if not entry.name.startswith("tokenizer/")}
    assert found | {RECORD} == expected
    return dataset


def check_same(output: Folder, undisturbed: Folder, listed: set[str]) -> None:
    """As `check_complete`, and every byte that of an undisturbed run."""
    check_complete(output, listed)
    found, expected = contents(output), contents(undisturbed)
    found.pop(RECORD, None)
    expected.pop(RECORD, None)
    assert found == expected
