"""Published token files for tests: made with the package's own encoder, or as the recording has them."""

import gzip
import io
import json
from pathlib import Path

import numpy as np
import torch

from seit_ray.shards.published import encode_labels, encode_offsets, encode_stream

GOLDEN = Path(__file__).parents[1] / "golden" / "seit_bytes.npz"


def recording():
    """The arrays of the recording by name."""
    return dict(np.load(GOLDEN))


def random_tokens(num, *, num_tokens=16, num_codes=400, seed=0):
    """uint16 [N,L]."""
    return np.random.default_rng(seed).integers(num_codes, size=(num, num_tokens)).astype(np.uint16)


def torch_bytes(value):
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def ring_synonyms(num_codes, num=3):
    """Every code's synonyms are the codes after it, [K,S]."""
    return (torch.arange(num_codes)[:, None] + torch.arange(1, num + 1)) % num_codes


def write_release(folder, *, sizes=None, side=4, num_codes=400, num_classes=5, dim=8):
    """The files of a whole release in a folder; tokens and labels by split."""
    folder.mkdir(exist_ok=True)
    written = {}
    for seed, (name, num) in enumerate((sizes or {"train": 23, "val": 6}).items()):
        tokens = random_tokens(num, num_tokens=side * side, num_codes=num_codes, seed=seed)
        labels = np.arange(num)[::-1] % num_classes
        data, lengths = encode_stream(tokens)
        (folder / f"{name}-token.data.bin.gz").write_bytes(gzip.compress(data.tobytes(), mtime=0))
        (folder / f"{name}-token.index.npy.gz").write_bytes(encode_offsets(lengths))
        (folder / f"{name}-label.txt").write_bytes(encode_labels(labels))
        written[name] = tokens, labels
    codebook = torch.randn(num_codes, dim, generator=torch.Generator().manual_seed(1))
    (folder / "codebook.ckpt").write_bytes(torch_bytes(codebook))
    table = {str(code): row for code, row in enumerate(ring_synonyms(num_codes).tolist())}
    (folder / "synonyms.json").write_text(json.dumps(table))
    return written


def refusal(function, *arguments, **settings):
    """The one line of the ValueError with which a call ends."""
    try:
        function(*arguments, **settings)
    except ValueError as error:
        text = str(error)
        assert "\n" not in text
        return text
    raise AssertionError("nothing was refused")
