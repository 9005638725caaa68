"""The numbers of the training-time chain: everything off by default; which do not go together. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

Grids = tuple[tuple[int, int], tuple[int, int]]  # of what comes in, and of what comes out


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
    noise_scale: float = 1.0  # of the offset of a channel, in deviations of the codebook's channel
    noise_std: float = 1.0  # of each element, in the same units
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

    reference: bool = False  # squares, geometry and units of noise with the oddities of the published code

    @property
    def changes_colors(self) -> bool:
        """Whether samples have noise or their partner's colours."""
        return self.color_share * (self.noise_prob + self.color_adapt_prob) > 0.0

    def mixes(self, *, adapts: bool) -> bool:
        """Whether samples are mixed. adapts: whether a share of them goes through TokenAdapt or pixels."""
        own = max(self.mixup_alpha, self.cutmix_alpha)
        return max(own, max(self.adapt_mixup_alpha, self.adapt_cutmix_alpha) if adapts else 0.0) > 0.0


def check_angles(max_angle: float, max_translate: float, max_shear: float) -> None:
    """ValueError for limits of a geometry below 0, or a shear that flattens everything."""
    if min(max_angle, max_translate, max_shear) < 0.0 or max_shear >= 90.0:
        raise ValueError(
            f"max_angle {max_angle}, max_translate {max_translate}, max_shear {max_shear}; expected 0 or more, and a "
            "shear below 90 degrees; lower it or make it positive"
        )


def check_adapter(settings: ChainSettings, found: Grids, wanted: Grids) -> None:
    """ValueError where a TokenAdapt is of other grids (whole, cropped), or colours would change behind the crop."""
    if found != wanted:
        raise ValueError(
            f"TokenAdapt of grids {found[0]} to {found[1]}; expected {wanted[0]} to {wanted[1]}; set the grids to its "
            "own or train another"
        )
    if settings.changes_colors and not settings.color_before_crop:
        raise ValueError("color_before_crop False with TokenAdapt; expected True, since f reads the whole grid; set it")


def check_in_place(settings: ChainSettings, *, adapts: bool) -> None:
    """ValueError where label maps, a class a pixel, would have samples mixed or squares exchanged under them."""
    if settings.mixes(adapts=adapts) or settings.swap_prob:
        raise ValueError(
            "augmentation that mixes samples or exchanges squares with label maps; expected none, since a pixel "
            "has one class in its place; set augment.swap_prob and the alphas of MixUp and CutMix to 0"
        )
