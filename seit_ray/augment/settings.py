"""The numbers of the training-time chain: everything off by default. Grids are (h, w)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from seit_ray.augment.crops import center_crop, random_boxes
from seit_ray.augment.geometry import draw_geometry
from seit_ray.augment.mixing import draw_share
from seit_ray.augment.random import StepRandom
from seit_ray.augment.rows import check_shares
from seit_ray.tokenizers.codebook import METRICS

__all__ = ["COLOR_PER", "OUTPUTS", "AugmentSettings", "ChainSettings"]

OUTPUTS = ("maps", "codes")
COLOR_PER = ("sample", "batch")


@dataclass(frozen=True, kw_only=True)
class ChainSettings:
    """What a user sets of the chain. Source: SeiT, SeiT++."""

    # Token-EDA: a sample has synonyms, or two squares exchanged, or stays. SeiT: 0.25 and 0.25.
    synonym_prob: float = 0.0
    synonym_share: float = 0.25  # of the tokens of a sample that has synonyms
    swap_prob: float = 0.0

    # Crop, resized to out_grid; off: the centre. SeiT: area from 0.08; SeiT++ pre-training: from 0.2.
    random_crop: bool = False
    crop_area: tuple[float, float] = (0.08, 1.0)  # share of the grid's cells
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)  # width / height

    # Colour: a sample has noise, or its partner's colours, or stays. SeiT: noise 0.5; SeiT++ fine-tuning: 0.75, 0.25.
    noise_prob: float = 0.0
    noise_scale: float = 1.0  # of the offset of a channel
    noise_std: float = 1.0  # of each element
    color_adapt_prob: float = 0.0
    color_per: str = "sample"  # what draws for itself; "batch": one kind for the whole global batch, as published
    color_share: float = 1.0  # of the samples that take part; published: 0.5, with color_per "batch"
    color_before_crop: bool = False  # on the whole grid, and not on what the crop leaves (SeiT); TokenAdapt needs it

    # CutMix and MixUp: alpha of the beta distribution, 0 for none. SeiT: cutmix_alpha 1.
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    mix_prob: float = 1.0
    switch_prob: float = 0.5  # of CutMix where both are on
    mix_mode: str = "batch"  # one draw for the whole global batch; "pair": one for each two neighbours

    # TokenAdapt, if there is one: an even share of the pairs of rows goes through f, geometry, a mixing of its own, g.
    # SeiT++: half, MixUp 0.8, CutMix 1.
    adapt_share: float = 0.5
    adapt_mixup_alpha: float = 0.0
    adapt_cutmix_alpha: float = 0.0
    flip_prob: float = 0.5
    affine_prob: float = 0.5
    max_angle: float = 30.0  # degrees
    max_translate: float = 0.2  # of the side
    max_shear: float = 15.0  # degrees

    reference: bool = False  # exchanged squares and geometry with the oddities of the published code


@dataclass(frozen=True, kw_only=True)
class AugmentSettings(ChainSettings):
    """The chain with what the data decides of it, checked when it is made: what is out of range is a ValueError."""

    grid: tuple[int, int]
    out_grid: tuple[int, int] | None = None  # None: grid
    output: str = "maps"  # "maps": rows of the codebook feed the model (SeiT); "codes": nearest codes again (SeiT++)
    metric: str = "cosine"  # of the nearest code: the tokenizer's own, "cosine" or "l2"

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))
        object.__setattr__(self, "out_grid", tuple(self.out_grid or self.grid))
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
        if min(*self.grid, *self.out_grid) < 1:
            raise ValueError(f"grid {self.grid}, out_grid {self.out_grid}; expected sides of 1 or more; raise them")
        if not self.random_crop:
            center_crop(torch.empty(self.grid), self.out_grid)
        self._try_draws()

    def _try_draws(self) -> None:
        """Draw once, so that the ranges of crops, mixing and geometry are checked before the first step."""
        rng = StepRandom(0, 0, slice(0, 1), 1)
        random_boxes(rng, self.grid, **self.crop)
        draw_geometry(rng, self.grid, **self.geometry)
        for mixing in (self.mixing, self.adapt_mixing):
            # alpha 1 in place of both 0, which is not mixing at all: the rest has to be right anyway
            draw_share(rng, self.out_grid, **(mixing or self._mixing(0.0, 1.0)))

    def _mixing(self, mixup_alpha: float, cutmix_alpha: float) -> dict[str, float | str]:
        numbers = {"prob": self.mix_prob, "switch_prob": self.switch_prob, "mode": self.mix_mode}
        return numbers | {"mixup_alpha": mixup_alpha, "cutmix_alpha": cutmix_alpha}

    @property
    def mixing(self) -> dict[str, float | str]:
        """Keywords of `draw_share`; empty where nothing is mixed."""
        alphas = (self.mixup_alpha, self.cutmix_alpha)
        return self._mixing(*alphas) if any(alphas) else {}

    @property
    def adapt_mixing(self) -> dict[str, float | str]:
        """Keywords of `draw_share` for the rows of TokenAdapt; empty where nothing is mixed."""
        alphas = (self.adapt_mixup_alpha, self.adapt_cutmix_alpha)
        return self._mixing(*alphas) if any(alphas) else {}

    @property
    def crop(self) -> dict[str, tuple[float, float]]:
        """Keywords of `random_boxes`."""
        return {"area": self.crop_area, "aspect": self.crop_aspect}

    @property
    def geometry(self) -> dict[str, float | bool | tuple[float, float]]:
        """Keywords of `draw_geometry`."""
        names = ("flip_prob", "affine_prob", "max_angle", "max_translate", "max_shear", "reference")
        return {name: getattr(self, name) for name in names} | self.crop

    @property
    def eda(self) -> dict[str, float | bool]:
        """Keywords of `token_eda`; empty where it does nothing."""
        if not (self.synonym_prob or self.swap_prob):
            return {}
        return {name: getattr(self, name) for name in ("synonym_prob", "synonym_share", "swap_prob", "reference")}

    @property
    def changes_colors(self) -> bool:
        """Whether samples have noise or their partner's colours."""
        return self.color_share * (self.noise_prob + self.color_adapt_prob) > 0.0
