"""Networks of stored weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from seit_ray.models.weights import load_named
from seit_ray.tokenizers.fit_numbers import VqganSize
from seit_ray.tokenizers.vit_vqgan.network import VitVqgan

__all__ = ["build_vqgan"]


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
