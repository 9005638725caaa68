"""What a user sets of CCViT and DTM, as frozen values; fields as in `config`, where each has its meaning."""

from __future__ import annotations

from dataclasses import dataclass

from seit_ray.augment.mask_counts import REPLACED_SHARE, check_counts, num_masked_of
from seit_ray.runs.settings import PixelSettings

TARGETS = ("codebook", "average", "run", "stream", "teacher")
TOKEN_STD = 0.01  # of pixels in [0,1]: a centroid that varies less is flat


@dataclass(frozen=True, kw_only=True)
class PretrainPixelSettings(PixelSettings):
    """Images as they are pre-trained on."""

    crop_area: tuple[float, float] | None = (0.2, 1.0)
    color_jitter: float = 0.0


@dataclass(frozen=True, kw_only=True)
class CcvitSettings:
    """CCViT: what is corrupted and how, what is compared, the model's two branches."""

    sees: str | None = None
    loss: str = "dual"
    replace: str | None = None
    num_masked: int | None = None
    num_replaced: int | None = None
    min_block: int | None = None
    num_near: int = 16
    soft_tau: float = 0.0
    pixel_weight: float = 1.0
    min_std: float | None = None
    early_layers: int | None = None
    head_layers: int = 2
    layer_scale: float = 0.1

    def counts(self, grid: tuple[int, int], *, on_tokens: bool) -> tuple[int, int]:
        """Masked and replaced patches of a grid of h x w; ValueError when there are not so many."""
        masked = num_masked_of(grid, self.num_masked)
        replaced = round(grid[0] * grid[1] * REPLACED_SHARE) if self.num_replaced is None else self.num_replaced
        if self.how(on_tokens=on_tokens) == "none" and self.num_replaced is None:
            replaced = 0
        check_counts(grid, masked, replaced)
        return masked, replaced

    def how(self, *, on_tokens: bool) -> str:
        """What replaced patches become: as set, else their own centroid on images, one of the nearest on tokens."""
        return self.replace or ("near" if on_tokens else "own")

    def least_std(self, *, on_tokens: bool) -> float:
        """Deviation below which a patch counts as flat: as set, else as published on images, more on centroids."""
        if self.min_std is not None:
            return self.min_std
        return TOKEN_STD if on_tokens else 1e-3


@dataclass(frozen=True, kw_only=True)
class DtmSettings:
    """DTM: groups, what they are compared with and how, and the student on images."""

    weight: float | None = None
    target: str | None = None
    loss: str = "features"
    on: str = "patches"
    levels: int = 2
    max_removed: int | None = None
    max_iterations: int | None = None
    split: str = "parity"
    protect: str = "none"
    distance: str = "smooth_l1"
    normalize_target: bool = False
    label_share: float = 0.5
    teacher: str | None = None
    num_masked: int | None = None
    min_block: int | None = None
    layer_scale: float = 0.1
    own_bias: bool = False
