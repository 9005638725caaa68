"""What every study leaves beside its trials: a table and the trials as CSV, and one page with a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from seit_ray.progress import duration
from seit_ray.report.page import Page
from seit_ray.storage import Folder
from seit_ray.studies.lines import table_csv, trials_csv
from seit_ray.studies.study import arm_of, read_calls
from seit_ray.studies.trials import Outcome

TABLE, TRIALS, REPORT = "table.csv", "trials.csv", "report.html"


def write_tables(folder: Folder, lines: Sequence[Any], outcomes: Sequence[Outcome], metric: str, figures: Any) -> None:
    """Both CSV files; figures: what stands in the table beside the metric, of those that trials measured."""
    folder.write(TABLE, table_csv(lines, metric, figures).encode())
    folder.write(TRIALS, trials_csv(outcomes).encode())


def finish_page(page: Page, folder: Folder, outcomes: Sequence[Outcome], details: Mapping[str, Any]) -> None:
    """The end of a study's page, which is written: what failed, how busy the machine was, settings and versions."""
    failed = [
        (outcome.name, arm_of(outcome.settings), outcome.error or "") for outcome in outcomes if is_failed(outcome)
    ]
    if failed:
        note = "The same command tries them again."
        page.add_table("Trials that failed", ("trial", "arm", "why"), failed, note)
    calls = read_calls(folder)
    rows = [
        (i, call.trials, call.slots, duration(call.wall_s), duration(call.busy_s), f"{call.idle_share:.1%}")
        for i, call in enumerate(calls, 1)
    ]
    page.add_table(
        "How busy it was",
        ("call", "trials", "at a time", "time", "time of trials", "idle share"),
        rows,
        "Idle is the share of all slots' time in which no trial ran: starts of processes, waits for what a trial "
        "needs, and attempts that failed.",
    )
    page.add_details("Settings, versions and git state", json.dumps(details, indent=1))
    folder.write(REPORT, page.html().encode())


def is_failed(outcome: Outcome) -> bool:
    """Whether it came to nothing."""
    return outcome.status != "finished"
