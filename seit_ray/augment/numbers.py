"""The numbers of the training-time chain: everything off by default. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


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
