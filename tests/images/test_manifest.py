"""The manifest as files: parts, the marker, digest, samples, memory; once on S3."""

import hashlib
import itertools
import json
import pickle
import tracemalloc
import uuid

import pyarrow.parquet as pq
import pytest

from seit_ray.images import load_manifest
from seit_ray.images.manifest_writing import default_part_rows
from seit_ray.storage import Folder, StorageError
from tests.images.found import ImageRecord, find_images, write_manifest
from tests.images.made_manifests import files, labels_of, records, rows_of, write


@pytest.fixture(autouse=True)
def small_files(set_rows):
    set_rows(file_rows=12, group_rows=4)


@pytest.fixture
def set_rows(monkeypatch):
    """Sets the rows of a file, for listings that are written from then on, and of a row group."""

    def rows(file_rows, group_rows):
        monkeypatch.setattr("seit_ray.images.manifest_writing.FILE_ROWS", file_rows)
        monkeypatch.setattr("seit_ray.images.manifest_files.GROUP_ROWS", group_rows)

    return rows


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "manifest")


def state_of(record, split):
    """What the state of an image has been since the first datasets, which know their images by it."""
    seen = json.dumps([split, record.label, record.size_bytes, record.version]).encode()
    return int.from_bytes(hashlib.blake2b(seen, digest_size=8).digest(), "little", signed=True)


def test_parts(folder):
    manifest = write(folder, records(30))
    assert manifest.splits["train"].num_images == 30
    assert manifest.splits["train"].num_parts == 8
    assert manifest.splits["train"].size_bytes == 300
    assert [manifest.read_part("train", i).num_rows for i in range(8)] == [4] * 7 + [2]
    assert manifest.read_part("train", 5).schema.names == [
        "id",
        "key",
        "uri",
        "label",
        "state",
        "version",
        "size_bytes",
    ]
    assert [str(field.type) for field in manifest.read_part("train", 5).schema] == [
        "int64",
        "string",
        "string",
        "int32",
        "int64",
        "string",
        "int64",
    ]
    rows = rows_of(manifest, "train")
    states = [state_of(record, "train") for record in records(30)]
    assert rows == [
        {
            "id": i,
            "key": f"k{i:04}",
            "uri": f"/data/k{i:04}",
            "label": (1, 0, None)[i % 3],
            "state": states[i],
            "version": None,
            "size_bytes": 10,
        }
        for i in range(30)
    ]
    assert sorted(files(folder)) == ["manifest.json", *(f"train/rows-0000{i}.parquet" for i in range(3))]


def test_row_groups_are_as_large_whatever_the_parts(folder):
    for rows_per_part in (2, 4, 12):
        write(folder, records(30), rows_per_part=rows_per_part)
        with folder.open("train/rows-00001.parquet") as file:
            metadata = pq.ParquetFile(file).metadata
            assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [4, 4, 4]


@pytest.mark.parametrize("count", [1, 4, 11, 12, 13, 24])
@pytest.mark.parametrize("group_rows", [3, 4, 8, 50])  # parts that end within row groups, and at their ends
def test_edges_of_parts_and_files(folder, set_rows, count, group_rows):
    set_rows(file_rows=12, group_rows=group_rows)
    manifest = write(folder, records(count))
    assert [row["id"] for row in rows_of(manifest, "train")] == list(range(count))
    assert manifest.splits["train"].num_parts == -(-count // 4)


@pytest.mark.parametrize("rows_per_part", [1, 5, 7, 12, 13, 40])
def test_a_file_holds_whole_parts(folder, rows_per_part):
    manifest = write(folder, records(100), rows_per_part=rows_per_part)
    assert manifest.rows_per_part == rows_per_part
    assert manifest.rows_per_file == rows_per_part * max(1, 12 // rows_per_part)
    sizes = [manifest.read_part("train", i).num_rows for i in range(manifest.splits["train"].num_parts)]
    assert sizes == [rows_per_part] * (100 // rows_per_part) + [100 % rows_per_part] * (100 % rows_per_part > 0)
    assert [row["id"] for row in rows_of(manifest, "train")] == list(range(100))
    assert [key for keys in manifest.keys("train") for key in keys.to_pylist()] == [f"k{i:04}" for i in range(100)]
    assert len(files(folder)) == 1 + -(-100 // manifest.rows_per_file)


def test_rows_a_part_are_checked(folder):
    with pytest.raises(ValueError, match=r"rows_per_part 0; expected at least 1; correct it"):
        write(folder, records(3), rows_per_part=0)


@pytest.mark.parametrize(
    ("images", "rows"),
    [
        (0, 256),
        (1, 256),
        (64 * 256, 256),
        (64 * 256 + 1, 512),
        (50_000, 1024),
        (1_281_167, 16_384),
        (64 * 8192, 8192),
        (64 * 8192 + 1, 16_384),
        (10**9, 16_384),
    ],
)
def test_rows_a_part_follow_from_the_number_of_images(monkeypatch, images, rows):
    monkeypatch.undo()  # the sizes of the library
    assert default_part_rows(images) == rows


def test_the_default_counts_all_splits(folder, monkeypatch):
    monkeypatch.undo()
    rows = records(10_000, split="train") + records(10_000, split="val")
    manifest = write_manifest(rows, folder, val_fraction=0.0, seed=0)
    assert manifest.rows_per_part == 512
    assert {name: split.num_parts for name, split in manifest.splits.items()} == {"train": 20, "val": 20}
    assert manifest.read_part("val", 19)["id"].to_pylist() == list(range(19_728, 20_000))


def test_sizes_are_kept_as_far_as_they_are_known(folder):
    rows = [ImageRecord(str(i), str(i), None, None, (None, 0, 7)[i % 3]) for i in range(6)]
    manifest = write(folder, rows)
    assert [row["size_bytes"] for row in rows_of(manifest, "train")] == [None, 0, 7] * 2


@pytest.mark.parametrize(("split", "index"), [("train", -1), ("train", 8), ("test", 0)])
def test_parts_that_are_not_there(folder, split, index):
    manifest = write(folder, records(30))
    with pytest.raises(ValueError, match=r"part .*expected 0 to 7|split 'test' of .*expected one of"):
        manifest.read_part(split, index)


def test_load_gives_the_same(folder):
    manifest = write(folder, records(30, split="val") + records(5, split="train"))
    loaded = load_manifest(folder)
    assert loaded == manifest
    assert list(loaded.splits) == ["train", "val"]
    copy = pickle.loads(pickle.dumps(loaded))
    assert copy.read_part("val", 7).equals(manifest.read_part("val", 7))


def test_ids_are_unique_over_the_splits(folder):
    rows = [ImageRecord(str(i), str(i), None, ("train", "val")[i % 2], None) for i in range(20)]
    manifest = write(folder, rows)
    assert [row["id"] for row in rows_of(manifest, "train")] == list(range(0, 20, 2))
    assert [row["id"] for row in rows_of(manifest, "val")] == list(range(1, 20, 2))
    assert manifest.splits["train"].size_bytes is None


def test_the_marker_is_written_last(folder):
    seen = []

    def interrupted():
        for record in records(30):
            seen.append(load_manifest(folder))
            yield record
        raise KeyboardInterrupt

    write(folder, records(3))
    with pytest.raises(KeyboardInterrupt):
        write(folder, interrupted())
    assert seen == [None] * 30
    assert load_manifest(folder) is None


def test_nothing_listed_is_complete(folder):
    assert write(folder, []).splits == {}
    assert load_manifest(folder).splits == {}
    assert load_manifest(folder.join("elsewhere")) is None


def test_a_shorter_listing_removes_the_files_of_a_longer_one(folder):
    folder.write("notes.txt", b"mine")
    write(folder, records(100) + records(20, split="val"))
    write(folder, records(13))
    assert sorted(files(folder)) == [
        "manifest.json",
        "notes.txt",
        "train/rows-00000.parquet",
        "train/rows-00001.parquet",
    ]


def test_same_records_give_the_same_bytes(tmp_path):
    first, second = Folder(tmp_path / "1"), Folder(tmp_path / "2")
    for folder in (first, second):
        write(folder, records(100), val_fraction=0.3)
    assert files(first) == files(second)


def test_digest(folder):
    base = records(20)
    digest = write(folder, base).digest
    assert len(digest) == 64
    moved = [ImageRecord(r.key, "s3://elsewhere/" + r.key, r.label, r.split, r.size_bytes) for r in base]
    assert write(folder, moved).digest == digest  # the data may move
    assert write(folder, base, rows_per_part=7).digest == digest

    def changed(**change):
        last = {name: getattr(base[-1], name) for name in ("key", "uri", "label", "split", "size_bytes")}
        return write(folder, [*base[:-1], ImageRecord(**(last | change))]).digest

    others = [write(folder, base[:-1]).digest, write(folder, base[::-1]).digest]
    others += [write(folder, base, class_names=["dog", "cat"]).digest]
    others += [
        changed(key="x"),
        changed(label="x"),
        changed(label=0),
        changed(label=None),
        changed(split="val"),
    ]
    others += [changed(size_bytes=11), changed(size_bytes=None)]
    assert digest not in others
    assert len({*others}) == len(others)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format": 99}', b'{"format": 3, "splits": {}}', b"\xff"])
def test_damaged_markers(folder, content):
    folder.write("manifest.json", content)
    with pytest.raises(ValueError, match=r"manifest .*manifest.json cannot be read \(.*delete it"):
        load_manifest(folder)


def test_the_marker_can_be_read_by_people(folder):
    write(folder, records(5))
    about = json.loads(folder.read("manifest.json"))
    assert about["class_names"] == ["cat", "dog"]
    assert about["splits"]["train"] == {"num_images": 5, "num_parts": 2, "size_bytes": 50}


def test_sample(folder):
    manifest = write(folder, records(100))
    everything = rows_of(manifest, "train")
    sample = manifest.sample("train", 20, seed=5)
    ids = sample["id"].to_pylist()
    assert len(set(ids)) == 20
    assert ids == sorted(ids)
    assert sample.to_pylist() == [everything[i] for i in ids]
    assert manifest.sample("train", 20, seed=5).equals(sample)
    assert manifest.sample("train", 20, seed=6)["id"].to_pylist() != ids
    assert manifest.sample("train", 1000, seed=5).to_pylist() == everything
    assert manifest.sample("train", 0, seed=5).num_rows == 0


def test_sample_is_even(folder):
    manifest = write(folder, records(40))
    counts = [0] * 40
    for seed in range(300):
        for i in manifest.sample("train", 4, seed)["id"].to_pylist():
            counts[i] += 1
    assert 8 < min(counts) <= max(counts) < 60  # 30 +- 5.2


def test_sample_reads_only_what_it_needs(folder, monkeypatch):
    manifest = write(folder, records(120))
    names, read_file = [], Folder.read
    monkeypatch.setattr(Folder, "read", lambda self, name: names.append(name) or read_file(self, name))
    manifest.sample("train", 2, seed=0)
    assert 1 <= len(names) <= 2


def test_memory_is_that_of_one_file(folder, set_rows):
    set_rows(file_rows=200, group_rows=100)

    def many(count):
        return (ImageRecord(f"{i:0200}", f"{i:0200}", "x", None, 1) for i in range(count))

    def peak(count):
        tracemalloc.start()
        write(folder, many(count), rows_per_part=100)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak_bytes

    peak(400)
    assert peak(8000) < 1.5 * peak(800)


def test_on_s3_from_files(s3_server):
    bucket = s3_server.create_bucket(f"manifest-{uuid.uuid4().hex}")
    source = Folder(f"s3://{bucket}/images", **s3_server.credentials)
    for name, i in itertools.product(("cat", "dog"), range(5)):
        source.write(f"{name}/{i}.jpg", b"x" * i)
    folder = source.at(f"s3://{bucket}/manifest")
    assert load_manifest(folder) is None
    manifest = write(folder, find_images(source))
    assert load_manifest(folder) == manifest
    assert manifest.class_names == ["cat", "dog"]
    assert manifest.splits["train"].size_bytes == 20
    assert [row["uri"] for row in rows_of(manifest, "train")][::9] == [
        f"s3://{bucket}/images/cat/0.jpg",
        f"s3://{bucket}/images/dog/4.jpg",
    ]
    assert labels_of(manifest) == [0] * 5 + [1] * 5
    assert manifest.sample("train", 3, seed=0).num_rows == 3


def test_a_storage_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file/manifest"):
        write(Folder(tmp_path / "file/manifest"), records(3))
