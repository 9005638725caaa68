"""The pieces of a listing made by Ray tasks: of any number of them, and after any kill, the same files.

A task lists a few pieces, several of a bucket at a time, for most of the time it waits. It answers with their counts;
the images go from the task into the folder of the pieces. Where that is on a disk which the task's node does not see,
this process lists them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError

from seit_ray.distributed.cluster import Connect, user_error
from seit_ray.images.piece_makers import FEW_PIECES, Made, Make, OnListed, make_here
from seit_ray.images.piece_writing import PieceCounts
from seit_ray.images.pieces import Pieces
from seit_ray.storage.patience import PATIENCE_S

CANCEL_S = 30.0  # for tasks to end that nobody waits for any more: what they write is not to come later
PIECES_A_TASK = 32  # at most: what a core lists at a time, and what is listed again when a node is lost


def make_on_tasks(connect: Connect, patience_s: float = PATIENCE_S) -> Make:
    """Pieces made by tasks of the cluster that `connect` gives; by this process where there are few."""

    def make(pieces: Pieces, todo: Sequence[int], on_listed: OnListed) -> Made:
        if len(todo) <= FEW_PIECES:
            yield from make_here(pieces, todo, on_listed, patience_s)
            return
        with connect() as cluster:
            yield from made_by_tasks(pieces, todo, on_listed, cluster.num_cpus, patience_s)

    return make


def made_by_tasks(pieces: Pieces, todo: Sequence[int], on_listed: OnListed, num_cpus: float, patience_s: float) -> Made:
    """The counts of the pieces in their order; ValueError for what the user can mend, of the first such piece."""
    rounds = math.ceil(len(todo) / (PIECES_A_TASK * max(1.0, num_cpus)))
    each = math.ceil(len(todo) / (rounds * max(1.0, num_cpus)))  # so that no core is idle in the last round
    lean = ray.put(replace(pieces, division=replace(pieces.division, head=None)))
    task: Any = ray.remote(num_cpus=1)(make_some)
    coming = [task.remote(lean, list(todo[start : start + each]), patience_s) for start in range(0, len(todo), each)]
    try:
        for number, answer in enumerate(coming):
            made = ray.get(answer)
            if made is None:
                made = make_here(pieces, todo[number * each : (number + 1) * each], lambda more: None, patience_s)
            for counts in made:
                on_listed(counts.num_rows)
                yield counts
    except RayError as error:
        raise user_error(error) or error from error
    finally:
        # Of what is answered nothing is cancelled: Ray ends this process when that meets the end of the same task.
        _, pending = ray.wait(coming, num_returns=len(coming), timeout=0, fetch_local=False)
        for answer in pending:
            ray.cancel(answer)
        if pending:
            ray.wait(pending, num_returns=len(pending), timeout=CANCEL_S, fetch_local=False)


def make_some(pieces: Pieces, numbers: list[int], patience_s: float) -> list[PieceCounts] | None:
    """The task: some pieces; None on a node that does not see their folder, which is on the disk of another."""
    if not pieces.are_seen:
        return None
    return list(make_here(pieces, numbers, lambda more: None, patience_s))
