"""Folders that jobs fill: nothing is written into another's, and nothing is deleted but what a journal names."""

import pytest

from seit_ray.storage import Folder
from seit_ray.storage.lock import LOCK
from seit_ray.storage.output import (
    claim,
    end_work,
    note_names,
    noted_names,
    read_plan,
    refuse_overlap,
    remove_unknown,
    write_plan,
)
from tests.tiny_images import contents

OURS = ("dataset.json", "_work/plan.json")


@pytest.mark.parametrize(
    ("output", "source", "overlap"),
    [
        ("a", "a", True),
        ("a/b", "a", True),
        ("a", "a/b", True),
        ("a/", "a", True),
        ("ab", "a", False),
        ("a", "ab", False),
        ("a/b", "a/c", False),
    ],
)
def test_folders_of_which_one_is_in_the_other(tmp_path, monkeypatch, output, source, overlap):
    monkeypatch.setattr("seit_ray.storage.output.is_object", lambda folder: False)
    places = [
        (Folder(tmp_path / output), Folder(tmp_path / source)),
        (Folder(f"s3://bucket/{output}"), Folder(f"s3://bucket/{source}")),
    ]
    (tmp_path / source).mkdir(parents=True)
    for mine, theirs in places:
        if overlap:
            with pytest.raises(ValueError, match=r"expected two folders, neither of them in the other"):
                refuse_overlap(mine, theirs, "images")
        else:
            refuse_overlap(mine, theirs, "images")


def test_buckets_are_told_apart_from_disks(tmp_path, monkeypatch):
    monkeypatch.setattr("seit_ray.storage.output.is_object", lambda folder: False)
    refuse_overlap(Folder("s3://bucket"), Folder(tmp_path), "images")
    with pytest.raises(ValueError, match="neither of them in the other"):
        refuse_overlap(Folder("s3://bucket"), Folder("s3://bucket/photos"), "images")


def test_links_lead_to_the_same_folder(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    with pytest.raises(ValueError, match="neither of them in the other"):
        refuse_overlap(Folder(tmp_path / "link" / "tokens"), Folder(tmp_path / "photos"), "images")


def test_a_table_is_not_the_folder_that_it_lies_in(tmp_path):
    (tmp_path / "list.csv").write_text("uri\n")
    refuse_overlap(Folder(tmp_path / "tokens"), Folder(tmp_path / "list.csv"), "images")
    with pytest.raises(ValueError, match="neither of them in the other"):
        refuse_overlap(Folder(tmp_path / "tokens"), Folder(tmp_path), "images")


@pytest.mark.parametrize(
    "name", ["notes.txt", "photos/a.jpg", "train/shard-00000.parquet", "source/a", "_work/notes", "_private/a"]
)
def test_a_folder_with_files_of_others_is_refused(tmp_path, name):
    folder = Folder(tmp_path)
    folder.write(name, b"mine")
    with pytest.raises(ValueError, match=rf"holds {name}, which this program did not write there"):
        claim(folder, OURS)
    assert contents(folder) == {name: b"mine"}


@pytest.mark.parametrize("name", [LOCK, ".DS_Store", "pretrain.run.json", "pretrain.error.txt", *OURS, ".a.tmp"])
def test_an_empty_folder_and_our_own_are_free(tmp_path, name):
    folder = Folder(tmp_path / "new")
    claim(folder, OURS)
    folder.write(name, b"")
    claim(folder, OURS)
    folder.write("train/shard-00000.parquet", b"")
    if name in OURS:  # what says that it is ours speaks for all
        claim(folder, OURS)
    else:
        with pytest.raises(ValueError, match=r"holds train/shard-00000\.parquet"):
            claim(folder, OURS)


@pytest.mark.parametrize("place", [(), OURS])
def test_what_killed_looks_have_left_is_removed(tmp_path, place):
    folder, probe = Folder(tmp_path), ".write-check-" + 32 * "0"
    others = {probe[:-1]: b"write check", f"{probe[:-1]}1": b"mine", f"_work/{probe}": b"write check"}
    others |= dict.fromkeys(place, b"{}")
    for name, content in {**others, probe: b"write check"}.items():
        folder.write(name, content)
    claim(folder, OURS)
    assert {entry.name: folder.read(entry.name) for entry in folder.list(include_hidden=True)} == others


def test_what_the_journal_names_is_removed_and_nothing_else(tmp_path):
    folder = Folder(tmp_path)
    mark = "0123456789abcdef" * 2
    write_plan(folder, {"a": 1})
    note_names(folder, "shards", ["train/shard-0", "train/shard-1"])
    note_names(folder, "source", ["source/train/part-0"])
    assert noted_names(folder) == {"train/shard-0", "train/shard-1", "source/train/part-0"}
    mine = ["train/shard-2", "train/shard-00000.tar", "source/cat.jpg", "notes/rejected.csv", f"train/.x.{mark}.tmp"]
    ours = ["train/shard-1", "source/train/part-0", f"train/.shard-0.{mark}.tmp"]
    for name in ["train/shard-0", *mine, *ours]:
        folder.write(name, name.encode())
    remove_unknown(folder, {"train/shard-0"})
    assert {name for name in contents(folder) if not name.startswith("_work/")} == {"train/shard-0", *mine}


def test_the_work_ends_and_what_else_lies_in_it_stays(tmp_path):
    folder = Folder(tmp_path)
    write_plan(folder, {"a": 1})
    folder.write("_work/manifest/a", b"")
    note_names(folder, "shards", ["a"])
    folder.write("_work/notes.txt", b"mine")
    assert read_plan(folder) == {"a": 1}
    end_work(folder, ("manifest", "fragments"))
    assert contents(folder) == {"_work/notes.txt": b"mine"}
    assert read_plan(folder) is None
    folder.delete("_work/notes.txt")
    write_plan(folder, {"a": 1})
    end_work(folder, ())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff"])
def test_a_damaged_plan_is_named(tmp_path, text):
    folder = Folder(tmp_path)
    folder.write("_work/plan.json", text)
    with pytest.raises(ValueError, match=r"plan\.json cannot be read"):
        read_plan(folder)
