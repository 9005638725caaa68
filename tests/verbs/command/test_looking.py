"""What the tools that only look share."""

import pytest

from seit_ray.config import Storage
from seit_ray.progress import duration
from seit_ray.verbs.command.errors import telling
from seit_ray.verbs.command.looking import grid, places_and_storage, utc


def test_columns_are_aligned_under_a_rule_in_ascii():
    text = grid([("a", "long head"), ("caf\u00e9\nau lait", ""), ("b", "1")], "two\tcolumns")
    lines = text.splitlines()
    assert lines[0] == "two columns"
    assert set(lines[1]) == {"-"}
    assert len(lines[1]) == max(map(len, lines))
    assert lines[2].index("long") == lines[4].index("1")
    assert lines[3] == "caf\\xe9 au lait"


def test_storage_keys_among_folders():
    places, storage = places_and_storage(["s3://b/run=3", "storage.region=x", "storage={anonymous: true}", "storage"])
    assert places == ["s3://b/run=3", "storage"]
    assert storage.anonymous
    assert places_and_storage(["a"]) == (["a"], Storage())
    assert places_and_storage(["a", "storage.region=x"])[1] == Storage(region="x")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (7000, "117 min"), (11_100, "3 h 05 min"), (187_200, "2 d 04 h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_times_are_utc():
    assert utc(1_700_000_000) == "2023-11-14 22:13:20"


@pytest.mark.parametrize(("error", "status"), [(ValueError("a\nb"), 2), (KeyError("x"), 1), (KeyboardInterrupt(), 130)])
def test_each_kind_of_error_ends_in_its_own_way(capsys, error, status):
    for debug in (False, True):
        with pytest.raises(SystemExit) as caught, telling("runs", debug=debug):
            raise error
        assert caught.value.code == status
        text = capsys.readouterr().err
        assert ("Traceback" in text) == (debug and status != 130)
        if status != 130:
            assert text.splitlines()[-1].startswith("error: a b" if status == 2 else "error: KeyError: 'x'; this is a")
