"""Folder, each case on disk and on a real server of each cloud."""

import os
import pickle
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seit_ray.storage import Folder, StorageError


def names(entries):
    return [entry.name for entry in entries]


def test_write_then_read(folder):
    folder.write("a/b/c.bin", b"one")
    folder.write("a/b/c.bin", b"two, longer")
    folder.write("empty", b"")
    assert folder.read("a/b/c.bin") == b"two, longer"
    assert folder.read("empty") == b""
    assert folder.join("a", "b").read("c.bin") == b"two, longer"
    assert names(folder.list(include_hidden=True)) == ["a/b/c.bin", "empty"]


def test_read_many_keeps_order_and_returns_errors(folder):
    wanted = [f"{i:02}[*]?.jpg" for i in range(40)]
    for name in wanted:
        folder.write(name, name.encode())
    wanted = [*reversed(wanted), wanted[3], "missing"]
    *good, missing = folder.read_many(wanted)
    assert good == [name.encode() for name in wanted[:-1]]
    assert isinstance(missing, StorageError)
    assert missing.kind == "missing"
    assert folder.uri_of("missing") in str(missing)
    assert folder.read_many([]) == []


def test_read_many_limits_bytes(folder):
    folder.write("fits", b"x" * 10)
    folder.write("large", b"x" * 11)
    fits, large = folder.read_many(["fits", "large"], max_bytes=10)
    assert fits == b"x" * 10
    assert large.kind == "too_large"
    assert "11 bytes" in str(large)
    assert "at most 10" in str(large)


def test_read_uris_reads_across_folders(folder, tmp_path):
    folder.write("x/1", b"1")
    folder.write("y/2", b"2")
    other = Folder(tmp_path / "other")
    other.write("3", b"3")
    uris = [folder.uri_of("y/2"), other.uri_of("3"), folder.uri_of("x/1"), other.uri_of("4")]
    uris += ["/", "s3://bucket"]
    *good, missing, root, bucket = folder.join("x").read_uris(uris)
    assert good == [b"2", b"3", b"1"]
    assert missing.kind == root.kind == bucket.kind == "missing"


def test_missing_object(folder):
    folder.write("there", b"")
    for operation in (folder.read, folder.open):
        with pytest.raises(StorageError) as error:
            operation("not/there")
        assert error.value.kind == "missing"
        assert str(error.value).startswith(f"{folder.uri}/not/there does not exist; expected")
        assert "\n" not in str(error.value)
        assert error.value.__cause__ is not None
    assert not folder.exists("not/there")
    assert folder.size("not/there") is None


def test_size_and_exists_know_objects_only(folder):
    folder.write("a/b", b"12345")
    assert folder.size("a/b") == 5
    assert folder.exists("a/b")
    assert folder.size("a") is None
    assert not folder.exists("a")


AWKWARD_NAMES = [
    "a-b/x",
    "a.txt",
    "a/x",
    "a/x/y",
    "a0",
    "A/z",
    "a/é.jpg",
    "a b/c d.jpg",
    "a/%20.jpg",
    "ä",
    "a/+&=.jpg",
]


def test_list_is_in_key_order_everywhere(folder):
    listed = [name for name in AWKWARD_NAMES if name != "a/x"]  # a disk cannot hold both a/x and a/x/y
    for name in random.Random(0).sample(listed, len(listed)):
        folder.write(name, name.encode())
    entries = list(folder.list())
    assert names(entries) == sorted(listed, key=str.encode)
    assert [entry.size_bytes for entry in entries] == [len(entry.name.encode()) for entry in entries]
    assert all(entry.modified.startswith("20") and entry.modified.endswith("+00:00") for entry in entries)
    assert folder.read_many(names(entries)) == [entry.name.encode() for entry in entries]


def test_list_by_prefix_and_hidden(folder):
    for name in ("train/a/1", "train/b/2", "train-x/3", "_work/4", "train/.cache/5", "_top", "train/_6"):
        folder.write(name, b"")
    assert names(folder.list()) == ["train-x/3", "train/a/1", "train/b/2"]
    assert names(folder.list("train/")) == ["train/a/1", "train/b/2"]
    assert names(folder.list("train/b")) == ["train/b/2"]
    assert names(folder.list("tr")) == ["train-x/3", "train/a/1", "train/b/2"]
    assert names(folder.list("nothing/")) == []
    assert names(folder.list("_work/")) == ["_work/4"]
    assert names(folder.list("_wo")) == ["_work/4"]
    assert names(folder.list("train/", include_hidden=True)) == [
        "train/.cache/5",
        "train/_6",
        "train/a/1",
        "train/b/2",
    ]
    assert folder.list_folders() == ["train", "train-x"]
    assert folder.join("train").list_folders() == ["a", "b"]
    assert names(folder.join("_work").list()) == ["4"]


def test_listing_what_is_missing_gives_nothing(folder):
    assert list(folder.join("nowhere").list()) == []
    assert folder.join("nowhere").list_folders() == []


def test_delete(folder):
    for name in ("a/1", "a/2/3", "ab/4", "a.txt"):
        folder.write(name, b"")
    folder.delete("a/1")
    folder.delete("a/1")
    assert names(folder.list()) == ["a.txt", "a/2/3", "ab/4"]
    folder.delete_tree("a")
    folder.delete_tree("a")
    assert names(folder.list()) == ["a.txt", "ab/4"]
    folder.delete_tree()
    assert list(folder.list(include_hidden=True)) == []


def test_open_reads_ranges(folder):
    data = random.Random(1).randbytes(3 << 20)
    folder.write("f", data)
    with folder.open("f") as file:
        assert file.seekable()
        assert file.read(10) == data[:10]
        assert file.seek(-5, os.SEEK_END) == len(data) - 5
        assert file.read() == data[-5:]
        assert file.seek(1 << 20) == 1 << 20
        assert file.read(1 << 20) == data[1 << 20 : 2 << 20]
        assert file.tell() == 2 << 20
        assert file.seek(-7, os.SEEK_CUR) == (2 << 20) - 7
        assert file.read(7) == data[(2 << 20) - 7 : 2 << 20]
    assert file.closed


def test_open_serves_parquet(folder):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": list(range(100)), "y": ["v"] * 100}), sink, row_group_size=10)
    folder.write("t.parquet", sink.getvalue().to_pybytes())
    with folder.open("t.parquet") as file:
        table = pq.ParquetFile(file).read_row_group(7, columns=["x"])
    assert table.to_pydict() == {"x": list(range(70, 80))}


def test_check_readable(folder):
    folder.write("sub/f", b"1")
    folder.check_readable()
    folder.join("sub").check_readable()
    folder.join("sub/f").check_readable()  # a table is a source too
    with pytest.raises(StorageError, match="nowhere does not exist; expected"):
        folder.join("nowhere").check_readable()


def test_check_writable_leaves_no_folders_of_its_own(tmp_path):
    (tmp_path / "mine").mkdir()
    for name in ("new", "a/b/c", "mine"):
        Folder(tmp_path / name).check_writable()
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_check_writable_leaves_nothing(folder):
    folder.join("new").check_writable()
    assert list(folder.list(include_hidden=True)) == []


def test_pickle_equality_and_repr(folder):
    folder.write("f", b"1")
    folder.read("f")
    copy = pickle.loads(pickle.dumps(folder))
    assert copy == folder
    assert hash(copy) == hash(folder)
    assert copy.read("f") == b"1"
    assert folder.join("f") != folder
    assert "testing" not in repr(folder)
    assert repr(folder) == f"Folder({folder.uri!r})"


@pytest.mark.parametrize("name", ["", "/absolute"])
def test_names_are_relative(folder, name):
    with pytest.raises(StorageError, match="expected a relative name"):
        folder.read(name)


def test_resolve(folder, tmp_path):
    assert folder.resolve("a/b.jpg") == f"{folder.uri}/a/b.jpg"
    assert folder.join("x").resolve("../b.jpg") == f"{folder.uri}/b.jpg"
    assert folder.join("x").resolve("./y/../b.jpg") == f"{folder.uri}/x/b.jpg"
    far = folder.resolve("../" * 30 + "b.jpg")
    assert far == (
        f"{folder.uri.partition(':')[0]}://{folder.uri.split('/')[2]}/b.jpg" if folder.is_remote else "/b.jpg"
    )
    assert folder.resolve("s3://other/k") == "s3://other/k"
    assert folder.resolve(f"{tmp_path}/z") == f"{tmp_path}/z"
    with pytest.raises(StorageError, match="http://x/y"):
        folder.resolve("http://x/y")


def test_stretches_of_a_listing_hold_every_object_once(folder):
    names = [f"{place}{number:02}.jpg" for place in ("a/", "b/", "") for number in range(7)]
    for name in names:
        folder.write(name, b"")
    folder.write(".hidden/x", b"y")
    entries = [entry for some in folder.list_some() for entry in some]
    assert sorted(entries) == sorted(folder.list(include_hidden=True))
    assert [entry for entry in entries if not entry.name.startswith(".")] == list(folder.list())
    cuts = folder.cuts("", 4)
    if cuts is None:  # a service that lists in an order of its own
        assert folder.uri.startswith("az://")
        return
    assert 0 < len(cuts) <= 4
    ends = ["", *cuts, None]
    found = [e.name for i in range(len(ends) - 1) for e in folder.list(stretch=(ends[i], ends[i + 1]))]
    assert found == sorted(names)
