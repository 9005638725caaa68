"""What an exemplar of a memory is stored as, and what that takes: real encoded bytes. n exemplars, L tokens, S pixels.

A codec has `size(rows)`, the bytes of those rows together, and `decoded(rows)`, what is read back from these bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from seit_ray.images.decode import decode_image
from seit_ray.images.recode import written
from seit_ray.shards.parquet import META, TokenRows, decode_shard, encode_shard, token_column_bytes

Read = Callable[[np.ndarray], np.ndarray]  # row numbers int64 [n] -> tokens uint16 [n,L], or images uint8 [n,3,S,S]


class Codec(Protocol):
    """How exemplars are kept."""

    def size(self, rows: np.ndarray) -> int:
        """Bytes of the given rows, stored together."""

    def decoded(self, rows: np.ndarray) -> np.ndarray:
        """What comes back from these bytes."""


class TokenCodec:
    """Tokens uint16 in one of the encodings of token datasets, as a column of Parquet."""

    def __init__(self, read: Read, encoding: str, num_codes: int):
        self.read, self.encoding, self.num_codes = read, encoding, num_codes
        self.last: tuple[bytes, bytes] | None = None  # rows and what they became: asked for again

    def encoded(self, rows: np.ndarray) -> bytes:
        """The given rows as a shard of nothing but tokens."""
        if self.last is None or self.last[0] != rows.tobytes():
            self.last = (rows.tobytes(), self.encode(self.read(rows)))
        return self.last[1]

    def encode(self, tokens: np.ndarray) -> bytes:
        """A shard of tokens."""
        empty = {name: pa.array([b"" if name == "key" else None] * len(tokens), kind) for name, kind in META.items()}
        return encode_shard(TokenRows(tokens, pa.table(empty)), encoding=self.encoding, num_codes=self.num_codes)

    def size(self, rows: np.ndarray) -> int:
        """Compressed bytes of the column of tokens, as a dataset's `token_bytes`."""
        return token_column_bytes(self.encoded(rows)) if len(rows) else 0

    def decoded(self, rows: np.ndarray) -> np.ndarray:
        """The same tokens."""
        none = self.read(rows[:0])
        if not len(rows):
            return none
        how = {"encoding": self.encoding, "num_tokens": none.shape[1], "num_codes": self.num_codes}
        return decode_shard(self.encoded(rows), **how).tokens


class JpegCodec:
    """Images as JPEG files of a quality, together in a column of Parquet; each is encoded once."""

    def __init__(self, read: Read, quality: int):
        self.read, self.quality = read, quality
        self.files: dict[int, bytes] = {}

    def encoded(self, rows: np.ndarray) -> list[bytes]:
        """The files of the given rows."""
        missing = np.array([row for row in rows.tolist() if row not in self.files], np.int64)
        for row, pixels in zip(missing.tolist(), self.read(missing), strict=True):
            self.files[row] = written(Image.fromarray(pixels.transpose(1, 2, 0)), "JPEG", self.quality)
        return [self.files[row] for row in rows.tolist()]

    def size(self, rows: np.ndarray) -> int:
        """Compressed bytes of the column: small files do not pay for the headers that all of them repeat."""
        if not len(rows):
            return 0
        sink = pa.BufferOutputStream()
        column = pa.table({"image": pa.array(self.encoded(rows), pa.large_binary())})
        pq.write_table(column, sink, compression="zstd", use_dictionary=False, write_statistics=False)
        meta = pq.ParquetFile(pa.BufferReader(sink.getvalue())).metadata
        return sum(meta.row_group(i).column(0).total_compressed_size for i in range(meta.num_row_groups))

    def decoded(self, rows: np.ndarray) -> np.ndarray:
        """The images that the files decode to; the first encoding is the only one."""
        files = self.encoded(rows)
        side = self.read(rows[:0]).shape[-1]
        found = [decode_image(data, image_size=side).pixels for data in files]
        return np.stack(found) if found else np.empty((0, 3, side, side), np.uint8)


class RawCodec:
    """Pixels as they are, a byte a value, nothing compressed."""

    def __init__(self, read: Read):
        self.read = read

    def size(self, rows: np.ndarray) -> int:
        """Bytes of the values."""
        _, channels, height, width = self.read(rows[:0]).shape
        return len(rows) * channels * height * width

    def decoded(self, rows: np.ndarray) -> np.ndarray:
        """The same images."""
        return self.read(rows)
