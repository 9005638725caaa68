"""In which precision a model runs: blocks for it, and that of a finished run."""

from __future__ import annotations

import contextlib
from typing import Any

import torch


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """A block in which most products are in bf16, where the precision is that."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def precision_of(about: dict[str, Any], device: torch.device) -> str:
    """The precision to run a finished model in, by its model.json: its own, so that figures are those of its training.

    fp32 on another kind of device than it was trained on: on a CPU bf16 takes longer, and no less memory.
    """
    return str(about.get("precision", "fp32")) if device.type == about.get("device") else "fp32"
