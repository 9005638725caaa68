"""Listings of several folders at a time: the same objects in the same order as one stream gives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seit_ray.storage import listing
from seit_ray.storage.listing import FOLDERS_AHEAD, PAGES_AHEAD, listed
from tests.storage.made_bucket import MadeBucket

NAMES = st.text("ab-./é~0", min_size=1, max_size=7).filter(lambda name: "//" not in name and not name.startswith("/"))


@pytest.fixture(autouse=True)
def pages_are_small(monkeypatch):
    """So that folders with more than a page are large."""
    monkeypatch.setattr(listing, "SMALL_FOLDERS", 0.9)


def keys_of(bucket, prefix=""):
    return [entry.name for entry in listed(bucket.ask, prefix)]


@given(keys=st.sets(NAMES, max_size=60), page=st.integers(1, 9), prefix=st.sampled_from(["", "a", "a/", "b/a", "zz"]))
def test_every_key_once_in_order(keys, page, prefix):
    bucket = MadeBucket(keys, page=page)
    assert keys_of(bucket, prefix) == [key for key in bucket.keys if key.startswith(prefix)]


@pytest.mark.parametrize("page", [3, 10, 1000])
@pytest.mark.parametrize(
    "keys",
    [
        [f"train/{c:02}/{i:03}.jpg" for c in range(20) for i in range(30)] + [f"val/{c:02}/x.jpg" for c in range(20)],
        [f"{i:05}.jpg" for i in range(500)],
        [f"only/{i:05}.jpg" for i in range(500)],
        [
            *(f"a/{i:03}" for i in range(100)),
            "a-b",
            *(f"a/{i:03}/x" for i in range(100)),
            "b",
            *(f"c/{i}" for i in range(50)),
        ],
    ],
    ids=["folders in folders", "flat", "one folder", "files beside folders"],
)
def test_layouts(keys, page):
    bucket = MadeBucket(keys, page=page)
    assert keys_of(bucket) == bucket.keys


def test_a_flat_bucket_is_listed_once():
    bucket = MadeBucket([f"{i:05}.jpg" for i in range(500)], page=10)
    assert len(keys_of(bucket)) == 500
    assert bucket.requests == 50 + 1  # and a look for folders


def test_many_small_folders_are_one_stream(monkeypatch):
    monkeypatch.setattr(listing, "SMALL_FOLDERS", 1 / 50)
    bucket = MadeBucket([f"{c:03}/{i}" for c in range(300) for i in range(3)], page=90)
    assert keys_of(bucket) == bucket.keys
    assert bucket.requests == 10


def test_one_page_is_one_request():
    bucket = MadeBucket([f"{i}/x" for i in range(9)], page=10)
    assert len(keys_of(bucket)) == 9
    assert bucket.requests == 1


def test_folders_are_listed_at_the_same_time_and_not_far_ahead():
    bucket = MadeBucket([f"{c:03}/{i:03}" for c in range(200) for i in range(30)], page=10, seconds=0.002)
    found = listed(bucket.ask, "")
    for _ in range(50):
        next(found)
    assert bucket.requests <= 5 + 20 + (FOLDERS_AHEAD + 2) * PAGES_AHEAD  # 20 for the names of the folders
    assert 50 + len(list(found)) == 6000
    assert 4 < bucket.most <= FOLDERS_AHEAD + 1
    assert bucket.requests < 200 * 3 + 50


def test_a_listing_that_is_given_up_asks_no_more():
    bucket = MadeBucket([f"{c:03}/{i:03}" for c in range(200) for i in range(30)], page=10, seconds=0.001)
    found = listed(bucket.ask, "")
    for _ in range(200):
        next(found)
    found.close()
    while bucket.under_way:
        pass
    before = bucket.requests
    assert before < 200
    assert bucket.requests == before


def test_errors_reach_who_lists(monkeypatch):
    bucket = MadeBucket([f"{c:03}/{i:03}" for c in range(20) for i in range(30)], page=10)

    def fail(ask, folder):
        raise PermissionError(folder)

    monkeypatch.setattr(listing, "first_pages", fail)
    with pytest.raises(PermissionError):
        keys_of(bucket)
