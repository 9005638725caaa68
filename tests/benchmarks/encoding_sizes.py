"""Bytes an image and rows/s a core of token encodings, against the order-0 entropy; one table a dataset.

python tests/benchmarks/encoding_sizes.py [DATASET ...] [--array FILE.npy:K ...] [--vq ROWS] [--rounds R]

DATASET is a token dataset (its first split), an array holds tokens uint16 [N,L] of K codes, and --vq draws tokens
without structure: 1,024 of 391 codes at 8.30 bits, as a ViT-VQGAN gives. The encodings of the package are measured as
shards (their token column in Parquet), beside what else was tried: bare uint16, byte planes (the low bytes, then planes
of the higher bits), SeiT's escape bytes and gzip, sorted tokens (order lost: a bound, not an encoding), range coding
with one table. Rates are rows per second of CPU time in one thread, the best of the rounds.
"""

import argparse
import gzip
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from seit_ray.shards import TokenDataset, context
from seit_ray.shards.encoding import ENCODINGS, ROWS_PER_GROUP
from seit_ray.shards.parquet import one_chunk, parquet_bytes, parquet_table
from seit_ray.shards.published import MAX_CODES, decode_stream, encode_stream
from seit_ray.shards.statistics import code_histogram, entropy_bits
from seit_ray.storage import Folder

VQ_TOKENS, VQ_CODES, VQ_BITS = 1024, 391, 8.30


class Candidate:
    """Two ways: tokens uint16 [N,L] of K codes -> bytes, and back."""

    def __init__(self, encode: Callable[[np.ndarray, int], bytes], decode: Callable[[bytes, int, int], Any]):
        self.encode, self.decode = encode, decode


def in_parquet(name: str) -> Candidate:
    """An encoding of the package, as the one column of a Parquet file."""
    codec = ENCODINGS[name]

    def encode(tokens: np.ndarray, num_codes: int) -> bytes:
        table = pa.table({"tokens": codec.pack(tokens, num_codes)})
        return parquet_bytes(table, ["tokens.list.element"] * codec.dictionary, codec.group_rows(tokens.shape[1]))

    def decode(data: bytes, num_tokens: int, num_codes: int) -> np.ndarray:
        column = pa.concat_arrays(parquet_table(data)["tokens"].chunks)
        return codec.unpack(column, num_tokens, num_codes)

    return Candidate(encode, decode)


def byte_planes() -> Candidate:
    """The low bytes of the tokens, then their higher bits, one plane of bits after another; zstd in Parquet."""

    def encode(tokens: np.ndarray, num_codes: int) -> bytes:
        num_planes = max(0, (num_codes - 1).bit_length() - 8)
        planes = [np.packbits((tokens >> (8 + i)) & 1, axis=1) for i in range(num_planes)]
        rows = np.concatenate([(tokens & 255).astype(np.uint8), *planes], axis=1)
        column = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(rows.shape[1]), len(rows), [None, pa.py_buffer(rows.tobytes())]
        )
        return parquet_bytes(pa.table({"tokens": column}), [], ROWS_PER_GROUP)

    def decode(data: bytes, num_tokens: int, num_codes: int) -> np.ndarray:
        column = one_chunk(parquet_table(data)["tokens"])
        rows = np.frombuffer(column.buffers()[1], np.uint8).reshape(len(column), -1)
        tokens = rows[:, :num_tokens].astype(np.uint16)
        num_planes = max(0, (num_codes - 1).bit_length() - 8)
        for i, plane in enumerate(np.split(rows[:, num_tokens:], num_planes, axis=1) if num_planes else []):
            tokens |= np.unpackbits(plane, axis=1, count=num_tokens).astype(np.uint16) << (8 + i)
        return tokens

    return Candidate(encode, decode)


def one_table() -> Candidate:
    """The compact encoding, of which no token knows its neighbours."""
    compact = in_parquet("compact")

    def encode(tokens: np.ndarray, num_codes: int) -> bytes:
        tried, context.NUM_GROUPS = context.NUM_GROUPS, ()
        try:
            return compact.encode(tokens, num_codes)
        finally:
            context.NUM_GROUPS = tried

    return Candidate(encode, compact.decode)


def escaped() -> Candidate:
    """Escape bytes and gzip, as SeiT's release; offsets are not counted."""

    def encode(tokens: np.ndarray, num_codes: int) -> bytes:
        return gzip.compress(encode_stream(tokens)[0].tobytes(), mtime=0)

    def decode(data: bytes, num_tokens: int, num_codes: int) -> np.ndarray:
        stream = np.frombuffer(gzip.decompress(data), np.uint8)
        ends = np.cumsum(stream != 255)  # an escape byte ends no token
        offsets = np.searchsorted(ends, np.arange(num_tokens, ends[-1] + 1, num_tokens)) + 1
        return decode_stream(stream, np.concatenate([[0], offsets]), num_tokens=num_tokens, num_codes=num_codes)

    return Candidate(encode, decode)


def zstd(prepare: Callable[[np.ndarray], np.ndarray]) -> Candidate:
    """Prepared uint16 values and zstd at level 9; decoding does not undo the preparation."""
    codec = pa.Codec("zstd", 9)

    def decode(data: bytes, num_tokens: int, num_codes: int) -> None:
        del num_codes
        codec.decompress(data[8:], int.from_bytes(data[:8]))

    def encode(tokens: np.ndarray, num_codes: int) -> bytes:
        del num_codes
        raw = prepare(tokens).tobytes()
        return len(raw).to_bytes(8) + codec.compress(raw, asbytes=True)

    return Candidate(encode, decode)


CANDIDATES = {
    "uint16, bare": Candidate(
        lambda tokens, k: tokens.tobytes(), lambda data, n, k: np.frombuffer(data, np.uint16).copy()
    ),
    "uint16, zstd -9": zstd(lambda tokens: tokens),
    "sorted in an image, differences, zstd -9 (bound)": zstd(
        lambda tokens: np.diff(np.sort(tokens, axis=1), axis=1, prepend=np.uint16(0))
    ),
    "escape bytes, gzip (SeiT)": escaped(),
    "plain: list, dictionary, zstd": in_parquet("plain"),
    "byte planes, zstd": byte_planes(),
    "range coding, one table": one_table(),
    "compact: range coding, by neighbours": in_parquet("compact"),
}


def timed(function: Callable, *arguments: Any) -> tuple[float, Any]:
    """(CPU seconds, result) of a call."""
    start = time.process_time()
    result = function(*arguments)
    return max(time.process_time() - start, 1e-9), result


def measure(title: str, tokens: np.ndarray, num_codes: int, rounds: int) -> None:
    """Print the table of one array of tokens."""
    rows, num_tokens = tokens.shape
    entropy = entropy_bits(code_histogram(tokens, num_codes)) * num_tokens / 8
    print(
        f"\n{title}: {rows} rows of {num_tokens} tokens, K {num_codes}; order-0 entropy {entropy:.1f} bytes an image\n"
    )
    print("| encoding | bytes an image | of the entropy | encode rows/s | decode rows/s |\n|---|---|---|---|---|")
    for name, candidate in CANDIDATES.items():
        if name.startswith("escape") and num_codes > MAX_CODES:
            print(f"| {name} | cannot hold {num_codes} codes | - | - | - |")
            continue
        runs = [timed(candidate.encode, tokens, num_codes) for _ in range(rounds)]
        data = runs[0][1]
        reads = [timed(candidate.decode, data, num_tokens, num_codes) for _ in range(rounds)]
        if reads[0][1] is not None and not np.array_equal(reads[0][1].reshape(tokens.shape), tokens):
            raise RuntimeError(f"{name} gives other tokens back")
        each, best = len(data) / rows, (rows / min(seconds for seconds, _ in times) for times in (runs, reads))
        encode_rate, decode_rate = best
        print(f"| {name} | {each:.1f} | {each / entropy:.3f} | {encode_rate:,.0f} | {decode_rate:,.0f} |", flush=True)


def drawn(rows: int, seed: int = 0) -> np.ndarray:
    """Tokens without structure whose frequencies have about VQ_BITS of entropy."""
    rng = np.random.default_rng(seed)
    ranks = np.arange(1, VQ_CODES + 1)
    spreads = np.linspace(0, 2, 2001)  # of a Zipf law: find the one of that entropy
    flat = next(s for s in spreads if entropy_bits(1e9 / ranks**s) <= VQ_BITS)
    chances = 1 / ranks**flat
    return rng.choice(VQ_CODES, p=chances / chances.sum(), size=(rows, VQ_TOKENS)).astype(np.uint16)


def main() -> None:
    """Print a table for every dataset and array that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", metavar="DATASET")
    parser.add_argument("--array", action="append", default=[], metavar="FILE.npy:K")
    parser.add_argument("--vq", type=int, default=0, metavar="ROWS")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"python {platform.python_version()}, numpy {np.__version__}, pyarrow {pa.__version__}")
    for uri in options.datasets:
        dataset = TokenDataset(Folder(uri))
        split = next(name for name, found in dataset.info.splits.items() if found.rows)
        measure(f"{uri} {split}", dataset.read_split(split).tokens, dataset.info.codebook_size, options.rounds)
    for text in options.array:
        file, _, num_codes = text.rpartition(":")
        measure(file, np.load(file), int(num_codes), options.rounds)
    if options.vq:
        measure("drawn without structure", drawn(options.vq), VQ_CODES, options.rounds)


if __name__ == "__main__":
    main()
