"""A listing by pieces: the same bytes for any number of workers, any division, and after a kill."""

import _thread
import json
import os
import random
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow as pa
import pytest

from seit_ray.images import listing, load_manifest, piece_writing, pieces
from seit_ray.images.listing import list_images
from seit_ray.images.manifest import PART_COLUMNS
from seit_ray.images.piece_makers import make_here
from seit_ray.images.pieces import Pieces, pieces_in, place_of
from seit_ray.images.repeats import Repeats
from seit_ray.images.sources import csv_rows, find, inventory, layout, maps, tables
from seit_ray.images.sources.division import Division
from seit_ray.images.sources.find import DEFAULT
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder, StorageError, entry
from tests.images.found import find_images
from tests.images.made_manifests import files
from tests.images.made_sources import fill, write_parquet
from tests.images.made_tars import sample, tar_bytes

HOLD_OUT = {"val_fraction": 0.3, "seed": 3}
ONE, TWO = "caf\u00e9", "cafe\u0301"  # é as one character, and as two


class Killed(BaseException):
    """The end of the process, which no code handles."""


def folders_of(source):
    fill(source, *(f"{name}/{i}.jpg" for name in ("ant", "bee", "cat", "dog", ONE, TWO) for i in range(7)), "x.txt")


def flat_with_splits(source):
    fill(source, *(f"{name}/{i:02}.png" for name in ("test", "train") for i in range(20)), "train/a.heic")


def tars(source):
    for number in range(6):
        members = [m for i in range(5) for m in sample(f"{i}", cls="abc"[i % 3], json=f'{{"name": "{i * number}"}}')]
        source.write(f"{number}.tar", tar_bytes([*members, *sample("0", cls="a", json='{"name": "0"}')]))


def numbered_rows(source):
    for number, rows in enumerate((3, 5, 1, 4)):
        name = f"data-{number:05}-of-00004.parquet"
        write_parquet(source, name, {"image": [b"i"] * rows, "label": [f"c{i % 2}" for i in range(rows)]})


def rows_with_a_column_of_splits(source):
    for number, split in enumerate(("test", "train", "dev", "test")):
        write_parquet(source, f"{number}.parquet", {"image": [b"i"] * 3, "split": [split] * 3, "id": [1, 1, number]})


def table(source):
    names = [f"{i % 9}.jpg" for i in range(30)]
    write_parquet(source, "a.parquet", {"uri": names, "label": [i % 4 for i in range(30)]}, row_group_size=4)


def csv_table(source):
    """Line ends in quotes, quotes in quotes and beside them, blank lines, and uris that come again."""
    rows = [f'"a\nb{i % 9}, ""{i}"".jpg",c{i % 4},train' if i % 3 else f'{i % 9}"x.jpg,"c0\r\n",val' for i in range(30)]
    text = "\r\n".join(["\ufeffuri,label,split", *rows[:9], "", *rows[9:]])
    source.write("a.csv", text.encode())


def inventoried(source):
    """Objects as an inventory tells of them, in no order; beside the source's folder."""
    folders_of(source)
    names = [entry.name for entry in source.list()]
    rows = [f"{source.uri_of(name)},{len(name)},v{number}" for number, name in enumerate(names)]
    random.Random(0).shuffle(rows)
    source.at(source.uri.rpartition("/")[0]).write("inventory.csv", "\n".join(["key,size,e_tag", *rows]).encode())


def streets(source):
    """Pairs as CamVid lies; of some images there is no map, and of some maps no image."""
    numbers = [f"{number:02}.png" for number in range(12)]
    fill(source, *(f"{split}/images/{name}" for split in ("test", "train") for name in numbers if name != "03.png"))
    fill(source, *(f"{split}/masks/{name}" for split in ("test", "train") for name in numbers if name != "07.png"))
    fill(source, f"train/images/{TWO}.jpg", f"train/masks/{TWO}.png", "train/masks/notes.txt")
    fill(source, "train/none.png", "a.txt")


def scenes(source):
    """Pairs as ADE-20k lies: all maps before all images."""
    for split, numbers in (("training", range(20)), ("validation", range(4))):
        fill(source, *(f"annotations/{split}/{number:02}.png" for number in numbers))
        fill(source, *(f"images/{split}/{number:02}.jpg" for number in numbers))


def pairs_of_a_table(source):
    """Maps at addresses, some absent, some that are not there."""
    fill(source, *(f"maps/{number}.png" for number in range(20)))
    rows = [f"{number % 17}.jpg,{'' if number % 5 == 3 else f'maps/{number}.png'}" for number in range(30)]
    source.write("a.csv", "\n".join(["uri,mask", *rows]).encode())


def pairs_in_tars(source):
    for number in range(4):
        members = [m for n in range(4) for m in ((f"{n}.jpg", b"i"), (f"{n}.seg.png", b"m"))]
        source.write(f"{'val' if number == 2 else 'train'}-{number}.tar", tar_bytes(members[number:]))


def pairs_in_rows(source):
    for number in range(3):
        write_parquet(source, f"{number}.parquet", {"image": [b"i"] * 3, "mask": [b"m"] * 3})


SOURCES = {
    "folders": (folders_of, {}),
    "folders, patterns": (folders_of, {"exclude": ("*/3.jpg",)}),
    "splits": (flat_with_splits, {}),
    "tars": (tars, {}),
    "tars, keys": (tars, {"key_column": "name"}),
    "numbered rows": (numbered_rows, {}),
    "numbered rows, patterns": (numbered_rows, {"exclude": ("*#4", "*#7")}),
    "splits of rows": (rows_with_a_column_of_splits, {"key_column": "id"}),
    "table": (table, {}),
    "csv": (csv_table, {}),
    "inventory": (inventoried, {}),
    "inventory, patterns": (inventoried, {"exclude": ("*/3.jpg",)}),
    "pairs": (streets, {"masks": "masks", "num_classes": 3}),
    "pairs, suffixes": (
        scenes,
        {"masks": "annotations", "num_classes": 3, "suffixes": ("jpg",), "exclude": ("*/03.*",)},
    ),
    "pairs, table": (pairs_of_a_table, {"num_classes": 3, "exclude": ("3.jpg",)}),
    "pairs, tars": (pairs_in_tars, {"mask_column": "seg.png", "num_classes": 3, "exclude": ("*/03.*",)}),
    "pairs, rows": (pairs_in_rows, {"num_classes": 3}),
}


@pytest.fixture(params=SOURCES, ids=[name.replace(", ", "-") for name in SOURCES])
def source(request, tmp_path):
    """(source, settings)"""
    make, settings = SOURCES[request.param]
    folder = Folder(tmp_path / "source")
    make(folder)
    if make is inventoried:
        settings = {"inventory": str(tmp_path / "inventory.csv"), **settings}
    name = {table: "a.parquet", csv_table: "a.csv", pairs_of_a_table: "a.csv"}.get(make)
    return folder.join(name) if name else folder, SourceSettings(**settings)


@pytest.fixture
def many_pieces(monkeypatch):
    divide_small(monkeypatch)


def divide_small(monkeypatch):
    """Pieces of a few images."""
    monkeypatch.setattr(layout, "LOOK", 5)
    monkeypatch.setattr(find, "HEAD_FILES", 5)
    monkeypatch.setattr(tables, "SLICE_ROWS", 5)
    monkeypatch.setattr(csv_rows, "SLICE_BYTES", 60)
    monkeypatch.setattr(inventory, "SLICE_ROWS", 5)
    monkeypatch.setattr(piece_writing, "FILE_ROWS", 3)
    monkeypatch.setattr(entry, "SOME", 3)


def manifest_of(source, folder, **how):
    place, settings = source
    list_images(place, settings, folder, rows_per_part=4, **HOLD_OUT, **how)
    return files(folder)


def workers(number, seed=0):
    """So many, which take pieces in any order."""

    def make(listing, todo, on_listed):
        order = random.Random(seed).sample(list(todo), len(todo))
        with ThreadPoolExecutor(number) as pool:
            counts = dict(zip(order, pool.map(listing.make, order), strict=True))
        yield from (counts[piece] for piece in todo)

    return make


def test_any_number_of_workers_and_any_division_give_the_same_bytes(source, tmp_path, monkeypatch):
    expected = manifest_of(source, Folder(tmp_path / "whole"))
    assert len(expected) > 2
    divide_small(monkeypatch)
    assert pieces_in(Folder(tmp_path / "divided"), *source).num > 1
    for number in (1, 2, 5):
        assert manifest_of(source, Folder(tmp_path / f"{number}"), make=workers(number, number)) == expected
    monkeypatch.setattr(find, "MOST_GROUPS", 2)
    monkeypatch.setattr(find, "MOST_STRETCHES", 2)
    assert manifest_of(source, Folder(tmp_path / "few")) == expected
    keys = [record.key for record in find_images(*source)]
    manifest = load_manifest(Folder(tmp_path / "few"))
    assert sorted(keys) == sorted(k for s in manifest.splits for column in manifest.keys(s) for k in column.to_pylist())
    assert len(set(keys)) == len(keys)


def test_what_stands_is_not_listed_again_after_a_kill(source, tmp_path, many_pieces, monkeypatch):
    expected = manifest_of(source, Folder(tmp_path / "undisturbed"))
    made, make = [], Pieces.make

    def watched(self, number, is_enough=None):
        if len(made) == 2:
            raise Killed
        counts = make(self, number, is_enough)
        made.append(number)
        return counts

    monkeypatch.setattr(Pieces, "make", watched)
    with pytest.raises(Killed):
        manifest_of(source, Folder(tmp_path / "killed"))
    assert load_manifest(Folder(tmp_path / "killed")) is None
    first = list(made)
    monkeypatch.setattr(Pieces, "make", lambda self, number, is_enough=None: made.append(number) or make(self, number))
    assert manifest_of(source, Folder(tmp_path / "killed")) == expected
    assert len(first) == 2
    assert len(set(made)) == len(made)


def test_maps_of_all_pieces_are_counted_once_and_join_their_images(tmp_path, many_pieces):
    place = Folder(tmp_path / "source")
    streets(place)
    settings = SourceSettings(masks="masks", num_classes=3)
    for number in (1, 2, 5):
        folder = Folder(tmp_path / f"{number}")
        manifest = list_images(place, settings, folder, make=workers(number), **HOLD_OUT)
        assert manifest.left_out == {"label maps without an image": 3, ".txt": 1}
        rows = [row for split in sorted(manifest.splits) for row in manifest.read_part(split, 0).to_pylist()]
        assert len(rows) == 24
        there = {row["key"]: row["mask_uri"] for row in rows if row["mask_version"] is not None}
        assert there == {
            row["key"]: row["uri"].replace("/images/", "/masks/").replace(".jpg", ".png")
            for row in rows
            if "/07." not in row["key"] and row["key"] != "train/none.png"
        }
        assert sorted(row["mask_uri"] for row in rows if row["mask_version"] is None) == [
            "unusable: no label map: it lies in no folder 'images'",
            "unusable: no label map: there is no test/masks/07.png",
            "unusable: no label map: there is no train/masks/07.png",
        ]


@pytest.mark.parametrize("make", [streets, scenes])
def test_a_sample_of_pairs_looks_for_the_maps_of_its_images_alone(tmp_path, many_pieces, monkeypatch, make):
    place = Folder(tmp_path / "source")
    make(place)
    settings = SourceSettings(masks="masks" if make is streets else "annotations", num_classes=3)
    whole = list_images(place, settings, Folder(tmp_path / "whole"), **HOLD_OUT)
    seen = []
    monkeypatch.setattr(find, "LOOK", 5)
    monkeypatch.setattr(maps, "visible", _entries(seen, maps.visible))
    sample = list_images(place, replace(settings, limit=2), Folder(tmp_path / "sample"), **HOLD_OUT)
    (split,) = sample.splits
    expected = whole.read_part(split, 0).slice(0, 2).drop_columns(["id"])
    assert sample.read_part(split, 0).drop_columns(["id"]).equals(expected)
    assert sample.left_out.keys() <= {".txt"}
    assert len(seen) == 2
    with pytest.raises(ValueError, match="where no file lies in a folder of that name"):
        list_images(place, replace(settings, limit=2, masks="labels"), Folder(tmp_path / "wrong"), **HOLD_OUT)


def _entries(seen, visible):
    def listed(*given):
        for found in visible(*given):
            seen.append(found.name)
            yield found

    return listed


def test_a_listing_without_maps_says_nothing_of_them(photos, tmp_path):
    manifest = list_images(photos, SourceSettings(), Folder(tmp_path / "list"), **HOLD_OUT)
    assert "void" not in json.loads(manifest.folder.read("manifest.json"))
    assert load_manifest(manifest.folder).read_part("train", 0).column_names == PART_COLUMNS


def test_a_piece_that_was_written_half_is_made_anew(tmp_path, many_pieces, monkeypatch):
    place = Folder(tmp_path / "source")
    folders_of(place)
    expected = manifest_of((place, SourceSettings()), Folder(tmp_path / "undisturbed"))
    write = Folder.write

    def dies(self, name, data):
        if name == "00002.json":
            raise Killed
        write(self, name, data)

    monkeypatch.setattr(Folder, "write", dies)
    with pytest.raises(Killed):
        manifest_of((place, SourceSettings()), Folder(tmp_path / "killed"))
    monkeypatch.setattr(Folder, "write", write)
    assert manifest_of((place, SourceSettings()), Folder(tmp_path / "killed")) == expected


def test_a_division_comes_back_from_its_file(source, tmp_path, many_pieces):
    place, settings = source
    folder = Folder(tmp_path / "pieces")
    first = pieces_in(folder, place, settings)
    again = pieces_in(folder, place, settings)
    assert again.is_taken_up
    assert not first.is_taken_up
    assert len(again.division.pieces) > 1
    assert again.division.head is None
    assert {**vars(again.division), "head": 0} == {**vars(first.division), "head": 0}
    assert Division.of_dict(again.division.as_dict(), place, settings, again.folder) == again.division


def test_pieces_of_another_division_are_not_taken(photos, tmp_path, many_pieces):
    kept = Folder(tmp_path / "kept")
    settings = SourceSettings(listing=kept.uri)
    list_images(photos, settings, Folder(tmp_path / "1"), **HOLD_OUT)
    (place,) = kept.list_folders()
    kept.delete(f"{place}/division.json")  # as a kill of who deletes the folder may leave it
    fill(photos, *(f"bee/new{i}.jpg" for i in range(9)), "dog/new.jpg")
    anew = list_images(photos, settings, Folder(tmp_path / "2"), **HOLD_OUT)
    assert sum(split.num_images for split in anew.splits.values()) == 52


def test_keys_that_look_like_repeats_are_remembered_only_beside_what_comes_again(tmp_path, many_pieces, monkeypatch):
    place, seen, unique = Folder(tmp_path / "source"), [], Repeats.unique
    monkeypatch.setattr(Repeats, "unique", lambda self, keys: seen.extend(keys) or unique(self, keys))
    ids = [*(f"id#{i}" for i in range(1, 20)), "a", "a", "a#2", "a#2#7"]
    write_parquet(place, "0.parquet", {"image": [b"i"] * len(ids), "id": ids})
    found = [record.key for record in find_images(place, SourceSettings(key_column="id"))]
    assert found == [*ids[:-3], "a#2", "a#2#2", "a#2#7"]
    assert seen == ["a", "a", "a#2", "a#2#7"]


def test_two_that_divide_at_the_same_time_do_not_mix(photos, tmp_path, many_pieces, monkeypatch):
    folder, settings = Folder(tmp_path / "kept"), SourceSettings()
    first = pieces_in(folder, photos, settings)
    counts = list(make_here(first, range(first.num), lambda more: None))
    rows = [list(first.tables(number, each)) for number, each in enumerate(counts)]
    fill(photos, *(f"{name}/0new{i}.jpg" for name in ("ant", "bee") for i in range(9)))
    folder.delete("division.json")  # the other one looked before it was written
    second = pieces_in(folder, photos, settings)
    list(make_here(second, range(second.num), lambda more: None))
    assert first.finished() == dict(enumerate(counts))
    assert [list(first.tables(number, each)) for number, each in enumerate(counts)] == rows
    assert sum(each.num_rows for each in second.finished().values()) == 60


def test_who_is_slower_takes_the_division_of_the_other(photos, tmp_path, many_pieces, monkeypatch):
    folder, divide = Folder(tmp_path / "kept"), pieces.divide

    def slow(*given, **more):
        found = divide(*given, **more)
        monkeypatch.setattr(pieces, "divide", divide)
        others.append(pieces_in(folder, photos, SourceSettings()))
        return found

    others = []
    monkeypatch.setattr(pieces, "divide", slow)
    assert pieces_in(folder, photos, SourceSettings()).folder == others[0].folder


@pytest.mark.parametrize("name", ["table", "numbered rows", "tars"])
def test_a_listing_that_goes_on_says_since_when_and_reads_no_file_half_old(name, tmp_path, many_pieces, monkeypatch):
    make_source, settings = SOURCES[name]
    place, make, made, notes = Folder(tmp_path / "source"), Pieces.make, [], []
    make_source(place)
    source = (place.join("a.parquet") if name == "table" else place, SourceSettings(**settings))

    def killed(self, number, is_enough=None):
        if len(made) == 2:
            raise Killed
        made.append(number)
        return make(self, number, is_enough)

    def told(phase, done, total, text):
        notes.append(text) if phase == "listing" else None

    monkeypatch.setattr(Pieces, "make", killed)
    with pytest.raises(Killed):
        manifest_of(source, Folder(tmp_path / "list"), on_progress=told)
    monkeypatch.setattr(Pieces, "make", make)
    assert not notes
    make_source(place)  # the same rows, of another version
    with pytest.raises(StorageError, match=r"since the listing was begun; .* give the command again") as caught:
        manifest_of(source, Folder(tmp_path / "list"), on_progress=told)
    assert caught.value.kind == "changed"
    assert len(notes) == 1
    assert manifest_of(source, Folder(tmp_path / "list"), on_progress=told)
    assert len(notes) == 1


def test_a_listing_that_goes_on_says_so(photos, tmp_path, many_pieces, monkeypatch):
    make, notes = Pieces.make, []
    monkeypatch.setattr(Pieces, "make", lambda self, number, is_enough=None: _killed_at(make, self, number))
    with pytest.raises(Killed):
        list_images(photos, SourceSettings(), Folder(tmp_path / "list"), **HOLD_OUT)
    monkeypatch.setattr(Pieces, "make", make)

    def told(phase, done, total, text):
        notes.append(text) if phase == "listing" else None

    list_images(photos, SourceSettings(), Folder(tmp_path / "list"), on_progress=told, **HOLD_OUT)
    (note,) = notes
    when, place = r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", r"\S+/list/pieces/\w+"
    assert re.fullmatch(f"as it was begun on {when} in {place}; delete that to list anew", note)


def _killed_at(make, pieces_of, number):
    if number == 2:
        raise Killed
    return make(pieces_of, number)


def test_the_error_is_that_of_the_first_piece_that_has_one(tmp_path, many_pieces):
    place = Folder(tmp_path / "source")
    for number in range(6):
        labels = [1.5 if number in (2, 4) else 1.0] * 2
        write_parquet(place, f"{number}.parquet", {"image": [b"i"] * 2, "label": pa.array(labels)})
    for make in (make_here, workers(1), workers(3, 7)):
        with pytest.raises(ValueError, match=r"label of type float in row 0 of .*2\.parquet"):
            list_images(place, SourceSettings(), Folder(tmp_path / "list"), make=make, **HOLD_OUT)
        assert not list(Folder(tmp_path / "list").list())


def test_pieces_wait_for_a_storage_that_comes_back_and_stay_when_it_does_not(tmp_path, many_pieces, monkeypatch):
    place, fails, make = Folder(tmp_path / "source"), [], Pieces.make
    folders_of(place)

    def away(self, number, is_enough=None):
        if number == 2 and len(fails) < 2:
            fails.append(number)
            raise StorageError("no answer", "unavailable")
        return make(self, number, is_enough)

    monkeypatch.setattr(Pieces, "make", away)
    monkeypatch.setattr("seit_ray.storage.patience.FIRST_PAUSE_S", 0.01)
    with pytest.raises(StorageError, match="no answer"):
        list_images(place, SourceSettings(), Folder(tmp_path / "list"), **HOLD_OUT)
    assert [e.name for e in Folder(tmp_path / "list").list() if e.name.endswith("/00001.json")]

    def patient(listing, todo, on_listed):
        return make_here(listing, todo, on_listed, patience_s=9.0)

    manifest = list_images(place, SourceSettings(), Folder(tmp_path / "list"), make=patient, **HOLD_OUT)
    assert sum(split.num_images for split in manifest.splits.values()) == 42
    assert fails == [2, 2]


def test_threads_list_a_bucket_and_end_when_nobody_waits(tmp_path, many_pieces, monkeypatch):
    place = Folder(tmp_path / "source")
    folders_of(place)
    expected = manifest_of((place, SourceSettings()), Folder(tmp_path / "one"))
    monkeypatch.setattr(Folder, "is_remote", True)
    seen = []
    monkeypatch.setattr(Folder, "read_many", _with_thread(seen, Folder.read_many))
    monkeypatch.setattr(Pieces, "make", _with_thread(seen, Pieces.make))
    assert manifest_of((place, SourceSettings()), Folder(tmp_path / "more")) == expected
    assert any(name.startswith("listing") for name in seen)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("listing")]


def test_the_interrupt_of_a_cancelled_task_ends_the_threads(photos, tmp_path, many_pieces, monkeypatch):
    found, ended = pieces_in(Folder(tmp_path / "pieces"), photos, SourceSettings()), []

    def endless(self, number, is_enough=None):
        for _ in range(1000):
            time.sleep(0.01)
            try:
                is_enough(1)
            except BaseException:
                ended.append(number)
                raise

    monkeypatch.setattr(Folder, "is_remote", True)
    monkeypatch.setattr(Pieces, "make", endless)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which pytest-xdist leaves out
    timer = threading.Timer(0.2, _thread.interrupt_main)  # as Ray does it
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(make_here(found, range(found.num), lambda more: None))
    finally:
        signal.signal(signal.SIGINT, before)
    timer.join()
    assert ended


def _with_thread(seen, function):
    def called(*arguments, **more):
        seen.append(threading.current_thread().name)
        return function(*arguments, **more)

    return called


@pytest.fixture
def photos(tmp_path):
    place = Folder(tmp_path / "source")
    folders_of(place)
    return place


def test_verbs_share_a_listing_until_its_folder_is_deleted(photos, tmp_path, monkeypatch):
    settings = SourceSettings(listing=str(tmp_path / "kept"))
    notes = []

    def told(phase, *rest):
        notes.append(phase) if phase == "listing" else None

    first = list_images(photos, settings, Folder(tmp_path / "1"), on_progress=told, **HOLD_OUT)
    photos.write("ant/new.jpg", b"")
    assert not notes
    again = list_images(photos, settings, Folder(tmp_path / "2"), on_progress=told, **HOLD_OUT)
    assert again.digest == first.digest
    assert notes == ["listing"]
    assert len(list(find_images(photos, settings))) == 42
    held_out = list_images(photos, settings, Folder(tmp_path / "3"), val_fraction=0.0, seed=0)
    assert held_out.splits["train"].num_images == 42
    (place,) = Folder(tmp_path / "kept").list_folders()
    others = list_images(
        photos, SourceSettings(listing=settings.listing, exclude=("ant/*",)), Folder(tmp_path / "4"), **HOLD_OUT
    )
    assert sum(split.num_images for split in others.splits.values()) == 35
    anew = list_images(photos, settings, Folder(tmp_path / "5"), is_anew=True, **HOLD_OUT)
    assert sum(split.num_images for split in anew.splits.values()) == 43
    Folder(tmp_path / "kept").delete_tree(place)
    anew = list_images(photos, settings, Folder(tmp_path / "6"), **HOLD_OUT)
    assert sum(split.num_images for split in anew.splits.values()) == 43


@pytest.mark.parametrize("is_shared", [False, True])
def test_what_is_to_be_mended_is_listed_anew(tmp_path, is_shared):
    photos, kept = Folder(tmp_path / "source"), Folder(tmp_path / "kept")
    fill(photos, "train/a/1.jpg", "val/b/1.jpg")
    settings = SourceSettings(listing=kept.uri if is_shared else None)
    with pytest.raises(ValueError, match="expected classes in common") as caught:
        list_images(photos, settings, Folder(tmp_path / "list"), **HOLD_OUT)
    photos.delete("val/b/1.jpg")
    fill(photos, "val/a/1.jpg")
    if is_shared:
        (place,) = kept.list_folders()
        assert str(caught.value).endswith(f"; if the images are changed, delete {kept.uri_of(place)}, their listing")
        kept.delete_tree(place)
    assert list_images(photos, settings, Folder(tmp_path / "list"), **HOLD_OUT).class_names == ["a"]


def test_a_shared_listing_outlives_the_errors_of_who_reads_it(photos, tmp_path, many_pieces, monkeypatch):
    settings = SourceSettings(listing=str(tmp_path / "kept"))
    list_images(photos, settings, Folder(tmp_path / "1"), **HOLD_OUT)
    before = files(Folder(tmp_path / "kept"))
    with pytest.raises(ValueError, match="rows_per_part 0; expected at least 1"):
        list_images(photos, settings, Folder(tmp_path / "2"), rows_per_part=0, **HOLD_OUT)

    def full(*given, **more):
        raise StorageError("no space left", "full")

    monkeypatch.setattr(listing.ManifestWriter, "finish", full)
    for place in (settings, SourceSettings()):
        with pytest.raises(StorageError, match="no space left"):
            list_images(photos, place, Folder(tmp_path / "3"), **HOLD_OUT)
    assert files(Folder(tmp_path / "kept")) == before
    assert list(Folder(tmp_path / "3").join("pieces").list())


@pytest.mark.parametrize("kind", ["denied", "credentials", "full"])
def test_what_is_wrong_with_the_set_up_costs_no_piece(photos, tmp_path, many_pieces, monkeypatch, kind):
    make = Pieces.make

    def fails(self, number, is_enough=None):
        if number == 3:
            raise StorageError("not now", kind)
        return make(self, number, is_enough)

    monkeypatch.setattr(Pieces, "make", fails)
    with pytest.raises(StorageError, match="not now"):
        list_images(photos, SourceSettings(), Folder(tmp_path / "list"), **HOLD_OUT)
    assert [e.name for e in Folder(tmp_path / "list").list() if e.name.endswith("/00002.json")]


def test_a_shared_listing_is_that_of_an_endpoint_an_account_and_the_files_that_are_named(photos, tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    kept = Folder(tmp_path / "kept")

    def place(uri="s3://b/photos", settings=DEFAULT, **options):
        return place_of(kept, Folder(uri, **options), settings).uri

    assert place() == place()
    places = [place(), place(endpoint_url="http://a:1"), place(endpoint_url="http://a:2"), place("az://b/photos")]
    places += [place("az://b/photos", account="one"), place("az://b/photos", account="two")]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://a:3")
    places += [place()]
    for number in range(2):
        names = SourceSettings(class_names=photos.uri_of("names.txt"), inventory=photos.uri_of("inventory.csv"))
        for name in ("names.txt", "inventory.csv"):
            photos.write(name, b"a" * (number + 1))
            places.append(place(photos.uri, names))
    assert len(set(places)) == len(places)


def test_a_shared_listing_has_a_folder_of_its_own(photos, tmp_path):
    for place in (photos.uri, photos.uri_of("ant"), str(tmp_path)):
        with pytest.raises(ValueError, match="expected two folders, neither of them in the other"):
            list_images(photos, SourceSettings(listing=place), Folder(tmp_path / "list"), **HOLD_OUT)
    fill(Folder(tmp_path / "mine"), "notes.txt")
    with pytest.raises(ValueError, match=r"holds notes\.txt, which this program did not write there"):
        list_images(photos, SourceSettings(listing=str(tmp_path / "mine")), Folder(tmp_path / "list"), **HOLD_OUT)


def test_a_sample_keeps_nothing_and_looks_for_a_val_set_beyond_it(tmp_path):
    photos, kept = Folder(tmp_path / "source"), Folder(tmp_path / "kept")
    fill(photos, "test/a/1.jpg", "test/a/2.jpg", "train/a/1.jpg", "val/a/1.jpg")
    write_parquet(photos.join("rows"), "0.parquet", {"image": [b"i"] * 3, "split": ["test", "train", "val"]})
    photos.join("rows").write("a.csv", b"uri,split\n1,test\n2,train\n3,val\n")
    settings = {"listing": kept.uri, "limit": 1}
    for place in (photos.join("rows"), photos.join("rows", "a.csv")):
        (found,) = find_images(place, SourceSettings(**settings))
        assert found.split == "test"
    photos.join("rows").delete_tree()
    (found,) = find_images(photos, SourceSettings(**settings))
    assert found.split == "test"
    sample = list_images(photos, SourceSettings(**settings), Folder(tmp_path / "list"), **HOLD_OUT)
    assert {name: split.num_images for name, split in sample.splits.items()} == {"test": 1}
    assert not list(kept.list())


@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_fork_encodes_with_a_thread_of_its_own():
    """Its parent's is not there: it would wait for ever."""
    assert piece_writing.encoder(os.getpid()).submit(len, "a").result() == 1
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        os._exit(piece_writing.encoder(os.getpid()).submit(len, "ab").result())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2
