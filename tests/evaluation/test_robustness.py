"""The figures of a table, and mCE, against plain means."""

import copy

import numpy as np
import pytest

from seit_ray.evaluation.cases import cases_of
from seit_ray.evaluation.robustness import check_baseline, counted, refuse_other, robustness_figures, with_baseline

NAMES, SEVERITIES, NUM = ["fog", "snow", "spatter"], [1, 3], 50
CASES = cases_of(NAMES, SEVERITIES)


def hits_of(seed=0):
    """Hits [1+K,N] of clean and all cases; the clean ones are most."""
    rng = np.random.default_rng(seed)
    return (rng.random((1 + len(CASES), NUM)) < np.array([0.9, *[0.4] * len(CASES)])[:, None]).astype(float)


def figures_of(hits):
    """Figures of hits, all of one class."""
    counts = {
        "samples": NUM,
        "cases": [[row.sum(), NUM, 3.0] for row in hits],
        "squares": {name: float((hits[1 + 2 * i : 3 + 2 * i].mean(0) ** 2).sum()) for i, name in enumerate(NAMES)},
        "mean_square": float((hits[1:].mean(0) ** 2).sum()),
        "classes": {"1": [float(NUM), hits[0].sum()]},
    }
    return {"strengths": "imagenet_c", "num_scored": 2, **robustness_figures(CASES, counts, ["cat", "dog"])}


def error(values):
    """Standard error of a mean."""
    return values.std() / np.sqrt(len(values))


def test_means_and_standard_errors_are_those_over_images():
    hits = hits_of()
    found = figures_of(hits)
    assert found["clean"] == pytest.approx(
        {"top1": hits[0].mean(), "standard_error": error(hits[0]), "top5": 1.0, "loss": 3 / NUM}
    )
    fog, each = found["corruptions"]["fog"], hits[1:3].mean(0)
    assert fog["group"] == "weather"
    assert fog["severities"]["3"]["top1"] == hits[2].mean()
    assert fog["severities"]["3"]["standard_error"] == pytest.approx(error(hits[2]))
    assert (fog["top1"], fog["standard_error"]) == pytest.approx((each.mean(), error(each)))
    assert fog["relative"] == pytest.approx(each.mean() / hits[0].mean())
    means = hits[1:].mean(0)
    assert (found["mean"]["top1"], found["mean"]["standard_error"]) == pytest.approx((means.mean(), error(means)))
    assert found["per_class_top1"] == {"cat": None, "dog": pytest.approx(hits[0].mean())}


def test_nothing_is_left_of_nothing():
    found = figures_of(np.zeros((1 + len(CASES), NUM)))
    assert found["mean"]["relative"] is None
    assert found["mean"]["standard_error"] == 0


def test_mce():
    ours, theirs = hits_of(0), hits_of(1)
    found = with_baseline(figures_of(ours), figures_of(theirs), "base")["baseline"]
    places = {"fog": slice(1, 3), "snow": slice(3, 5)}  # spatter is one of the extra ones
    ce = {name: (1 - ours[rows]).sum() / (1 - theirs[rows]).sum() for name, rows in places.items()}
    beyond = {
        name: (2 * ours[0].mean() - ours[rows].mean(1).sum()) / (2 * theirs[0].mean() - theirs[rows].mean(1).sum())
        for name, rows in places.items()
    }
    assert {name: one["ce"] for name, one in found["corruptions"].items()} == pytest.approx(ce)
    assert found["mce"] == pytest.approx(np.mean(list(ce.values())))
    assert found["relative_mce"] == pytest.approx(np.mean(list(beyond.values())))
    itself = with_baseline(figures_of(ours), figures_of(ours), "base")["baseline"]
    assert (itself["mce"], itself["relative_mce"]) == pytest.approx((1, 1))


def test_a_baseline_without_errors_beyond_the_clean_ones():
    theirs = hits_of(1)
    theirs[0] = 0
    found = with_baseline(figures_of(hits_of()), figures_of(theirs), "base")["baseline"]
    assert found["relative_mce"] is None
    assert found["mce"] > 0


def test_the_extra_ones_count_where_there_are_no_others():
    assert counted(["fog", "saturate"]) == ["fog"]
    assert counted(["spatter", "saturate"]) == ["spatter", "saturate"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f["corruptions"].pop("fog"), "baseline base without fog; expected the corruptions fog, snow"),
        (
            lambda f: f["corruptions"]["snow"]["severities"].pop("3"),
            "without severity snow 3; expected severities 1, 3",
        ),
        (lambda f: f.pop("clean"), "baseline base is no table of corruptions"),
        (lambda f: f.update(corruptions=3), "baseline base is no table of corruptions"),
        (lambda f: [one.update(top1=1.0) for one in f["corruptions"]["fog"]["severities"].values()], "no error at fog"),
    ],
)
def test_a_baseline_that_does_not_fit(change, words):
    wrong = copy.deepcopy(figures_of(hits_of()))
    check_baseline(wrong, NAMES, SEVERITIES, "base")
    change(wrong)
    with pytest.raises(ValueError, match=words):
        check_baseline(wrong, NAMES, SEVERITIES, "base")


@pytest.mark.parametrize(("name", "value"), [("strengths", "cifar10_c"), ("num_scored", 7)])
def test_a_baseline_that_was_evaluated_otherwise(name, value):
    figures = figures_of(hits_of())
    with pytest.raises(ValueError, match=f"baseline base has {name} {value!r}; expected {figures[name]!r}"):
        refuse_other(figures, {**figures, name: value}, "base")
