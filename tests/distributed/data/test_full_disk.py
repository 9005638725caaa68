"""A disk that is full or may not be written to: one clear line, the dataset as it was, and a rerun that finishes."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from seit_ray.shards import TokenDataset
from seit_ray.storage import Folder
from tests.distributed.data.jobs import run
from tests.distributed.data.oracle import check_complete
from tests.tiny_images import contents, image_files, write_files, write_tokenizer

FILES = image_files(200)
MORE = image_files(120, first=900)
SETTINGS = {"rows_per_shard": 4}


@pytest.fixture
def disk(tmp_path):
    """A disk of its own of 4 MB; needs root."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=4m", "none", place], check=False).returncode:
        pytest.skip("may not mount a disk here")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def images(tmp_path):
    return write_files(tmp_path / "images", FILES)


def fill(disk: Path, left_bytes: int) -> Path:
    """A file that leaves so much free."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(free - left_bytes))
    return ballast


@pytest.mark.parametrize("left_bytes", [4096, 60_000, 250_000])
def test_a_full_disk(ray_cluster, images, tokenizer, disk, left_bytes):
    output, ballast = Folder(disk / "tokens"), fill(disk, left_bytes)
    with pytest.raises(ValueError, match="the disk is full; expected free space; free some space") as error:
        run(ray_cluster, images, tokenizer, output, **SETTINGS)
    assert "\n" not in str(error.value)
    assert output.uri in str(error.value)
    assert not output.exists("dataset.json")
    assert not [name for name in contents(output) if name.endswith(".tmp") or name == "_lock.json"]
    ballast.unlink()
    run(ray_cluster, images, tokenizer, output, **SETTINGS)
    check_complete(output, set(FILES))


@pytest.mark.parametrize("left_bytes", [60_000, 200_000])
def test_a_disk_that_fills_while_appending_leaves_the_dataset(ray_cluster, images, tokenizer, disk, left_bytes):
    output = Folder(disk / "tokens")
    run(ray_cluster, images, tokenizer, output, **SETTINGS)
    before = contents(output)
    write_files(images, MORE)
    ballast = fill(disk, left_bytes)
    with pytest.raises(ValueError, match="the disk is full"):
        run(ray_cluster, images, tokenizer, output, mode="append", **SETTINGS)
    found = contents(output)
    assert {name: found[name] for name in before} == before  # what was begun lies beside it, for the next call
    TokenDataset(output).read_split("train")
    ballast.unlink()
    run(ray_cluster, images, tokenizer, output, mode="append", **SETTINGS)
    check_complete(output, set(FILES) | set(MORE))


def test_a_disk_that_may_only_be_read(ray_cluster, images, tokenizer, disk):
    output, finished = Folder(disk / "tokens"), Folder(disk / "finished")
    made = run(ray_cluster, images, tokenizer, finished, **SETTINGS)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(ValueError, match="lies on a read-only file system; expected a writable path") as error:
        run(ray_cluster, images, tokenizer, output, **SETTINGS)
    assert "\n" not in str(error.value)
    assert run(ray_cluster, images, tokenizer, finished, **SETTINGS).info == made.info  # nothing to write


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to(ray_cluster, images, tokenizer, tmp_path):
    output = Folder(tmp_path / "tokens")
    os.mkdir(output.uri)
    os.chmod(output.uri, 0o555)
    with pytest.raises(ValueError, match="permission denied"):
        run(ray_cluster, images, tokenizer, output, **SETTINGS)
    os.chmod(output.uri, 0o755)
    assert contents(output) == {}
    run(ray_cluster, images, tokenizer, output, **SETTINGS)
    check_complete(output, set(FILES))


def test_an_output_whose_path_is_a_file(ray_cluster, images, tokenizer, tmp_path):
    (tmp_path / "taken").write_bytes(b"a file")
    with pytest.raises(ValueError, match=str(tmp_path / "taken")) as error:
        run(ray_cluster, images, tokenizer, Folder(tmp_path / "taken" / "tokens"), **SETTINGS)
    assert "\n" not in str(error.value)
    assert (tmp_path / "taken").read_bytes() == b"a file"
