"""The published token files: against the recording, there and back, and every way in which they can be wrong."""

import gzip
import io
import tracemalloc

import numpy as np
import pytest

from seit_ray.shards.published import (
    MAX_LABEL,
    decode_stream,
    encode_labels,
    encode_offsets,
    encode_stream,
    iter_tokens,
    read_labels,
    read_offsets,
)
from tests.shards.published_files import random_tokens, recording, refusal


def decoded(data, lengths, *, num_tokens, num_codes=510, first=0):
    """decode_stream of images of these bytes."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return decode_stream(np.asarray(data, np.uint8), offsets, num_tokens=num_tokens, num_codes=num_codes, first=first)


def npy(array):
    """Gzipped .npy."""
    file = io.BytesIO()
    np.save(file, array)
    return gzip.compress(file.getvalue())


def streamed(data, offsets, *, num_tokens=4, num_codes=510, num_images=2):
    """All tokens of gzipped bytes."""
    parts = iter_tokens(
        io.BytesIO(data), np.asarray(offsets), num_tokens=num_tokens, num_codes=num_codes, num_images=num_images
    )
    return np.concatenate(list(parts))


def test_the_recorded_files_are_read():
    record = recording()
    offsets = read_offsets(record["file/index_gz"].tobytes(), 1024)
    assert offsets.tolist() == record["in/start_indices"].tolist()
    for num_images in (1, 5, 12, 100):
        data = record["file/data_gz"].tobytes()
        tokens = streamed(data, offsets, num_tokens=1024, num_codes=391, num_images=num_images)
        assert tokens.dtype == np.uint16
        assert np.array_equal(tokens, record["in/tokens"])
    labels = read_labels(record["file/labels_txt"].tobytes(), 12)
    assert labels.tolist() == record["in/labels"].tolist()


def test_the_recorded_bytes_are_written():
    record = recording()
    data, lengths = encode_stream(record["in/tokens"])
    assert np.array_equal(data, record["in/data"])
    index = gzip.decompress(encode_offsets(lengths))
    assert index == gzip.decompress(record["file/index_gz"].tobytes())
    assert encode_labels(record["in/labels"]) == record["file/labels_txt"].tobytes().rstrip() + b"\n"


def test_what_the_published_reader_lets_pass_is_refused():
    record = recording()
    wrong = {
        "double_escape": "image 0 has 255 after 255; expected 1024 codes",
        "triple_escape": "image 0 has 255 after 255",
        "trailing_extra_escape": "image 0 ends in a lone 255",
    }
    for name, text in wrong.items():
        data = record[f"edge/{name}_bytes"]
        assert text in refusal(decoded, data, [len(data)], num_tokens=1024), name
    fine = record["edge/pair255_then_254_bytes"]
    tokens = decoded(fine, [len(fine)], num_tokens=1024)
    assert np.array_equal(tokens[0], record["edge/pair255_then_254_tokens"])


@pytest.mark.parametrize("num_tokens", [1, 2, 7, 49])
@pytest.mark.parametrize("num_codes", [1, 255, 256, 391, 510])
def test_there_and_back(num_tokens, num_codes):
    tokens = random_tokens(13, num_tokens=num_tokens, num_codes=num_codes)
    data, lengths = encode_stream(tokens)
    assert lengths.tolist() == (num_tokens + (tokens >= 255).sum(1)).tolist()
    assert np.array_equal(decoded(data, lengths, num_tokens=num_tokens, num_codes=num_codes), tokens)


@pytest.mark.parametrize("code", [0, 254, 255, 256, 509])
def test_images_of_one_code(code):
    data, lengths = encode_stream(np.full((3, 5), code, np.uint16))
    assert (lengths == (10 if code > 254 else 5)).all()
    assert (decoded(data, lengths, num_tokens=5) == code).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.int64])
def test_any_integers_are_written(dtype):
    data, _ = encode_stream(np.array([[3, 255, 509]], dtype))
    assert data.tolist() == [3, 255, 0, 255, 254]


def test_no_images_are_no_bytes():
    data, lengths = encode_stream(np.zeros((0, 4), np.uint16))
    assert (data.size, lengths.size) == (0, 0)
    assert read_offsets(encode_offsets(lengths), 4).tolist() == [0]


@pytest.mark.parametrize("code", [510, 65535])
def test_codes_that_cannot_be_written(code):
    tokens = np.zeros((4, 3), np.uint16)
    tokens[2, 1] = code
    assert f"image 12 has codes 0 to {code}; expected 0 to 509" in refusal(encode_stream, tokens, 10)


def test_codes_below_zero_cannot_be_written():
    assert "image 1 has codes -1 to 0" in refusal(encode_stream, np.array([[0, 3], [-1, 0]]))


@pytest.mark.parametrize(
    ("data", "lengths", "text"),
    [
        ([1, 2, 3, 4], [2, 2], None),
        ([1, 2, 3, 4, 5], [2, 3], "image 8 holds 3 codes; expected 2 codes"),
        ([1, 2, 3, 255, 1], [3, 2], "image 7 holds 3 codes"),
        ([1, 255, 7, 3, 255], [3, 2], "image 8 ends in a lone 255"),
        ([1, 255, 7, 3], [2, 2], "image 7 ends in a lone 255"),
        ([1, 2, 255, 255, 4, 5], [2, 4], "image 8 has 255 after 255"),
        ([255, 255, 1, 2, 3, 9], [4, 2], "image 7 has 255 after 255"),
        ([1, 255, 255, 1, 2], [2, 3], "image 7 ends in a lone 255"),
        ([1, 255, 254, 9, 9], [3, 2], "image 7 has the code 509; expected codes below 500"),
    ],
)
def test_the_first_bad_image_is_named(data, lengths, text):
    settings = {"num_tokens": 2, "num_codes": 500, "first": 7}
    if text is None:
        assert decoded(data, lengths, **settings).tolist() == [[1, 2], [3, 4]]
    else:
        assert refusal(decoded, data, lengths, **settings).startswith(text)


def test_images_are_numbered_through_all_chunks():
    tokens = random_tokens(9, num_tokens=4)
    data, lengths = encode_stream(tokens)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    data[offsets[6] - 1] = 255
    text = refusal(streamed, gzip.compress(data.tobytes()), offsets)
    assert text.startswith("image 5 ")


def test_blobs_of_another_length():
    data = gzip.compress(bytes(range(8)))
    assert streamed(data, [0, 4, 8]).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert "blob of 8 bytes; expected 12, the last offset" in refusal(streamed, data, [0, 4, 8, 12])
    assert "blob of more bytes; expected 4, the last offset" in refusal(streamed, data, [0, 4])


def damaged(data):
    """Ways to damage a gzip."""
    return {
        "nothing": b"",
        "no gzip": b"\x00" * len(data),
        "not compressed": bytes(range(8)),
        "cut": data[:-9],
        "cut in its checksum": data[:-3],
        "a flipped bit": data[:12] + bytes([data[12] ^ 4]) + data[13:],
        "another checksum": data[:-6] + bytes([data[-6] ^ 1]) + data[-5:],
        "more after it": data + b"more",
    }


@pytest.mark.parametrize("how", damaged(bytes(20)))
def test_damaged_gzip(how):
    data = damaged(gzip.compress(bytes(range(8)), mtime=0))[how]
    text = refusal(streamed, data, [0, 4, 8])
    assert "gzip that is damaged" in text or "blob of" in text
    index = damaged(encode_offsets(np.array([4, 4])))[how]
    assert refusal(read_offsets, index, 4).startswith(("gzip that is damaged", "index that is no .npy"))


def test_no_flipped_byte_of_a_blob_changes_a_token():
    tokens = random_tokens(6, num_tokens=4)
    data, lengths = encode_stream(tokens)
    whole, offsets = gzip.compress(data.tobytes(), mtime=0), np.concatenate([[0], np.cumsum(lengths)])
    found = 0
    for at in range(len(whole)):
        changed = whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]
        try:  # some bytes say nothing of the content, such as the time
            assert np.array_equal(streamed(changed, offsets), tokens), at
        except ValueError:
            found += 1
    assert found > len(data)


@pytest.mark.parametrize(
    ("offsets", "text"),
    [
        ([1, 5], "offsets that start at 1; expected N+1 offsets from 0"),
        ([], "no offsets; expected N+1"),
        ([0, 8, 4], "offsets of image 1 that fall from 8 to 4"),
        ([0, 4, 4], "offsets of image 1 that go from 4 to 4; expected a step of 4 to 8 bytes"),
        ([0, 4, 7], "offsets of image 1 that go from 4 to 7"),
        ([0, 9], "offsets of image 0 that go from 0 to 9"),
        ([0.0, 4.0], "dtype float64"),
        ([[0, 4]], "index of shape [1, 2]"),
        (4, "index of shape []"),
        (["0", "4"], "index of shape [2] and dtype <U1"),
    ],
)
def test_offsets_that_are_none(offsets, text):
    offsets = np.array(offsets, dtype=np.int64 if offsets == [] else None)
    assert text in refusal(read_offsets, npy(offsets), 4)


@pytest.mark.parametrize("dtype", ["<i8", ">i8", "<u4", "<i4", "<u8"])
def test_offsets_of_any_integers(dtype):
    offsets = read_offsets(npy(np.array([0, 4, 12], dtype)), 4)
    assert (offsets.tolist(), offsets.dtype) == ([0, 4, 12], np.int64)


def test_offsets_that_would_be_unpickled_are_refused():
    assert "dtype object" in refusal(read_offsets, npy(np.array([0, None], object)), 4)


def test_an_index_that_promises_more_than_it_holds():
    whole = gzip.decompress(npy(np.array([0, 4])))
    header = whole[:128].replace(b"(2,), }          ", b"(2000000000000,),")
    assert refusal(read_offsets, gzip.compress(header + whole[128:]), 4).startswith("index ")
    assert "index of shape [2] and dtype int64 in 15 bytes" in refusal(read_offsets, gzip.compress(whole[:-1]), 4)
    assert "index that is no .npy" in refusal(read_offsets, gzip.compress(b"PK\x03\x04"), 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1\n2\n", "2 labels; expected 3"),
        (b"1\n2\n3\n4\n", "4 labels; expected 3"),
        (b"1\n\n3\n", "label '' in line 2"),
        (b"1\n2\ncat\n", "label 'cat' in line 3; expected a whole number"),
        (b"1\n-2\n3\n", "label '-2' in line 2"),
        (b"1\n2.0\n3\n", "label '2.0' in line 2"),
        (b"1\n2\n1_0\n", "label '1_0' in line 3"),
        (b"1\n2\n1 0\n", "label '1 0' in line 3"),
        (b"\xef\xbb\xbf1\n2\n3\n", "in line 1"),
        (b"1\n2\n1000001\n", "label '1000001' in line 3"),
        (b"1\n2\n" + b"9" * 5000, "in line 3"),
    ],
)
def test_labels_that_are_none(text, message):
    assert message in refusal(read_labels, text, 3)


def test_labels():
    assert read_labels(b"", 0).tolist() == []
    assert read_labels(b"3\r\n 14 \n0", 3).tolist() == [3, 14, 0]
    assert read_labels(encode_labels(np.array([0, MAX_LABEL])), 2).tolist() == [0, MAX_LABEL]


def test_an_index_that_inflates_without_end_is_refused_before_it_fills_memory():
    bomb = npy(np.zeros(25 << 20, np.int64))  # 200 MiB
    assert len(bomb) < 300_000
    tracemalloc.start()
    assert "inflates to more than" in refusal(read_offsets, bomb, 4)
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()
    equal = encode_offsets(np.full(100_000, 1024))  # as far as true ones go
    assert len(read_offsets(equal, 1024)) == 100_001
