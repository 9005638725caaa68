"""Synonyms that travel with a dataset: tokenizer/synonyms.json beside the tokenizer; and the release's synonyms.json.

Shapes: K codes, S synonyms a code, nearest first.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from seit_ray.shards.parquet import checksum
from seit_ray.storage import Folder

if TYPE_CHECKING:
    from torch import Tensor

SYNONYMS = "tokenizer/synonyms.json"
NUM_SYNONYMS = 10  # of each code, stored with a dataset that is made here: twice as many as SeiT picks from


def write_synonyms(dataset: Folder, synonyms: Tensor) -> None:
    """Write synonyms [K,S] into a dataset's folder; before its marker, as all else. ValueError for a wrong table."""
    rows = synonyms.tolist()
    check_rows(rows)
    content = json.dumps({"synonyms": rows, "sha256": checksum(json.dumps(rows).encode())})
    dataset.write(SYNONYMS, content.encode())


def read_synonyms(dataset: Folder) -> Tensor | None:
    """Synonyms int64 [K,S] of the dataset in a folder; None when it has none; ValueError when they are damaged."""
    import torch

    rows = read_rows(dataset)
    return None if rows is None else torch.tensor(rows, dtype=torch.int64)


def read_rows(dataset: Folder) -> list[list[int]] | None:
    """`read_synonyms` as plain lists, without torch."""
    if not dataset.exists(SYNONYMS):
        return None
    try:
        content = parse_json(dataset.read(SYNONYMS))
        rows: list[list[int]] = content["synonyms"]
        if checksum(json.dumps(rows).encode()) != content["sha256"]:
            raise ValueError("wrong checksum")
        check_rows(rows)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{dataset.uri_of(SYNONYMS)} cannot be read ({error!r}); restore it or write it again"
        ) from error
    return rows


def check_number(num_synonyms: int, num_codes: int, stored: int | None, where: str) -> None:
    """ValueError where an augmentation picks from more synonyms than there are.

    stored: how many of a code the dataset, called `where`, has; None where a table is made of the codebook.
    """
    if num_synonyms >= num_codes:
        raise ValueError(
            f"augment.num_synonyms {num_synonyms} of {num_codes} codes; expected 1 to {num_codes - 1}; lower it"
        )
    if stored is not None and num_synonyms > stored:
        raise ValueError(
            f"augment.num_synonyms {num_synonyms}; expected at most {stored}, as many as {where} has of each code; "
            "lower it, or set augment.synonym_metric to have a table made of the codebook"
        )


def parse_published(data: bytes, num_codes: int, num_synonyms: int | None = None) -> Tensor:
    """Synonyms int64 [K,S] of the bytes of a published synonyms.json, {"code": [codes, nearest first]}.

    `num_synonyms` keeps that many of each, all when left out. ValueError unless every code of the K has as many, none
    of them itself, and all below K.
    """
    import torch

    table = parse_json(data)
    if not isinstance(table, dict):
        raise ValueError(
            f"synonyms in a {type(table).__name__}; expected a mapping from code to codes; take another file"
        )
    wanted = {str(code) for code in range(num_codes)}
    missing, extra = wanted - set(table), set(table) - wanted
    if missing or extra:
        some = sorted(missing or extra, key=lambda name: (len(name), name))[:3]
        raise ValueError(
            f"synonyms of {len(table)} codes, {'without' if missing else 'with'} {', '.join(some)}; expected each "
            f"of the {num_codes} codes of the codebook; take the table that belongs to it"
        )
    rows = [table[str(code)] for code in range(num_codes)]
    check_rows(rows, num_synonyms)
    return torch.tensor([row[:num_synonyms] for row in rows], dtype=torch.int64)


def encode_published(synonyms: Tensor) -> bytes:
    """Bytes of a published synonyms.json of synonyms [K,S]."""
    return json.dumps({str(code): row for code, row in enumerate(synonyms.tolist())}).encode()


def parse_json(data: bytes) -> Any:
    """The content of JSON bytes; ValueError when they are none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"synonyms that are no JSON ({error}); expected a mapping; take another file") from error


def check_rows(rows: Any, num_synonyms: int | None = None) -> None:
    """ValueError unless these are K lists of as many codes below K, none of them a code's own; or at least so many."""
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) and row for row in rows):
        raise ValueError("synonyms without a list of codes for every code; expected one or more a code; mend the file")
    lengths = [len(row) for row in rows]
    least = min(lengths)
    if least < (num_synonyms or max(lengths)):
        raise ValueError(
            f"synonyms of code {lengths.index(least)}: {least}; expected {num_synonyms or max(lengths)}, as many for "
            f"every code; set num_synonyms to {least} or less, to use the nearest alone"
        )
    for code, row in enumerate(rows):
        for other in row:
            if type(other) is not int or not 0 <= other < len(rows) or other == code:
                raise ValueError(
                    f"synonym {str(other)[:40]!r} of code {code}; expected another code, from 0 to {len(rows) - 1}; "
                    "take the table that belongs to the codebook"
                )
