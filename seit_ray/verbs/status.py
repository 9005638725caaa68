"""Tell of a tokenising job, from its output: how far it is, how fast, what it rejects, and whether it runs.

seit-ray status runs/tokens
seit-ray status s3://bucket/tokens storage.region=eu-central-1
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from seit_ray.progress import duration
from seit_ray.storage.lock import SILENT_S, Holder, is_running
from seit_ray.verbs.command.errors import telling
from seit_ray.verbs.command.looking import STORAGE_HELP, places_and_storage, tool_parser
from seit_ray.verbs.command.places import Rows, folder_of

if TYPE_CHECKING:
    from seit_ray.shards.job_state import JobState, Written
    from seit_ray.shards.marker import DatasetInfo

NEWEST_S = 300.0  # the newest rate is that of the parts of so long
PAUSE_S = 600.0  # between parts that lie further apart, no job ran
NUM_REASONS = 8


def main(arguments: list[str]) -> None:
    """`seit-ray status ...`."""
    parsed = parse(arguments)
    with telling("status", debug=parsed.debug):
        places, storage = places_and_storage(parsed.words)
        if len(places) != 1:
            raise ValueError(f"{len(places)} folders; expected the output of one job; name one")
        from seit_ray.report.terminal import table
        from seit_ray.shards.job_state import read_state

        state = read_state(folder_of(places[0], storage))
        print(table(rows_of(state, time.time()), state.uri))


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = tool_parser("status", __doc__)
    parser.add_argument("words", nargs="+", metavar="OUTPUT", help=f"output of tokenize_images; {STORAGE_HELP}")
    return parser.parse_intermixed_args(arguments)


def rows_of(state: JobState, now: float) -> Rows:
    """The table to print."""
    runs = state.holder is not None and is_alive(state.holder, now)
    rows: Rows = [("state", state_words(state, runs)), ("lock", lock_words(state, runs))]
    if state.dataset is not None:
        rows += dataset_rows(state.dataset)
    if not state.is_begun:
        rejected = sum(split.rejected for split in state.dataset.splits.values()) if state.dataset else 0
        return [*rows, *reject_rows(state, rejected)]
    if state.listed is not None:
        rows += part_rows(state)
    rows += speed_rows(state, runs, now)
    return [*rows, *reject_rows(state, sum(w.part.rejected for w in state.parts))]


def is_alive(holder: Holder, now: float) -> bool:
    """Whether the holder's process runs, on this machine, or has shown itself lately, on another."""
    runs = is_running(holder)
    return now - holder.time <= SILENT_S if runs is None else runs


def state_words(state: JobState, runs: bool) -> str:
    """What the job is doing, or was."""
    if not state.is_begun:
        if state.dataset is not None:
            return "finished"
        return "starting" if runs else "stopped before anything was done"
    if state.listed is None:
        phase = "listing images"
    elif len(state.parts) < sum(parts for _, parts in state.listed.values()):
        phase = "tokenising"
    else:
        phase = "writing the marker"
    more = " to append to the finished dataset" if state.dataset is not None else ""
    return f"{phase}{more}, {'running' if runs else 'not running: the same command continues'}"


def lock_words(state: JobState, runs: bool) -> str:
    """Who holds the lock, and whether they live."""
    if state.holder is None:
        return "free"
    return f"{state.holder.words()}{'' if runs else ': it has ended'}"


def dataset_rows(info: DatasetInfo) -> Rows:
    """What the finished dataset holds."""
    return [
        (name, f"{s.listed} listed = {s.rows} written + {s.rejected} rejected, {len(s.shards)} shards")
        for name, s in info.splits.items()
    ]


def part_rows(state: JobState) -> Rows:
    """Images and parts that are done, of how many; each part is a shard."""
    rows: Rows = []
    for split, (images, parts) in (state.listed or {}).items():
        done = [w.part for w in state.parts if w.part.split == split]
        seen = sum(part.images for part in done)
        share = f" ({seen / images:.1%})" if images else ""
        rows.append((f"{split} to do" if state.dataset else split, f"{seen} of {images} images{share}"))
        rows.append((f"{split} parts", f"{len(done)} of {parts}"))
    return rows


def speed_rows(state: JobState, runs: bool, now: float) -> Rows:
    """Rates, the last sign of work, and the time that is left."""
    if not state.parts:
        return []
    rows = [("last part", f"{duration(max(0.0, now - max(w.time for w in state.parts)))} ago")]
    newest, mean = rates(state.parts)
    if newest is None or mean is None:
        return rows
    rows.append(("speed", f"{newest:,.1f} images/s of late, {mean:,.1f} on average"))
    left = sum(images for images, _ in (state.listed or {}).values()) - sum(w.part.images for w in state.parts)
    if left > 0:
        rows.append(("left", f"{duration(left / (newest if runs else mean))}{'' if runs else ' once it is continued'}"))
    return rows


def rates(parts: Sequence[Written]) -> tuple[float | None, float | None]:
    """Images/s (over the last NEWEST_S with parts, over all the time that a job ran); None where nothing tells."""
    ordered = sorted(parts, key=lambda written: written.time)
    steps = [(b.time, b.time - a.time, b.part.images) for a, b in pairwise(ordered)]
    steps = [step for step in steps if step[1] <= PAUSE_S]
    newest = [step for step in steps if step[0] > ordered[-1].time - NEWEST_S]
    found = [(sum(images for *_, images in chosen), sum(s for _, s, _ in chosen)) for chosen in (newest, steps)]
    newest_rate, mean_rate = (images / seconds if seconds > 0 else None for images, seconds in found)
    return newest_rate, mean_rate


def reject_rows(state: JobState, rejected: int) -> Rows:
    """How many images were rejected, and the commonest reasons."""
    if not rejected:
        return [("rejected", "none")] if state.parts or state.dataset else []
    looked, images = state.reasons.total(), sum(w.part.images for w in state.parts)
    share = f", {rejected / images:.2%} of those done" if images else ""
    some = f"; reasons of {looked} of them" if looked < rejected else ""
    reasons = state.reasons.most_common(NUM_REASONS)
    more = len(state.reasons) - len(reasons)
    return [
        ("rejected", f"{rejected} images{share}{some}"),
        *((f"rejected {number}", reason) for reason, number in reasons),
        *([("", f"and {more} more reasons")] if more else []),
    ]
