"""Predictions as tables, Parquet and CSV."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from seit_ray.evaluation.predictions import (
    REJECTED,
    counts_of,
    encode_table,
    join_parts,
    part_tables,
    predictions_schema,
)

CLASSES = ["ant", "größe, 猫", "cow"]
SCHEMA = predictions_schema(probabilities=True, top_k=2)
VALUES = np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4], [0.0, 0.1, 0.9]], np.float32)


def manifest_rows(ids, labels, **more):
    """Rows as decoded images have them."""
    names = {"id": pa.array(ids, pa.int64()), "key": [f"k{i}" for i in ids], "uri": [f"/images/k{i}" for i in ids]}
    return pa.table({**names, "label": pa.array(labels, pa.int32()), **more})


def part(ids=(1, 4, 2), labels=(0, 1, None), bad=(3,), values=VALUES, **options):
    """A part's tables; image 4 is of the source's class 'cow'."""
    rows = manifest_rows(ids, labels, width=pa.array([8] * len(ids), pa.int32()))
    rejected = manifest_rows(bad, [1] * len(bad), reason=pa.array([f"bad {i}" for i in bad], pa.string()))
    options = {"probabilities": True, "top_k": 2, **options}
    return part_tables(rows, rejected, values, class_names=CLASSES, source_names=["ant", "cow"], **options)


def test_rows_say_what_the_model_says():
    table, _ = join_parts([part()], SCHEMA)
    assert table.schema.names == [
        *("key", "uri", "source_label", "label", "probability"),
        *("probabilities", "top_labels", "top_probabilities"),
    ]
    rows = table.to_pylist()
    assert [r["key"] for r in rows] == ["k1", "k2", "k4"]
    assert [r["label"] for r in rows] == ["größe, 猫", "cow", "ant"]  # of equals, the first
    assert [r["source_label"] for r in rows] == ["ant", None, "cow"]
    assert rows[1]["uri"] == "/images/k2"
    assert rows[1]["probabilities"] == pytest.approx([0.0, 0.1, 0.9])
    assert rows[2]["top_labels"] == ["ant", "cow"]
    assert rows[0]["top_probabilities"] == pytest.approx([0.5, 0.3])
    assert [r["probability"] for r in rows] == pytest.approx([0.5, 0.9, 0.4])


def test_rejects_are_a_table_of_their_own():
    _, rejected = join_parts([part(bad=(9, 0)), part((5,), (0,), (), VALUES[:1])], SCHEMA)
    assert rejected.to_pylist() == [
        {"key": "k0", "uri": "/images/k0", "source_label": "cow", "reason": "bad 0"},
        {"key": "k9", "uri": "/images/k9", "source_label": "cow", "reason": "bad 9"},
    ]


def test_parts_come_in_the_order_of_the_source():
    parts = [
        part((6, 7), (0, 0), (), VALUES[:2]),
        part((5,), (0,), (2,), VALUES[:1]),
        part((0,), (1,), (1,), VALUES[2:]),
    ]
    table, rejected = join_parts(parts, SCHEMA)
    assert table["key"].to_pylist() == ["k0", "k5", "k6", "k7"]
    assert rejected["key"].to_pylist() == ["k1", "k2"]
    assert table["label"].to_pylist() == ["cow", "größe, 猫", "größe, 猫", "ant"]


@pytest.mark.parametrize(("probabilities", "top_k"), [(False, 0), (True, 0), (False, 3)])
def test_columns_are_those_that_are_asked_for(probabilities, top_k):
    table, rejected = part(probabilities=probabilities, top_k=top_k)
    assert rejected.schema == REJECTED
    assert table.schema == predictions_schema(probabilities=probabilities, top_k=top_k)
    assert ("probabilities" in table.schema.names) is probabilities
    assert ("top_labels" in table.schema.names) is bool(top_k)
    assert (len(table), len(rejected)) == (3, 1)


def test_csv_has_a_column_for_each_number():
    table, rejected = join_parts([part()], SCHEMA)
    read = pa_csv.read_csv(io.BytesIO(encode_table(table, ".csv", class_names=CLASSES, top_k=2)))
    assert read.schema.names == [
        *("key", "uri", "source_label", "label", "probability"),
        *("p_ant", "p_größe, 猫", "p_cow"),
        *("label_1", "label_2", "probability_1", "probability_2"),
    ]
    rows = read.to_pylist()
    assert [r["p_größe, 猫"] for r in rows] == pytest.approx([0.5, 0.1, 0.2])
    assert [r["label_2"] for r in rows] == ["cow", "größe, 猫", "cow"]
    assert [r["probability_2"] for r in rows] == pytest.approx([0.3, 0.1, 0.4])
    assert rows[1]["source_label"] in (None, "")
    assert b"bad 3" in encode_table(rejected, ".csv", class_names=CLASSES, top_k=2)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_without_rows_have_their_columns(suffix):
    table, rejected = join_parts([part((), (), (1, 2), VALUES[:0])], SCHEMA)
    data = io.BytesIO(encode_table(table, suffix, class_names=CLASSES, top_k=2))
    read = pa_csv.read_csv(data) if suffix == ".csv" else pq.read_table(data)
    assert len(read) == 0
    assert len(read.schema.names) == (12 if suffix == ".csv" else 8)
    assert len(rejected) == 2
    assert counts_of(table) == {"predicted": 0, "labels": {}, "labelled": 0, "agreeing": 0}


def test_counts():
    table, _ = join_parts([part()], SCHEMA)
    assert counts_of(table) == {
        "predicted": 3,
        "labels": {"ant": 1, "cow": 1, "größe, 猫": 1},
        "labelled": 2,
        "agreeing": 0,
    }
    right, _ = join_parts([part((1, 2), (0, 1), (), VALUES[1:])], SCHEMA)
    assert counts_of(right)["agreeing"] == 2


def test_a_source_without_labels():
    rows = manifest_rows((0,), (None,))
    tables = part_tables(
        rows,
        manifest_rows((), (), reason=pa.array([], pa.string())),
        VALUES[:1],
        class_names=CLASSES,
        source_names=None,
        probabilities=False,
        top_k=0,
    )
    assert tables[0]["source_label"].to_pylist() == [None]
    assert counts_of(tables[0])["labelled"] == 0
    assert join_parts([tables, (None, None)], predictions_schema(probabilities=False, top_k=0))[0].num_rows == 1
