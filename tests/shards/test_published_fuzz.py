"""Whatever the bytes are, the readers of published files give what they say or a ValueError, and nothing else."""

import contextlib
import gzip
import io
import json

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from seit_ray.models.published import published_settings, published_state
from seit_ray.shards.published import decode_stream, encode_stream, iter_tokens, read_labels, read_offsets
from seit_ray.shards.synonyms import parse_published
from seit_ray.storage.torch_file import read_torch
from seit_ray.tokenizers.codebook_only import read_codebook
from tests.shards.published_files import torch_bytes

FUZZ = hypothesis.settings(deadline=None, derandomize=True, max_examples=80, database=None)
REFUSED = contextlib.suppress(ValueError)
BYTES = st.binary(max_size=80)
WHOLE = {
    "codebook": torch_bytes(torch.ones(3, 2)),
    "state": torch_bytes(
        {"model": {"head.weight": torch.ones(2, 4), "patch_embed.proj.weight": torch.ones(4, 2, 2, 2)}}
    ),
}


def mutated(data: bytes, edits) -> bytes:
    """Bytes with some replaced, and cut."""
    changed = bytearray(data)
    for at, value in edits:
        changed[at % len(changed)] = value
    return bytes(changed)


EDITS = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=6)


@FUZZ
@hypothesis.given(st.lists(st.lists(st.sampled_from([0, 1, 254, 255]), min_size=3, max_size=6), min_size=1, max_size=4))
def test_streams_decode_to_what_would_be_written_again(images):
    data = np.concatenate(images).astype(np.uint8)
    offsets = np.cumsum([0, *map(len, images)])
    with REFUSED:
        tokens = decode_stream(data, offsets, num_tokens=3, num_codes=510)
        again, lengths = encode_stream(tokens)
        assert np.array_equal(again, data)
        assert lengths.tolist() == [len(image) for image in images]


@FUZZ
@hypothesis.given(st.integers(1, 20), st.integers(1, 510), st.integers(0, 9), st.integers(0, 1 << 30))
def test_tokens_come_back(num_tokens, num_codes, num_images, seed):
    tokens = np.random.default_rng(seed).integers(num_codes, size=(num_images, num_tokens)).astype(np.uint16)
    data, lengths = encode_stream(tokens)
    file, offsets = io.BytesIO(gzip.compress(data.tobytes())), np.concatenate([[0], np.cumsum(lengths)])
    parts = list(iter_tokens(file, offsets, num_tokens=num_tokens, num_codes=num_codes, num_images=4))
    assert np.array_equal(np.concatenate([tokens[:0], *parts]), tokens)


@FUZZ
@hypothesis.given(BYTES, st.booleans(), st.lists(st.integers(4, 8), max_size=4))
def test_any_blob(data, zipped, lengths):
    file = io.BytesIO(gzip.compress(data) if zipped else data)
    with REFUSED:
        for tokens in iter_tokens(file, np.cumsum([0, *lengths]), num_tokens=4, num_codes=300):
            assert tokens.shape[1] == 4
            assert tokens.max() < 300


@FUZZ
@hypothesis.given(BYTES, st.booleans(), EDITS, st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=4))
def test_any_index(data, zipped, edits, offsets):
    file = io.BytesIO()
    np.save(file, np.array([0, *offsets], np.int64))
    for content in (data, mutated(file.getvalue(), edits), file.getvalue()):
        with REFUSED:
            found = read_offsets(gzip.compress(content) if zipped else content, 4)
            assert found[0] == 0
            assert set(np.diff(found)) <= {4, 5, 6, 7, 8}


@FUZZ
@hypothesis.given(st.one_of(BYTES, st.lists(st.integers(-9, 1 << 22) | st.text(max_size=3), max_size=4)))
def test_any_labels(data):
    data = data if isinstance(data, bytes) else "\n".join(map(str, data)).encode()
    with REFUSED:
        assert (read_labels(data, len(data.splitlines())) >= 0).all()


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 9), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("0123x"), inner, max_size=4)),
    max_leaves=8,
)


@FUZZ
@hypothesis.given(st.one_of(JSON.map(lambda value: json.dumps(value).encode()), BYTES), st.none() | st.integers(1, 3))
def test_any_synonyms(data, num_synonyms):
    with REFUSED:
        found = parse_published(data, 3, num_synonyms)
        assert len(found) == 3
        assert not (found == torch.arange(3)[:, None]).any()


def test_synonyms_that_are_nested_without_end():
    with pytest.raises(ValueError, match="synonyms that are no JSON"):
        parse_published(b"[" * 100_000, 3)


@FUZZ
@hypothesis.given(BYTES, st.sampled_from(["codebook", "state"]), EDITS, st.integers(0, 2000))
def test_any_torch_file(data, name, edits, stop):
    for content in (data, mutated(WHOLE[name], edits), WHOLE[name][:stop]):
        with REFUSED:
            assert read_codebook(content).ndim == 2
        with REFUSED:
            assert published_state(read_torch(content))


SHAPES = st.lists(st.integers(0, 5), max_size=4).map(lambda shape: torch.zeros(shape))
NAMES = st.sampled_from(
    [
        "mask_token_label",
        "head.weight",
        "conversion_function.0.weight",
        "patch_embed.proj.weight",
        "pos_embed",
        "token_emb.word_embeddings.weight",
        "decoder_embed.weight",
        "blocks.0.norm1.weight",
        "decoder_blocks.1.norm1.weight",
        "conversion_function.1.transformer.layers.0.0.fn.to_qkv.weight",
        "reverse_transform.1.weight",
    ]
)


FEW = st.none() | st.integers(1, 3)


@FUZZ
@hypothesis.given(st.dictionaries(NAMES, SHAPES, max_size=9), FEW, FEW)
def test_any_weights(state, num_heads, stem_stride):
    with REFUSED:
        kind, settings = published_settings(
            published_state(state),
            grid=(4, 4),
            codebook=torch.zeros(3, 2),
            num_heads=num_heads,
            decoder_num_heads=num_heads,
            stem_stride=stem_stride,
        )
        assert kind in ("mtm", "classifier", "tokenadapt")
        assert settings["grid"] <= (4, 4)
