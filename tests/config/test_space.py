"""Search spaces: what is written, what is drawn from it, what is refused."""

import math

import pytest

from seit_ray.config.space import MOST_EDGES, edges_of, list_trials, parse_range, parse_space


def space(**ranges):
    return parse_space({key.replace("__", "."): value for key, value in ranges.items()})


def test_dotted_and_nested_keys_are_the_same_and_the_last_counts():
    nested = parse_space({"optimizer": {"lr": {"choice": [1]}, "betas": {"grid": [[0.9, 0.95]]}}})
    assert nested == parse_space({"optimizer.lr": [1], "optimizer.betas": {"grid": [[0.9, 0.95]]}})
    assert parse_space({"optimizer.lr": [1, 2], "optimizer": {"lr": [3]}})["optimizer.lr"].values == (3,)


def test_numbers_that_yaml_takes_for_text():
    assert parse_range("lr", ["1e-3", "2.5E-4", "linear"]).values == (1e-3, 2.5e-4, "linear")
    assert parse_range("lr", {"loguniform": ["1e-4", 1]}).values == (1e-4, 1)
    assert parse_range("betas", [["9e-1", 0.95]]).values == ([0.9, 0.95],)


def test_quniform_holds_both_ends_and_no_digits_of_a_sum():
    assert parse_range("std", {"quniform": [0, 0.3, 0.1]}).listed() == [0, 0.1, 0.2, 0.3]
    assert parse_range("epochs", {"quniform": [2, 9, 3]}).listed() == [2, 5, 8]
    assert all(isinstance(v, int) for v in parse_range("epochs", {"quniform": [2, 9, 3]}).listed())


def test_a_value_given_twice_counts_once():
    assert parse_range("lr", [1, 2, 1]).values == (1, 2)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "space.lr is 3; expected a list, or one of {choice: [a, b, ...]}"),
        ({}, "space.lr is {}; expected a list"),
        ([], "space.lr has choice []; expected {choice: [a, b, ...]}"),
        ({"uniform": [1, 1]}, "space.lr has uniform [1, 1]; expected {uniform: [low, high]}, low below high"),
        ({"uniform": [0, "many"]}, "expected {uniform: [low, high]}"),
        ({"uniform": [0, float("inf")]}, "expected {uniform: [low, high]}"),
        ({"uniform": [False, True]}, "expected {uniform: [low, high]}"),
        ({"quniform": [0, 1]}, "expected {quniform: [low, high, step]}"),
        ({"quniform": [0, 1, 0]}, "expected a step above 0"),
        ({"loguniform": [0, 1]}, "expected a low above 0"),
        ({"choice": [1], "grid": [2]}, "expected a list, or one of"),
        ({"choice": 3}, "space.lr has choice 3; expected {choice: [a, b, ...]}"),
    ],
)
def test_a_range_that_is_none(value, text):
    with pytest.raises(ValueError, match=r"\S") as caught:
        parse_range("lr", value)
    assert text in str(caught.value)


def test_an_empty_space():
    with pytest.raises(ValueError, match="space is empty; expected a key"):
        parse_space({})


def test_a_grid_has_every_combination_the_last_key_fastest():
    trials = list_trials(space(a=[1, 2], b={"quniform": [0, 1, 0.5]}, c={"grid": ["x"]}), "grid", 99, 0)
    assert trials == [{"a": a, "b": b, "c": "x"} for a in (1, 2) for b in (0, 0.5, 1)]


def test_a_grid_over_an_interval_is_refused():
    with pytest.raises(ValueError, match=r"space.a is uniform with search.searcher grid; expected choice"):
        list_trials(space(a={"uniform": [0, 1]}), "grid", 4, 0)


def test_draws_lie_in_their_ranges_and_spread_over_them():
    ranges = space(u={"uniform": [-1, 3]}, log={"loguniform": [1e-4, 1e-1]}, q={"quniform": [0, 1, 0.25]}, c=["a", "b"])
    trials = list_trials(ranges, "random", 300, 7)
    assert len(trials) == 300
    assert all(-1 <= t["u"] < 3 and 1e-4 <= t["log"] < 1e-1 for t in trials)
    assert {t["q"] for t in trials} == {0, 0.25, 0.5, 0.75, 1}
    assert {t["c"] for t in trials} == {"a", "b"}
    logs = sorted(math.log10(t["log"]) for t in trials)
    assert abs(logs[150] + 2.5) < 0.2  # the middle of the powers of ten
    assert abs(sorted(t["u"] for t in trials)[150] - 1) < 0.4


def test_more_trials_and_more_keys_leave_the_first_draws_as_they_are():
    ranges = space(a={"uniform": [0, 1]}, b=[1, 2, 3])
    few, many = (list_trials(ranges, "random", n, 3) for n in (4, 9))
    assert many[:4] == few
    assert [t["a"] for t in list_trials(ranges | space(c={"uniform": [0, 1]}), "random", 4, 3)] == [t["a"] for t in few]
    assert list_trials(ranges, "random", 4, 4) != few


def test_draws_are_distinct_and_end_with_the_space():
    trials = list_trials(space(a=[1, 2, 3], b=[1, 2]), "random", 50, 0)
    assert len(trials) == 6
    assert len({tuple(t.items()) for t in trials}) == 6


def test_a_random_search_is_made_for_each_point_of_a_grid():
    trials = list_trials(space(a={"grid": [1, 2]}, b={"uniform": [0, 1]}), "random", 3, 0)
    assert [t["a"] for t in trials] == [1, 1, 1, 2, 2, 2]
    assert len({t["b"] for t in trials}) == 6
    assert len(list_trials(space(a={"grid": [1, 2]}), "random", 3, 0)) == 2


def test_edges_are_of_all_keys_and_each_is_in_one_of_them():
    few = space(lr={"uniform": [0, 1]}, size=["nano", "tiny"])
    assert edges_of(few) == [{"lr": lr, "size": size} for lr in (0, 0.382, 1) for size in ("nano", "tiny")]
    many = few | space(a={"uniform": [0, 1]}, b={"uniform": [0, 1]}, c={"quniform": [0, 90, 1]})
    found = edges_of(many)
    assert found == edges_of(many)
    assert len(found) == 91 > MOST_EDGES
    assert all(list(settings) == list(many) for settings in found)
    for key, each in many.items():
        assert {settings[key] for settings in found} == set(each.edges())
    assert len({(settings["a"], settings["b"]) for settings in found}) == 9  # not one with the other alone
