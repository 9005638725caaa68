"""The part of `evaluate` that makes a table of cases: corrupted images, or tokens with units removed or shuffled."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from seit_ray.config import Evaluate
from seit_ray.progress import Progress
from seit_ray.storage import Folder, StorageError, split_uri
from seit_ray.verbs.command.figures_file import evaluated_what, file_name
from seit_ray.verbs.command.places import Rows, folder_of
from seit_ray.verbs.command.report_files import ReportFiles, report_files
from seit_ray.verbs.command.training import run_on_workers

if TYPE_CHECKING:
    from seit_ray.images.manifest import Manifest

OF_CORRUPTIONS = {"corruptions", "severities", "strengths", "baseline"}
OF_UNITS = {"occlusion", "shuffle"}


def is_robustness(config: Evaluate) -> bool:
    """Whether more is asked than the plain figures."""
    return bool(config.corruptions or config.occlusion or config.shuffle)


def check_keys(config: Evaluate) -> None:
    """ValueError for keys of the other kind of input, unknown corruptions, severities or shares, a wrong baseline."""
    from seit_ray.evaluation.cases import unit_cases
    from seit_ray.evaluation.corruptions.strengths import check_severities, corruption_names

    given = config.model_fields_set
    what, stray = ("dataset", given & OF_CORRUPTIONS) if config.dataset else ("images", given & OF_UNITS)
    if stray:
        other = "images" if config.dataset else "dataset"
        raise ValueError(
            f"key {min(stray)} with {what}; expected it with {other} only; drop it, or evaluate on {other}"
        )
    if config.mirror and is_robustness(config):
        key = next(k for k in ("corruptions", "occlusion", "shuffle") if getattr(config, k))
        raise ValueError(f"key mirror with {key}; expected plain figures, which alone have it; leave it out")
    names = corruption_names(config.corruptions)
    severities = check_severities(config.severities)
    if not names and given & OF_CORRUPTIONS:
        raise ValueError(
            f"key {min(given & OF_CORRUPTIONS)} without corruptions; expected some; set corruptions=imagenet_c"
        )
    unit_cases(config.occlusion, config.shuffle)
    if config.baseline is not None:
        read_baseline(config, names, severities)


def check_units_of(config: Evaluate, about: dict[str, Any], run: Folder) -> None:
    """ValueError for shares that leave none of the units of a run with this model.json, or move fewer than two."""
    from seit_ray.evaluation.cases import check_run_units, unit_cases

    check_run_units(unit_cases(config.occlusion, config.shuffle), about, run.uri)


def refuse_other_baseline(config: Evaluate, manifest: Manifest) -> None:
    """ValueError where the baseline's figures are of other images than a whole listing has."""
    if baseline := baseline_of(config):
        from seit_ray.evaluation.robustness import refuse_other

        listed = manifest.splits[config.split].num_images
        refuse_other({"listed": listed, "keys_sha256": manifest.keys_digest(config.split)}, baseline[1], baseline[0])


def baseline_of(config: Evaluate) -> tuple[str, dict[str, Any]] | None:
    """(address, figures) of the baseline, where one is asked for."""
    from seit_ray.evaluation.corruptions.strengths import corruption_names

    if config.baseline is None:
        return None
    return read_baseline(config, corruption_names(config.corruptions), severities_of(config))


def read_baseline(config: Evaluate, names: list[str], severities: list[int]) -> tuple[str, dict[str, Any]]:
    """(address, figures) of the baseline; ValueError unless it is a table with these corruptions and severities."""
    from seit_ray.evaluation.robustness import check_baseline

    assert config.baseline is not None  # asked for where it is given
    if config.baseline.endswith(".json"):
        parent, name = split_uri(config.baseline)
        folder = folder_of(parent, config.storage)
    else:
        folder, name = folder_of(config.baseline, config.storage), file_name(kind_of(config), config)
        if not folder.exists(name):
            folder.check_readable()
            raise ValueError(
                f"baseline {folder.uri} has no {name}; expected a run that was evaluated with corruptions on split "
                f"{config.split!r}; evaluate it first, or name a file of figures"
            )
    try:
        figures = json.loads(folder.read(name))
    except StorageError:
        raise
    except ValueError as error:
        raise ValueError(
            f"baseline {folder.uri_of(name)} cannot be read ({error}); expected the JSON that evaluate wrote; name "
            "another file or run"
        ) from error
    check_baseline(figures, names, severities, folder.uri_of(name))
    return folder.uri_of(name), figures


def kind_of(config: Evaluate) -> str:
    """Of the figures, by which their file is called."""
    return "robustness" if config.images else "units"


def robustness_plan(config: Evaluate) -> Rows:
    """What a dry run says of the cases."""
    from seit_ray.evaluation.corruptions.strengths import check_severities, corruption_names

    rows: Rows = []
    if config.corruptions:
        names, severities = corruption_names(config.corruptions), check_severities(config.severities)
        rows.append(("corruptions", f"{', '.join(names)}, severities {', '.join(map(str, severities))}"))
    for name in sorted(OF_UNITS):
        if getattr(config, name):
            rows.append((f"{name} of units", ", ".join(f"{share:g}" for share in getattr(config, name))))
    if config.baseline:
        rows.append(("baseline", config.baseline))
    return rows


def evaluate_robustness(config: Evaluate, arguments: dict[str, Any], progress: Progress) -> Rows:
    """Evaluate all cases; write figures, table, picture and page; returns the table to print. Goes on after a kill."""
    from seit_ray.evaluation.robustness import with_baseline

    with report_files(kind_of(config), config, progress) as report:
        baseline = baseline_of(config)
        figures = cases_figures(config, arguments, baseline, report.work, progress)
        if baseline:
            figures = with_baseline(figures, baseline[1], baseline[0])
        figures = {**evaluated_what(config), **figures}
        write_report(config, figures, report)
        end_work(report.work)
    return summary(config, figures, arguments["run"], report)


def severities_of(config: Evaluate) -> list[int]:
    """The severities that are asked for."""
    from seit_ray.evaluation.corruptions.strengths import check_severities

    return check_severities(config.severities)


def cases_figures(
    config: Evaluate,
    arguments: dict[str, Any],
    baseline: tuple[str, dict[str, Any]] | None,
    work: Folder,
    progress: Progress,
) -> dict[str, Any]:
    """The figures, from this process or from workers."""
    from seit_ray.evaluation.corruptions.strengths import corruption_names

    if config.dataset:
        from seit_ray.runs.evaluate_units import evaluate_units

        more: dict[str, Any] = {"occlusion": config.occlusion, "shuffle": config.shuffle}
        return run_on_workers(config, evaluate_units, arguments | more, "evaluate", progress)
    from seit_ray.runs.evaluate_corruptions import evaluate_corruptions

    more = {
        "corruptions": corruption_names(config.corruptions),
        "severities": severities_of(config),
        "strengths": config.strengths,
        "work": work,
        "baseline": baseline,
    }
    return run_on_workers(config, evaluate_corruptions, arguments | more, "evaluate", progress)


def end_work(work: Folder) -> None:
    """Remove what was kept to go on from; nothing where nothing was."""
    from seit_ray.evaluation.case_records import CaseRecords

    CaseRecords(work).end()


def write_report(config: Evaluate, figures: dict[str, Any], report: ReportFiles) -> None:
    """Page, picture and table, the figures last."""
    from seit_ray.report.robustness import robustness_csv, robustness_page, severity_chart
    from seit_ray.verbs.command.record import record_of

    title = f"Robustness of {config.run.rstrip('/').rpartition('/')[2]}"
    page = robustness_page(title, figures, record_of("evaluate", config))
    chart, table = severity_chart(figures).encode(), robustness_csv(figures).encode()
    report.write(figures, html=page.html().encode(), svg=chart, csv=table)


def summary(config: Evaluate, figures: dict[str, Any], run: Folder, report: ReportFiles) -> Rows:
    """The table to print."""
    from seit_ray.report.robustness import robustness_rows

    count = (f"{config.split} samples", str(figures["samples"]))
    if "rejected" in figures:
        listed, rejected = figures["listed"], len(figures["rejected"])
        count = (f"{config.split} images", f"{listed} listed = {figures['samples']} classified + {rejected} rejected")
    return [
        ("run", run.uri),
        count,
        *robustness_rows(figures),
        ("report", report.uri("html")),
        ("figures", report.uri("json")),
    ]
