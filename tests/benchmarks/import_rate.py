"""Images/s a core of decoding published token bytes, against a plain loop over bytes; prints both and their ratio.

python tests/benchmarks/import_rate.py [--images N] [--grid H W] [--codes K] [--rounds R]

Three rates: `decode_stream` on bytes in memory, `iter_tokens` from gzip on top of it, and the whole import to shards.
Rates are per second of CPU time. Rounds alternate, and the best of each counts: a busy machine slows all down.
"""

import argparse
import gzip
import io
import itertools
import tempfile
import time

import numpy as np

from seit_ray.shards.published import IMAGES_PER_CHUNK, decode_stream, encode_offsets, encode_stream, iter_tokens
from seit_ray.storage import Folder


def plain_decode(data: bytes, offsets: list[int]) -> list[list[int]]:
    """The format read as its definition says it, a byte at a time."""
    images = []
    for start, stop in itertools.pairwise(offsets):
        tokens, high = [], 0
        for byte in data[start:stop]:
            if byte == 255:
                high = 255
            else:
                tokens.append(high + byte)
                high = 0
        images.append(tokens)
    return images


def decode(data: np.ndarray, offsets: np.ndarray, num_tokens: int, num_codes: int) -> list[np.ndarray]:
    """All tokens, in the chunks of an import."""
    parts = []
    for first in range(0, len(offsets) - 1, IMAGES_PER_CHUNK):
        bounds = offsets[first : first + IMAGES_PER_CHUNK + 1]
        chunk = data[bounds[0] : bounds[-1]]
        parts.append(decode_stream(chunk, bounds - bounds[0], num_tokens=num_tokens, num_codes=num_codes))
    return parts


def import_all(zipped: bytes, offsets: np.ndarray, grid: tuple[int, int], num_codes: int) -> None:
    """A whole import of one split into a temporary folder."""
    import torch

    from seit_ray.shards.importing import ImportJob, SplitFiles, run_import
    from seit_ray.tokenizers.codebook_only import CodebookTokenizer

    with tempfile.TemporaryDirectory() as name:
        work = Folder(name)
        work.write("data", zipped)
        work.write("index", encode_offsets(np.diff(offsets)))
        job = ImportJob(
            files={"train": SplitFiles(work.uri_of("data"), work.uri_of("index"), None)},
            tokenizer=CodebookTokenizer(torch.ones(num_codes, 8), grid=grid, image_size=256),
            report={},
            synonyms=None,
            output=work.join("tokens"),
            num_classes=None,
            rows_per_shard=16384,
            encoding="plain",
        )
        run_import(job)


def seconds(function, *arguments) -> float:
    """CPU time that a call takes, over all threads: other work on the machine is not counted."""
    start = time.process_time()
    function(*arguments)
    return time.process_time() - start


def main() -> None:
    """Print the rates and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16384)
    parser.add_argument("--grid", type=int, nargs=2, default=(32, 32))
    parser.add_argument("--codes", type=int, default=391)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    num_tokens, num_codes, few = options.grid[0] * options.grid[1], options.codes, max(1, options.images // 64)
    tokens = np.random.default_rng(0).integers(num_codes, size=(options.images, num_tokens)).astype(np.uint16)
    data, lengths = encode_stream(tokens)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    zipped, some = gzip.compress(data.tobytes()), offsets[: few + 1].tolist()
    if plain_decode(data.tobytes(), some) != tokens[:few].tolist():
        raise RuntimeError("the plain loop reads other tokens")
    if not np.array_equal(np.concatenate(decode(data, offsets, num_tokens, num_codes)), tokens):
        raise RuntimeError("decode_stream reads other tokens")
    best = dict.fromkeys(("plain", "decode", "gzip", "import"), 0.0)
    for number in range(options.rounds):
        stream = iter_tokens(io.BytesIO(zipped), offsets, num_tokens=num_tokens, num_codes=num_codes)
        rates = {
            "plain": few / seconds(plain_decode, data.tobytes(), some),
            "decode": options.images / seconds(decode, data, offsets, num_tokens, num_codes),
            "gzip": options.images / seconds(list, stream),
            "import": options.images / seconds(import_all, zipped, offsets, tuple(options.grid), num_codes),
        }
        best = {name: max(rate, rates[name]) for name, rate in best.items()}
        print(f"round {number}: " + ", ".join(f"{name} {rate:.0f}/s" for name, rate in rates.items()), flush=True)
    ratio = best["decode"] / best["plain"]
    print(f"best: decode {best['decode']:.0f}/s, plain {best['plain']:.0f}/s, ratio {ratio:.0f}")


if __name__ == "__main__":
    main()
