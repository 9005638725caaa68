"""Which types of Parquet columns may hold images, label maps and addresses, and what is said of others."""

from __future__ import annotations

import pyarrow as pa


def check_image_column(schema: pa.Schema, column: str, uri: str) -> None:
    """ValueError unless the column holds bytes, or structs with bytes."""
    fault = image_type_fault(schema.field(column).type)
    if fault:
        raise ValueError(f"column {column!r} in {uri} {fault}")


def check_mask_column(schema: pa.Schema, column: str, uri: str) -> None:
    """ValueError unless the column of label maps, where there is one, holds bytes as that of images, or addresses."""
    kind = schema.field(column).type if column else None
    if kind is not None and not is_text(kind) and image_type_fault(kind):
        raise ValueError(
            f"column {column!r} in {uri} is of type {kind}; expected label maps as the bytes of PNG (binary, or a "
            "struct with a field 'bytes'), or their addresses; correct source.mask_column, or convert it"
        )


def image_type_fault(kind: pa.DataType) -> str | None:
    """What is wrong with the type of a column of images, and the mend; None when it is right."""
    expected = "expected the bytes of encoded images (binary, or a struct with a field 'bytes')"
    if pa.types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        if "bytes" in names and _is_binary(kind.field("bytes").type):
            return None
        return f"is a struct of {names}; {expected}; embed the images when you write the file"
    if _is_binary(kind):
        return None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return f"holds text; {expected}; if it holds addresses, set source.kind=table and source.uri_column"
    return f"is of type {kind}; {expected}; convert the column to binary"


def is_text(kind: pa.DataType) -> bool:
    """Whether a column is one of texts, perhaps of few that come again, or of nothing but empty cells."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)


def has_paths(schema: pa.Schema, column: str) -> bool:
    """Whether the structs of a column may hold the path of an image beside its bytes."""
    kind = schema.field(column).type
    names = [kind.field(i).name for i in range(kind.num_fields)] if pa.types.is_struct(kind) else []
    return "path" in names and pa.types.is_string(kind.field("path").type)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
