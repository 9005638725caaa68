"""What exemplars are stored as: real bytes, and what comes back from them."""

import io

import numpy as np
import pytest
from PIL import Image

from seit_ray.batches.exemplar_codecs import JpegCodec, RawCodec, TokenCodec
from tests.tiny_dataset import learnable_rows
from tests.tiny_images import picture

TOKENS = learnable_rows(300, side=8).tokens
IMAGES = np.stack([np.asarray(picture("cat", seed, 32)).transpose(2, 0, 1) for seed in range(6)])
SOME = np.array([4, 0, 5])


def read_images(rows):
    return IMAGES[rows]


@pytest.mark.parametrize("encoding", ["plain", "compact"])
def test_tokens_come_back_from_bytes_that_are_fewer(encoding):
    codec = TokenCodec(lambda rows: TOKENS[rows], encoding, 16)
    every = np.arange(300)
    assert codec.decoded(every).tolist() == TOKENS.tolist()
    assert codec.decoded(SOME).tolist() == TOKENS[SOME].tolist()
    assert codec.decoded(SOME[:0]).shape == (0, 64)
    assert codec.size(SOME[:0]) == 0
    assert 0 < codec.size(SOME) < codec.size(every) < TOKENS.size  # under a byte a token of 16 codes
    assert codec.size(every) > 0.3 * TOKENS.size  # and no less than what these hold


def test_compact_is_the_smaller_one():
    sizes = [TokenCodec(lambda rows: TOKENS[rows], name, 16).size(np.arange(300)) for name in ("compact", "plain")]
    assert sizes[0] < sizes[1]


def test_jpegs_are_files_that_pillow_reads():
    sizes = []
    for quality in (95, 50, 10):
        codec = JpegCodec(read_images, quality)
        files = codec.encoded(SOME)
        assert 0 < codec.size(SOME) < sum(map(len, files)) + 100
        pixels = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1) for data in files]
        assert codec.decoded(SOME).tolist() == np.stack(pixels).tolist()
        errors = np.abs(codec.decoded(SOME).astype(int) - IMAGES[SOME]).mean()
        sizes.append((codec.size(SOME), -errors))
    assert sizes == sorted(sizes, reverse=True)  # the fewer bytes, the larger the error
    assert codec.decoded(SOME[:0]).shape == (0, 3, 32, 32)
    assert codec.size(SOME[:0]) == 0


def test_headers_that_files_repeat_are_stored_once():
    codec = JpegCodec(lambda rows: IMAGES[rows % len(IMAGES)], 10)
    one, many = codec.size(np.arange(1)), codec.size(np.arange(6))
    assert many < 6 * one - 5 * 100
    assert many > sum(len(data) for data in codec.encoded(np.arange(6))) - 6 * 650  # what is not header stays


def test_an_image_is_encoded_once():
    asked = []
    codec = JpegCodec(lambda rows: asked.extend(rows.tolist()) or IMAGES[rows], 50)
    codec.size(SOME)
    codec.size(np.arange(6))
    codec.decoded(SOME)
    assert sorted(asked) == list(range(6))


def test_raw_pixels_are_a_byte_a_value():
    codec = RawCodec(read_images)
    assert codec.size(SOME) == 3 * 3 * 32 * 32
    assert codec.decoded(SOME).tolist() == IMAGES[SOME].tolist()
