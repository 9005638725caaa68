"""DTM: morphing as an auxiliary of masked token modelling, and, as published, a student of a frozen teacher on images.

Legend: B rows, L tokens, P patches of U codes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from seit_ray.augment.block_masks import block_masks
from seit_ray.augment.chain import Augmented
from seit_ray.augment.mask_counts import check_counts, num_masked_of
from seit_ray.augment.random import StepRandom
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.objectives.contract import Batch, unwrap
from seit_ray.objectives.corrupted import keep
from seit_ray.objectives.morph_loss import Morphing
from seit_ray.objectives.morph_targets import MorphInputs
from seit_ray.objectives.mtm import MTMObjective
from seit_ray.objectives.pictures import groups_picture, uint8_of
from seit_ray.tokenizers.contract import Tokenizer
from seit_ray.tokenizers.pixels import decode_pixels

if TYPE_CHECKING:
    from seit_ray.models.dtm import MorphingStudent

__all__ = ["MorphedMTMObjective", "MorphingObjective"]


class MorphedMTMObjective:
    """The loss of masked token modelling, and weight times that of morphing over all patches, from one forward pass.

    Rows are tokens, with those of a second stream behind where the morphing compares with one. Groups come from targets
    of the augmented, unmasked tokens. Source: DTM, section 4.3 (on other objectives).
    """

    def __init__(self, mtm: MTMObjective, morphing: Morphing, tokenizer: Tokenizer | None = None) -> None:
        self.mtm, self.morphing, self.tokenizer = mtm, morphing, tokenizer

    @property
    def looks(self) -> bool:
        """Whether the accuracy of a step is wanted: the loop sets it."""
        return self.mtm.looks

    @looks.setter
    def looks(self, wanted: bool) -> None:
        self.mtm.looks = wanted

    @property
    def average(self) -> dict[str, Tensor] | None:
        """The run's moving average: the loop sets it."""
        return self.morphing.average

    @average.setter
    def average(self, weights: dict[str, Tensor] | None) -> None:
        self.morphing.average = weights

    def augment(self, inputs: Tensor, labels: Tensor | None, rng: StepRandom) -> Augmented:
        """What the model sees of a row: its own tokens, augmented."""
        return self.mtm.augment(self.morphing.split(inputs)[0], None, rng)

    def given(self, core: MaskedTokenModel, inputs: Tensor, rng: StepRandom) -> MorphInputs:
        """What morphing reads, of rows as they are stored."""
        tokens = self.augment(inputs, None, rng).inputs
        return MorphInputs(tokens, core.units(tokens).long(), self.morphing.split(inputs)[1])

    def loss(self, model: nn.Module, batch: Batch, step_rng: StepRandom) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and metrics of `MTMObjective`, and morph_loss."""
        core: MaskedTokenModel = unwrap(model)
        given = self.given(core, batch.inputs, step_rng)
        loss, metrics, predicted = self.mtm.masked_loss(model, given.inputs, step_rng, everywhere=True)
        assert predicted is not None  # of all patches, as asked
        morph = self.morphing.loss(core, predicted, given, step_rng)
        return loss + self.morphing.weight * morph, metrics | {"morph_loss": morph.detach()}

    @torch.no_grad()
    def pictures(self, model: MaskedTokenModel, inputs: Tensor, rng: StepRandom) -> list[tuple[str, Tensor]]:
        """The larger groups of a step, drawn on the decoded tokens uint8 [B,3,H,W]; none without a decoder."""
        tokenizer = self.tokenizer
        if not self.morphing.has_targets or tokenizer is None:
            return []
        given = self.given(model, inputs, rng)
        groups = self.morphing.fewest(model, given, rng)
        try:
            images = decode_pixels(tokenizer, given.inputs.flatten(1), model.grid).float() / 255
        except ValueError:  # only its codebook is at hand, or it has one grid
            return []
        return [("groups", uint8_of(groups_picture(images, groups, self.morphing.tokens_grid)))]


class MorphingObjective:
    """Morphed features of a frozen teacher, told from images [B,3,H,W] with masked patches; all patches count.

    `augment` changes the images before both see them. Exactly `num_masked` patches are masked, block by block (by
    default 75 of 196). Source: DTM, sections 3 and 4.1.
    """

    def __init__(
        self,
        morphing: Morphing,
        *,
        num_masked: int | None = None,
        min_block: int | None = None,
        augment: Callable[..., Augmented] = keep,
    ) -> None:
        self.morphing, self.change, self.min_block = morphing, augment, min_block
        self.patch_grid = morphing.patch_grid
        self.num_masked = num_masked_of(self.patch_grid, num_masked)
        check_counts(self.patch_grid, self.num_masked)

    @property
    def average(self) -> dict[str, Tensor] | None:
        """The run's moving average, where it is the teacher: the loop sets it."""
        return self.morphing.average

    @average.setter
    def average(self, weights: dict[str, Tensor] | None) -> None:
        self.morphing.average = weights

    def masks(self, rng: StepRandom) -> Tensor:
        """Masks bool [B,P] of a step."""
        return block_masks(rng, self.patch_grid, self.num_masked, min_cells=self.min_block)

    def loss(self, model: nn.Module, batch: Batch, step_rng: StepRandom) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and metric morph_loss of a `MorphingStudent`, wrapped or not."""
        core: MorphingStudent = unwrap(model)
        images = self.change(batch.inputs, None, step_rng).inputs
        predicted = model(core.embed(images), self.masks(step_rng))
        loss = self.morphing.weight * self.morphing.loss(core, predicted, MorphInputs(images), step_rng)
        return loss, {"morph_loss": loss.detach()}

    @torch.no_grad()
    def pictures(self, model: MorphingStudent, inputs: Tensor, rng: StepRandom) -> list[tuple[str, Tensor]]:
        """Rows of pictures uint8 [B,3,H,W]: what the teacher sees, what the student sees, groups."""
        images = self.change(inputs, None, rng).inputs
        pixels = images.float() / 255
        sides = [pixels.shape[2 + axis] // self.patch_grid[axis] for axis in (0, 1)]
        masked: Any = self.masks(rng).unflatten(1, self.patch_grid)
        grey = masked.repeat_interleave(sides[0], 1).repeat_interleave(sides[1], 2).unsqueeze(1)
        rows = [("original", images), ("corrupted", uint8_of(pixels.masked_fill(grey, 0.5)))]
        if self.morphing.has_targets:
            groups = self.morphing.fewest(model, MorphInputs(images), rng)
            rows.append(("groups", uint8_of(groups_picture(pixels, groups, self.morphing.tokens_grid))))
        return rows
