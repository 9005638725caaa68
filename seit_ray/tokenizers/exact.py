"""A block whose products are computed as they are written, whatever a training has set for its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """A block without autocast and without TF32: bounds of rounding errors count on all bits of float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
