"""Probes of an encoder while it is pre-trained: when they are due, and what they decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from seit_ray.batches.contract import Samples
from seit_ray.batches.sampler import last_epoch
from seit_ray.evaluation.probe import probe_metrics
from seit_ray.runs.inputs import Inputs, TokenInputs, cropped
from seit_ray.runs.settings import ProbeSettings
from seit_ray.training.settings import LoopSettings
from seit_ray.training.world import World

__all__ = ["deciding_probes", "probe_is_due", "probes"]


def probe_is_due(probe: ProbeSettings, loop: LoopSettings, device: torch.device, epoch: float, last: float) -> bool:
    """Whether an evaluation at this epoch is the first since a multiple of `every_epochs`, or the last of the run.

    last: the epoch that the run ends with (`last_epoch`).
    """
    every, now = probe.every_epochs, round(epoch)
    if not every:
        return False
    return epoch >= last or now // every > (now - loop.eval_interval(device)) // every


def deciding_probes(probe: ProbeSettings, loop: LoopSettings) -> dict[str, Any]:
    """Keys of the probes that decide a run's weights: none, unless the best are kept by one of their figures."""
    if loop.keep_best is None or "probe_" not in loop.keep_best:
        return {}
    return {f"probe.{name}": list(v) if isinstance(v, tuple) else v for name, v in asdict(probe).items()}


def probes(
    net: nn.Module,
    inputs: Inputs,
    probe: ProbeSettings,
    loop: LoopSettings,
    world: World,
    epoch: float,
    *,
    shown: Callable[[Any], Samples] = lambda store: store,
) -> dict[str, float]:
    """Probes of the encoder where they are due; those that need labels where there are some.

    shown: from a store to what the encoder reads.
    """
    last = last_epoch(len(inputs.train), loop.global_batch_size, loop.epochs)
    if not probe_is_due(probe, loop, world.device, epoch, last):
        return {}
    settings = asdict(probe)
    del settings["every_epochs"]
    train: Any = inputs.train
    if isinstance(inputs, TokenInputs):
        train = cropped(getattr(train, "first", train), inputs.dataset.info.grid, inputs.grid)
    val = shown(inputs.val) if inputs.val else None
    return probe_metrics(net, shown(train), val, len(inputs.class_names or []), world, **settings)
