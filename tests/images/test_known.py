"""What a dataset was made of, and what has changed since."""

import dataclasses

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seit_ray.images.known import KINDS, Changes, KnownImages, known_file, known_name
from seit_ray.storage import Folder
from tests.images.found import ImageRecord, rows_of, write_manifest
from tests.images.made_manifests import keep_known

HOLD_OUT = {"val_fraction": 0.2, "seed": 0}


def records(num, first=0):
    return [ImageRecord(f"{i:03}.jpg", f"/photos/{i:03}.jpg", "ab"[i % 2], None, i, f"v{i}") for i in range(first, num)]


def known_of(folder, found, checksums=()):
    """(files, what is known) after a manifest of these records is kept beside those that are there."""
    manifest = write_manifest(found, folder.join("manifest"), rows_per_part=3, **HOLD_OUT)
    files = {**dict(checksums), **keep_known(manifest, folder, first=len(checksums))}
    return files, KnownImages(folder, files)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def kinds(known, found):
    return [KINDS[kind] for rows in rows_of(found, 7) for kind in known.kinds_of(rows.held_out(**HOLD_OUT))]


def test_a_file_holds_key_and_state_alone(folder):
    manifest = write_manifest(records(5), folder.join("manifest"), white_level=4095, **HOLD_OUT)
    rows = manifest.read_part("train", 0)
    table = pq.ParquetFile(pa.BufferReader(known_file(rows))).read()
    assert table.equals(rows.select(["key", "state"]).replace_schema_metadata(None))
    assert not table.schema.metadata
    assert known_file(rows.slice(0)) == known_file(rows)
    assert known_name("train", 7) == "_source/train/part-00007.parquet"


def test_the_same_images_are_the_same_in_any_order(folder):
    files, known = known_of(folder, records(40))
    assert len(files) > 5
    assert set(kinds(known, records(40)[::-1])) == {"same"}
    assert list(known.removed()) == []


@pytest.mark.parametrize("change", [{"size_bytes": 99}, {"version": "w"}, {"label": "c"}, {"split": "val"}])
def test_a_change_is_seen(folder, change):
    _, known = known_of(folder, [dataclasses.replace(record, split="train") for record in records(10)])
    found = [dataclasses.replace(record, split="train") for record in records(10)]
    found[4] = dataclasses.replace(found[4], **change)
    assert kinds(known, found) == ["same"] * 4 + ["changed"] + ["same"] * 5


def test_added_and_removed(folder):
    _, known = known_of(folder, records(20))
    assert kinds(known, records(25, first=3)) == ["same"] * 17 + ["added"] * 5
    assert sorted(known.removed()) == ["000.jpg", "001.jpg", "002.jpg"]


def test_later_states_count(folder):
    files, _ = known_of(folder, records(20))
    again = [dataclasses.replace(record, version="new") for record in records(3)]
    _, known = known_of(folder, again, files)
    assert set(kinds(known, [*again, *records(20, first=3)])) == {"same"}
    assert kinds(known, records(3)) == ["changed"] * 3
    assert list(known.removed()) == []


def test_a_damaged_list_is_refused(folder):
    files, _ = known_of(folder, records(20))
    name = next(iter(files))
    folder.write(name, folder.read(name)[:-1] + b"?")
    with pytest.raises(ValueError, match=f"{name} has a wrong checksum"):
        KnownImages(folder, files)


def test_nothing_known(folder):
    known = KnownImages(folder, {})
    assert kinds(known, records(3)) == ["added"] * 3
    assert list(known.removed()) == []


def test_words_name_the_first():
    changes = Changes()
    assert changes.words() == ""
    for i in range(5):
        changes.add("added", f"{i}.jpg")
    changes.add("removed", "x.jpg")
    assert changes.words() == "5 added (0.jpg, 1.jpg, 2.jpg, ...), 1 removed (x.jpg)"
    assert changes.words("changed") == ""
    assert changes.words("removed") == "1 removed (x.jpg)"
