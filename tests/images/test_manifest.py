"""write_manifest and what is read back: splits, labels, slices, samples, the marker."""

import itertools
import json
import pickle
import tracemalloc
import uuid

import pyarrow.parquet as pq
import pytest

from seit_ray.images import ImageRecord, find_images, load_manifest, write_manifest
from seit_ray.storage import Folder, StorageError


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "manifest")


def records(count, *, labels=("dog", "cat", None), split=None, size_bytes=10):
    return [
        ImageRecord(f"k{i:04}", f"/data/k{i:04}", labels[i % len(labels)], split, size_bytes)
        for i in range(count)
    ]


def write(folder, rows, *, val_fraction=0.0, seed=0, slice_size=4, part_slices=3, **options):
    return write_manifest(
        rows,
        folder,
        val_fraction=val_fraction,
        seed=seed,
        slice_size=slice_size,
        part_slices=part_slices,
        **options,
    )


def rows_of(manifest, split):
    return [
        row
        for index in range(manifest.splits[split].num_slices)
        for row in manifest.read_slice(split, index).to_pylist()
    ]


def labels_of(manifest, split="train"):
    return [row["label"] for row in rows_of(manifest, split)]


def files(folder):
    return {entry.name: folder.read(entry.name) for entry in folder.list(include_hidden=True)}


def test_slices(folder):
    manifest = write(folder, records(30))
    assert manifest.splits["train"].num_images == 30
    assert manifest.splits["train"].num_slices == 8
    assert manifest.splits["train"].size_bytes == 300
    assert [manifest.read_slice("train", i).num_rows for i in range(8)] == [4] * 7 + [2]
    assert manifest.read_slice("train", 5).schema.names == ["id", "key", "uri", "label"]
    assert [str(field.type) for field in manifest.read_slice("train", 5).schema] == [
        "int64",
        "string",
        "string",
        "int32",
    ]
    rows = rows_of(manifest, "train")
    assert rows == [
        {"id": i, "key": f"k{i:04}", "uri": f"/data/k{i:04}", "label": (1, 0, None)[i % 3]} for i in range(30)
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


# ---- splits


def test_val_fraction(folder):
    rows = records(2000)
    manifest = write(folder, rows, val_fraction=0.2, seed=1, slice_size=256)
    val = {row["key"] for row in rows_of(manifest, "val")}
    assert 320 < len(val) < 480  # 400 +- 4 standard deviations
    assert manifest.splits["train"].num_images + len(val) == 2000
    again = write(folder, rows[::-1], val_fraction=0.2, seed=1, slice_size=256)
    assert {row["key"] for row in rows_of(again, "val")} == val  # whatever the order
    more = write(folder, rows, val_fraction=0.3, seed=1, slice_size=256)
    assert val < {row["key"] for row in rows_of(more, "val")}
    other = write(folder, rows, val_fraction=0.2, seed=2, slice_size=256)
    assert {row["key"] for row in rows_of(other, "val")} != val


def test_given_splits_are_kept(folder):
    manifest = write(folder, records(50, split="train") + records(5, split="extra"), val_fraction=0.9)
    assert {name: split.num_images for name, split in manifest.splits.items()} == {"extra": 5, "train": 50}


@pytest.mark.parametrize("val_fraction", [-0.1, 1, 1.5, float("nan")])
def test_val_fraction_is_checked(folder, val_fraction):
    with pytest.raises(ValueError, match=r"val_fraction .*expected 0 or more"):
        write(folder, [], val_fraction=val_fraction)


@pytest.mark.parametrize("split", ["../x", "_x", ".x", "a/b", "a b"])
def test_split_names_are_checked(folder, split):
    with pytest.raises(ValueError, match=r"split .*rename it"):
        write(folder, records(1, split=split))


# ---- labels


def test_string_labels_are_numbered_in_sorted_order(folder):
    manifest = write(folder, records(8, labels=("pear", "apple", "fig", "Fig")))
    assert manifest.class_names == ["Fig", "apple", "fig", "pear"]
    assert labels_of(manifest) == [3, 1, 2, 0] * 2


def test_integer_labels_keep_their_value(folder):
    manifest = write(folder, records(6, labels=(7, 2, None)))
    assert manifest.class_names == [str(i) for i in range(8)]
    assert labels_of(manifest) == [7, 2, None] * 2


def test_integers_among_strings_are_names(folder):
    manifest = write(folder, records(6, labels=(10, "9", "x")))
    assert manifest.class_names == ["10", "9", "x"]
    assert labels_of(manifest) == [0, 1, 2] * 2


def test_no_labels(folder):
    for names in (None, ["cat"]):
        manifest = write(folder, records(6, labels=(None,)), class_names=names)
        assert manifest.class_names is None
        assert labels_of(manifest) == [None] * 6


def test_given_class_names(folder):
    names = ["dog", "cow", "cat"]
    manifest = write(folder, records(4, labels=("cat", "dog")), class_names=names)
    assert (manifest.class_names, labels_of(manifest)) == (names, [2, 0] * 2)
    manifest = write(folder, records(4, labels=(1, 2)), class_names=names)
    assert (manifest.class_names, labels_of(manifest)) == (names, [1, 2] * 2)


@pytest.mark.parametrize(
    ("labels", "names", "text"),
    [
        ((0, -1), None, "label -1; expected 0 to 1000000; number the classes"),
        ((0, 1_000_001), None, "label 1000001; expected 0 to 1000000"),
        ((0, 2), ["a", "b"], "label 2; expected 0 to 1"),
        (("a", "c"), ["a", "b"], "label 'c'; expected one of 2 class names"),
    ],
)
def test_labels_that_are_no_classes(folder, labels, names, text):
    write(folder, records(3))
    with pytest.raises(ValueError, match=text):
        write(folder, records(4, labels=labels), class_names=names)
    assert load_manifest(folder) is None  # neither the old listing nor half of the new one


def test_too_many_classes(folder, monkeypatch):
    monkeypatch.setattr("seit_ray.images.manifest.MAX_LABEL", 9)
    with pytest.raises(ValueError, match=r"more than 9 different values.*set label_column"):
        write(folder, records(20, labels=[f"id{i}" for i in range(20)]))


# ---- the marker


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


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"format": 99}', b'{"format": 1, "splits": {}}', b"\xff"]
)
def test_damaged_markers(folder, content):
    folder.write("manifest.json", content)
    with pytest.raises(ValueError, match=r"manifest .*manifest.json cannot be read \(.*delete it"):
        load_manifest(folder)


def test_the_marker_can_be_read_by_people(folder):
    write(folder, records(5))
    about = json.loads(folder.read("manifest.json"))
    assert about["class_names"] == ["cat", "dog"]
    assert about["splits"]["train"] == {"num_images": 5, "num_slices": 2, "size_bytes": 50}


# ---- samples, memory, S3


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
    opened = []
    open_file = Folder.open
    monkeypatch.setattr(Folder, "open", lambda self, name: opened.append(name) or open_file(self, name))
    manifest.sample("train", 2, seed=0)
    assert 1 <= len(opened) <= 2


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
