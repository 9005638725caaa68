"""Stretches of a listing: whatever the cuts, each object once; and cuts that divide what lies there."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seit_ray.storage import Folder
from seit_ray.storage.cuts import ENOUGH, cuts, evenly
from seit_ray.storage.objects import Objects
from tests.storage.made_bucket import MadeBucket

NAMES = st.text("ab-./é~0", min_size=1, max_size=7).filter(lambda name: "//" not in name and not name.startswith("/"))


class Service:
    """Of one bucket."""

    scheme, is_sorted = "s3", True

    def __init__(self, bucket):
        self.bucket = bucket

    def split(self, path):
        return path, ""

    def page(self, bucket, base, **request):
        return self.bucket.ask(**{name: value for name, value in request.items() if value is not None})


def stretches(found, after=""):
    return list(itertools.pairwise([after, *found, None]))


def listed(store, stretch):
    return [entry.name for entry in store.list("bucket", "", True, None, stretch)]


def listed_by_some(store, stretch):
    some = [entries.names for entries in store.list_some("bucket", None, stretch)]
    assert all(some)
    return list(itertools.chain(*some))


@given(
    keys=st.sets(NAMES, max_size=60), page=st.integers(1, 9), more=st.lists(NAMES, max_size=5), most=st.integers(0, 9)
)
def test_stretches_hold_every_object_once_in_order(keys, page, more, most):
    store = Objects(Service(MadeBucket(keys, page=page)))
    whole = [name for name in store.service.bucket.keys if not name.endswith("/")]
    for found in (store.cuts("bucket", "", most), sorted(set(more))):
        for function in (listed, listed_by_some):
            assert [name for stretch in stretches(found) for name in function(store, stretch)] == whole
    after = whole[len(whole) // 2] if whole else ""
    found = store.cuts("bucket", after, most)
    assert len(found) <= most
    assert all(name > after for name in found)
    assert [n for stretch in stretches(found, after) for n in listed(store, stretch)] == [n for n in whole if n > after]


@pytest.mark.parametrize(
    "keys",
    [
        [f"{i:06}.jpg" for i in range(20_000)],
        [f"ILSVRC2012_val_{i:08}.JPEG" for i in range(20_000)],
        [f"train/{c:03}/{i:04}.jpg" for c in range(100) for i in range(200)],
        [f"{part}/{i:06}.jpg" for part in ("train", "val") for i in range(10_000)],
        [f"data/{c:02}/{i:06}.jpg" for c in range(5) for i in range(4000)],
    ],
    ids=["flat", "flat, long names", "folders of classes", "two flat folders", "few folders"],
)
def test_what_lies_there_is_divided_by_few_requests(keys):
    bucket = MadeBucket(keys, page=100)
    found = cuts(bucket.ask, "", 64)
    assert bucket.requests < 150
    sizes = [sum(1 for key in bucket.keys if key > a and (b is None or key <= b)) for a, b in stretches(found)]
    assert sum(sizes) == len(keys)
    assert len(sizes) >= ENOUGH
    assert max(sizes) <= len(keys) / 5


def test_few_cuts_where_few_objects_are_to_be_expected():
    keys = [f"{c:03}/{i:03}" for c in range(100) for i in range(100)]
    ask = MadeBucket(keys, page=100).ask
    assert len(cuts(ask, "009/099", 64)) == 64
    assert len(cuts(ask, "009/099", 64, listed=1000)) == ENOUGH
    assert len(cuts(ask, "009/099", 64, listed=30_000)) == round(3000 * 90 / 5000)


def test_the_page_behind_a_stretch_is_not_asked_for():
    bucket = MadeBucket([f"{i:03}" for i in range(100)], page=10)
    store = Objects(Service(bucket))
    assert listed(store, ("009", "034")) == [f"{i:03}" for i in range(10, 35)]
    assert bucket.requests == 3


LAST = "\U0010ffff"  # of the characters


@pytest.mark.parametrize("stem", ["", "a", LAST])
def test_behind_the_last_character_nothing_comes(stem):
    keys = [f"{stem}{first}{i}" for first in ("b", LAST, LAST * 2) for i in range(4)]
    bucket = MadeBucket(keys, page=2)
    found = cuts(bucket.ask, "", 9)
    assert bucket.requests < 200
    assert found == sorted(set(found))
    store = Objects(Service(bucket))
    assert [name for stretch in stretches(found) for name in listed(store, stretch)] == bucket.keys


def test_many_first_characters_cost_few_requests():
    bucket = MadeBucket([f"{chr(0x4E00 + 7 * i)}.jpg" for i in range(3000)], page=100)
    found = cuts(bucket.ask, "", 64)
    assert bucket.requests < 400
    sizes = [sum(1 for key in bucket.keys if key > a and (b is None or key <= b)) for a, b in stretches(found)]
    assert sum(sizes) == 3000
    assert max(sizes) <= 3000 / 5


def test_no_cuts_cost_no_request():
    bucket = MadeBucket([f"{i:04}.jpg" for i in range(1000)], page=100)
    assert Objects(Service(bucket)).cuts("bucket", "0", 0) == []
    assert bucket.requests == 0


def test_names_that_do_not_differ_are_one_stretch():
    assert cuts(MadeBucket(["only.jpg"]).ask, "", 9) == []
    assert cuts(MadeBucket([]).ask, "", 9) == []


def test_cuts_are_far_apart():
    assert evenly(list("abcdefghij"), 3) == ["b", "f", "i"]
    assert evenly(list("ab"), 3) == ["a", "b"]
    assert evenly(list("ab"), 0) == []


NAMES_ON_DISK = ["a/1", "a/b/2", "a-b/3", "a.txt", "b", "c/d/e/4", "c/d/5", "c0", "é/6", "z/7"]


@pytest.mark.parametrize("number", [1, 2, 3, 10])
def test_on_disk(tmp_path, number):
    folder = Folder(tmp_path)
    for name in NAMES_ON_DISK:
        folder.write(name, b"")
    whole = [entry.name for entry in folder.list()]
    assert sorted(whole, key=str.encode) == whole
    for after in ("", "a/b/2", "c/d"):
        found = folder.cuts(after, number)
        assert len(found) <= number
        assert all(name > after for name in found)
        names = [entry.name for stretch in stretches(found, after) for entry in folder.list(stretch=stretch)]
        assert names == [name for name in whole if name > after]
    ends = sorted(NAMES_ON_DISK[::2])
    assert [e.name for stretch in stretches(ends) for e in folder.list(stretch=stretch)] == whole
    assert folder.cuts("", 99) == ["a-b/", "a/", "a/b/", "c/", "c/d/", "c/d/e/", "z/", "é/"]
    assert folder.join("nowhere").cuts("", 9) == []
