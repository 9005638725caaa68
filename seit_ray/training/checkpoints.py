"""Checkpoints in a folder or bucket: one safetensors file of all state, then checkpoint.json, the marker.

Nothing is pickled. Random states need no place: all randomness is a function of (seed, step).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn

from seit_ray.shards.parquet import checksum
from seit_ray.storage import Folder, StorageError
from seit_ray.training.world import World

Checkpoint = tuple[dict[str, torch.Tensor], dict[str, Any]]  # tensors by name, and the marker


def state_tensors(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: dict[str, torch.Tensor],
    **more: dict[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """All tensors of a run by name: model/..., optimizer/<parameter>/<slot>, ema/..., <more>/...; copies on the CPU."""
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    for kind, values in {"ema": ema, **more}.items():
        tensors |= {f"{kind}/{name}": value for name, value in values.items()}
    for name, parameter in model.named_parameters():
        for slot, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{name}/{slot}"] = value
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def restore(
    tensors: dict[str, torch.Tensor],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: dict[str, torch.Tensor],
) -> None:
    """Put the tensors of `state_tensors` back in place; ValueError when the model is another one."""
    groups = {kind: tensors_of(tensors, kind) for kind in ("model", "ema", "optimizer")}
    try:
        model.load_state_dict(groups["model"])
    except RuntimeError as error:
        raise ValueError(
            f"checkpoint of another model ({' '.join(str(error).split())[:300]}); expected the same model settings; "
            "give the run another name"
        ) from error
    if set(groups["ema"]) != set(ema):
        have, want = ("with" if averages else "without" for averages in (groups["ema"], ema))
        raise ValueError(
            f"checkpoint {have} averaged weights; expected one {want} them, as ema_decay asks; keep ema_decay on or "
            "off as it was, or give the run another name"
        )
    for name, value in groups["ema"].items():
        ema[name].copy_(value)
    names = {parameter: name for name, parameter in model.named_parameters()}
    order = [names[p] for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in groups["optimizer"].items():
        name, _, slot = key.rpartition("/")
        state.setdefault(order.index(name), {})[slot] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def tensors_of(tensors: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    """Those of one kind (model, ema, optimizer, ...), by their names without it."""
    prefix = f"{kind}/"
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def checkpoint_name(step: int) -> str:
    """Its folder's."""
    return f"step-{step:09d}"


def save_checkpoint(run: Folder, tensors: dict[str, torch.Tensor], about: dict[str, Any], keep: int) -> None:
    """Write step-<n>: tensors, then the marker; then delete all but the newest `keep`, marker first.

    Later ones, which were damaged and passed over, go too: they would be taken for newer.
    """
    folder = run.join("checkpoints", checkpoint_name(about["step"]))
    data = save_safetensors(tensors)
    folder.write("state.safetensors", data)
    folder.write("checkpoint.json", json.dumps({**about, "sha256": checksum(data)}, indent=1).encode())
    names, own = checkpoint_names(run), checkpoint_name(about["step"])
    up_to_now = [name for name in names if name <= own]
    for name in [*up_to_now[:-keep], *(name for name in names if name > own)]:
        old = run.join("checkpoints", name)
        old.delete("checkpoint.json")
        old.delete_tree()


def checkpoint_names(run: Folder) -> list[str]:
    """Names of finished checkpoints, oldest first."""
    folder = run.join("checkpoints")
    return [name for name in folder.list_folders() if folder.exists(f"{name}/checkpoint.json")]


def load_checkpoint(run: Folder, on_damaged: Callable[[str], None] = lambda text: None) -> Checkpoint | None:
    """Tensors and marker of the newest checkpoint that can be read; None when there is none.

    on_damaged: told of each newer one that cannot be read. ValueError when none of several can.
    """
    first: ValueError | None = None
    for name in reversed(checkpoint_names(run)):
        try:
            return read_checkpoint(run, name)
        except ValueError as error:
            if isinstance(error, StorageError) and error.kind != "missing":  # of the storage, and no damage
                raise
            on_damaged(f"{str(error).partition(';')[0]}: the one before it is taken, if there is one")
            first = first or error
    if first:
        raise first
    return None


def agreed_checkpoint(run: Folder, world: World, on_damaged: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that the first rank can read, on all ranks: each by itself may see another as the newest.

    on_damaged: told, on the first rank, of newer ones that are passed over.
    """
    leads = world.is_main or world.size == 1
    found = load_checkpoint(run, on_damaged) if leads else None
    step = world.gather(found[1]["step"] if found else None)[0]
    if step is None or found is not None:
        return found
    return read_checkpoint(run, checkpoint_name(step))


def read_checkpoint(run: Folder, name: str) -> Checkpoint:
    """Tensors and marker of a checkpoint; ValueError when it is damaged."""
    folder = run.join("checkpoints", name)
    text, data = folder.read("checkpoint.json"), folder.read("state.safetensors")
    try:
        about = json.loads(text)
        if checksum(data) != about["sha256"]:
            raise ValueError("wrong checksum")
        return load_safetensors(data), about
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(
            f"checkpoint {folder.uri} cannot be read ({error}); delete that folder to begin the run anew"
        ) from error
