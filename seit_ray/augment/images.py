"""Augmentation of pixels on their way to a classifier of pixels: crop, flip, CutMix and MixUp, on the device."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from seit_ray.augment.chain import Augmented
from seit_ray.augment.crops import crop_resize, random_boxes
from seit_ray.augment.mixing import draw_share, mix_maps, mixed_labels
from seit_ray.augment.random import StepRandom
from seit_ray.augment.rows import check_shares, partners

__all__ = ["ImageAugment"]


class ImageAugment:
    """Random resized crop, horizontal flip, then CutMix or MixUp of uint8 images [B,3,H,W]; uint8 again.

    crop_area is the range of the crop's share, None for no crop. Wrong shares are ValueErrors. Source: what ViTs are
    fine-tuned with on pixels (Touvron et al. 2021), of which SeiT's storage-efficient pre-training makes use.
    """

    def __init__(
        self,
        *,
        crop_area: tuple[float, float] | None = (0.08, 1.0),
        flip_prob: float = 0.5,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        mix_prob: float = 1.0,
        switch_prob: float = 0.5,
        mix_mode: str = "batch",
    ) -> None:
        check_shares(flip_prob=flip_prob)
        self.crop_area, self.flip_prob = crop_area, flip_prob
        self.mixes = bool(mixup_alpha or cutmix_alpha)
        self.draw_share = functools.partial(
            draw_share,
            mixup_alpha=mixup_alpha,
            cutmix_alpha=cutmix_alpha,
            prob=mix_prob,
            switch_prob=switch_prob,
            mode=mix_mode,
        )
        rng = StepRandom(0, 0, slice(0, 1), 1)  # a draw now, so that wrong ranges are errors before the first step
        if crop_area is not None:
            random_boxes(rng, (8, 8), area=crop_area)
        if self.mixes:
            self.draw_share(rng, (8, 8))

    @torch.no_grad()
    def __call__(self, images: Tensor, labels: Tensor, rng: StepRandom) -> Augmented:
        """Augment this rank's rows."""
        maps, (height, width) = images.float(), images.shape[-2:]
        size = (height, width)
        if self.crop_area is not None:
            maps = crop_resize(maps, random_boxes(rng, size, area=self.crop_area), size)
        flipped = (rng.uniform("flip") < self.flip_prob).view(-1, 1, 1, 1)
        mixed = Augmented(torch.where(flipped, maps.flip(-1), maps), labels)
        if self.mixes:
            share = self.draw_share(rng, size)
            partner = partners(rng.rows)
            mixed = Augmented(mix_maps(mixed.inputs, partner, share), *mixed_labels(labels, partner, share))
        pixels = mixed.inputs.round_().clamp_(0, 255).to(torch.uint8)
        return Augmented(pixels, mixed.labels, mixed.partner_labels, mixed.weight)
