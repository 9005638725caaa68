"""Which member of a sample in a tar is the label map of which image, and what is said of others."""

import pytest

from seit_ray.images import fetch_images
from seit_ray.images.records import unusable_reason
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.storage import Folder
from tests.images.found import find_images
from tests.images.made_tars import sample, tar_bytes


@pytest.fixture
def source(tmp_path):
    return Folder(tmp_path / "source")


def maps_of(source, members, **more):
    """(key -> content of its map, or the reason why there is none; what was left out) of a tar of these members."""
    source.write("a.tar", tar_bytes(members))
    found = find_images(source, SourceSettings(**{"num_classes": 3, **more}))
    records = list(found)
    assert all(record.label is None for record in records)
    assert all(record.mask_version == record.version for record in records)
    contents = fetch_images([(record.key, record.mask) for record in records], source)
    told = [c if isinstance(c, bytes) else str(c) for c in contents]
    return {record.key.partition("#")[2]: one for record, one in zip(records, told, strict=True)}, found.left_out


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("extension", ["seg.png", "mask.png"])
def test_the_map_may_stand_before_or_behind_its_image_and_texts_between(source, suffix, extension):
    members = [
        *[(f"1.{extension}", b"one"), (f"1.{suffix}", b"i"), ("1.json", b"no json"), ("1.cls", b"5")],
        *[(f"2.{suffix}", b"i"), ("2.txt", b"words"), (f"2.{extension}", b"two")],
    ]
    assert maps_of(source, members) == ({f"1.{suffix}": b"one", f"2.{suffix}": b"two"}, {})


def test_an_extension_without_a_dot_tells_maps_from_images(source):
    members = [("1.png", b"map"), ("1.jpg", b"image"), ("2.jpg", b"image"), ("2.seg.png", b"another picture")]
    found, left_out = maps_of(source, members, mask_column="seg.png", suffixes=("jpg",))
    assert (found["1.jpg"], found["2.jpg"]) == ("no label map: there is no 1.seg.png", b"another picture")
    assert left_out == {}
    found, left_out = maps_of(source, members, mask_column="PNG")
    assert found["1.jpg"] == b"map"


def test_a_sample_without_its_map_says_which_names_it_might_have(source):
    found, left_out = maps_of(source, [*sample("d/1"), ("d/2.seg.png", b"map"), *sample("d/3", txt="t")])
    assert found == {f"d/{n}.jpg": f"no label map: there is no d/{n}.seg.png or d/{n}.mask.png" for n in (1, 3)}
    assert left_out == {"label maps without an image": 1}


@pytest.mark.parametrize("extra", [("1.seg.png", b"map"), ("1.seg.png", b"another")])
def test_a_map_whose_name_comes_again_is_counted_as_that(source, extra):
    one, two = sample("1", **{"seg.png": "map"}), sample("2", **{"seg.png": "two"})
    for members in ([*one, extra, *two], [extra, *reversed(one), *two], [*two, *one, extra]):
        found, left_out = maps_of(source, members)
        assert (found, left_out) == ({"1.jpg": b"map", "2.jpg": b"two"}, {"label maps whose name comes again": 1})


def test_of_two_maps_none_is_taken_and_the_reason_names_them(source):
    members = [("1.jpg", b"i"), ("1.seg.png", b"1"), ("1.mask.png", b"2"), ("2.jpg", b"i"), ("2.seg.png", b"3")]
    reason = "no label map: there are 1.seg.png and 1.mask.png; expected one; set source.mask_column to the extension"
    found, left_out = maps_of(source, members)
    assert found.pop("1.jpg") == f"{reason} of those that are meant"
    assert (found, left_out) == ({"2.jpg": b"3"}, {})
    assert maps_of(source, members[:3], mask_column="mask.png")[0] == {"1.jpg": b"2"}


def test_names_with_dots_of_their_own_have_maps_of_their_own(source):
    members = [(f"foo.v{n}.{kind}", f"{kind}{n}".encode()) for n in (1, 2) for kind in ("png", "seg.png")]
    members += [("bar.left.jpg", b"i"), ("bar.seg.png", b"of the key"), ("baz.l.jpg", b"i"), ("baz.r.jpg", b"i")]
    members += [("baz.seg.png", b"of both")]
    found, left_out = maps_of(source, members)
    assert (found["foo.v1.png"], found["foo.v2.png"], found["bar.left.jpg"]) == (
        b"seg.png1",
        b"seg.png2",
        b"of the key",
    )
    assert found["baz.l.jpg"] == "no label map: there is no baz.l.seg.png or baz.l.mask.png"
    assert left_out == {"label maps without an image": 1}


@pytest.mark.parametrize("first", [0, 1])
def test_a_long_run_of_names_with_dots_parts_no_pair(source, first):
    members = [m for n in range(300) for m in ((f"x.{n:04}.jpg", b"i"), (f"x.{n:04}.seg.png", b"%d" % n))][first:]
    found, _ = maps_of(source, members)
    assert list(found.values()) == [b"%d" % n for n in range(first, 300)]


def test_the_rest_of_a_broken_tar_is_one_reject_and_what_came_before_is_whole(source):
    data = tar_bytes([("1.jpg", b"i"), ("1.seg.png", b"map"), ("2.jpg", bytes(2000)), ("2.seg.png", bytes(2000))])
    source.write("a.tar", data[: 4 * 512 + 512 + 2048 + 512 + 700])
    one, two, rest = find_images(source, SourceSettings(num_classes=3))
    assert fetch_images([("", one.mask)], source) == [b"map"]
    assert unusable_reason(two.mask) == "no label map: there is no 2.seg.png or 2.mask.png"
    assert rest.mask == rest.uri
    assert "this stands for all that it held beyond" in unusable_reason(rest.mask)
