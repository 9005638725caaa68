"""A frozen teacher of images: patch features of any timm vision transformer with a local file of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seit_ray.models.about_timm import check_teacher_grid, check_timm_name

__all__ = ["Teacher", "build_teacher"]

CLIP = ("visual.", "module.visual.")  # published names of CLIP's image side


class Teacher(nn.Module):
    """uint8 images [B,3,H,W] -> features of every patch [B,P,D], after the last norm and, of CLIP, its projection.

    Images are brought to the network's own size and scaling.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Any, dim: int, projects: bool) -> None:
        super().__init__()
        self.network, self.dim, self.projects = network, dim, projects
        config = network.pretrained_cfg
        self.size = tuple(network.patch_embed.img_size)
        self.patch_grid: tuple[int, int] = tuple(network.patch_embed.grid_size)
        for what in ("mean", "std"):
            self.register_buffer(what, 255 * torch.tensor(config[what]).view(3, 1, 1), persistent=False)

    def patch_features(self, images: Tensor) -> Tensor:
        """[B,P,D], raster order."""
        pixels = images.float()
        if tuple(images.shape[2:]) != self.size:
            pixels = F.interpolate(pixels, self.size, mode="bicubic", antialias=True).clamp(0, 255)
        tokens = self.network.forward_features((pixels - self.mean) / self.std)[:, self.network.num_prefix_tokens :]
        return self.network.head(tokens) if self.projects else tokens


def build_teacher(
    name: str,
    state: Mapping[str, Tensor],
    patch_grid: tuple[int, int],
    *,
    scaling: Mapping[str, list[float]] | None = None,
    **sizes: Any,
) -> Teacher:
    """A timm model by name, with weights under its own names or, of CLIP, under the published ones.

    `sizes` override those of the name, scaling (mean and std of pixels in [0,1]) its own. ValueError for an unknown
    name, a model that has no patches, one of another grid than `patch_grid`, and weights that differ, which are listed.
    """
    import timm
    from timm.models.vision_transformer import checkpoint_filter_fn

    check_timm_name("dtm.teacher", name)
    clip = any(key.startswith(CLIP) for key in state)
    projection = next((state[f"{prefix}proj"] for prefix in CLIP if f"{prefix}proj" in state), None)
    classes = projection.shape[1] if projection is not None else 0
    network: Any = timm.create_model(
        name, pretrained=False, num_classes=classes, pretrained_cfg_overlay=dict(scaling or {}), **sizes
    )
    if not all(hasattr(network, part) for part in ("patch_embed", "num_prefix_tokens", "forward_features")):
        raise ValueError(f"dtm.teacher {name!r}; expected a vision transformer, which has patches; take one")
    check_teacher_grid(name, network.patch_embed.grid_size, patch_grid)
    wanted = network.state_dict()
    given = dict(checkpoint_filter_fn(dict(state), network)) if clip else dict(state)
    given = {key: value for key, value in given.items() if clip or not key.startswith(("head.", "fc_norm."))}
    given = {key: value for key, value in given.items() if key in wanted or not clip}
    load_teacher(network, given)
    dim = classes or network.num_features
    return Teacher(network, dim, projects=projection is not None)


def load_teacher(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy weights in; ValueError lists what differs. What pools for a head is not read, and may be missing."""
    from seit_ray.models.weights import copy_entries

    unread = ("head.", "fc_norm.") if "head.weight" not in state else ()
    wanted = {name: value for name, value in network.state_dict().items() if not name.startswith(unread)}
    copy_entries(network, wanted, state)
