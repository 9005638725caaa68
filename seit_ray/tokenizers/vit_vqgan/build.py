"""Networks of named or given sizes, and of stored weights."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from seit_ray.models.weights import load_named
from seit_ray.tokenizers.vit_vqgan.network import VQGAN_SIZES, VitVqgan, VqganSize

__all__ = ["build_vqgan", "build_vqgan_size"]


def build_vqgan_size(
    name: str,
    *,
    width: int | None = None,
    depth: int | None = None,
    num_heads: int | None = None,
    mlp_width: int | None = None,
) -> VqganSize:
    """Return the named size with whatever numbers are given put in place of its own.

    An unknown name is a ValueError that names the nearest known one.
    """
    if name not in VQGAN_SIZES:
        near = difflib.get_close_matches(name, VQGAN_SIZES, n=1, cutoff=0.3)
        hint = f"did you mean {near[0]!r}?" if near else "take one of them and override its numbers"
        raise ValueError(f"size {name!r}; expected one of {', '.join(VQGAN_SIZES)}; {hint}")
    given = {"width": width, "depth": depth, "num_heads": num_heads, "mlp_width": mlp_width}
    return replace(VQGAN_SIZES[name], **{key: value for key, value in given.items() if value is not None})


def build_vqgan(settings: Mapping[str, Any], state: Mapping[str, Tensor]) -> VitVqgan:
    """The network of `VitVqgan.settings` with the weights of a state dict, float32, on the CPU.

    Weights that are missing, left over or of another shape are one ValueError that lists them.
    """
    sizes = {name: VqganSize(**settings[name]) for name in ("encoder", "decoder")}
    with torch.device("meta"):  # drawing weights that are overwritten would take seconds for the larger sizes
        network = VitVqgan(**{**settings, **sizes})
    network.to_empty(device="cpu")
    load_named(network, state)
    return network
