"""Predictions as tables: a row an image, in the order of the source, and a second table for what cannot be read.

key, uri             of the image
source_label         class that the source says, null where it says none
label, probability   likeliest class, and how likely
probabilities        of all classes, in the order of the model's; in CSV a column `p_<class>` each
top_labels, top_probabilities   the likeliest k, best first; in CSV `label_<i>`, `probability_<i>`
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

SUFFIXES = (".parquet", ".csv")
MAX_DEFAULT_CLASSES = 100  # up to here, the probabilities of all classes are given unasked
MAX_VALUES = 1 << 29  # of all probabilities in one table: 2 GiB


def check_name(uri: str) -> None:
    """ValueError unless a table's name says its format."""
    if posixpath.splitext(uri)[1].lower() not in SUFFIXES:
        raise ValueError(f"output {uri}; expected a name that ends in {' or '.join(SUFFIXES)}; add one")


def predictions_schema(*, probabilities: bool, top_k: int) -> pa.Schema:
    """Columns of a part: those of the module's docstring, between the image's place and the reason of a reject."""
    fields = {"id": pa.int64(), "key": pa.string(), "uri": pa.string(), "source_label": pa.string()}
    fields |= {"label": pa.string(), "probability": pa.float32()}
    if probabilities:
        fields["probabilities"] = pa.list_(pa.float32())
    if top_k:
        fields |= {"top_labels": pa.list_(pa.string()), "top_probabilities": pa.list_(pa.float32())}
    return pa.schema({**fields, "reason": pa.string()})


def part_table(
    rows: pa.Table,
    rejected: pa.Table,
    values: np.ndarray,
    *,
    class_names: Sequence[str],
    source_names: Sequence[str] | None,
    probabilities: bool,
    top_k: int,
) -> pa.Table:
    """A part's rows, with their probabilities float32 [N,C], and its rejects, as one table of `predictions_schema`.

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
        "reason": pa.nulls(len(rows), pa.string()),
    }
    if probabilities:
        columns["probabilities"] = lists_of(pa.array(values.ravel(), pa.float32()), values.shape)
    if top_k:
        columns["top_labels"] = lists_of(names.take(pa.array(best.ravel())), best.shape)
        columns["top_probabilities"] = lists_of(pa.array(chosen.ravel(), pa.float32()), best.shape)
    schema = predictions_schema(probabilities=probabilities, top_k=top_k)
    good = pa.table({name: columns[name] for name in schema.names}, schema)
    bad = {name: rejected[name] for name in ("id", "key", "uri", "reason")}
    bad["source_label"] = source_labels(rejected, source_names)
    empty = {f.name: pa.nulls(len(rejected), f.type) for f in schema if f.name not in bad}
    return pa.concat_tables([good, pa.table({n: (bad | empty)[n] for n in schema.names}, schema)])


def source_labels(rows: pa.Table, source_names: Sequence[str] | None) -> pa.Array:
    """Names of the labels of manifest rows, null where there is none."""
    return pa.array(source_names or [], pa.string()).take(rows["label"].combine_chunks())


def lists_of(values: pa.Array, shape: tuple[int, int]) -> pa.ListArray:
    """Flat values as lists of equal length."""
    offsets = np.arange(shape[0] + 1, dtype=np.int32) * shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def join_parts(parts: Sequence[pa.Table]) -> tuple[pa.Table, pa.Table]:
    """(predictions, rejected: key, uri, source_label and reason), both in the order of the source."""
    table = pa.concat_tables(parts).sort_by("id").drop_columns(["id"])
    is_good = pc.is_null(table["reason"])
    good = table.filter(is_good).drop_columns(["reason"])
    return good, table.filter(pc.invert(is_good)).select(["key", "uri", "source_label", "reason"])


def counts_of(table: pa.Table) -> dict[str, Any]:
    """predicted images, `labels` (name -> images), those `labelled` by the source, and those of them that agree."""
    found = table["label"].value_counts()
    agree = pc.sum(pc.equal(table["label"], table["source_label"])).as_py()
    return {
        "predicted": len(table),
        "labels": {item["values"].as_py(): item["counts"].as_py() for item in found},
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
