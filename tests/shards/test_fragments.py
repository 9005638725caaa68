"""Fragments in a folder: what is there is known from the listing alone."""

import numpy as np
import pytest

from seit_ray.shards.fragments import Fragment, list_fragments, read_fragment, write_fragment
from seit_ray.storage import Folder
from tests.tiny_dataset import learnable_rows, reject_table


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def test_written_fragments_are_listed_and_read(folder):
    rows, rejected = learnable_rows(5), reject_table(2)
    fragment = write_fragment(folder, "train", 7, rows, rejected)
    assert fragment == Fragment("train", 7, 5, 2)
    assert fragment.name == "train/000000007.5.2.parquet"
    assert list_fragments(folder) == {"train": {7: fragment}}
    found, found_rejected = read_fragment(folder, fragment, 16)
    np.testing.assert_array_equal(found.tokens, rows.tokens)
    assert found.meta.to_pylist() == rows.meta.to_pylist()
    assert found_rejected.to_pylist() == rejected.to_pylist()


def test_all_rejected_and_none(folder):
    written = [
        write_fragment(folder, "val", 0, learnable_rows(0), reject_table(3)),
        write_fragment(folder, "val", 1, learnable_rows(0), reject_table(0)),
    ]
    assert list_fragments(folder) == {"val": dict(enumerate(written))}
    assert [len(part) for f in written for part in read_fragment(folder, f, 16)] == [0, 3, 0, 0]


def test_same_slice_gives_the_same_file(folder, tmp_path):
    first = write_fragment(folder, "train", 0, learnable_rows(5), reject_table(1))
    before = (tmp_path / first.name).read_bytes()
    assert write_fragment(folder, "train", 0, learnable_rows(5), reject_table(1)) == first
    assert (tmp_path / first.name).read_bytes() == before
    assert len(list(folder.list())) == 1


def test_splits_and_slices_are_kept_apart(folder):
    for split in ("train", "val"):
        for index in (11, 2, 1_000_000_000):
            write_fragment(folder, split, index, learnable_rows(index % 3), reject_table(0))
    found = list_fragments(folder)
    assert {split: sorted(parts) for split, parts in found.items()} == {
        "train": [2, 11, 1_000_000_000],
        "val": [2, 11, 1_000_000_000],
    }


def test_no_folder_holds_no_fragments(tmp_path):
    assert list_fragments(Folder(tmp_path / "none")) == {}


def test_other_files_do_not_count(folder, tmp_path):
    fragment = write_fragment(folder, "train", 1, learnable_rows(2), reject_table(0))
    (tmp_path / "train" / "000000002.4.0.parquet").touch()  # as a power cut may leave it
    for name in ("notes.txt", "000000003.4.parquet", "a.b.c.parquet", ".000000004.1.0.parquet", "5.1.0.tmp"):
        (tmp_path / "train" / name).write_text("x")
    assert list_fragments(folder) == {"train": {1: fragment}}


def test_fragment_with_other_counts_than_its_name_is_an_error(folder, tmp_path):
    fragment = write_fragment(folder, "train", 1, learnable_rows(2), reject_table(1))
    wrong = fragment._replace(rows=3)
    (tmp_path / fragment.name).rename(tmp_path / wrong.name)
    with pytest.raises(ValueError, match=r"1\.3\.1\.parquet holds other counts than its name; delete it"):
        read_fragment(folder, wrong, 16)


def test_damaged_and_missing_fragments_name_the_file(folder, tmp_path):
    fragment = write_fragment(folder, "train", 1, learnable_rows(2), reject_table(1))
    path = tmp_path / fragment.name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"000000001\.2\.1\.parquet"):
        read_fragment(folder, fragment, 16)
    path.unlink()
    with pytest.raises(ValueError, match=r"000000001\.2\.1\.parquet does not exist"):
        read_fragment(folder, fragment, 16)


def test_flipped_bits_are_found(folder):
    fragment = write_fragment(folder, "train", 0, learnable_rows(3), reject_table(1))
    data = folder.read(fragment.name)
    for place in range(0, len(data), 7):
        folder.write(fragment.name, data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
        with pytest.raises(ValueError, match=f"{fragment.name}: .*wrong checksum.*run again"):
            read_fragment(folder, fragment, 16)
