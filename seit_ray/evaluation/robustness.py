"""The figures of a robustness table: each severity, each corruption, all of them; beside clean, beside a baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from seit_ray.evaluation.cases import Case, Severity
from seit_ray.evaluation.corruptions.strengths import EXTRA, GROUPS
from seit_ray.evaluation.standard_error import error_of

# What a baseline has to share, beside corruptions and severities
SAME = ("strengths", "num_scored", "listed", "keys_sha256")


def robustness_figures(cases: Sequence[Case], counts: dict[str, Any], class_names: Sequence[str]) -> dict[str, Any]:
    """Named figures of counts that `case_counts.add_up` gives, shares from 0 to 1.

    clean and each severity: top1, top5, loss, standard_error; a corruption: the mean over its severities; mean: over
    all cases. relative: top1 as a share of the clean one. The standard errors are those over images, None for one.
    """
    num, sums = counts["samples"], counts["cases"]
    clean = case_figures(sums[0], num)
    found: dict[str, Any] = {"samples": num, "clean": clean, "corruptions": {}}
    for name in dict.fromkeys(case.corruption for case in cases):
        places = [1 + i for i, case in enumerate(cases) if case.corruption == name]
        mean = math.fsum(sums[place][0] for place in places) / (num * len(places))
        found["corruptions"][name] = {
            "group": group_of(name),
            "top1": mean,
            "standard_error": error_of(mean, counts["squares"][name], num),
            "relative": relative(mean, clean["top1"]),
            "severities": {str(cases[p - 1].severity): case_figures(sums[p], num) for p in places},
        }
    if cases:
        mean = math.fsum(sums[1 + i][0] for i in range(len(cases))) / (num * len(cases))
        error = error_of(mean, counts["mean_square"], num)
        found["mean"] = {"top1": mean, "standard_error": error, "relative": relative(mean, clean["top1"])}
    classes = {int(number): hits / total for number, (total, hits) in counts["classes"].items()}
    found["per_class_top1"] = {name: classes.get(i) for i, name in enumerate(class_names)}
    return found


def case_figures(sums: Sequence[float], num: int) -> dict[str, Any]:
    """Of the sums of top-1 hits, top-5 hits and loss."""
    top1, top5, loss = (value / num for value in sums)
    return {"top1": top1, "standard_error": error_of(top1, sums[0], num), "top5": top5, "loss": loss}


def relative(top1: float, clean: float) -> float | None:
    """Share of the clean accuracy that is left; None where that is 0."""
    return top1 / clean if clean else None


def group_of(name: str) -> str:
    """The group of a corruption; of what is done to tokens, units."""
    return next((group for group, names in GROUPS.items() if name in names), "units")


def severities_of(figures: dict[str, Any], name: str) -> dict[str, dict[str, float]]:
    """Severity, as text -> the figures of a corruption."""
    return figures["corruptions"][name]["severities"]


def counted(names: Sequence[str]) -> list[str]:
    """The corruptions that mCE is over: without the four extra ones, as published, unless there are no others."""
    return [name for name in names if name not in EXTRA] or list(names)


def check_baseline(baseline: Any, names: Sequence[str], severities: Sequence[Severity], uri: str) -> None:
    """ValueError unless a file's content has the cases that mCE needs, and errors to divide by."""
    try:
        found = {name: severities_of(baseline, name) for name in baseline["corruptions"]}
        float(baseline["clean"]["top1"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"baseline {uri} is no table of corruptions ({error!r}); expected what evaluate corruptions=... wrote; "
            "name another file or run"
        ) from error
    wanted = counted(names)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ValueError(
            f"baseline {uri} without {', '.join(missing[:4])}{', ...' if len(missing) > 4 else ''}; expected the "
            f"corruptions {', '.join(wanted)}; evaluate it with them, or leave them out"
        )
    short = [f"{name} {severity}" for name in wanted for severity in severities if str(severity) not in found[name]]
    if short:
        raise ValueError(
            f"baseline {uri} without severity {short[0]}; expected severities {', '.join(map(str, severities))}; "
            "evaluate it with them, or leave them out"
        )
    perfect = [name for name in wanted if not error_sum(baseline, name, severities)]
    if perfect:
        raise ValueError(f"baseline {uri} has no error at {perfect[0]}; expected one to divide by; leave that out")


def refuse_other(found: Mapping[str, Any], baseline: Mapping[str, Any], uri: str) -> None:
    """ValueError for a baseline of other strengths, classes or images than what is found so far of figures."""
    for name in SAME:
        if name in baseline and name in found and baseline[name] != found[name]:
            raise ValueError(
                f"baseline {uri} has {name} {baseline[name]!r}; expected {found[name]!r}, as here; evaluate it on the "
                "same images in the same way, or name another baseline"
            )


def with_baseline(figures: dict[str, Any], baseline: dict[str, Any], uri: str) -> dict[str, Any]:
    """The figures with mCE: of each corruption, errors over severities as a share of the baseline's; then the mean.

    relative_mce: of the errors beyond the clean one; None where the baseline has none. Source: Hendrycks & Dietterich
    2019, section 4.
    """
    names = counted(list(figures["corruptions"]))
    errors: dict[str, dict[str, Any]] = {}
    for name in names:
        severities = list(severities_of(figures, name))
        ours, theirs = (error_sum(table, name, severities) for table in (figures, baseline))
        clean, other = (len(severities) * (1 - table["clean"]["top1"]) for table in (figures, baseline))
        beyond = (ours - clean) / (theirs - other) if theirs > other else None
        errors[name] = {"ce": ours / theirs, "relative_ce": beyond}
    parts = [found["relative_ce"] for found in errors.values()]
    return {
        **figures,
        "baseline": {
            "uri": uri,
            "samples": baseline.get("samples"),
            "mce": math.fsum(found["ce"] for found in errors.values()) / len(names),
            "relative_mce": None if None in parts else math.fsum(parts) / len(parts),
            "corruptions": errors,
        },
    }


def error_sum(figures: dict[str, Any], name: str, severities: Sequence[Any]) -> float:
    """Sum of the errors of a corruption over severities."""
    found = severities_of(figures, name)
    return math.fsum(1 - found[str(severity)]["top1"] for severity in severities)
