"""Sources for tests."""

import json

import pyarrow as pa
import pyarrow.parquet as pq


def fill(folder, *names):
    for name in names:
        folder.write(name, name.encode())


def write_parquet(folder, name, columns, features=None, row_group_size=2):
    table = pa.table(columns)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=row_group_size)
    folder.write(name, sink.getvalue().to_pybytes())


def listed(found):
    """(key, label, split) of each record."""
    return [(record.key, record.label, record.split) for record in found]
