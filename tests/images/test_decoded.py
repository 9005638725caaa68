"""Rows of the manifest as pixels, and work ahead in threads."""

import threading

import numpy as np
import pytest

from seit_ray.images import ImageError, decode_image
from seit_ray.images.decoded import Decoding, ahead, decode_rows, decoded_chunks, one_ahead
from seit_ray.storage import Folder, StorageError
from tests.images.found import find_images, write_manifest
from tests.tiny_images import image_bytes, image_files, write_files


@pytest.fixture
def source(tmp_path):
    files = image_files(7) | {"cat/00001.png": b"no picture", "dog/00004.png": b""}
    return write_files(tmp_path / "images", files | {"cat/wide.png": image_bytes("cat", 9, side=20)})


@pytest.fixture
def manifest(tmp_path, source):
    return write_manifest(find_images(source), Folder(tmp_path / "list"), val_fraction=0.0, seed=0, rows_per_part=6)


@pytest.mark.parametrize("num_threads", [0, 3])
@pytest.mark.parametrize("chunk_rows", [1, 4, 100])
def test_good_images_and_rejects_are_the_part(source, manifest, monkeypatch, num_threads, chunk_rows):
    monkeypatch.setattr("seit_ray.images.reading.CHUNK_ROWS", chunk_rows)
    decoding = Decoding(16, "squash", max_pixels=16 * 16)
    rows, rejected = [], []
    for index in range(manifest.splits["train"].num_parts):
        listed, seen = manifest.read_part("train", index), 0
        for part in decoded_chunks(listed, source, decoding, num_threads=num_threads):
            assert part.pixels.shape == (len(part.rows), 3, 16, 16)
            assert len(part.rows) + len(part.rejected) <= chunk_rows
            for pixels, row in zip(part.pixels, part.rows.to_pylist(), strict=True):
                data = source.read(row["key"])
                assert np.array_equal(pixels, decode_image(data, image_size=16).pixels)
                assert row["uri"] == source.uri_of(row["key"])
                assert (row["width"], row["height"], row["source_bytes"]) == (16, 16, len(data))
            rows += part.rows["key"].to_pylist()
            rejected += part.rejected.to_pylist()
            seen += len(part.rows) + len(part.rejected)
        assert seen == len(listed)
    assert rows == sorted(rows)
    listed = [manifest.read_part("train", i)["key"].to_pylist() for i in range(2)]
    assert sorted(rows + [r["key"] for r in rejected]) == listed[0] + listed[1]
    assert {r["key"]: r["reason"].partition(":")[0].partition(";")[0] for r in rejected} == {
        "cat/00001.png": "not an image",
        "cat/wide.png": "20x20 pixels",
        "dog/00004.png": "empty",
    }
    assert [r["label"] for r in rejected] == [0, 0, 1]


def test_a_part_of_rejects_has_no_pixels(tmp_path):
    source = write_files(tmp_path / "images", {"a.png": b"", "b.png": b"x"})
    manifest = write_manifest(find_images(source), Folder(tmp_path / "list"), val_fraction=0.0, seed=0)
    (part,) = decoded_chunks(manifest.read_part("train", 0), source, Decoding(8, "crop"))
    assert part.pixels.shape == (0, 3, 8, 8)
    assert (len(part.rows), len(part.rejected)) == (0, 2)
    assert part.rejected["label"].null_count == 2


def test_no_rows_have_no_chunks(source, manifest):
    assert list(decoded_chunks(manifest.read_part("train", 0).slice(0, 0), source, Decoding(8, "crop"))) == []


def test_errors_of_images_are_rejects_and_those_of_the_storage_raised(source, manifest):
    listed = manifest.read_part("train", 0).slice(0, 2)
    keys = listed["key"].to_pylist()
    contents = [source.read(keys[0]), ImageError("gone")]
    part = decode_rows(listed, contents, Decoding(8, "crop"))
    assert (part.rows["key"].to_pylist(), part.rejected["key"].to_pylist()) == (keys[:1], keys[1:])
    assert part.rejected["reason"].to_pylist() == ["gone"]
    with pytest.raises(StorageError, match="away"):
        decode_rows(listed, [contents[0], StorageError("away", "unavailable")], Decoding(8, "crop"))


def test_one_ahead_makes_the_next_meanwhile_and_no_more():
    asked = [threading.Event() for _ in range(5)]

    def items():
        for number, event in enumerate(asked):
            event.set()
            yield number

    found = []
    for number in one_ahead(items()):
        assert asked[min(number + 1, 4)].wait(30)
        assert not any(event.is_set() for event in asked[number + 2 :])
        found.append(number)
    assert found == list(range(5))
    assert list(one_ahead(iter([]))) == []


def test_one_ahead_hands_on_errors():
    def items():
        yield 1
        raise ValueError("two")

    found = one_ahead(items())
    assert next(found) == 1
    with pytest.raises(ValueError, match="two"):
        next(found)


def test_ahead_keeps_the_order_and_uses_threads():
    both = threading.Barrier(2, timeout=30)

    def meet(number):
        both.wait()  # passes only when two work at once
        return number * 2

    assert list(ahead(meet, range(10), 2)) == [2 * i for i in range(10)]
    assert list(ahead(meet, [], 2)) == []


def test_ahead_starts_few_and_hands_on_errors():
    started = []

    def fail_at_five(number):
        started.append(number)
        if number == 5:
            raise ValueError("five")
        return number

    found = ahead(fail_at_five, range(1000), 3)
    assert [next(found) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(started) <= 9
    with pytest.raises(ValueError, match="five"):
        next(found)
    assert len(started) <= 10
