"""A token dataset as a Hugging Face `datasets` view."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from seit_ray.shards.dataset import TokenDataset
from seit_ray.shards.parquet import MASK
from seit_ray.storage import Folder


def hugging_face(dataset: str | Folder, split: str) -> Any:
    """A `datasets.IterableDataset` of a split: key, label (null for none), tokens list of L integers; mask (PNG).

    Its shards are those of the dataset, so that `shuffle`, the workers of a DataLoader and `split_dataset_by_node`
    divide it by them; every checksum is verified as it is read. ValueError where `datasets` is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise ValueError(
            "the package datasets is not installed; expected it for a view of Hugging Face; pip install datasets"
        ) from error
    folder = dataset if isinstance(dataset, Folder) else Folder(dataset)
    info = TokenDataset(folder).info
    names = [shard.name for shard in TokenDataset(folder).split(split).shards]
    label = datasets.ClassLabel(names=info.class_names) if info.class_names else datasets.Value("int32")
    tokens = datasets.List(datasets.Value("uint16"), length=info.num_tokens)
    columns = {"key": datasets.Value("string"), "label": label, "tokens": tokens}
    if info.void is not None:
        columns[MASK] = datasets.Value("binary")
    features = datasets.Features(columns)
    arguments = {"folder": [folder] * len(names), "split": [split] * len(names), "name": names}
    return datasets.IterableDataset.from_generator(rows_of, features=features, gen_kwargs=arguments)


def rows_of(folder: list[Folder], split: list[str], name: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of some shards; the arguments are lists of equal length, which `datasets` divides among its readers."""
    opened: dict[str, TokenDataset] = {}
    for place, of, wanted in zip(folder, split, name, strict=True):
        dataset = opened.setdefault(place.uri, opened.get(place.uri) or TokenDataset(place))
        (shard,) = (shard for shard in dataset.split(of).shards if shard.name == wanted)
        rows = dataset.read_shard(of, shard)
        names = ["key", "label", *({MASK} & {*rows.meta.column_names})]
        columns = [rows.meta[name].to_pylist() for name in names]
        for *values, tokens in zip(*columns, rows.tokens, strict=True):
            yield {**dict(zip(names, values, strict=True)), "tokens": tokens}
