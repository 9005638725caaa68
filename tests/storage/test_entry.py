"""Objects as columns."""

from seit_ray.storage import Entries, Entry

LISTED = [Entry("a", 1, "2026-01-01T00:00:00+00:00", "x"), Entry("b/c", 0, "2026-01-02T00:00:00+00:00")]


def test_columns_are_a_sequence_of_entries():
    entries = Entries.of(LISTED)
    assert (len(entries), list(entries), entries[1]) == (2, LISTED, LISTED[1])
    assert list(entries[1:]) == LISTED[1:]
    assert len(entries[:0]) == 0
    assert (entries.names, entries.sizes) == (["a", "b/c"], [1, 0])
    assert entries.versions == [entry.version for entry in LISTED] == ["x", "2026-01-02T00:00:00+00:00"]
    assert Entries.of(LISTED[:1]).versions == ["x"]
