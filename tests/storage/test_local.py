"""What only a disk has: links, pipes, permissions, names in bytes, writes that fail half way."""

import errno
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from seit_ray.storage import Folder, StorageError


def names(entries):
    return [entry.name for entry in entries]


def test_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch):
    folder = Folder(tmp_path)
    folder.write("f", b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="disk is full; expected free space; free some") as error:
        folder.write("f", b"new")
    assert error.value.kind == "full"
    assert os.listdir(tmp_path) == ["f"]
    assert folder.read("f") == b"old"


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that always gives EIO")
def test_an_error_of_a_read_may_pass_and_tells_the_file():
    process = Folder("/proc/self")
    (content,) = process.read_many(["mem"])
    with process.open("mem") as file, pytest.raises(StorageError) as part:
        file.read(16)
    with process.open("mem") as file, pytest.raises(StorageError) as whole:
        file.read()
    for error in (content, part.value, whole.value):
        assert error.kind == "unavailable"
        assert "/proc/self/mem cannot be read or written just now" in str(error)


@pytest.mark.parametrize(
    "name", ["a" * 255, "\u732b" * 85, "\u00f6" * 127, "\U0001f408" * 63], ids=["1", "3", "2", "4"]
)
def test_every_name_that_a_disk_takes_is_written(tmp_path, name):
    folder = Folder(tmp_path)
    folder.write(f"x/{name}", b"1")
    assert folder.create(f"y/{name}", b"2")
    assert folder.read_many([f"x/{name}", f"y/{name}"]) == [b"1", b"2"]
    assert os.listdir(tmp_path / "x") == [name]
    with pytest.raises(StorageError, match="a name that is too long; expected a name of at most 255 bytes"):
        folder.write("b" + name + "bbb", b"1")


def test_write_below_a_file(tmp_path):
    folder = Folder(tmp_path)
    folder.write("f", b"")
    with pytest.raises(StorageError, match="f/g"):
        folder.write("f/g", b"")
    assert folder.size("f/g") is None


def test_links(tmp_path):
    folder = Folder(tmp_path / "data")
    folder.write("real/1.jpg", b"1")
    Folder(tmp_path / "elsewhere").write("2.jpg", b"22")
    data = tmp_path / "data"
    (data / "real/up").symlink_to(data)  # a loop
    (data / "real/self").symlink_to(data / "real/self")  # a link to itself
    (data / "broken.jpg").symlink_to(tmp_path / "gone.jpg")
    (data / "file.jpg").symlink_to(tmp_path / "elsewhere/2.jpg")
    (data / "linked").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(data / "pipe.jpg")
    sizes = {entry.name: entry.size_bytes for entry in folder.list()}
    assert list(sizes) == ["broken.jpg", "file.jpg", "linked/2.jpg", "real/1.jpg", "real/self"]
    assert sizes["file.jpg"] == sizes["linked/2.jpg"] == 2
    assert folder.list_folders() == ["linked", "real"]
    broken, itself = folder.read_many(["broken.jpg", "real/self"])
    assert broken.kind == itself.kind == "missing"
    folder.delete_tree("linked")
    assert (tmp_path / "elsewhere/2.jpg").exists()


def test_file_names_must_be_utf8(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).touch()
    with pytest.raises(StorageError, match="expected UTF-8; rename the file"):
        list(Folder(tmp_path).list())


def test_random_trees_sort_as_keys(tmp_path):
    choose = random.Random(2)
    for tree in range(20):
        folder = Folder(tmp_path / str(tree))
        parts = ["a", "a-", "a.b", "a0", "b", "Z", "~"]
        written = {"/".join(choose.choices(parts, k=choose.randint(1, 3))) + f"!{i}" for i in range(30)}
        for name in written:
            folder.write(name, b"")
        assert names(folder.list()) == sorted(written, key=str.encode)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(tmp_path):
    folder = Folder(tmp_path)
    folder.write("f", b"")
    (tmp_path / "f").chmod(0)
    with pytest.raises(StorageError, match=r"permission denied.*change its permissions") as error:
        folder.read("f")
    assert error.value.kind == "denied"


def test_local_use_does_not_load_s3fs(tmp_path):
    code = f"""
import sys
from seit_ray.storage import Folder
Folder({str(tmp_path)!r}).write("f", b"")
print([name for name in ("s3fs", "botocore") if name in sys.modules])
"""
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert loaded == "[]\n"


def test_a_folder_that_another_process_tidies_up_is_made_again(tmp_path, monkeypatch):
    made, makedirs = [], os.makedirs

    def tidied(path, **options):
        makedirs(path, **options)
        made.append(path)
        if len(made) == 1:
            os.rmdir(path)

    monkeypatch.setattr(os, "makedirs", tidied)
    Folder(tmp_path / "new").write("f", b"1")
    assert (tmp_path / "new" / "f").read_bytes() == b"1"
    assert len(made) == 2


def test_a_file_that_is_longer_than_it_says_is_read_to_its_end():
    """As those of /proc, which say that they are empty, and any that grows meanwhile."""
    path = Path("/proc/version")
    if not path.is_file() or path.stat().st_size:
        pytest.skip("no such file here")
    assert Folder("/proc").read("version") == path.read_bytes() != b""
