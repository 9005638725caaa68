"""Files of a source that cannot be read, and a storage that does not answer."""

import errno
import io
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from seit_ray.images import fetch_images
from seit_ray.images.listing import list_images
from seit_ray.images.sources.faults import FILE_PATIENCE_S
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder, StorageError
from seit_ray.storage.errors import explain
from seit_ray.storage.patience import DOUBT_PAUSE_S, DOUBTS
from tests.images.bad_sectors import bad_sector
from tests.images.made_manifests import rows_of
from tests.images.made_sources import write_parquet
from tests.images.made_tars import samples, tar_bytes

__all__ = ["bad_sector"]


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """Those that somebody with patience makes, without waiting."""
    had = []
    monkeypatch.setattr("seit_ray.storage.patience.time", SimpleNamespace(sleep=had.append, monotonic=lambda: sum(had)))
    return had


def listed(source, place, **settings):
    """The rows of the manifest, all in train."""
    return rows_of(list_images(source, SourceSettings(**settings), place, val_fraction=0.0, seed=0), "train")


def tars(source):
    """Three tars; (images of all of them, where the header of the third image of each is)."""
    images = []
    for number in range(3):
        members, some = samples(5, 5 * number)
        source.write(f"{number}.tar", tar_bytes(members, format=0))
        images.append(some)
    return images, 4 * 1024


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("at_the_start", [False, True])
def test_a_bad_sector_among_the_headers_of_a_tar_costs_what_is_behind_it(
    tmp_path, bad_sector, pauses, number, at_the_start
):
    source = Folder(tmp_path / "source")
    images, header = tars(source)
    bad_sector(f"{number}.tar", 0 if at_the_start else header)
    rows = listed(source, Folder(tmp_path / "list"))
    (rest,) = [row for row in rows if row["key"] == f"{number}.tar#rest"]
    assert "cannot be read or written just now" in rest["uri"]
    assert "stands for all that it held beyond" in rest["uri"]
    images[number] = [] if at_the_start else images[number][:2]
    found = [(row["key"], row["uri"]) for row in rows if row is not rest]
    assert fetch_images(found, source) == [image for part in images for image in part]
    assert 10 < sum(pauses) <= FILE_PATIENCE_S + DOUBTS * DOUBT_PAUSE_S  # it was asked for again and again


@pytest.mark.parametrize("others", [True, False])
def test_a_tar_by_itself_is_told_from_an_outage_by_what_lies_beside_it(tmp_path, bad_sector, pauses, others):
    source = Folder(tmp_path / "source")
    source.write("0.tar", tar_bytes(samples(5, 0)[0], format=0))
    if others:
        source.write("words/readme.txt", b"x")
    bad_sector("0.tar", 0)
    with pytest.raises(ValueError, match=r"0\.tar cannot be read or written just now") as error:
        listed(source.join("0.tar"), Folder(tmp_path / "list"))
    assert (getattr(error.value, "kind", "") == "unavailable") == (not others)
    assert ("nothing that can be read" in str(error.value)) == others


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_an_outage_that_ends_costs_no_tar(tmp_path, monkeypatch, failures):
    """The first requests fail; when somebody looks whether anything comes, it does."""
    source, opened, opens = Folder(tmp_path / "source"), [], Folder.open
    images, _ = tars(source)
    monkeypatch.setattr("seit_ray.images.piece_makers.FILE_PATIENCE_S", 0.0)  # as in a bucket, for who has no patience

    def out(folder, name, version=None):
        opened.append(name)
        if len(opened) in (1, 2, 4)[:failures]:  # the third, after two failures, is the look
            raise explain(OSError(errno.EIO, "Input/output error"), folder.uri_of(name))
        return opens(folder, name, version)

    monkeypatch.setattr(Folder, "open", out)
    rows = listed(source, Folder(tmp_path / "list"))
    assert fetch_images([(row["key"], row["uri"]) for row in rows], source) == [i for part in images for i in part]


def test_while_nothing_else_comes_a_tar_is_not_at_fault(tmp_path, monkeypatch):
    source, opened = Folder(tmp_path / "source"), []
    tars(source)

    def lost(folder, name, version=None):
        opened.append(name)
        raise explain(OSError(errno.EIO, "Input/output error"), folder.uri_of(name))

    monkeypatch.setattr(Folder, "open", lost)
    with pytest.raises(StorageError) as error:
        listed(source, Folder(tmp_path / "list"))
    assert error.value.kind == "unavailable"
    assert {"0.tar", "2.tar"} == set(opened)  # the one that was to be listed, and the last, to see whether it comes


@pytest.mark.parametrize("place", ["footer", "labels", "damage"])
def test_of_a_parquet_file_that_cannot_be_read_the_rows_before_are_listed(tmp_path, bad_sector, place):
    source = Folder(tmp_path / "source")
    images = [np.random.default_rng(n).bytes(40_000) for n in range(18)]
    for number in range(3):
        columns = {"image": images[6 * number : 6 * number + 6], "label": list("abcdef")}
        write_parquet(source, f"{number}.parquet", columns, row_group_size=2)
    data = source.read("1.parquet")
    if place == "damage":
        source.write("1.parquet", data[:-100] + bytes(100))
    else:
        labels = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(1).column(1)
        bad_sector("1.parquet", len(data) - 200 if place == "footer" else labels.data_page_offset)
    rows = listed(source, Folder(tmp_path / "list"))
    (rest,) = [row for row in rows if row["key"] == "1.parquet#rest"]
    assert "1.parquet cannot be read" in rest["uri"]
    before = images[6:8] if place == "labels" else []
    num_rows = {"0": 6, "1": len(before), "2": 6}
    keys = [f"{name}.parquet#{row}" for name, number in num_rows.items() for row in range(number)]
    found = {row["key"]: row["uri"] for row in rows if row is not rest}
    assert sorted(found) == sorted(keys)
    assert fetch_images([(key, found[key]) for key in keys], source) == images[:6] + before + images[12:]


@pytest.mark.parametrize("first", [True, False])
def test_the_columns_of_all_parquet_files_are_those_of_one_that_can_be_read(tmp_path, bad_sector, first):
    source = Folder(tmp_path / "source")
    for number in range(2):
        write_parquet(source, f"{number}.parquet", {"image": [b"a" * 20_000, b"b" * 20_000], "label": [0, 1]})
    bad = "0.parquet" if first else "1.parquet"
    bad_sector(bad, len(source.read(bad)) - 100)
    keys = [row["key"] for row in listed(source, Folder(tmp_path / "list"))]
    good = "1.parquet" if first else "0.parquet"
    assert sorted(keys) == sorted([f"{bad}#rest", f"{good}#0", f"{good}#1"])


@pytest.mark.parametrize("name", ["list.csv", "list.parquet", "inventory.csv"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("others", [True, False])
def test_a_table_or_an_inventory_is_to_be_mended_by_who_named_it(tmp_path, bad_sector, pauses, name, share, others):
    source, uris = Folder(tmp_path / "source"), [f"{n:05}-{'x' * 20}.jpg" for n in range(4000)]
    if name.endswith(".csv"):
        head = "key,size\n" if name == "inventory.csv" else "uri,label\n"
        source.write(name, (head + "".join(f"{uri},1\n" for uri in uris)).encode())
    else:
        numbers = np.random.default_rng(0).integers(0, 2**60, len(uris))
        uris = [f"{n}-{uri}" for n, uri in zip(numbers, uris, strict=True)]
        write_parquet(source, name, {"uri": uris}, row_group_size=1000)
    begins = share > 0 or name == "list.parquet"
    bad_sector(name, int(len(source.read(name)) * share) or (4 if begins else 0))
    if others:
        source.write("readme.txt", b"x")
    comes = begins or others
    is_inventory = name == "inventory.csv"
    settings = {"inventory": source.uri_of(name)} if is_inventory else {}
    with pytest.raises(StorageError, match=f"{name} cannot be read or written just now") as error:
        listed(source if is_inventory else source.join(name), Folder(tmp_path / "list"), **settings)
    assert error.value.kind == ("invalid" if comes else "unavailable")
    told = "others beside it" if others and not begins else "its beginning"
    assert (f"while {told} can; expected a whole file; copy it" in str(error.value)) == comes
    assert pauses
