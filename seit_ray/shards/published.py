"""The token files of SeiT's release: escape bytes, byte offsets, labels. Shapes: N images, L tokens an image, K codes.

A code below 255 is one byte; 255 to 509 are the byte 255 and the code less 255; more cannot be written. The images of
a split follow each other in one gzipped blob, whose N+1 offsets are a gzipped .npy. What the published reader lets
pass (255 after 255 counts as one, a 255 at the end of an image is dropped) is refused here: it is damage.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from seit_ray.storage import Folder
from seit_ray.storage.output import refuse_overlap

if TYPE_CHECKING:
    from seit_ray.shards.dataset import TokenDataset

ESCAPE = 255
ABOUT = "about.json"  # beside exported files: what the published format does not say of itself
MAX_CODES = 2 * ESCAPE
MAX_LABEL = 1_000_000
MAX_INFLATION = 100  # of an index, which gzip makes a few times smaller
IMAGES_PER_CHUNK = 256  # of 1024 tokens: the arrays of a chunk stay in the processor's cache
MEND = "download the file again, or import it with the settings that it was written with"


def decode_stream(
    data: np.ndarray, offsets: np.ndarray, *, num_tokens: int, num_codes: int, first: int = 0
) -> np.ndarray:
    """Tokens uint16 [N,L] of bytes uint8 [S], image i from offsets[i] to offsets[i+1], which rise from 0 to S.

    ValueError names the first image that is not exactly L codes below K; `first` is the number of image 0.
    """
    is_escape = data == ESCAPE
    is_open, is_doubled = is_escape[offsets[1:] - 1], is_escape[:-1] & is_escape[1:]
    counts = np.diff(offsets) - np.add.reduceat(is_escape.view(np.uint8), offsets[:-1], dtype=np.int64)
    is_wrong = counts != num_tokens
    if is_open.any() or is_doubled.any() or is_wrong.any():
        faults = [(int(i), "ends in a lone 255") for i in np.flatnonzero(is_open)[:1]]
        doubled = np.searchsorted(offsets, np.flatnonzero(is_doubled)[:1], "right") - 1
        faults += [(int(i), "has 255 after 255") for i in doubled]
        faults += [(int(i), f"holds {counts[i]} codes") for i in np.flatnonzero(is_wrong)[:1]]
        raise bad_image(first, *min(faults, key=lambda fault: fault[0]), num_tokens)
    codes = data.astype(np.uint16)
    codes[1:] += is_escape[:-1].view(np.uint8) * np.uint16(ESCAPE)
    tokens = codes.take(np.flatnonzero(~is_escape)).reshape(-1, num_tokens)  # 4 times as fast as by the mask itself
    if tokens.max() >= num_codes:
        image = int(np.flatnonzero((tokens >= num_codes).any(axis=1))[0])
        raise ValueError(
            f"image {first + image} has the code {tokens[image].max()}; expected codes below {num_codes}, the "
            f"codebook's size; import it with the codebook that it was tokenised with"
        )
    return tokens


def bad_image(first: int, image: int, what: str, num_tokens: int) -> ValueError:
    """The error for an image whose bytes are not L codes."""
    return ValueError(
        f"image {first + image} {what}; expected {num_tokens} codes, each one byte below 255, or 255 and one byte "
        f"below 255; {MEND}"
    )


def encode_stream(tokens: np.ndarray, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Bytes uint8 [S] and bytes an image int64 [N] of tokens [N,L]; ValueError names an image with a code above 509."""
    if tokens.size and (tokens.max() >= MAX_CODES or tokens.min() < 0):
        image = int(np.flatnonzero(((tokens >= MAX_CODES) | (tokens < 0)).any(axis=1))[0])
        raise ValueError(
            f"image {first + image} has codes {tokens[image].min()} to {tokens[image].max()}; expected 0 to "
            f"{MAX_CODES - 1}, which is all that escape bytes can hold; export from a codebook of at most {MAX_CODES}"
        )
    is_high = tokens >= ESCAPE
    places = np.cumsum(is_high.ravel() + np.int64(1)) - 1  # of each code's last byte
    data = np.full(places[-1] + 1 if tokens.size else 0, ESCAPE, np.uint8)
    data[places] = (tokens - ESCAPE * is_high.astype(tokens.dtype)).ravel()
    return data, tokens.shape[1] + is_high.sum(axis=1, dtype=np.int64)


def iter_tokens(
    file: BinaryIO, offsets: np.ndarray, *, num_tokens: int, num_codes: int, num_images: int = IMAGES_PER_CHUNK
) -> Iterator[np.ndarray]:
    """Tokens uint16 [up to num_images,L], chunk by chunk, of an open *-token.data.bin.gz with checked offsets [N+1].

    Memory is that of a chunk. ValueError when the gzip is damaged, does not end where the last offset says, or an
    image is not L codes.
    """
    with gzip.GzipFile(fileobj=file) as blob:
        for first in range(0, len(offsets) - 1, num_images):
            bounds = offsets[first : first + num_images + 1]
            data = inflate(blob, int(bounds[-1] - bounds[0]))
            if len(data) < bounds[-1] - bounds[0]:
                raise wrong_length(f"{bounds[0] + len(data)}", offsets)
            yield decode_stream(
                np.frombuffer(data, np.uint8),
                bounds - bounds[0],
                num_tokens=num_tokens,
                num_codes=num_codes,
                first=first,
            )
        if inflate(blob, 1):
            raise wrong_length("more", offsets)


def wrong_length(found: str, offsets: np.ndarray) -> ValueError:
    """The error for a blob that the index does not belong to."""
    return ValueError(
        f"blob of {found} bytes; expected {offsets[-1]}, the last offset of the index; name the index of this blob, "
        "or download both again"
    )


def inflate(blob: gzip.GzipFile, num_bytes: int) -> bytes:
    """The next bytes of a gzip, fewer at its end; ValueError when it is damaged."""
    try:
        return blob.read(num_bytes)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"gzip that is damaged ({error}); expected a whole gzip file; download it again") from error


def read_offsets(data: bytes, num_tokens: int) -> np.ndarray:
    """Offsets int64 [N+1] of the bytes of a *-token.index.npy.gz.

    ValueError when they are no whole numbers, do not start at 0, fall, or leave an image fewer than L bytes or more
    than 2L, which are what L codes take.
    """
    most = MAX_INFLATION * len(data) + (1 << 20)
    content = inflate(gzip.GzipFile(fileobj=io.BytesIO(data)), most + 1)
    if len(content) > most:
        raise ValueError(
            f"index of {len(data)} bytes that inflates to more than {most}; expected offsets, which take less; "
            "name the index of a blob"
        )
    offsets = read_vector(content)
    if not len(offsets) or offsets[0] != 0:
        start = f"offsets that start at {offsets[0]}" if len(offsets) else "no offsets"
        raise ValueError(f"{start}; expected N+1 offsets from 0; name the index of a blob")
    lengths = np.diff(offsets)
    faulty = np.flatnonzero((lengths < num_tokens) | (lengths > 2 * num_tokens))
    if faulty.size:
        image = int(faulty[0])
        verb = "fall" if lengths[image] < 0 else "go"
        raise ValueError(
            f"offsets of image {image} that {verb} from {offsets[image]} to {offsets[image + 1]}; expected a step of "
            f"{num_tokens} to {2 * num_tokens} bytes, for {num_tokens} codes; set grid to that of the tokens, or "
            "download the index again"
        )
    return offsets


def read_vector(data: bytes) -> np.ndarray:
    """The one-dimensional integers of a .npy file as int64; ValueError when it is something else."""
    file = io.BytesIO(data)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("another version than 1.0")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception as error:  # numpy lets many kinds through, from SyntaxError to TokenError
        raise ValueError(
            f"index that is no .npy ({' '.join(str(error).split())[:200]}); expected N+1 offsets"
        ) from error
    content = data[file.tell() :]
    if len(shape) != 1 or dtype.kind not in "iu" or len(content) != shape[0] * dtype.itemsize:
        raise ValueError(
            f"index of shape {list(shape)} and dtype {dtype} in {len(content)} bytes; expected one dimension of "
            "integers, all there; name the index of a blob, or download it again"
        )
    return np.frombuffer(content, dtype).astype(np.int64)


def encode_offsets(lengths: np.ndarray) -> bytes:
    """Bytes of a *-token.index.npy.gz of images of these bytes [N]; the same lengths give the same bytes."""
    file = io.BytesIO()
    np.save(file, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64))
    return gzip.compress(file.getvalue(), mtime=0)


def read_labels(data: bytes, num_images: int) -> np.ndarray:
    """Labels int64 [N] of the bytes of a *-label.txt; ValueError names a line that is none, or another number N."""
    lines = data.splitlines()
    if len(lines) != num_images:
        raise ValueError(
            f"{len(lines)} labels; expected {num_images}, one for each image of the index; name the split's own labels"
        )
    labels = np.zeros(num_images, np.int64)
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text.isdigit() or len(text) > len(str(MAX_LABEL)) or int(text) > MAX_LABEL:
            raise ValueError(
                f"label {line[:40].decode(errors='replace')!r} in line {number}; expected a whole number from 0 to "
                f"{MAX_LABEL}; number the classes from 0, one a line"
            )
        labels[number - 1] = int(text)
    return labels


def encode_labels(labels: np.ndarray) -> bytes:
    """Bytes of a *-label.txt of labels [N]."""
    return "".join(f"{label}\n" for label in labels.tolist()).encode()


def check_export(dataset: TokenDataset, output: Folder) -> None:
    """ValueError for a dataset that the files cannot hold, and for an output in it or around it."""
    check_codes(dataset)
    if dataset.info.void is not None:
        raise ValueError(
            f"{dataset.folder.uri} has label maps, which the published files cannot hold; expected a dataset without; "
            "tokenise without source.masks or source.mask_column to export tokens alone"
        )
    for name, split in dataset.info.splits.items():
        missing = split.rows - sum(split.label_counts)
        if 0 < missing < split.rows:
            raise ValueError(
                f"split {name} of {dataset.folder.uri} has {missing} of {split.rows} images without a label; expected "
                "one for each or none at all; tokenise the labelled images alone"
            )
    refuse_overlap(output, dataset.folder, "dataset")


def check_codes(dataset: TokenDataset) -> None:
    """ValueError when the dataset's codebook has more codes than escape bytes can hold."""
    if dataset.info.codebook_size > MAX_CODES:
        raise ValueError(
            f"{dataset.folder.uri} has {dataset.info.codebook_size} codes; expected at most {MAX_CODES}, which is all "
            "that the published format can hold; keep it as a token dataset"
        )


def read_about(folder: Folder) -> dict[str, Any]:
    """grid, image_size and metric that an export wrote beside its files; nothing beside files of others."""
    if not folder.exists(ABOUT):
        return {}
    try:
        about = json.loads(folder.read(ABOUT))
        return {name: about[name] for name in ("grid", "image_size", "metric")}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder.uri_of(ABOUT)} cannot be read ({error!r}); expected that of an export; delete it, and set grid, "
            "image_size and metric"
        ) from error
