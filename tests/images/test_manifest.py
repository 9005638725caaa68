"""The manifest as files: slices, the marker, digest, samples, memory; once on S3."""

import itertools
import json
import pickle
import tracemalloc
import uuid

import pyarrow.parquet as pq
import pytest

from seit_ray.images import ImageRecord, find_images, load_manifest
from seit_ray.images.records import state_of
from seit_ray.storage import Folder, StorageError
from tests.images.made_manifests import files, labels_of, records, rows_of, write


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "manifest")


def test_slices(folder):
    manifest = write(folder, records(30))
    assert manifest.splits["train"].num_images == 30
    assert manifest.splits["train"].num_slices == 8
    assert manifest.splits["train"].size_bytes == 300
    assert [manifest.read_slice("train", i).num_rows for i in range(8)] == [4] * 7 + [2]
    assert manifest.read_slice("train", 5).schema.names == ["id", "key", "uri", "label", "state", "version"]
    assert [str(field.type) for field in manifest.read_slice("train", 5).schema] == [
        "int64",
        "string",
        "string",
        "int32",
        "int64",
        "string",
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
        }
        for i in range(30)
    ]
    assert sorted(files(folder)) == ["manifest.json", *(f"train/part-0000{i}.parquet" for i in range(3))]


def test_slice_is_row_group(folder):
    write(folder, records(30))
    with folder.open("train/part-00001.parquet") as file:
        metadata = pq.ParquetFile(file).metadata
        assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [4, 4, 4]


@pytest.mark.parametrize("count", [1, 4, 11, 12, 13, 24])
def test_edges_of_slices_and_parts(folder, count):
    manifest = write(folder, records(count))
    assert [row["id"] for row in rows_of(manifest, "train")] == list(range(count))
    assert manifest.splits["train"].num_slices == -(-count // 4)


@pytest.mark.parametrize(("split", "index"), [("train", -1), ("train", 8), ("test", 0)])
def test_slices_that_are_not_there(folder, split, index):
    manifest = write(folder, records(30))
    with pytest.raises(ValueError, match=r"slice .*expected 0 to 7|split 'test' of .*expected one of"):
        manifest.read_slice(split, index)


def test_load_gives_the_same(folder):
    manifest = write(folder, records(30, split="val") + records(5, split="train"))
    loaded = load_manifest(folder)
    assert loaded == manifest
    assert list(loaded.splits) == ["train", "val"]
    copy = pickle.loads(pickle.dumps(loaded))
    assert copy.read_slice("val", 7).equals(manifest.read_slice("val", 7))


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


def test_a_shorter_listing_removes_the_parts_of_a_longer_one(folder):
    folder.write("notes.txt", b"mine")
    write(folder, records(100) + records(20, split="val"))
    write(folder, records(13))
    assert sorted(files(folder)) == [
        "manifest.json",
        "notes.txt",
        "train/part-00000.parquet",
        "train/part-00001.parquet",
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
    assert write(folder, base, slice_size=7).digest == digest

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


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format": 99}', b'{"format": 1, "splits": {}}', b"\xff"])
def test_damaged_markers(folder, content):
    folder.write("manifest.json", content)
    with pytest.raises(ValueError, match=r"manifest .*manifest.json cannot be read \(.*delete it"):
        load_manifest(folder)


def test_the_marker_can_be_read_by_people(folder):
    write(folder, records(5))
    about = json.loads(folder.read("manifest.json"))
    assert about["class_names"] == ["cat", "dog"]
    assert about["splits"]["train"] == {"num_images": 5, "num_slices": 2, "size_bytes": 50}


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
    parts, read_file = [], Folder.read
    monkeypatch.setattr(Folder, "read", lambda self, name: parts.append(name) or read_file(self, name))
    manifest.sample("train", 2, seed=0)
    assert 1 <= len(parts) <= 2


def test_memory_is_that_of_one_part(folder):
    def many(count):
        return (ImageRecord(f"{i:0200}", f"{i:0200}", "x", None, 1) for i in range(count))

    def peak(count):
        tracemalloc.start()
        write(folder, many(count), slice_size=100, part_slices=2)
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
