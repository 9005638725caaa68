"""`inspect_tokens` on datasets of the tokenising job that something damaged: one line, and a status that tells."""

import contextlib
import io
import shutil

import pytest

from seit_ray.storage import Folder
from seit_ray.verbs.command.main import main
from tests.distributed.data.jobs import run
from tests.end_to_end.processes import run_verb
from tests.tiny_images import contents, image_files, write_files, write_tokenizer

FILES = image_files(150) | {"cat/broken.png": b"no picture"}


@pytest.fixture(scope="module")
def sound(ray_cluster, tmp_path_factory):
    """A dataset that was appended to."""
    place = tmp_path_factory.mktemp("sound")
    images, tokenizer = write_files(place / "images", FILES), write_tokenizer(place / "tokenizer")
    run(ray_cluster, images, tokenizer, Folder(place / "tokens"))
    write_files(images, image_files(40, first=300) | {"dog/broken.png": b"no picture"})
    run(ray_cluster, images, tokenizer, Folder(place / "tokens"), mode="append")
    return Folder(place / "tokens")


@pytest.fixture
def folder(sound, tmp_path):
    """A copy of it that a test may damage."""
    shutil.copytree(sound.uri, tmp_path / "tokens")
    return Folder(tmp_path / "tokens")


def inspect(folder, *keys):
    """(exit status, what it printed, its error line) of the verb."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(["inspect_tokens", f"dataset={folder.uri}", *keys])
        except SystemExit as ended:
            status = ended.code
    errors = [line for line in err.getvalue().splitlines() if line.startswith("error: ")]
    assert len(errors) == (status != 0)
    return status, out.getvalue(), errors[0] if errors else ""


def test_a_sound_dataset(folder):
    status, printed, _ = inspect(folder)
    assert status == 0
    assert "checksums, counts and code range of every shard" in printed


def test_a_flipped_bit_anywhere_is_found(folder):
    files = contents(folder)
    assert len(files) > 10
    for name, data in files.items():
        for place in (0, len(data) // 2, len(data) - 1):
            folder.write(name, data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
            status, _, line = inspect(folder)
            assert status == 2, (name, place)
            assert name.rpartition("/")[2].partition(".")[0] in line or "tokenizer" in line, (name, line)
        folder.write(name, data)
    assert inspect(folder)[0] == 0


@pytest.mark.parametrize("damage", ["missing", "shortened"])
def test_missing_and_shortened_files_are_found(folder, damage):
    for name, data in contents(folder).items():
        if name == "tokenizer/synonyms.json" and damage == "missing":
            continue  # may be left out: training makes its own
        folder.delete(name) if damage == "missing" else folder.write(name, data[:-1])
        status, printed, line = inspect(folder)
        assert status == 2, name
        assert printed == ""
        assert "tokens" in line
        folder.write(name, data)
    assert inspect(folder)[0] == 0


@pytest.mark.parametrize(
    "extra", ["train/shard-00099.parquet", "val/rejected-00009.parquet", "_source/train/part-00099.parquet"]
)
def test_extra_files_are_found(folder, extra):
    folder.write(extra, folder.read("train/shard-00000.parquet"))
    status, _, line = inspect(folder)
    assert status == 2
    assert f"{extra}: not in dataset.json" in line


def test_the_verb_as_a_process(folder):
    folder.delete("train/shard-00001.parquet")
    done = run_verb("inspect_tokens", f"dataset={folder.uri}")
    assert done.returncode == 2
    assert done.stdout == ""
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith(f"error: {folder.uri} has 1 faults: train/shard-00001.parquet: ")
    assert "does not exist" in line
