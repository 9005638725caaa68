"""A tokenizer as a callable on batches: the tokens of the tokenising job, in any form of images."""

import io

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from seit_ray.images import decode_image
from seit_ray.storage import Folder
from seit_ray.tokenizers.batches import TokenizeBatch
from seit_ray.tokenizers.files import load_tokenizer
from tests.tiny_images import image_bytes, write_tokenizer

PICTURES = [image_bytes(("cat", "dog")[i % 2], i, side=20 + i) for i in range(9)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def expected(folder):
    tokenizer, _ = load_tokenizer(folder)
    options = {"image_size": tokenizer.image_size, "resize": tokenizer.resize}
    pixels = np.stack([decode_image(data, **options).pixels for data in PICTURES])
    return tokenizer.encode(torch.from_numpy(pixels)).tolist()


def arrays(pictures):
    """RGB arrays [H,W,3] of several sizes, as one object array."""
    found = np.empty(len(pictures), object)
    for i, data in enumerate(pictures):
        found[i] = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    return found


@pytest.mark.parametrize("batch_size", [2, 100])
def test_bytes_and_arrays_in_dicts(folder, expected, batch_size):
    tokenize = TokenizeBatch(folder.uri, column="picture", batch_size=batch_size)
    for images in (np.array(PICTURES, object), arrays(PICTURES)):
        batch = {"picture": images, "label": np.arange(9)}
        found = tokenize(batch)
        assert found["tokens"].tolist() == expected
        assert found["tokens"].dtype == np.uint16
        assert found["label"].tolist() == list(range(9))
        assert set(found) == {"picture", "label", "tokens"}
        assert set(batch) == {"picture", "label"}


@pytest.mark.parametrize("form", ["bytes", "structs"])
def test_bytes_in_tables(folder, expected, form):
    images = PICTURES if form == "bytes" else [{"bytes": data, "path": None} for data in PICTURES]
    found = TokenizeBatch(Folder(folder.uri))(pa.table({"image": images}))
    assert found["tokens"].to_pylist() == expected
    assert found["tokens"].type == pa.list_(pa.uint16())
    assert found.column_names == ["image", "tokens"]


def test_a_bad_image_is_an_error_or_a_mark(folder, expected):
    images = [*PICTURES[:3], b"no picture", None]
    with pytest.raises(ValueError, match=r"^image 3 of a batch: not an image"):
        TokenizeBatch(folder.uri)({"image": np.array(images, object)})
    mark = TokenizeBatch(folder.uri, on_error="mark")
    found = mark({"image": np.array(images, object)})
    assert found["tokens"][:3].tolist() == expected[:3]
    assert not found["tokens"][3:].any()
    assert [bool(reason) for reason in found["reason"]] == [False] * 3 + [True] * 2
    table = mark(pa.table({"image": images}))
    assert table["tokens"].to_pylist() == [*expected[:3], None, None]
    assert table["reason"].to_pylist()[4] == "NoneType; expected the bytes of an image, or uint8 RGB [H,W,3]"
    good = mark(pa.table({"image": PICTURES}))
    assert good["reason"].null_count == 9


def test_empty_batches_and_batches_of_nothing_good(folder):
    mark = TokenizeBatch(folder.uri, on_error="mark")
    assert mark({"image": np.empty(0, object)})["tokens"].shape == (0, 16)
    assert mark(pa.table({"image": pa.array([b"no"], pa.binary())}))["tokens"].to_pylist() == [None]


@pytest.mark.parametrize(
    ("image", "words"),
    [(np.zeros((4, 4), np.uint8), r"uint8 \[4, 4\]"), (np.zeros((4, 4, 3)), r"float64 \[4, 4, 3\]"), (7, "int")],
)
def test_other_things_are_no_images(folder, image, words):
    batch = {"image": np.empty(1, object)}
    batch["image"][0] = image
    with pytest.raises(ValueError, match=words):
        TokenizeBatch(folder.uri)(batch)


def test_mistakes_are_named(folder):
    with pytest.raises(ValueError, match=r"column 'image' in a batch; expected one of \['imag'\]; perhaps 'imag'"):
        TokenizeBatch(folder.uri)({"imag": np.empty(0)})
    with pytest.raises(ValueError, match="a batch of list; expected a dict of arrays or a pyarrow table"):
        TokenizeBatch(folder.uri)([])
    with pytest.raises(ValueError, match="on_error 'skip'"):
        TokenizeBatch(folder.uri, on_error="skip")
