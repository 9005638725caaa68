"""Rows of the manifest and their bytes in chunks: bounds, order, Parquet files read on, and patience."""

import random

import numpy as np
import pyarrow as pa
import pytest

from seit_ray.images import ImageError
from seit_ray.images.decoded import Decoding
from seit_ray.images.manifest_files import SCHEMA
from seit_ray.images.pairs import Pair
from seit_ray.images.reading import HOST_PATIENCE_S, UNKNOWN_BYTES, read_chunks, runs_of
from seit_ray.images.records import unusable
from seit_ray.storage import Folder, StorageError
from tests.images.bad_sectors import bad_sector
from tests.images.made_sources import write_parquet
from tests.images.made_tars import samples, tar_bytes

__all__ = ["bad_sector"]
DECODING = Decoding(16, "crop", max_bytes=1000, patience_s=60.0)


def listed(uris, sizes=None):
    """Rows of a manifest; sizes of 10 bytes where none are given."""
    rows = {
        "id": range(len(uris)),
        "key": [uri.rpartition("/")[2] for uri in uris],
        "uri": uris,
        "label": [None] * len(uris),
        "state": [0] * len(uris),
        "version": [None] * len(uris),
        "size_bytes": sizes or [10] * len(uris),
    }
    return pa.table([pa.array(rows[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


class MadeUp:
    """A source whose objects hold their names; `answer` may say something else at the n-th time of asking."""

    def __init__(self, answer=lambda uri, times: None):
        self.answer, self.asked = answer, []

    def read_uris(self, uris, *, max_bytes, versions=None):
        self.asked.append(list(uris))
        return [self.one(uri) for uri in uris]

    def one(self, uri):
        times = sum(uri in uris for uris in self.asked)
        return self.answer(uri, times) or uri.encode()


def objects(num):
    return [f"/made/up/{i:04}.jpg" for i in range(num)]


def chunks_of(uris, source, sizes=None, decoding=DECODING):
    """The contents of all chunks; their rows are all rows, in order."""
    found = list(read_chunks(listed(uris, sizes), source, decoding))
    assert [uri for rows, _ in found for uri in rows["uri"].to_pylist()] == uris
    assert all(len(rows) == len(contents) > 0 for rows, contents in found)
    return [contents for _, contents in found]


def sizes_of(chunks):
    return [len(contents) for contents in chunks]


@pytest.fixture
def limits(monkeypatch):
    """Sets rows and bytes of a chunk."""

    def of(rows=256, num_bytes=64 << 20):
        monkeypatch.setattr("seit_ray.images.reading.CHUNK_ROWS", rows)
        monkeypatch.setattr("seit_ray.images.reading.CHUNK_BYTES", num_bytes)

    return of


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on while one sleeps, and no other time; returns how long each sleep was."""

    class Clock:
        def __init__(self):
            self.slept = []

        def monotonic(self):
            return float(sum(self.slept))

        def sleep(self, seconds):
            self.slept.append(seconds)

    found = Clock()
    monkeypatch.setattr("seit_ray.images.reading.time", found)
    return found


@pytest.mark.parametrize(("num", "sizes"), [(0, []), (1, [1]), (4, [4]), (5, [4, 1]), (12, [4, 4, 4])])
def test_rows_bound_a_chunk(limits, num, sizes):
    limits(rows=4)
    source = MadeUp()
    chunks = chunks_of(objects(num), source)
    assert sizes_of(chunks) == sizes
    assert [content for contents in chunks for content in contents] == [uri.encode() for uri in objects(num)]
    assert [len(uris) for uris in source.asked] == sizes  # each is asked for once


def test_listed_bytes_bound_a_chunk_but_for_a_single_image(limits):
    limits(num_bytes=1000)
    decoding = Decoding(1, "crop", max_bytes=5000)
    sizes = [500, 500, 1, 999, 1, 2000, 600, 600, 0, 0]
    assert sizes_of(chunks_of(objects(10), MadeUp(), sizes, decoding)) == [2, 2, 1, 1, 1, 3]


def test_an_image_that_is_too_large_takes_no_more_room_than_the_limit(limits):
    limits(num_bytes=1000)
    assert sizes_of(chunks_of(objects(4), MadeUp(), [10**12] * 4, Decoding(1, "crop", max_bytes=500))) == [2, 2]


def test_images_of_unknown_size_are_few(limits):
    limits(num_bytes=3 * UNKNOWN_BYTES)
    assert sizes_of(chunks_of(objects(7), MadeUp(), [None] * 7)) == [3, 3, 1]


def test_pixels_bound_a_chunk(limits):
    limits(num_bytes=3 * 16 * 16 * 5 + 1)
    assert sizes_of(chunks_of(objects(12), MadeUp())) == [5, 5, 2]
    assert sizes_of(chunks_of(objects(3), MadeUp(), decoding=Decoding(4096, "crop"))) == [1, 1, 1]


@pytest.mark.parametrize(
    ("names", "runs"),
    [
        ([], []),
        (["a.jpg"], [(0, 1, None)]),
        (["a.jpg", "b.tar#0:9", "c.jpg"], [(0, 3, None)]),
        (["a.parquet#0", "a.parquet#1", "a.parquet#7"], [(0, 3, "a.parquet")]),
        (["a.parquet#0", "b.parquet#1"], [(0, 1, "a.parquet"), (1, 2, "b.parquet")]),
        (["a.parquet#3", "a.parquet#2"], [(0, 1, "a.parquet"), (1, 2, "a.parquet")]),
        (["a.parquet#3", "a.parquet#3"], [(0, 1, "a.parquet"), (1, 2, "a.parquet")]),
        (
            ["a.jpg", "a.parquet#0", "a.parquet#1", "b.jpg", "a.parquet#2"],
            [(0, 1, None), (1, 3, "a.parquet"), (3, 4, None), (4, 5, "a.parquet")],
        ),
    ],
)
def test_runs(names, runs):
    assert list(runs_of(names)) == runs


class Counted:
    """A file that counts the bytes which are read of it."""

    def __init__(self, file, counts):
        self.file, self.counts = file, counts

    def read(self, size=-1):
        data = self.file.read(size)
        self.counts.append(len(data))
        return data

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()


@pytest.fixture
def opened(monkeypatch):
    """Bytes of each read of files that are opened; a list a file."""
    found, open_file = [], Folder.open

    def spied(folder, name, version):
        found.append([])
        return Counted(open_file(folder, name, version), found[-1])

    monkeypatch.setattr(Folder, "open", spied)
    return found


def noise(num, size, seed=0):
    rng = random.Random(seed)
    return [rng.randbytes(size) for _ in range(num)]


@pytest.mark.parametrize("row_group_size", [1, 7, 16, 100])
def test_a_parquet_file_is_read_once_in_many_chunks(tmp_path, limits, opened, row_group_size):
    images = noise(64, 60_000)
    source = Folder(tmp_path)
    write_parquet(source, "a.parquet", {"image": images}, row_group_size=row_group_size)
    limits(rows=5)
    uris = [f"{source.uri}/a.parquet#{row}" for row in range(64)]
    chunks = chunks_of(uris, source, decoding=Decoding(16, "crop"))
    assert sizes_of(chunks) == [5] * 12 + [4]
    assert [content for contents in chunks for content in contents] == images
    assert len(opened) == 1
    assert sum(opened[0]) < 1.3 * source.size("a.parquet")


def test_row_groups_without_wanted_rows_are_not_read(tmp_path, limits, opened):
    images = noise(64, 60_000)
    source = Folder(tmp_path)
    write_parquet(source, "a.parquet", {"image": images}, row_group_size=8)
    limits(rows=2)
    rows = [17, 18, 23, 40]
    uris = [f"{source.uri}/a.parquet#{row}" for row in rows]
    assert chunks_of(uris, source, decoding=Decoding(16, "crop")) == [
        [images[17], images[18]],
        [images[23], images[40]],
    ]
    assert sum(opened[0]) < 1.3 * 16 * 60_000


def test_bytes_bound_a_chunk_of_a_parquet_file(tmp_path, limits):
    images = [b"x" * size for size in (500, 500, 1, 999, 1, 2000, 600, 600, 5, 5)]
    source = Folder(tmp_path)
    write_parquet(source, "a.parquet", {"image": images}, row_group_size=4)
    limits(num_bytes=1000)
    uris = [f"{source.uri}/a.parquet#{row}" for row in range(10)]
    chunks = chunks_of(uris, source, decoding=Decoding(1, "crop", max_bytes=5000))
    assert sizes_of(chunks) == [2, 2, 1, 1, 1, 3]
    assert [content for contents in chunks for content in contents] == images


def test_errors_take_their_places_in_the_chunks_of_a_parquet_file(tmp_path, limits):
    source = Folder(tmp_path)
    write_parquet(source, "a.parquet", {"image": pa.array([b"0", None, b"x" * 1001, b"3"], pa.binary())})
    limits(rows=2)
    chunks = chunks_of([f"{source.uri}/a.parquet#{row}" for row in (*range(4), 9)], source)
    assert sizes_of(chunks) == [2, 2, 1]
    (first, null), (large, last), (gone,) = chunks
    assert (first, last) == (b"0", b"3")
    for error, text in ((null, "no bytes in the Parquet row"), (large, "size 1001 bytes"), (gone, "has fewer rows")):
        assert isinstance(error, ImageError)
        assert text in str(error)


def test_sources_of_all_kinds_keep_their_order(tmp_path, limits):
    source = Folder(tmp_path)
    members, in_tar = samples(3)
    source.write("a.tar", tar_bytes(members))
    data = source.read("a.tar")
    tar = [f"a.tar#{data.index(image)}:{len(image)}" for image in in_tar]
    for number in range(4):
        source.write(f"{number}.jpg", b"object %d" % number)
    rows = [b"row %d" % number for number in range(6)]
    write_parquet(source, "a.parquet", {"image": rows})
    write_parquet(source, "b.parquet", {"image": rows[::-1]})
    known = {f"{n}.jpg": b"object %d" % n for n in range(4)} | dict(zip(tar, in_tar, strict=True))
    known |= {f"a.parquet#{n}": rows[n] for n in range(6)} | {f"b.parquet#{n}": rows[5 - n] for n in range(6)}
    names = list(known)
    np.random.default_rng(0).shuffle(names)
    for order in (list(known), sorted(known), names):
        for chunk_rows in (1, 3, 100):
            limits(rows=chunk_rows)
            chunks = chunks_of([source.uri_of(name) for name in order], source)
            assert [content for contents in chunks for content in contents] == [known[name] for name in order]
            assert max(sizes_of(chunks)) <= chunk_rows


def away(uri):
    return StorageError(f"{uri} does not answer", "unavailable")


def test_what_comes_late_is_waited_for_and_asked_for_alone(clock):
    late = objects(10)[3]
    source = MadeUp(lambda uri, times: away(uri) if uri == late and times < 4 else None)
    (contents,) = chunks_of(objects(10), source)
    assert contents == [uri.encode() for uri in objects(10)]
    assert source.asked == [objects(10), [late], [late], [late]]
    assert clock.slept == [1, 2, 4]


def test_pauses_grow_and_end_with_the_patience(clock):
    source = MadeUp(lambda uri, times: away(uri))
    (contents,) = chunks_of(objects(1), source, decoding=Decoding(16, "crop", patience_s=100.0))
    assert clock.slept == [1, 2, 4, 8, 16, 30, 30]
    assert isinstance(contents[0], StorageError)


def test_no_patience_asks_once(clock):
    source = MadeUp(lambda uri, times: away(uri))
    chunks_of(objects(2), source, decoding=Decoding(16, "crop", patience_s=0.0))
    assert source.asked == [objects(2)]
    assert clock.slept == []


def test_what_stays_away_while_others_come_is_at_fault_itself(clock):
    lost = objects(5)[2]
    source = MadeUp(lambda uri, times: away(uri) if uri == lost else None)
    (contents,) = chunks_of(objects(5), source)
    error = contents.pop(2)
    assert isinstance(error, ImageError)
    assert str(error) == f"{lost} does not answer"
    assert contents == [uri.encode() for uri in objects(5) if uri != lost]
    assert source.asked[-2:] == [[objects(5)[0]], [lost]]  # one that could be read still can: then once more


def test_what_comes_just_when_patience_ends_is_no_reject(clock):
    lost = objects(5)[2]
    source = MadeUp()
    source.answer = lambda uri, times: away(uri) if uri == lost and [objects(5)[0]] not in source.asked else None
    assert chunks_of(objects(5), source) == [[uri.encode() for uri in objects(5)]]
    assert sum(clock.slept) > DECODING.patience_s / 2


def test_one_of_an_earlier_chunk_tells_too(clock, limits):
    limits(rows=1)
    lost = objects(3)[1]
    source = MadeUp(lambda uri, times: away(uri) if uri == lost else None)
    _, (error,), (last,) = chunks_of(objects(3), source)
    assert isinstance(error, ImageError)
    assert last == objects(3)[2].encode()
    assert source.asked.count([objects(3)[0]]) == 2


def test_a_storage_that_has_gone_is_no_fault_of_the_images(clock):
    def goes(uri, times):
        return away(uri) if uri == objects(2)[1] or times > 1 else None

    (contents,) = chunks_of(objects(2), MadeUp(goes))
    assert contents[0] == objects(2)[0].encode()
    assert isinstance(contents[1], StorageError)
    (contents,) = chunks_of(objects(3), MadeUp(lambda uri, times: away(uri)))
    assert all(isinstance(content, StorageError) and content.kind == "unavailable" for content in contents)


@pytest.mark.parametrize("kind", ["denied", "credentials", "invalid"])
def test_other_troubles_of_a_storage_are_not_waited_for(clock, kind):
    source = MadeUp(lambda uri, times: StorageError("no", kind))
    (contents,) = chunks_of(objects(2), source)
    assert [content.kind for content in contents] == [kind] * 2
    assert clock.slept == []


@pytest.mark.parametrize("times", [1, 3])
def test_a_parquet_file_that_does_not_answer_is_opened_again_where_it_was_left(tmp_path, clock, monkeypatch, times):
    images = noise(8, 100)
    source, opened, open_file = Folder(tmp_path), [], Folder.open
    write_parquet(source, "a.parquet", {"image": images})

    def flaky(folder, name, version):
        opened.append(name)
        if len(opened) <= times:
            raise away(name)
        return open_file(folder, name, version)

    monkeypatch.setattr(Folder, "open", flaky)
    uris = [f"{source.uri}/a.parquet#{row}" for row in range(8)]
    (contents,) = chunks_of(uris, source, decoding=Decoding(16, "crop"))
    assert contents == images
    assert len(opened) == times + 1
    assert clock.slept == [1, 2, 4][:times]


def test_a_parquet_file_that_stays_away_is_no_fault_of_its_images(tmp_path, clock, monkeypatch):
    def lost(folder, name, version):
        raise away(name)

    monkeypatch.setattr(Folder, "open", lost)
    (contents,) = chunks_of([f"{tmp_path}/a.parquet#{row}" for row in range(8)], Folder(tmp_path))
    assert {type(content) for content in contents} == {StorageError}
    assert clock.slept


def test_a_bad_sector_of_a_parquet_file_costs_its_row_group(tmp_path, clock, bad_sector):
    images = noise(12, 20_000)
    source = Folder(tmp_path)
    write_parquet(source, "a.parquet", {"image": images}, row_group_size=3)
    uris = [f"{source.uri}/a.parquet#{row}" for row in range(12)]
    data = source.read("a.parquet")
    for first in (0, 6):  # the first row group, and one behind others
        bad_sector("a.parquet", data.index(images[first + 1]) + 100)
        (contents,) = chunks_of(uris, source, decoding=Decoding(16, "crop", patience_s=60.0))
        lost = contents[first : first + 3]
        assert contents[:first] + contents[first + 3 :] == images[:first] + images[first + 3 :]
        assert all(isinstance(error, ImageError) and "cannot be read or written" in str(error) for error in lost)
        assert 30 < sum(clock.slept) <= 60  # for all of the group together
        clock.slept.clear()


def test_a_bad_sector_of_a_tar_costs_its_image(tmp_path, clock, bad_sector):
    source, in_tar = Folder(tmp_path), noise(12, 20_000)
    source.write("a.tar", tar_bytes([(f"{number:02}.jpg", image) for number, image in enumerate(in_tar)]))
    offsets = [source.read("a.tar").index(image) for image in in_tar]
    uris = [f"{source.uri}/a.tar#{offset}:20000" for offset in offsets]
    bad_sector("a.tar", offsets[5] + 19_000)
    (contents,) = chunks_of(uris, source, decoding=Decoding(16, "crop", patience_s=60.0))
    lost = contents.pop(5)
    assert contents == in_tar[:5] + in_tar[6:]
    assert isinstance(lost, ImageError)
    assert "cannot be read or written" in str(lost)


def test_a_server_that_is_gone_is_soon_given_up_while_another_answers(clock):
    uris = ["https://here/1", "https://gone/2", "https://gone/3", "https://here/4"]
    source = MadeUp(lambda uri, times: away(uri) if "gone" in uri else None)
    (contents,) = chunks_of(uris, source)
    assert [isinstance(content, ImageError) for content in contents] == [False, True, True, False]
    assert sum(clock.slept) <= HOST_PATIENCE_S < DECODING.patience_s


def test_a_server_that_is_gone_is_soon_given_up_while_an_earlier_one_answers(limits, clock):
    limits(rows=2)
    uris = ["https://here/1", "https://here/2", "https://gone/3", "https://gone/4"]
    first, second = chunks_of(uris, MadeUp(lambda uri, times: away(uri) if "gone" in uri else None))
    assert first == [b"https://here/1", b"https://here/2"]
    assert all(isinstance(content, ImageError) for content in second)
    assert sum(clock.slept) <= HOST_PATIENCE_S
    clock.slept.clear()
    busy = MadeUp(lambda uri, times: away(uri) if uri[-1] in "34" and times < 5 else None)  # one server, and slow
    assert chunks_of([uri.replace("gone", "here") for uri in uris], busy)[1] == [b"https://here/3", b"https://here/4"]


def test_a_server_that_is_the_only_one_is_waited_for(clock):
    uris = ["https://gone/1", "https://gone/2"]
    (contents,) = chunks_of(uris, MadeUp(lambda uri, times: away(uri)))
    assert all(isinstance(content, StorageError) for content in contents)
    assert sum(clock.slept) > DECODING.patience_s / 2
    clock.slept.clear()
    (contents,) = chunks_of(uris, MadeUp(lambda uri, times: away(uri) if times < 5 else None))
    assert contents == [uri.encode() for uri in uris]


def test_a_bucket_is_waited_for_though_a_server_answers(clock):
    uris = ["https://here/1", "s3://bucket/2"]
    (contents,) = chunks_of(uris, MadeUp(lambda uri, times: away(uri) if "s3" in uri and times < 5 else None))
    assert contents == [uri.encode() for uri in uris]
    assert sum(clock.slept) > HOST_PATIENCE_S


def test_a_disk_that_answers_says_nothing_of_a_server_or_a_bucket(clock):
    for lost in ("https://gone/2", "s3://bucket/2"):
        source = MadeUp(lambda uri, times, lost=lost: away(uri) if uri == lost else None)
        ((first, second),) = chunks_of([*objects(1), lost], source)
        assert first == objects(1)[0].encode()
        assert isinstance(second, StorageError)  # the network may be at fault, and the job is to be tried again
        assert sum(clock.slept) > HOST_PATIENCE_S
        clock.slept.clear()


def test_what_was_listed_as_unusable_is_no_answer_of_a_server(clock):
    source = MadeUp(lambda uri, times: away(uri))
    ((none, gone),) = chunks_of([unusable("no address"), "https://gone/2"], source)
    assert isinstance(none, ImageError)
    assert isinstance(gone, StorageError)


def test_a_map_in_a_bucket_is_waited_for_though_its_image_on_a_server_answers(clock):
    rows = listed(["https://here/1", "https://here/2"])
    masks = pa.array(["s3://bucket/1", "s3://bucket/2"]), pa.nulls(2, pa.string())
    for name, column in zip(("mask_uri", "mask_version"), masks, strict=True):
        rows = rows.append_column(name, column)
    decoding = Decoding(16, "squash", patience_s=60.0, masks=True)
    ((_, contents),) = read_chunks(
        rows, MadeUp(lambda uri, times: away(uri) if "s3" in uri and times < 5 else None), decoding
    )
    assert contents == [Pair(b"https://here/%d" % n, b"s3://bucket/%d" % n) for n in (1, 2)]
    ((_, contents),) = read_chunks(rows, MadeUp(lambda uri, times: away(uri) if "s3" in uri else None), decoding)
    assert all(isinstance(content, StorageError) for content in contents)
