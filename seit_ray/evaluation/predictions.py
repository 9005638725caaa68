"""Predictions as tables: a row an image, in the order of the source, and a second table for what cannot be read.

key, uri             of the image
source_label         class that the source says, null where it says none
label, probability   likeliest class, and how likely
probabilities        of all classes, in the order of the model's; in CSV a column `p_<class>` each
top_labels, top_probabilities   the likeliest k, best first; in CSV `label_<i>`, `probability_<i>`
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

SUFFIXES = (".parquet", ".csv")
MAX_DEFAULT_CLASSES = 100  # up to here, the probabilities of all classes are given unasked
MAX_VALUES = 1 << 29  # of all probabilities in one table: 2 GiB


IMAGE = {"id": pa.int64(), "key": pa.string(), "uri": pa.string(), "source_label": pa.string()}
REJECTED = pa.schema({**IMAGE, "reason": pa.string()})


def predictions_schema(*, probabilities: bool, top_k: int) -> pa.Schema:
    """Columns of a part: those of the module's docstring, behind the image's place in the source."""
    fields = {**IMAGE, "label": pa.string(), "probability": pa.float32()}
    if probabilities:
        fields["probabilities"] = pa.list_(pa.float32())
    if top_k:
        fields |= {"top_labels": pa.list_(pa.string()), "top_probabilities": pa.list_(pa.float32())}
    return pa.schema(fields)


def part_tables(
    rows: pa.Table,
    rejected: pa.Table,
    values: np.ndarray,
    *,
    class_names: Sequence[str],
    source_names: Sequence[str] | None,
    probabilities: bool,
    top_k: int,
) -> tuple[pa.Table, pa.Table]:
    """(a part's rows, with their probabilities float32 [N,C], in `predictions_schema`; its rejects, in REJECTED).

    `rows` and `rejected` are a `DecodedImages`'; `source_names` are the classes that their labels number.
    """
    names = pa.array(class_names, pa.string())
    # stable, so that of classes that are equally likely the first comes first
    best = np.argsort(-values, axis=1, kind="stable")[:, : max(1, top_k)]
    chosen = np.take_along_axis(values, best, axis=1)
    columns = {
        **{name: rows[name] for name in ("id", "key", "uri")},
        "source_label": source_labels(rows, source_names),
        "label": names.take(pa.array(best[:, 0])),
        "probability": pa.array(chosen[:, 0], pa.float32()),
    }
    if probabilities:
        columns["probabilities"] = lists_of(pa.array(values.ravel(), pa.float32()), values.shape)
    if top_k:
        columns["top_labels"] = lists_of(names.take(pa.array(best.ravel())), best.shape)
        columns["top_probabilities"] = lists_of(pa.array(chosen.ravel(), pa.float32()), best.shape)
    schema = predictions_schema(probabilities=probabilities, top_k=top_k)
    bad = {name: rejected[name] for name in ("id", "key", "uri", "reason")}
    bad["source_label"] = source_labels(rejected, source_names)
    return (
        pa.table({name: columns[name] for name in schema.names}, schema),
        pa.table({name: bad[name] for name in REJECTED.names}, REJECTED),
    )


def source_labels(rows: pa.Table, source_names: Sequence[str] | None) -> pa.Array:
    """Names of the labels of manifest rows, null where there is none."""
    return pa.array(source_names or [], pa.string()).take(rows["label"].combine_chunks())


def lists_of(values: pa.Array, shape: tuple[int, int]) -> pa.ListArray:
    """Flat values as lists of equal length."""
    offsets = np.arange(shape[0] + 1, dtype=np.int32) * shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def join_parts(
    parts: Iterable[tuple[pa.Table | None, pa.Table | None]], schema: pa.Schema
) -> tuple[pa.Table, pa.Table]:
    """(predictions, rejected) of parts, both in the order of the source."""
    good, bad = [schema.empty_table()], [REJECTED.empty_table()]
    for table, rejected in parts:
        good += [table] if table is not None else []
        bad += [rejected] if rejected is not None else []
    joined = (pa.concat_tables(tables).sort_by("id").drop_columns(["id"]) for tables in (good, bad))
    table, rejected = joined
    return table, rejected


def counts_of(table: pa.Table) -> dict[str, Any]:
    """predicted images, `labels` (name -> images), those `labelled` by the source, and those of them that agree."""
    found = table["label"].value_counts()
    agree = pc.sum(pc.equal(table["label"], table["source_label"])).as_py()
    return {
        "predicted": len(table),
        "labels": dict(sorted((item["values"].as_py(), item["counts"].as_py()) for item in found)),
        "labelled": len(table) - table["source_label"].null_count,
        "agreeing": agree or 0,
    }


def encode_table(table: pa.Table, suffix: str, *, class_names: Sequence[str], top_k: int) -> bytes:
    """A table as a file of one of SUFFIXES; in CSV, lists become columns."""
    if suffix == ".parquet":
        return encode_parquet(table)
    sink = io.BytesIO()
    pa_csv.write_csv(flatten(table, class_names, top_k), sink)
    return sink.getvalue()


def encode_parquet(table: pa.Table) -> bytes:
    """A table as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def flatten(table: pa.Table, class_names: Sequence[str], top_k: int) -> pa.Table:
    """The table with a column for each item of its lists."""
    titles = {
        "probabilities": [f"p_{name}" for name in class_names],
        "top_labels": [f"label_{i + 1}" for i in range(top_k)],
        "top_probabilities": [f"probability_{i + 1}" for i in range(top_k)],
    }
    columns, names = [], []
    for name in table.column_names:
        if name in titles:
            columns += [pc.list_element(table[name], i) for i in range(len(titles[name]))]
        else:
            columns.append(table[name])
        names += titles.get(name, [name])
    return pa.table(columns, names=names)
