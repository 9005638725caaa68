"""Means over seeds."""

import math

from seit_ray.studies.lines import lines_of, table_csv, with_error
from seit_ray.studies.trials import Outcome


def outcome(arm, seed, top1, status="finished", **figures):
    known = {"top1": top1, "test_images": 400, **figures} if status == "finished" else None
    return Outcome(f"{arm}-{seed}", {"arm": arm, "seed": seed}, status, figures=known, error=None if known else "bad")


def test_a_line_has_the_mean_and_both_errors():
    made = Outcome("maker", {"arm": "a"}, "finished", figures={"bytes": 5})
    (line,) = lines_of([made, *(outcome("a", i, v, bytes=10 * i) for i, v in enumerate((0.2, 0.3, 0.4)))], "top1")
    assert math.isclose(line.mean, 0.3)
    assert math.isclose(line.seeds_error, 0.1 / math.sqrt(3))
    assert math.isclose(line.test_error(), math.sqrt(0.3 * 0.7 / 400))
    assert line.figures == {"test_images": 400, "bytes": 10}
    assert with_error(line) == "30.0 +- 5.8"


def test_one_seed_has_no_error_over_seeds():
    (line,) = lines_of([outcome("a", 0, 0.25)], "top1")
    assert (line.seeds_error, with_error(line)) == (None, "25.0")


def test_the_table_names_what_failed():
    lines = lines_of([outcome("a", 0, 0.25), outcome("a", 1, None, "failed"), outcome("b", 0, None, "failed")], "top1")
    text = table_csv(lines, "top1", ("test_images",))
    assert text.splitlines() == [
        "arm,top1,standard_error_seeds,standard_error_test,seeds,test_images,failed",
        "a,0.25,,0.0216506,1,400,bad",
        "b,,,,0,,bad",
    ]
