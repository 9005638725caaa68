"""Listed images as one array of pixels: what a storage gives late, and what it never gives."""

import pyarrow as pa
import pytest

from seit_ray.images.sample import NoReadableImageError, read_pixels
from seit_ray.storage import Folder, StorageError
from tests.tiny_images import image_files, write_files


@pytest.fixture
def source(tmp_path):
    return write_files(tmp_path / "images", image_files(6))


@pytest.fixture
def slept(monkeypatch):
    """How long each pause was, of a clock that goes on while one sleeps, and at no other time."""
    found = []
    monkeypatch.setattr("seit_ray.images.reading.time.sleep", found.append)
    monkeypatch.setattr("seit_ray.images.reading.time.monotonic", lambda: float(sum(found)))
    return found


def rows_of(source):
    names = [entry.name for entry in source.list()]
    columns = {"key": names, "uri": [source.uri_of(name) for name in names]}
    return pa.table({**columns, "version": pa.nulls(len(names), pa.string()), "size_bytes": [1] * len(names)})


def read(source):
    pixels, rows = read_pixels(rows_of(source), source, image_size=8, resize="squash")
    assert pixels.shape == (len(rows), 3, 8, 8)
    return pixels.tolist(), rows["key"].to_pylist()


def fails(monkeypatch, is_away):
    """Reads of what is_away(uri) is true for meet a storage that does not answer."""
    read_uris = Folder.read_uris

    def answer(folder, uris, **more):
        contents = read_uris(folder, uris, **more)
        away = [StorageError(f"{uri} does not answer", "unavailable") if is_away(uri) else None for uri in uris]
        return [content if error is None else error for content, error in zip(contents, away, strict=True)]

    monkeypatch.setattr(Folder, "read_uris", answer)


def test_a_storage_that_comes_back_is_waited_for(source, monkeypatch, slept):
    expected = read(source)
    fails(monkeypatch, lambda uri: len(slept) < 3)
    assert read(source) == expected
    assert slept == [1, 2, 4]


def test_one_image_that_stays_away_is_left_out(source, monkeypatch, slept):
    pixels, keys = read(source)
    fails(monkeypatch, lambda uri: uri.endswith(keys[2]))
    assert read(source) == (pixels[:2] + pixels[3:], keys[:2] + keys[3:])
    assert slept


def test_a_storage_that_has_gone_is_no_fault_of_the_images(source, monkeypatch, slept):
    fails(monkeypatch, lambda uri: True)
    with pytest.raises(StorageError, match="does not answer"):
        read(source)


def test_a_file_beyond_the_limit_is_left_out_and_told(source, monkeypatch):
    _, keys = read(source)
    monkeypatch.setattr("seit_ray.images.sample.MAX_BYTES", 1)
    with pytest.raises(NoReadableImageError, match=rf"{keys[0]}: size \d+ bytes of .*; expected at most 1; "):
        read(source)
