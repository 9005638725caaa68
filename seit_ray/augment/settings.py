"""The chain's numbers beside what the data decides of it, checked. Grids are (h, w)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from seit_ray.augment.crops import center_crop, random_boxes
from seit_ray.augment.geometry import Geometry, draw_geometry
from seit_ray.augment.mixing import draw_share
from seit_ray.augment.numbers import ChainSettings
from seit_ray.augment.random import StepRandom
from seit_ray.augment.rows import check_shares
from seit_ray.tokenizers.codebook import METRICS

__all__ = ["COLOR_PER", "OUTPUTS", "AugmentSettings"]

OUTPUTS = ("maps", "codes")
COLOR_PER = ("sample", "batch")


@dataclass(frozen=True, kw_only=True)
class AugmentSettings(ChainSettings):
    """The chain with what the data decides of it, checked when it is made: what is out of range is a ValueError."""

    grid: tuple[int, int]
    out_grid: tuple[int, int] | None = None  # None: grid
    output: str = "maps"  # "maps": rows of the codebook feed the model (SeiT); "codes": nearest codes again (SeiT++)
    metric: str = "cosine"  # of the nearest code: the tokenizer's own, "cosine" or "l2"

    def __post_init__(self) -> None:
        for name, known in {"output": OUTPUTS, "metric": METRICS, "color_per": COLOR_PER}.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r}; expected one of {', '.join(known)}; choose one")
        names = "synonym_prob synonym_share swap_prob noise_prob color_adapt_prob color_share mix_prob adapt_share"
        check_shares(**{name: getattr(self, name) for name in names.split()})
        check_shares(**{"synonym_prob + swap_prob": self.synonym_prob + self.swap_prob})
        check_shares(**{"noise_prob + color_adapt_prob": self.noise_prob + self.color_adapt_prob})
        if min(self.noise_scale, self.noise_std) < 0.0:
            raise ValueError(
                f"noise_scale {self.noise_scale}, noise_std {self.noise_std}; expected 0 or more; make them positive"
            )
        if min(*self.grid, *self.result_grid) < 1:
            raise ValueError(f"grid {self.grid}, out_grid {self.result_grid}; expected sides of 1 or more; raise them")
        if not self.random_crop:
            center_crop(torch.empty(self.grid), self.result_grid)
        self._try_draws()

    def _try_draws(self) -> None:
        """Draw once, so that the ranges of crops, mixing and geometry are checked before the first step."""
        rng = StepRandom(0, 0, slice(0, 1), 1)
        self.draw_boxes(rng)
        self.draw_geometry(rng, self.grid)
        for alphas in (self.alphas, self.adapt_alphas):
            # alpha 1 in place of both 0, which is not mixing at all: the rest has to be right anyway
            self.draw_share(rng, self.result_grid, alphas if any(alphas) else (0.0, 1.0), "mix")

    def draw_boxes(self, rng: StepRandom) -> Tensor:
        """A box [B,4] of the grid for each row (`random_boxes`)."""
        return random_boxes(rng, self.grid, area=self.crop_area, aspect=self.crop_aspect)

    def draw_geometry(self, rng: StepRandom, size: tuple[int, int]) -> Geometry:
        """A draw for each row, on maps of `size`; without random crops, of the centre that other rows keep too."""
        drawn = draw_geometry(
            rng,
            size,
            flip_prob=self.flip_prob,
            affine_prob=self.affine_prob,
            max_angle=self.max_angle,
            max_translate=self.max_translate,
            max_shear=self.max_shear,
            area=self.crop_area,
            aspect=self.crop_aspect,
            reference=self.reference,
        )
        return drawn if self.random_crop else replace(drawn, boxes=self._centre(len(rng.rows), drawn.boxes.device))

    def _centre(self, num: int, device: torch.device) -> Tensor:
        """The box of `center_crop`, in shares of the grid's sides, for so many rows [num,4]."""
        (height, width), (rows, columns) = self.grid, self.result_grid
        top, left = (height - rows) // 2 / height, (width - columns) // 2 / width
        box = [top, left, rows / height, columns / width]
        return torch.stack([torch.full((num,), value, device=device) for value in box], dim=1)

    def draw_share(self, rng: StepRandom, size: tuple[int, int], alphas: tuple[float, float], stream: str) -> Tensor:
        """How much of itself each cell keeps [B,*size], with these alphas of MixUp and CutMix, not both 0."""
        return draw_share(
            rng,
            size,
            mixup_alpha=alphas[0],
            cutmix_alpha=alphas[1],
            prob=self.mix_prob,
            switch_prob=self.switch_prob,
            mode=self.mix_mode,
            stream=stream,
        )

    @property
    def result_grid(self) -> tuple[int, int]:
        """The grid of what comes out: out_grid, or grid."""
        return self.out_grid or self.grid

    @property
    def alphas(self) -> tuple[float, float]:
        """Those of MixUp and CutMix; where both are 0 nothing is mixed."""
        return self.mixup_alpha, self.cutmix_alpha

    @property
    def adapt_alphas(self) -> tuple[float, float]:
        """Those of MixUp and CutMix for the rows of TokenAdapt."""
        return self.adapt_mixup_alpha, self.adapt_cutmix_alpha

    @property
    def changes_tokens(self) -> bool:
        """Whether samples have synonyms or exchanged squares."""
        return bool(self.synonym_prob or self.swap_prob)
