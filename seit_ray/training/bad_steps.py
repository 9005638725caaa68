"""Steps whose loss or gradients are not finite: what replays one of them is kept, too many in a row end the run."""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from seit_ray.batches.contract import SampleStore
from seit_ray.storage import Folder
from seit_ray.training.agreement import Flags, Told
from seit_ray.training.settings import LoopSettings
from seit_ray.training.world import World

FOLDER = "bad_steps"
SKIPPED = "skipped_steps.json"
MODEL, AVERAGE = "model", "average"  # files of what a step began from
MOST_KEPT = 3  # bad steps of a run whose weights are kept: the newest


class BadSteps:
    """Keeps the weights before a bad step, and writes them with what else the step was made of.

    A bad step changes no weights, so that where flags come at once (lag 0) those of now are those before it. Where
    they come late, copies on the device follow the first bad step of each row, without waiting for it: as many as
    such steps can lie between a step and its flags, since a good one is between any two. average: the moving average
    where the step takes its targets from it; a bad step leaves that as it is too.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: LoopSettings,
        world: World,
        lag: int,
        average: dict[str, Tensor] | None = None,
    ):
        self.model, self.settings, self.world, self.average = model, settings, world, average or {}
        num = lag // 2 + 1 if lag and world.is_main else 0
        self.before = [{name: value.clone() for name, value in self.state().items()} for _ in range(num)]

    def state(self) -> dict[str, Tensor]:
        """What a step begins from: model/..., average/...; not copied."""
        found = {f"{MODEL}/{name}": value for name, value in self.model.state_dict().items()}
        return found | {f"{AVERAGE}/{name}": value for name, value in self.average.items()}

    def kept(self, step: int) -> dict[str, Tensor]:
        """The state before the first bad step of a row."""
        return self.before[step // 2 % len(self.before)] if self.before else self.state()

    @torch.no_grad()
    def remember(self, step: int, bad_in_a_row: Tensor) -> None:
        """Behind step number `step`: where it is the first bad one in a row, its state is one to keep."""
        if not self.before:
            return
        is_first, kept = bad_in_a_row == 1, self.kept(step)
        for name, value in self.state().items():
            torch.where(is_first, value, kept[name], out=kept[name])

    def heed(self, told: Told, store: SampleStore, run: Folder | None, most_rows: int | None) -> None:
        """Write what replays the first bad step in a row to `run`, if it is given; ValueError for too many in a row.

        most_rows: of a micro-batch, as far as memory has let them be.
        """
        for flags in told:
            if flags.bad_in_a_row == 1 and run is not None:
                self.write(run, flags.step, store, most_rows)
            if flags.bad_in_a_row >= self.settings.max_skipped_steps:
                raise bad_steps_error(flags, self.settings, store, run)

    def write(self, run: Folder, step: int, store: SampleStore, most_rows: int | None) -> None:
        """bad_steps/step-<n>/: the weights before step number n, its average, then what the step was made of."""
        settings, folder = self.settings, run.join(FOLDER)
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
        for kind, tensors in groups_of(self.kept(step)).items():
            place.write(f"{kind}.safetensors", save_safetensors(tensors))
        place.write("step.json", json.dumps(about, indent=1).encode())
        for name in folder.list_folders()[:-MOST_KEPT]:
            folder.join(name).delete_tree()


def groups_of(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Copies on the CPU of the tensors <kind>/<name>, by kind."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        kind, _, name = key.partition("/")
        found.setdefault(kind, {})[name] = value.detach().to("cpu", copy=True).contiguous()
    return found


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
