"""Keys that come again: found in buckets as in memory, and numbered as one pass over all of them would."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seit_ray.images import repeats
from seit_ray.images.repeats import Repeats, hash_of, is_repeat_of, repeated


def test_buckets_on_disk_find_what_memory_does(monkeypatch):
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 1 << 64, 5000, dtype=np.uint64)
    hashes[4000:] = hashes[:1000]
    hashes = rng.permutation(hashes)
    hashes[0], hashes[-1] = 0, np.uint64(2**64 - 1)
    chunks = [hashes[i : i + 700] for i in range(0, 5000, 700)]
    expected = repeated(iter(chunks), len(hashes))
    assert 990 <= len(expected) <= 1000
    monkeypatch.setattr(repeats, "IN_MEMORY", 100)
    assert repeated(iter(chunks), len(hashes)).tolist() == expected.tolist()
    assert repeated(iter([np.arange(200, dtype=np.uint64)]), 200).tolist() == []


def numbered_in_one_pass(keys):
    """What a key is called when all keys before it are remembered."""
    taken, numbers, found = set(), {}, []
    for key in keys:
        name, number = key, numbers.get(key, 1)
        while name in taken:
            number += 1
            name = f"{key}#{number}"
        taken.add(name)
        numbers[key] = number
        found.append(name)
    return found


@given(st.lists(st.sampled_from(["a", "b", "a#2", "a#3", "b#1", "c", "a#2#2", "#2", "d#x"]), max_size=12))
def test_only_those_that_may_come_again_need_be_looked_at(keys):
    hashes = np.array([hash_of(key) for key in keys], np.uint64)
    known = set(repeated(iter([hashes]), len(hashes)).tolist())
    again = [hash_of(key) in known or is_repeat_of(key, known.__contains__) for key in keys]
    found = list(keys)
    numbered = Repeats().unique([key for key, looked_at in zip(keys, again, strict=True) if looked_at])
    for row, key in zip(np.flatnonzero(again), numbered, strict=True):
        found[row] = key
    assert found == numbered_in_one_pass(keys)
    assert len(set(found)) == len(found)
