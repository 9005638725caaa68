"""Rows of a store as a batch on the device."""

from __future__ import annotations

import numpy as np
import torch

from seit_ray.batches.store import TokenStore


def load_batch(store: TokenStore, rows: np.ndarray, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """tokens int64 [B,L] and labels int64 [B] of the given rows.

    Tokens travel as 16 bits and widen on the device; copies to a GPU are from pinned memory and asynchronous.
    """
    tokens = torch.from_numpy(store.tokens[rows].view(np.int16))
    labels = torch.from_numpy(store.labels[rows])
    if device.type == "cuda":
        tokens = tokens.pin_memory().to(device, non_blocking=True)
        labels = labels.pin_memory().to(device, non_blocking=True)
    return tokens.long().bitwise_and_(0xFFFF), labels  # int16 is the same 16 bits with a sign: drop it
