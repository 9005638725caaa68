"""Steps whose loss or gradients are not finite: what replays one of them is kept, too many in a row end the run."""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from seit_ray.batches.contract import SampleStore
from seit_ray.storage import Folder
from seit_ray.training.agreement import Flags
from seit_ray.training.settings import LoopSettings
from seit_ray.training.world import World

FOLDER = "bad_steps"
SKIPPED = "skipped_steps.json"
MOST_KEPT = 3  # bad steps of a run whose weights are kept: the newest


class BadSteps:
    """Keeps the weights before a bad step, and writes them with what else the step was made of.

    A bad step changes no weights, so that where flags come at once (lag 0) those of now are those before it. Where
    they come late, a copy on the device follows each first bad step in a row, without waiting for it.
    """

    def __init__(self, model: nn.Module, settings: LoopSettings, world: World, lag: int):
        self.model, self.settings, self.world = model, settings, world
        state = model.state_dict()
        self.before = {name: value.clone() for name, value in state.items()} if lag and world.is_main else None

    @torch.no_grad()
    def remember(self, bad_in_a_row: Tensor) -> None:
        """Behind a step: where it is the first bad one in a row, its weights are those to keep."""
        if self.before is None:
            return
        is_first = bad_in_a_row == 1
        for name, value in self.model.state_dict().items():
            torch.where(is_first, value, self.before[name], out=self.before[name])

    def heed(self, flags: Flags, store: SampleStore, run: Folder | None, most_rows: int | None) -> None:
        """Write what replays the first bad step in a row to `run`, if it is given; ValueError for too many in a row.

        most_rows: of a micro-batch, as far as memory has let them be.
        """
        if flags.bad_in_a_row == 1 and run is not None:
            self.write(run, flags.step, store, most_rows)
        if flags.bad_in_a_row >= self.settings.max_skipped_steps:
            raise bad_steps_error(flags, self.settings, store, run)

    def write(self, run: Folder, step: int, store: SampleStore, most_rows: int | None) -> None:
        """bad_steps/step-<n>/: the weights before step number n, then what the step was made of."""
        settings, folder = self.settings, run.join(FOLDER)
        kept = self.model.state_dict() if self.before is None else self.before
        weights = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in kept.items()}
        about = {
            "step": step,
            **samples_of(store, settings, step),
            "seed": settings.seed,
            "world_size": self.world.size,
            "global_batch_size": settings.global_batch_size,
            "accum_steps": settings.accum_steps,
            "max_micro_batch": most_rows,
            "shuffle_rows": store.shuffle_rows,
        }
        place = folder.join(f"step-{step:09d}")
        place.write("model.safetensors", save_safetensors(weights))
        place.write("step.json", json.dumps(about, indent=1).encode())
        for name in folder.list_folders()[:-MOST_KEPT]:
            folder.join(name).delete_tree()


def samples_of(store: SampleStore, settings: LoopSettings, step: int) -> dict[str, Any]:
    """Numbers and keys of the samples of step number `step`."""
    rows = store.step_rows(settings.global_batch_size, settings.seed, step - 1)
    return {"samples": rows.tolist(), "keys": store.keys(rows)}


def bad_steps_error(flags: Flags, settings: LoopSettings, store: SampleStore, run: Folder | None) -> ValueError:
    """What ends a run of too many bad steps; their samples are written to `run`, if one is given."""
    first, batch = flags.step - flags.bad_in_a_row + 1, settings.global_batch_size
    if run is not None:
        steps = [{"step": step, **samples_of(store, settings, step)} for step in range(first, flags.step + 1)]
        run.write(SKIPPED, json.dumps(steps, indent=1).encode())
    epoch = flags.step * batch / len(store)
    return ValueError(
        f"loss or gradients not finite in {flags.bad_in_a_row} steps in a row, up to step {flags.step} (epoch "
        f"{epoch:.2f}); expected finite numbers; the same command with replay={first} shows where they come from; "
        "lower the learning rate, lengthen the warm-up or set clip_grad; their samples are in "
        f"{SKIPPED} of the run"
    )
