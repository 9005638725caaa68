"""All that changes a batch of tokens on its way to the model, in the order of SeiT and SeiT++, on the device.

tokens -> Token-EDA -> codebook rows -> crop -> colour -> CutMix/MixUp -> maps, or codes again; a share of the rows
gets its codes from TokenAdapt instead. Legend: B batch, L = h*w tokens, h' x w' = out_grid, K codes, D width, S
synonyms.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from seit_ray.augment.color_adapt import random_color_adapt
from seit_ray.augment.crops import center_crop, crop_codes, crop_resize
from seit_ray.augment.geometry import apply_geometry
from seit_ray.augment.mixing import mix_maps, mixed_labels
from seit_ray.augment.noise import random_noise
from seit_ray.augment.numbers import check_adapter
from seit_ray.augment.random import StepRandom
from seit_ray.augment.rows import global_draws, partners, split_pairs
from seit_ray.augment.settings import AugmentSettings
from seit_ray.augment.token_eda import token_eda
from seit_ray.tokenizers.codebook import embed_codes, quantize_maps

__all__ = ["Adapter", "Augment", "Augmented"]


class Adapter(Protocol):
    """f and g of TokenAdapt, frozen: maps that may be augmented as pixels are, and the codes of such maps."""

    grid: tuple[int, int]
    out_grid: tuple[int, int]

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of the map that `to_codes` takes."""
        ...

    def to_feature(self, maps: Tensor) -> Tensor:
        """f: embedded codes [B,D,h,w] -> augmentable map [B,d,H,W]."""
        ...

    def to_codes(self, maps: Tensor) -> Tensor:
        """g and the best code: augmented map [B,d,*map_size] -> int64 [B,h',w']."""
        ...


@dataclass(frozen=True)
class Augmented:
    """What the model and the loss get.

    inputs: codes int64 [B,L'], or maps float [B,D,h',w']. labels [B] as they came. Where something is mixed,
    partner_labels [B] and weight float32 [B]: the loss is weight * CE(labels) + (1 - weight) * CE(partner_labels);
    else both are None.
    """

    inputs: Tensor
    labels: Tensor | None
    partner_labels: Tensor | None = None
    weight: Tensor | None = None


class Augment:
    """The chain of a training step: tokens int64 [B,L], labels int64 [B] or None, random numbers -> `Augmented`.

    Made of a codebook [K,D], `AugmentSettings` as keywords, and, for what needs them, synonyms int64 [K,S] and a
    frozen TokenAdapt, all on one device. With nothing on, tokens pass untouched, or lose their border if out_grid is
    smaller. What can stay tokens does: maps are made only if something on needs them, and output "maps" gives tokens
    otherwise. A row's result depends on its number in the global batch and on its partner's tokens, and not on how
    the batch is split between pairs. Tables and grids that do not fit are ValueErrors. Source: SeiT, SeiT++.
    """

    def __init__(
        self, codebook: Tensor, *, synonyms: Tensor | None = None, token_adapt: Adapter | None = None, **settings: Any
    ) -> None:
        self.codebook, self.synonyms, self.token_adapt = codebook, synonyms, token_adapt
        self.settings = AugmentSettings(**settings)
        if codebook.ndim != 2 or not codebook.is_floating_point():
            raise ValueError(
                f"codebook {codebook.dtype} {list(codebook.shape)}; expected floats [K,D]; take the tokenizer's"
            )
        if self.settings.synonym_prob and (synonyms is None or len(synonyms) != len(codebook)):
            got = None if synonyms is None else list(synonyms.shape)
            raise ValueError(
                f"synonyms {got} of {len(codebook)} codes; expected [{len(codebook)},S]; make them of this codebook"
            )
        if token_adapt is not None:
            s = self.settings
            check_adapter(s, (token_adapt.grid, token_adapt.out_grid), (s.grid, s.result_grid))
        self.mixes = self.settings.mixes(adapts=token_adapt is not None)
        self.keeps_tokens = not (
            self.settings.random_crop or self.settings.changes_colors or self.mixes or token_adapt is not None
        )

    def eval_tokens(self, tokens: Tensor) -> Tensor:
        """Tokens [B,L'] of evaluation: the centre of tokens [B,L], or all; ValueError where out_grid is larger."""
        s = self.settings
        if s.result_grid == s.grid:
            return tokens
        return center_crop(tokens.unflatten(1, s.grid), s.result_grid).flatten(1)

    @torch.no_grad()
    def __call__(self, tokens: Tensor, labels: Tensor | None, rng: StepRandom) -> Augmented:
        """Augment this rank's rows; ValueError for tokens, labels and random numbers that do not fit together."""
        self.check_batch(tokens, labels, rng)
        s = self.settings
        if s.changes_tokens:
            tokens = self.edit_tokens(tokens, rng)
        if self.keeps_tokens:
            return Augmented(self.eval_tokens(tokens), labels)
        tokens = tokens.unflatten(1, s.grid)
        if s.random_crop and self.token_adapt is None and not s.color_before_crop:
            return self._finish(crop_codes(tokens, self.codebook, s.draw_boxes(rng), s.result_grid), labels, rng)
        maps = embed_codes(tokens, self.codebook)
        if s.changes_colors and s.color_before_crop:
            maps = self.change_colors(maps, rng)
        if self.token_adapt is None:
            return self._plain(maps, labels, rng)
        indices, parts = split_pairs(rng, s.adapt_share), []
        for index, way in zip(indices, (self._plain, self._adapted), strict=True):
            if len(index):
                rows = rng.at(rng.rows[index])
                parts.append(way(maps[index], None if labels is None else labels[index], rows))
        return parts[0] if len(parts) == 1 else self._merge(parts, torch.cat(indices).argsort())

    def check_batch(self, tokens: Tensor, labels: Tensor | None, rng: StepRandom) -> None:
        """ValueError for tokens, labels and random numbers that do not fit together."""
        height, width = self.settings.grid
        if tokens.ndim != 2 or tokens.shape[1] != height * width:
            raise ValueError(
                f"tokens {list(tokens.shape)}; expected [B,{height * width}], a grid of {height}x{width}; take the "
                "dataset's own grid"
            )
        if len(rng.rows) != len(tokens) or (labels is not None and len(labels) != len(tokens)):
            got = None if labels is None else len(labels)
            raise ValueError(
                f"{len(tokens)} samples with {got} labels and random numbers of {len(rng.rows)} rows; expected equally "
                "many; give this rank's rows of each"
            )
        if self.mixes and labels is None:
            raise ValueError("labels None; expected int64 [B]; train on a labelled split or set all mixing alphas to 0")

    def edit_tokens(self, tokens: Tensor, rng: StepRandom) -> Tensor:
        """Token-EDA of tokens [B,L]."""
        s = self.settings
        return token_eda(
            tokens,
            s.grid,
            self.synonyms,
            rng,
            synonym_prob=s.synonym_prob,
            synonym_share=s.synonym_share,
            swap_prob=s.swap_prob,
            reference=s.reference,
        )

    @functools.cached_property
    def noise_units(self) -> Tensor | None:
        """What noise of 1 is in each channel [D]; None for 1 itself, as published.

        That was on a codebook whose channels deviate by about 1; another has units of its own (SeiT, Emb-Noise).
        """
        return None if self.settings.reference else self.codebook.std(0, correction=0)

    def change_colors(self, maps: Tensor, rng: StepRandom) -> Tensor:
        """Noise or a partner's colours, per sample exactly one or none; may change `maps` themselves."""
        s = self.settings
        kind = (global_draws(rng) if s.color_per == "batch" else rng).uniform("color")
        takes_part = rng.uniform("color share") < s.color_share
        out = maps
        if s.color_adapt_prob:
            chosen = (kind >= s.noise_prob) & (kind < s.noise_prob + s.color_adapt_prob) & takes_part
            out = random_color_adapt(out, chosen, rng)
        if s.noise_prob:
            noisy = (kind < s.noise_prob) & takes_part
            units = self.noise_units
            out = random_noise(out, noisy, rng, scale=s.noise_scale, std=s.noise_std, units=units, inplace=True)
        return out

    def _plain(self, maps: Tensor, labels: Tensor | None, rng: StepRandom) -> Augmented:
        """The way of embedded maps [B,D,h,w] without TokenAdapt."""
        s = self.settings
        if s.random_crop:
            maps = crop_resize(maps, s.draw_boxes(rng), s.result_grid)
        return self._finish(center_crop(maps, s.result_grid), labels, rng)

    def _finish(self, maps: Tensor, labels: Tensor | None, rng: StepRandom) -> Augmented:
        """Colour (unless it came first) and mixing of cropped maps [B,D,h',w'], and the form of the result."""
        s = self.settings
        if s.changes_colors and not s.color_before_crop:
            maps = self.change_colors(maps, rng)
        mixed = self._mix(Augmented(maps, labels), rng, s.alphas, "mix")
        if s.output == "maps":
            return mixed
        return replace(mixed, inputs=quantize_maps(mixed.inputs, self.codebook, s.metric).flatten(1))

    def _adapted(self, maps: Tensor, labels: Tensor | None, rng: StepRandom) -> Augmented:
        """f, geometry, mixing, g."""
        s, adapter = self.settings, self.token_adapt
        assert adapter is not None  # else all rows go the plain way
        maps = adapter.to_feature(maps)
        height, width = maps.shape[-2:]
        geometry = s.draw_geometry(rng, (height, width))
        maps = apply_geometry(maps, geometry, adapter.map_size, one_by_one=s.reference)
        mixed = self._mix(Augmented(maps, labels), rng, s.adapt_alphas, "adapt mix")
        codes = adapter.to_codes(mixed.inputs)
        return replace(mixed, inputs=codes.flatten(1) if s.output == "codes" else embed_codes(codes, self.codebook))

    def _merge(self, parts: list[Augmented], order: Tensor) -> Augmented:
        """The parts' rows in the batch's order; a part that is not mixed has weight 1 where the other is."""
        inputs = torch.cat([part.inputs for part in parts])[order]
        labels = [part.labels for part in parts if part.labels is not None]
        if not labels:
            return Augmented(inputs, None)
        joined = torch.cat(labels)[order]
        if all(part.weight is None for part in parts):
            return Augmented(inputs, joined)
        weights, others = [], []
        for part, own in zip(parts, labels, strict=True):
            weights.append(torch.ones(len(own), device=own.device) if part.weight is None else part.weight)
            others.append(own if part.partner_labels is None else part.partner_labels)
        return Augmented(inputs, joined, torch.cat(others)[order], torch.cat(weights)[order])

    def _mix(self, batch: Augmented, rng: StepRandom, alphas: tuple[float, float], stream: str) -> Augmented:
        """Maps [B,D,H,W] mixed with their partners'; alphas of 0 mix nothing."""
        if not any(alphas):
            return batch
        assert batch.labels is not None  # _check_batch has seen to it
        height, width = batch.inputs.shape[-2:]
        share = self.settings.draw_share(rng, (height, width), alphas, stream)
        partner = partners(rng.rows)
        inputs = mix_maps(batch.inputs, partner, share)
        return Augmented(inputs, *mixed_labels(batch.labels, partner, share))
