"""CCViT: patches are masked or replaced by centroids; their codes and their pixels are what is learnt.

Legend: B rows, L codes on a grid, P patches of U = u*u codes, Q positions that count, K codes of D = 3*p*p values.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seit_ray.augment.block_masks import block_masks, positions_of, replaced_units
from seit_ray.augment.chain import Augmented
from seit_ray.augment.mask_counts import check_counts, patch_grid_of
from seit_ray.augment.random import StepRandom
from seit_ray.augment.synonyms import nearest_codes
from seit_ray.augment.target_numbers import check_soft_labels
from seit_ray.objectives.ccvit_losses import (
    code_loss,
    expected_pixels,
    grid_of_units,
    patch_pixels,
    soft_labels,
    standardised_pixels,
    unit_pixels,
    units_of,
)
from seit_ray.objectives.code_cross_entropy import Judged, judge_codes
from seit_ray.objectives.contract import Batch, unwrap
from seit_ray.objectives.corrupted import Corrupted, Seen, keep
from seit_ray.objectives.morph_loss import Morphing
from seit_ray.objectives.morph_targets import MorphInputs
from seit_ray.objectives.pictures import centroid_pictures, uint8_of
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.codebook import embed_codes
from seit_ray.tokenizers.pixels import decode_pixels, encode_pixels

if TYPE_CHECKING:
    from seit_ray.models.ccvit import CentroidModel, Judge

__all__ = ["LOSSES", "REPLACES", "CentroidObjective"]

LOSSES = ("dual", "two_ce_shared", "two_ce_soft_shared")
REPLACES = ("own", "near", "random", "none")


class CentroidObjective:
    """Cross-entropy of codes and mean squared error of standardised pixels, of masked and replaced patches.

    Images, or stored tokens that are decoded where `sees` is "pixels", go through an augmentation (see `changed`) and
    are tokenised again; with `sees` "codebook" tokens stay tokens. `replace`: "own" puts a patch's own centroid in its
    place (published; on stored tokens it changes nothing), "near" one of its `num_near` nearest others, "random" any,
    "none" leaves it.
    `loss`: "dual" as above; "two_ce_shared" the codes from both branches; "two_ce_soft_shared" from both branches the
    pixels that are expected under their probabilities, at all patches. `soft_tau` spreads the label over the nearest
    `num_near` codes. What does not fit is a ValueError. Source: CCViT, sections 3.2 and 3.4.
    """

    def __init__(
        self,
        *,
        tokenizer: CentroidTokenizer,
        grid: tuple[int, int],
        unit: int = 1,
        sees: str = "pixels",
        loss: str = "dual",
        replace: str = "own",
        num_masked: int,
        num_replaced: int = 0,
        min_block: int | None = None,
        num_near: int = 16,
        soft_tau: float = 0.0,
        pixel_weight: float = 1.0,
        min_std: float = 1e-3,
    ) -> None:
        if loss not in LOSSES or replace not in REPLACES:
            raise ValueError(
                f"loss {loss!r}, replace {replace!r}; expected one of {', '.join(LOSSES)} and one of "
                f"{', '.join(REPLACES)}; choose"
            )
        check_soft_labels(soft_tau, loss)
        self.tokenizer, self.codebook, self.patch = tokenizer, tokenizer.codebook, tokenizer.patch_size
        self.grid, self.unit, self.sees, self.loss_name = (grid[0], grid[1]), unit, sees, loss
        self.patch_grid = patch_grid_of(grid, unit)
        check_counts(self.patch_grid, num_masked, num_replaced)
        self.num_masked, self.num_replaced = num_masked, num_replaced
        self.min_block, self.replace, self.pixel_weight, self.min_std = min_block, replace, pixel_weight, min_std
        self.looks = True  # at the accuracy of a step
        self.change: Callable[..., Augmented] = keep
        self.changes = False  # if so, pixels are no longer those of the stored tokens
        self.morphing: Morphing | None = None
        needs_near = (replace == "near" and self.num_replaced > 0) or soft_tau > 0
        self.near = nearest_codes(self.codebook, num_near).to(self.codebook.device) if needs_near else None
        self.soft = soft_labels(self.codebook, self.near, soft_tau) if soft_tau and self.near is not None else None

    @property
    def average(self) -> dict[str, Tensor] | None:
        """The run's moving average, where the morphing compares with it: the loop sets it."""
        return self.morphing.average if self.morphing else None

    @average.setter
    def average(self, weights: dict[str, Tensor] | None) -> None:
        if self.morphing:
            self.morphing.average = weights

    @torch.no_grad()
    def seen(self, inputs: Tensor, rng: StepRandom) -> Seen:
        """Images uint8 [B,3,H,W] or stored tokens [B,L] -> what is there before corruption."""
        if self.sees == "codebook":
            codes = self.change(inputs, None, rng).inputs.flatten(1).long()
            return Seen(codes, None, codes)
        stored = inputs.ndim == 2
        if stored and not self.changes:
            pixels = self.decoded(inputs.long())
            return Seen(inputs.long(), pixels, uint8_of(pixels))
        images = decode_pixels(self.tokenizer, inputs, self.grid) if stored else inputs
        images = self.change(images, None, rng).inputs
        return Seen(encode_pixels(self.tokenizer, images), images.float() / 255, images)

    @torch.no_grad()
    def corrupt(self, model: CentroidModel, seen: Seen, rng: StepRandom) -> Corrupted:
        """Draw what is masked and what is replaced, and make the model's maps."""
        masked = block_masks(rng, self.patch_grid, self.num_masked, min_cells=self.min_block)
        replaced = replaced_units(rng, masked, self.num_replaced)
        places = replaced.unsqueeze(2).expand(-1, -1, self.unit**2)
        places = grid_of_units(places, self.grid, self.unit)  # [B,L]
        codes = torch.where(places, self.others(seen.codes, rng), seen.codes)
        return Corrupted(masked, replaced, codes, self.maps(model, seen.pixels, codes, places))

    def maps(self, model: CentroidModel, pixels: Tensor | None, codes: Tensor, places: Tensor) -> Tensor:
        """What the model takes: rows of codes [B,L], or pixels [B,3,H,W] with the centroids at places bool [B,L]."""
        if pixels is None:
            return embed_codes(codes.unflatten(1, self.grid), self.codebook)
        if self.num_replaced and self.replace != "none":
            pixels = torch.where(self.cells(places), self.decoded(codes), pixels)
        embedding: Any = model.token_emb
        return embedding.standardise(255 * pixels)

    def others(self, codes: Tensor, rng: StepRandom) -> Tensor:
        """What each code [B,L] becomes where its patch is replaced."""
        if self.replace == "near" and self.near is not None:
            return self.near[codes, rng.integers("near code", self.near.shape[1], codes.shape[1])]
        if self.replace == "random":
            return rng.integers("random code", len(self.codebook), codes.shape[1])
        return codes

    def decoded(self, codes: Tensor) -> Tensor:
        """Pixels float [B,3,H,W] in [0,1] of codes [B,L], as the centroids are: not rounded."""
        (height, width), p = self.grid, self.patch
        squares = F.embedding(codes, self.codebook).view(len(codes), height, width, 3, p, p)
        return squares.permute(0, 3, 1, 4, 2, 5).reshape(len(codes), 3, height * p, width * p)

    def cells(self, places: Tensor) -> Tensor:
        """Codes bool [B,L] as pixels [B,1,H,W]."""
        maps = places.unflatten(1, self.grid).repeat_interleave(self.patch, 1).repeat_interleave(self.patch, 2)
        return maps.unsqueeze(1)

    def pixel_targets(self, seen: Seen, positions: Tensor) -> Tensor:
        """Standardised pixels float [B,Q,3*(u*p)^2] of the patches at positions [B,Q]."""
        if seen.pixels is None:
            codes = self.at(units_of(seen.codes, self.grid, self.unit), positions)
            patches = unit_pixels(F.embedding(codes, self.codebook), self.patch)
        else:
            patches = self.at(patch_pixels(seen.pixels, self.unit * self.patch), positions)
        return standardised_pixels(patches, self.min_std)

    @staticmethod
    def at(values: Tensor, positions: Tensor) -> Tensor:
        """Patches [B,P,...] at positions [B,Q]."""
        return values.gather(1, positions.unsqueeze(2).expand(-1, -1, values.shape[2]))

    def positions(self, corrupted: Corrupted) -> Tensor:
        """Positions int64 [B,Q] that count: the masked and the replaced, or all of them."""
        if self.loss_name == "two_ce_soft_shared":
            return torch.arange(corrupted.masked.shape[1], device=corrupted.masked.device).expand(
                len(corrupted.masked), -1
            )
        return positions_of(corrupted.masked | corrupted.replaced, self.num_masked + self.num_replaced)

    def judge(self, codes: Tensor) -> Judge | None:
        """What scores the model's features against codes [B,Q,U]; None where scores themselves are wanted."""
        if self.loss_name == "two_ce_soft_shared":
            return None
        return lambda features, weight, bias: judge_codes(
            features, weight, bias, codes.flatten(0, 1), soft=self.soft, counts=self.looks
        )

    def of_codes(self, told: Tensor | Judged, codes: Tensor) -> Judged:
        """Loss and accuracy of what the model gives for codes [B,Q,U]: scores [B,Q,U,K], or judged already."""
        if isinstance(told, Judged):
            return Judged(told.loss.float(), told.accuracy)
        accuracy = (told.detach().argmax(dim=3) == codes).float().mean() if self.looks else None
        return Judged(code_loss(told, codes, self.soft), accuracy)

    def losses(
        self, first: Any, second: Any, seen: Seen, positions: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Loss of branch 1 and of branch 2 from what the model gives, and metrics."""
        codes = self.at(units_of(seen.codes, self.grid, self.unit), positions)
        with torch.autocast(codes.device.type, enabled=False):
            loss, accuracy = self.of_codes(first, codes)
            metrics = {} if accuracy is None else {"masked_accuracy": accuracy}
            if self.loss_name == "two_ce_shared":
                return loss, self.of_codes(second, codes).loss, metrics
            targets = self.pixel_targets(seen, positions)
            if self.loss_name == "dual":
                return loss, F.mse_loss(second.float(), targets), metrics
            both = [F.mse_loss(expected_pixels(x, self.codebook, self.patch), targets) for x in (first, second)]
            return both[0], both[1], metrics

    def loss(self, model: nn.Module, batch: Batch, step_rng: StepRandom) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and metrics code_loss (branch 1), pixel_loss (branch 2), masked_accuracy (if it looks), morph_loss.

        The last where it morphs. Every row has as many positions, so every row has the same weight in the mean.
        """
        core: CentroidModel = unwrap(model)
        inputs, second_stream = self.morphing.split(batch.inputs) if self.morphing else (batch.inputs, None)
        seen = self.seen(inputs, step_rng)
        corrupted = self.corrupt(core, seen, step_rng)
        positions = self.positions(corrupted)
        judge = self.judge(self.at(units_of(seen.codes, self.grid, self.unit), positions))
        first, second, features = model(corrupted.maps, corrupted.masked, positions, judge)
        loss_1, loss_2, metrics = self.losses(first, second, seen, positions)
        loss = loss_1 + self.pixel_weight * loss_2
        metrics |= {"code_loss": loss_1.detach(), "pixel_loss": loss_2.detach()}
        if self.morphing:
            given = MorphInputs(seen.inputs, units_of(seen.codes, self.grid, self.unit), second_stream)
            morph = self.morphing.loss(core, features, given, step_rng)
            loss, metrics = loss + self.morphing.weight * morph, metrics | {"morph_loss": morph.detach()}
        return loss, metrics

    def changed(self, augment: Callable[..., Augmented] | None, morphing: Morphing | None) -> CentroidObjective:
        """The same with augmentation and morphing; tables of codes are shared."""
        found = copy.copy(self)
        found.change, found.changes, found.morphing = augment or keep, augment is not None, morphing
        return found

    def pictures(self, model: CentroidModel, inputs: Tensor, rng: StepRandom) -> list[tuple[str, Tensor]]:
        """Rows of pictures uint8 [B,3,H,W]: what is seen, corrupted (masked grey), what is to be told, groups."""
        return centroid_pictures(self, model, inputs, rng)
