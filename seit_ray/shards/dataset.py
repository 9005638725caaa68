"""The token dataset: a folder whose dataset.json, written last, says what is in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seit_ray.shards.marker import MARKER, DatasetInfo, Shard, Split
from seit_ray.shards.parquet import REJECTED_SCHEMA, TokenRows, checksum, concat_rows, decode_shard, parquet_table
from seit_ray.shards.reading import read_all
from seit_ray.shards.statistics import entropy_bits
from seit_ray.shards.synonyms import read_rows
from seit_ray.storage import Folder


class TokenDataset:
    """A complete token dataset in a folder, opened for reading; ValueError when it is none or not finished."""

    def __init__(self, folder: Folder):
        if not folder.exists(MARKER):
            folder.check_readable()
            unfinished = " (tokenising has begun but not finished: run it again)" if is_unfinished(folder) else ""
            raise ValueError(f"no token dataset in {folder.uri}; expected {MARKER}{unfinished}; see tokenize_images")
        self.folder = folder
        self.info = DatasetInfo.from_json(folder.read(MARKER), folder.uri)

    def split(self, name: str) -> Split:
        """A split's files and counts; ValueError names the known ones."""
        if name not in self.info.splits:
            raise ValueError(f"split {name!r} of {self.folder.uri}; expected one of {sorted(self.info.splits)}")
        return self.info.splits[name]

    def iter_shards(self, split: str) -> Iterator[TokenRows]:
        """Rows of each shard in order; every checksum is verified before a row is used."""
        for shard in self.split(split).shards:
            yield self.read_shard(split, shard)

    def read_shard(self, split: str, shard: Shard) -> TokenRows:
        """Rows of one shard; ValueError when its bytes are not those that were written."""
        data = self.folder.read(f"{split}/{shard.name}")
        if checksum(data) != shard.sha256:
            raise ValueError(
                f"{self.folder.uri}/{split}/{shard.name} has a wrong checksum ({len(data)} bytes; expected "
                f"{shard.bytes}); the file was damaged or replaced: restore it or tokenise again"
            )
        rows = decode_shard(
            data,
            encoding=self.info.encoding,
            num_tokens=self.info.num_tokens,
            num_codes=self.info.codebook_size,
        )
        if len(rows) != shard.rows:
            raise ValueError(f"{split}/{shard.name} holds {len(rows)} rows; expected {shard.rows}; tokenise again")
        return rows

    def read_columns(self, split: str, shard: Shard, columns: Sequence[str]) -> pa.Table:
        """Some columns of a shard, such as key and label, by ranges of its file: the tokens are not read.

        Each page is compared with its own checksum. ValueError when one is damaged, or rows are missing.
        """
        name = f"{split}/{shard.name}"
        with self.folder.open(name) as file:
            try:
                opened = pq.ParquetFile(file, page_checksum_verification=True)
                table = opened.read(list(columns), use_threads=False)
            except (pa.ArrowException, OSError) as error:
                reason = " ".join(str(error).split())
                raise ValueError(
                    f"{self.folder.uri_of(name)} cannot be read ({reason}); expected what was written; restore it, "
                    "or tokenise again"
                ) from error
        if len(table) != shard.rows:
            raise ValueError(f"{name} holds {len(table)} rows; expected {shard.rows}; tokenise again")
        return table

    def read_split(self, split: str) -> TokenRows:
        """All rows of a split, in manifest order."""
        parts = list(self.iter_shards(split))
        if not parts:
            raise ValueError(f"split {split!r} of {self.folder.uri} is empty; expected at least one image")
        return concat_rows(parts)

    def rejected(self, split: str) -> pa.Table:
        """key and reason of images that could not be read; ValueError when a table is not the one that was written."""
        return pa.concat_tables([REJECTED_SCHEMA.empty_table(), *map(parquet_table, self.iter_rejects(split))])

    def iter_rejects(self, split: str) -> Iterator[bytes]:
        """The tables of a split's rejects as they are stored, fetched some at once; ValueError as `rejected`."""
        files = self.split(split).rejects
        names = [f"{split}/{file.name}" for file in files]
        for file, name, data in zip(files, names, read_all(self.folder, names), strict=True):
            if checksum(data) != file.sha256:
                raise ValueError(f"{self.folder.uri_of(name)} has a wrong checksum; it was altered: restore it")
            yield data

    @cached_property
    def num_synonyms(self) -> int | None:
        """Synonyms of each code that travel with it; None when none do."""
        rows = read_rows(self.folder)
        return None if rows is None else len(rows[0])

    def histogram(self) -> np.ndarray:
        """Counts int64 [K] of the codes over all splits."""
        return np.sum([np.asarray(s.code_histogram, np.int64) for s in self.info.splits.values()], axis=0)

    def entropy_bytes(self) -> float:
        """Order-0 entropy of the codes, in bytes an image."""
        return entropy_bits(self.histogram()) * self.info.num_tokens / 8


def is_unfinished(folder: Folder) -> bool:
    """Whether a tokenising job has left its work here."""
    return folder.join("_work").exists("plan.json")


def check_classes(names: list[str] | None, where: str) -> int:
    """How many classes there are; ValueError when there are none to tell apart."""
    if not names or len(names) < 2:
        raise ValueError(
            f"{where} has {len(names or [])} classes; expected at least 2; take a folder per class or a table "
            "with labels"
        )
    return len(names)


def check_maps(dataset: TokenDataset) -> int:
    """How many classes the label maps of a dataset have; ValueError for a dataset without maps."""
    if dataset.info.map_labels is None:
        raise ValueError(
            f"{dataset.folder.uri} has no label maps; expected a token dataset of images with a class a pixel; "
            "tokenise with source.masks or source.mask_column, or leave out task=segment"
        )
    return check_classes(dataset.info.class_names, dataset.folder.uri)


def identity_of(dataset: TokenDataset) -> dict[str, Any]:
    """What a model and the tokens it is given must agree on."""
    info = dataset.info
    return {"tokenizer": info.tokenizer, "grid": list(info.grid), "codebook_size": info.codebook_size}
