"""The listing of the images that a run is trained on: made once, kept in the run, the same for all ranks and calls."""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from typing import Any

from seit_ray.batches.images import SHARD_ROWS
from seit_ray.images.listing import list_images
from seit_ray.images.manifest import MARKER, Manifest, load_manifest
from seit_ray.images.sources.identity import differing, identity
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder
from seit_ray.training.world import World

FOLDER = "listing"
PLAN = "plan.json"  # what decides it
ASK_EVERY_S = 20.0  # ranks that wait meet this often: a collective that waits for longer than its timeout is an error


def listed_once(
    images: Folder,
    source: SourceSettings,
    run: Folder,
    world: World,
    *,
    val_fraction: float,
    seed: int,
    on_progress: Progress = silent,
) -> Manifest:
    """The listing of a source, written by the first rank of a run's first call; the same ValueError on every rank.

    Made anew where it was made otherwise and the run has no results yet; ValueError where it has.
    """
    plan = {**identity(images, source), "val_fraction": val_fraction, "seed": seed}

    def make() -> ValueError | None:
        try:
            before = load_plan(run)
            if before is None or differing(before, plan) or load_manifest(run.join(FOLDER)) is None:
                refuse_results(run, plan)
                folder = run.join(FOLDER)
                folder.delete(PLAN)
                more = {"val_fraction": val_fraction, "seed": seed, "rows_per_part": SHARD_ROWS}
                list_images(images, source, folder, on_progress=on_progress, **more)  # type: ignore[arg-type]
                folder.write(PLAN, json.dumps(plan, indent=1).encode())
        except ValueError as error:
            return error
        return None

    fault = made_by_the_first(make, world)
    if fault is not None:
        raise fault
    manifest = load_manifest(run.join(FOLDER))
    assert manifest is not None  # it was written
    return manifest


def forget_listing(run: Folder, world: World) -> None:
    """Drop a listing of what a run refuses: once it is mended, the source is listed again."""
    if world.is_main:
        run.join(FOLDER).delete(PLAN)
        run.join(FOLDER).delete(MARKER)


def load_plan(run: Folder) -> dict[str, Any] | None:
    """What the listing of a run was made of; None where there is none."""
    folder = run.join(FOLDER)
    return json.loads(folder.read(PLAN)) if folder.exists(PLAN) else None


def refuse_results(run: Folder, plan: dict[str, Any]) -> None:
    """ValueError where a run has results of other images, or of another listing of them."""
    before = load_plan(run)
    if before is None or not (run.join("checkpoints").list_folders() or run.exists("model.json")):
        return
    differ = ", ".join(f"{key} {before.get(key)!r} (now {plan[key]!r})" for key in differing(before, plan))
    if differ:
        raise ValueError(f"{run.uri} was begun with {differ}; expected the same; give the run another name")


def made_by_the_first(make: Any, world: World) -> ValueError | None:
    """What `make` gives on the first rank, on all ranks, which wait for it and meet on the way."""
    if world.size == 1:
        return make()
    with ThreadPoolExecutor(1) as pool:
        coming: Future[Any] | None = pool.submit(make) if world.is_main else None
        while True:
            state: tuple[bool, Any] = (False, None)
            if coming is not None:
                try:
                    state = (True, coming.result(timeout=ASK_EVERY_S))
                except StillRunning:
                    state = (False, None)
            done, fault = world.gather(state)[0]
            if done:
                return fault
