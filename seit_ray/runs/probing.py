"""Probes of an encoder while it is pre-trained: when they are due, and what they decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from seit_ray.batches.contract import Samples
from seit_ray.batches.sampler import num_steps
from seit_ray.evaluation.probe import probe_metrics
from seit_ray.runs.inputs import Inputs, seen_train
from seit_ray.runs.settings import ProbeSettings
from seit_ray.training.settings import LoopSettings
from seit_ray.training.world import World

__all__ = ["deciding_probes", "probe_is_due", "probes"]


def probe_is_due(probe: ProbeSettings, loop: LoopSettings, device: torch.device, done: int, num_samples: int) -> bool:
    """Whether the evaluation behind step `done` is the first since a multiple of `every_epochs`, or the last."""
    if not probe.every_epochs:
        return False
    if done == num_steps(num_samples, loop.global_batch_size, loop.epochs):
        return True
    before = loop.evaluated_before(done, num_samples, device)
    return loop.ends_epochs(done, probe.every_epochs, num_samples, since=before)


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
    done: int,
    *,
    shown: Callable[[Any], Samples] = lambda store: store,
) -> dict[str, float]:
    """Probes of the encoder where they are due behind step `done`; those that need labels where there are some.

    shown: from a store to what the encoder reads.
    """
    if not probe_is_due(probe, loop, world.device, done, len(inputs.train)):
        return {}
    settings = asdict(probe)
    del settings["every_epochs"]
    train = seen_train(inputs)
    val = shown(inputs.val) if inputs.val else None
    return probe_metrics(net, shown(train), val, len(inputs.class_names or []), world, **settings)
