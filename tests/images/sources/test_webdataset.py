"""WebDataset tars: found and read whole, labels and splits, and whatever may be wrong with them."""

import io
import re
import tarfile
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seit_ray.images import ImageError, fetch_images
from seit_ray.images.records import unusable_reason
from seit_ray.images.sources import tars
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.images.sources.tars import END_BYTES, stretches
from seit_ray.storage import Folder, StorageError
from tests.images.found import ImageRecord, find_images
from tests.images.made_sources import fill, listed
from tests.images.made_tars import sample, samples, tar_bytes


@pytest.fixture
def source(tmp_path):
    return Folder(tmp_path / "source")


@pytest.fixture(params=["local", "s3"])
def place(request, tmp_path):
    if request.param == "local":
        return Folder(tmp_path / "source")
    server = request.getfixturevalue("s3_server")
    return Folder(f"s3://{server.create_bucket(f'tars-{uuid.uuid4().hex}')}/data", **server.credentials)


def pairs(records):
    return [(record.key, record.uri) for record in records]


def refusal(source, **settings):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is what is tested
        list(find_images(source, SourceSettings(**settings)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_images_of_all_tars_come_out_as_they_went_in(place):
    first, images = samples(40)
    second, more = samples(25, first=40, txt="a caption")
    place.write("a/x-0.tar", tar_bytes(first))
    place.write("a/x-1.tar", tar_bytes(second, tarfile.GNU_FORMAT))
    fill(place, "README.md")
    found = find_images(place)
    assert (found.kind, found.class_names) == ("webdataset", None)
    records = list(found)
    assert [r.key for r in records] == [f"a/x-{n >= 40:d}.tar#{n:05}.jpg" for n in range(65)]
    assert [r.label for r in records] == [n % 3 for n in range(65)]
    assert [r.size_bytes for r in records] == [len(image) for image in images + more]
    assert len({r.version for r in records}) == 2
    assert fetch_images(pairs(records), place) == images + more
    order = [50, 3, 3, 64, 0, 41]
    assert fetch_images([pairs(records)[i] for i in order], place) == [(images + more)[i] for i in order]
    alone = find_images(place.join("a", "x-1.tar"))
    assert [r.uri for r in alone] == [r.uri for r in records[40:]]


def test_listing_reads_labels_but_no_images(source, monkeypatch):
    members = [m for n in range(20) for m in sample(str(n), bytes(100_000), cls=str(n))]
    source.write("a.tar", tar_bytes(members))
    read = []

    class Watched(io.FileIO):
        def readinto(self, buffer):
            got = super().readinto(buffer)
            read.append(got)
            return got

    opened = lambda self, name, version=None: io.BufferedReader(Watched(f"{self.uri}/{name}"), 4096)  # noqa: E731
    monkeypatch.setattr(Folder, "open", opened)
    assert [label for _, label, _ in listed(find_images(source))] == list(range(20))
    assert sum(read) < 0.15 * 20 * 100_000


def test_fetching_reads_neighbours_together(source, monkeypatch):
    members, images = samples(300)
    source.write("a.tar", tar_bytes(members))
    records = pairs(find_images(source))
    reads = []
    opened = Folder.open

    def watched(self, name, version):
        file = opened(self, name, version)
        read = file.read

        class File:
            def __enter__(self):
                return self

            def __exit__(self, *error):
                file.close()

            def seek(self, offset):
                file.seek(offset)

            def read(self, size):
                reads.append(size)
                return read(size)

        return File()

    monkeypatch.setattr(Folder, "open", watched)
    assert fetch_images(records[100:200], source) == images[100:200]
    assert len(reads) == 1
    assert fetch_images([records[0], records[-1]], source) == [images[0], images[-1]]
    assert len(reads) == 3


@given(spans=st.sets(st.tuples(st.integers(0, 10**8), st.integers(0, 10**7)), max_size=40))
def test_stretches_hold_every_span_once_and_are_not_too_long(spans):
    runs = list(stretches(sorted(spans)))
    assert [span for run in runs for span in run] == sorted(spans)
    for run in runs:
        assert len(run) == 1 or max(map(sum, run)) - run[0][0] <= tars.MAX_STRETCH_BYTES


@pytest.mark.parametrize(
    ("members", "settings", "label"),
    [
        (sample("a", cls="7"), {}, 7),
        (sample("a", cls=" 7\n"), {}, 7),
        (sample("a", cls="07"), {}, "07"),
        (sample("a", cls="tabby cat"), {}, "tabby cat"),
        (sample("a", cls=""), {}, None),
        (sample("a", json='{"label": 3}'), {}, 3),
        (sample("a", json='{"label": "größe"}'), {}, "größe"),
        (sample("a", json='{"label": null}'), {}, None),
        (sample("a", json='{"other": 3}'), {}, None),
        (sample("a", json="[1]"), {}, None),
        (sample("a", cls="1", json='{"label": 3}'), {}, 1),
        (sample("a", cls="1", json='{"class_id": 3}'), {"label_column": "class_id"}, 3),
        (sample("a", txt="dog", cls="1"), {"label_column": "txt"}, "dog"),
        (sample("a"), {}, None),
    ],
)
def test_labels(source, members, settings, label):
    source.write("a.tar", tar_bytes(members))
    assert listed(find_images(source, SourceSettings(**settings))) == [("a.tar#a.jpg", label, None)]


@pytest.mark.parametrize(
    ("members", "settings", "text"),
    [
        (sample("a", json='{"klass": 1}'), {"label_column": "class"}, "column 'class' .*perhaps 'klass': set label_c"),
        (sample("a", cls="1"), {"label_column": "json"}, "column 'json' in"),
    ],
)
def test_a_label_column_that_is_not_there(source, members, settings, text):
    source.write("a.tar", tar_bytes(members))
    with pytest.raises(ValueError, match=text):
        list(find_images(source, SourceSettings(**settings)))


LONG = "1" * (tars.MAX_LABEL_BYTES + 1)


@pytest.mark.parametrize(
    ("members", "settings", "key", "text"),
    [
        (sample("a", json="{"), {}, "jpg", "label of .*a.tar#a cannot be read .*expected UTF-8, or JSON"),
        (sample("a", json="[" * 100_000), {}, "jpg", "cannot be read"),
        ([("a.jpg", b"i"), ("a.cls", b"\xff")], {}, "jpg", "cannot be read .*utf-8"),
        (sample("a", json='{"label": [1]}'), {}, "jpg", "label of type list in .*a.tar#a; expected an integer or"),
        (sample("a", cls=LONG), {}, "jpg", "a.tar#a cannot be read .*more than 1048576 bytes"),
        (
            sample("a", json=f'{{"label": 1, "more": "{LONG}"}}'),
            {},
            "jpg",
            "a.tar#a cannot be read .*more than 1048576",
        ),
        (sample("a", json="{", cls="1"), {"key_column": "id"}, "jpg", "label of .*a.tar#a cannot be read"),
        (sample("a", json='{"id": 7, "label": []}'), {"key_column": "id"}, "7", "label of type list"),
    ],
)
def test_a_label_that_is_none_costs_its_image_alone(source, members, settings, key, text):
    """Nobody mends a tar in its place, and others are listed and read."""
    more = [*sample("b", cls="1", json='{"id": 8}'), *sample("c", json='{"label": 2, "id": 9}')]
    source.write("a.tar", tar_bytes([*members, *more]))
    bad, *good = find_images(source, SourceSettings(**settings))
    assert [record.label for record in good] == [1, 2]
    assert re.search(text, unusable_reason(bad.uri) or "")
    assert (bad.key, bad.label) == ("a.tar#a.jpg" if key == "jpg" else key, None)


def test_a_long_text_that_is_no_label_is_passed_over(source):
    source.write("a.tar", tar_bytes(sample("a", cls="3", json=LONG)))
    assert listed(find_images(source)) == [("a.tar#a.jpg", 3, None)]


def test_names_nested_long_hidden_and_in_any_script(source):
    names = ["./a/b/x.y.jpg", "猫/größe.JPEG", "d/" * 60 + "n" * 150 + ".png", "a#1:2.jpg", "a/._x.jpg", ".b.jpg"]
    names += ["__MACOSX/c.jpg", "a b.webp"]
    source.write("t#1.tar", tar_bytes([(name, name.encode()) for name in names]))
    kept = [names[i] for i in (0, 1, 2, 3, 7)]
    records = list(find_images(source))
    assert [r.key for r in records] == [f"t#1.tar#{name.removeprefix('./')}" for name in kept]
    assert fetch_images(pairs(records), source) == [name.encode() for name in kept]


def test_repeated_names_are_images_of_their_own(source):
    members = [*sample("a", b"1", cls="1"), *sample("a", b"2", cls="2"), ("b.jpg", b"3"), ("a.jpg", b"4")]
    source.write("a.tar", tar_bytes(members))
    records = list(find_images(source))
    assert listed(records) == [
        ("a.tar#a.jpg", 1, None),
        ("a.tar#a.jpg#2", 2, None),
        ("a.tar#b.jpg", None, None),
        ("a.tar#a.jpg#3", None, None),
    ]
    assert fetch_images(pairs(records), source) == [b"1", b"2", b"3", b"4"]


def test_folders_links_and_samples_without_an_image_are_left_out(source):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name, kind in (("d.jpg", tarfile.DIRTYPE), ("s.jpg", tarfile.SYMTYPE), ("p.jpg", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "x"
            tar.addfile(info)
        tar.addfile(tarfile.TarInfo("only.txt"))
        tar.addfile(tarfile.TarInfo("empty.jpg"))
    source.write("a.tar", sink.getvalue())
    source.write("empty.tar", tar_bytes([]))
    records = list(find_images(source))
    assert listed(records) == [("a.tar#empty.jpg", None, None)]
    assert fetch_images(pairs(records), source) == [b""]


def test_which_of_several_images(source):
    source.write("a.tar", tar_bytes([("a.seg.png", b"mask"), ("a.jpg", b"photo"), ("a.png", b"other")]))
    for settings, name in (
        ({}, "a.jpg"),
        ({"image_column": "seg.png"}, "a.seg.png"),
        ({"image_column": "PNG"}, "a.png"),
    ):
        assert listed(find_images(source, SourceSettings(**settings))) == [(f"a.tar#{name}", None, None)]
    assert list(find_images(source, SourceSettings(image_column="webp"))) == []


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train/0.tar", "val/0.tar"], ["train", "val"]),
        (["train/0.tar", "test/0.tar"], ["train", "val"]),
        (["in1k-train-0000.tar", "in1k-validation-0000.tar"], ["train", "val"]),
        (["train_0.tar", "train_1.tar"], ["train", "train"]),
        (["a/x-train.tar", "b/x-test.tar"], ["train", "val"]),
        (["train-val.tar"], [None]),
    ],
)
def test_splits(source, names, splits):
    for name in names:
        source.write(name, tar_bytes(sample("a", cls="1")))
    assert {(r.key.partition("#")[0], r.split) for r in find_images(source)} == set(zip(names, splits, strict=True))


@pytest.mark.parametrize("name", ["a.tar.gz", "a.TGZ", "b/a.tar.zst", "a.tar.bz2", "a.tar.xz"])
def test_compressed_tars_are_refused(source, name):
    fill(source, name)
    for place in (source, source.join(name)):
        assert f"{name} is compressed; expected .tar, of which parts can be read; decompress it" in refusal(place)


@pytest.mark.parametrize(
    ("change", "num_whole", "text"),
    [
        (lambda data: b"", 0, "empty file"),
        (lambda data: b"\x1f\x8b" + bytes(2000), 0, "expected a whole tar, not compressed"),
        (lambda data: data[:300], 0, "truncated header"),
        (lambda data: data[: 512 + 3], 0, "unexpected end of data"),
        (lambda data: data[: 3 * 1024], 2, "cut off at byte 3072"),  # between two members
        (lambda data: data[: 3 * 1024 + 100], 2, "cut off at byte 3172"),
        (lambda data: data[: 4 * 1024 + 522], 2, "unexpected end of data"),  # within the third image
        (lambda data: data[:2048] + b"x" * 512 + data[2560:], 1, "no header and no end at byte 2048"),
        (lambda data: data + data, 5, "another tar behind this one"),
    ],
)
def test_of_a_damaged_tar_the_whole_members_are_listed_and_the_rest_is_a_reject(source, change, num_whole, text):
    members, images = samples(5)
    data = tar_bytes(members, tarfile.USTAR_FORMAT)
    source.write("bad.tar", change(data))
    source.write("good.tar", data)
    records = list(find_images(source))
    (rest,) = [record for record in records if record.key == "bad.tar#rest"]
    found = [record for record in records if record is not rest]
    assert fetch_images(pairs(found), source) == images[:num_whole] + images
    (error,) = fetch_images(pairs([rest]), source)
    assert isinstance(error, ImageError)
    assert "bad.tar cannot be read (" in str(error)
    assert text in str(error)


def test_a_member_whose_name_is_not_utf8_is_counted(source):
    members, images = samples(3)
    source.write("a.tar", tar_bytes(members, tarfile.USTAR_FORMAT).replace(b"00001.jpg", b"0000\xff.jpg"))
    source.write("a.tar", with_checksums(source.read("a.tar")))
    found = find_images(source)
    assert fetch_images(pairs(found), source) == [images[0], images[2]]
    assert found.left_out == {"name in a tar that is not UTF-8": 1, ".cls": 1}


def test_a_header_that_says_it_is_long_is_not_read(source, monkeypatch):
    long = tarfile.TarInfo("x")
    long.type, long.size = tarfile.XHDTYPE, 400 << 20
    members, images = samples(1)
    source.write("a.tar", tar_bytes(members)[:2048] + long.tobuf(tarfile.USTAR_FORMAT) + bytes(2048))
    *found, rest = find_images(source)
    assert fetch_images(pairs(found), source) == images
    assert "a header of 419430400 bytes; at most 1048576 are read" in rest.uri


def test_a_tar_that_changed_or_went_after_it_was_listed(place):
    members, images = samples(10)
    data = tar_bytes(members)
    place.write("a.tar", data)
    records = pairs(find_images(place))
    place.write("a.tar", data[: len(data) - END_BYTES])
    found = fetch_images(records, place, max_bytes=30)
    for image, expected in zip(found, images, strict=True):
        if isinstance(image, ImageError):
            assert "expected at most 30" in str(image) or "ends before byte" in str(image)
        else:
            assert image == expected
    assert any("ends before byte" in str(image) for image in found if isinstance(image, ImageError))
    assert any(image == expected for image, expected in zip(found, images, strict=True))
    place.delete("a.tar")
    for image in fetch_images(records, place):
        assert isinstance(image, ImageError)
        assert "a.tar does not exist" in str(image)


def test_a_storage_that_fails_is_no_fault_of_the_images(s3_server):
    bucket = s3_server.create_bucket(f"tars-{uuid.uuid4().hex}")
    source = Folder(f"s3://{bucket}", **{**s3_server.credentials, "secret_access_key": "wrong"})
    (error,) = fetch_images([("", f"s3://{bucket}/a.tar#0:5")], source)
    assert isinstance(error, StorageError)
    assert error.kind == "denied"


BASE = tar_bytes([*sample("a" * 120, b"image", cls="1", json='{"label": 2}'), *sample("ü", b"x" * 700, cls="2")])


@given(data=st.data())
def test_whatever_bytes_a_tar_has_it_is_read_or_damaged(tmp_path_factory, data):
    folder = Folder(tmp_path_factory.mktemp("fuzz"))
    changed = bytearray(BASE)
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(0, len(BASE) - 1))
        new = data.draw(st.binary(min_size=1, max_size=12))
        changed[start : start + len(new)] = new
    changed = bytes(changed[: data.draw(st.integers(0, len(changed)))] if data.draw(st.booleans()) else changed)
    folder.write("a.tar", with_checksums(changed) if data.draw(st.booleans()) else changed)
    try:
        records, error = list(find_images(folder)), None
    except ValueError as caught:
        records, error = [], caught
    assert error is None or "label" in str(error)
    assert "\n" not in str(error)
    assert all(isinstance(record, ImageRecord) for record in records)
    for record, content in zip(records, fetch_images(pairs(records), folder), strict=True):
        assert isinstance(content, ImageError if record.key == "a.tar#rest" else bytes)


def with_checksums(data):
    """The tar with every block's checksum made right, so that what is wrong in a header is believed."""
    blocks = bytearray(data)
    for start in range(0, len(data) - 511, 512):
        block = np.frombuffer(bytes(blocks[start : start + 512]), np.uint8)
        if block[257:262].tobytes() == b"ustar":
            total = int(block.sum()) - int(block[148:156].sum()) + 8 * 32
            blocks[start + 148 : start + 156] = b"%06o\0 " % total
    return bytes(blocks)


DOTTED = ["2020.01.01", "2020.01.02", "2020.01.03"]


def test_names_with_dots_of_their_own(source):
    members = [(f"{name}.jpg", name.encode()) for name in DOTTED]
    for version in ("foo.v1", "foo.v2"):
        members += sample(version, image=version.encode(), cls=version[-1], json='{"label": 9}')
    members += [("bar.left.jpg", b"l"), ("bar.right.jpg", b"r"), ("bar.cls", b"5")]
    source.write("a.tar", tar_bytes(members))
    found = find_images(source)
    records = list(found)
    labels = [None] * 3 + [1, 2, 5, 5]
    names = [*DOTTED, "foo.v1", "foo.v2", "bar.left", "bar.right"]
    assert listed(records) == [(f"a.tar#{n}.jpg", label, None) for n, label in zip(names, labels, strict=True)]
    assert fetch_images(pairs(records), source) == [*(n.encode() for n in names[:5]), b"l", b"r"]
    assert found.left_out == {}


def test_an_extension_that_is_asked_for_is_found_behind_dots(source):
    source.write(
        "a.tar", tar_bytes([*sample("foo.v1", suffix="png", cls="1"), *sample("foo.v2", suffix="png", cls="2")])
    )
    assert listed(find_images(source, SourceSettings(image_column="png"))) == [
        ("a.tar#foo.v1.png", 1, None),
        ("a.tar#foo.v2.png", 2, None),
    ]


def test_a_long_run_of_names_with_dots_is_listed_whole(source):
    members = [m for n in range(700) for m in sample(f"x.{n:04}", cls=str(n % 3))]
    source.write("a.tar", tar_bytes(members))
    assert [r.label for r in find_images(source)] == [n % 3 for n in range(700)]


def test_images_of_a_sample_that_are_not_used_are_counted(source):
    members = [("a.jpg", b"1"), ("a.seg.png", b"2"), ("a.cls", b"1"), ("b.txt", b"no image"), ("b.cls", b"1")]
    source.write("a.tar", tar_bytes(members))
    source.write("notes.md", b"")
    found = find_images(source)
    assert [r.key for r in found] == ["a.tar#a.jpg"]
    assert found.left_out == {".png": 1, ".txt": 1, ".cls": 1, ".md": 1}


def test_repeats_in_a_tar_share_a_split(source):
    source.write("a.tar", tar_bytes([*sample("a", b"1"), *sample("a", b"2")]))
    first, second = find_images(source)
    assert (first.repeats, second.repeats) == (None, first.key)
