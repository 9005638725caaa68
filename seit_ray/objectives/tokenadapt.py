"""Training of TokenAdapt: which tokens the augmented image has, from the tokens of the image.

Legend: h x w token grid, h' x w' that of the result, L and L' tokens on them, K codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seit_ray.augment.geometry import Geometry, apply_geometry, draw_geometry
from seit_ray.augment.pixels import warp_pixels
from seit_ray.augment.random import StepRandom
from seit_ray.models.tokenadapt import MAP_SCALE
from seit_ray.objectives.contract import Batch, unwrap
from seit_ray.tokenizers.codebook import embed_codes
from seit_ray.tokenizers.contract import Tokenizer
from seit_ray.tokenizers.pixels import check_grid, encode_pixels, pixel_size

__all__ = ["Pairs", "TokenAdaptObjective", "warp_codes"]


@dataclass(frozen=True)
class Pairs:
    """Images before and after: tokens int64 [B,h,w], the draw, the augmented pixels uint8 [B,3,H',W'], their tokens.

    `targets` are int64 [B,L'].
    """

    tokens: Tensor
    geometry: Geometry
    augmented: Tensor
    targets: Tensor


class TokenAdaptObjective:
    """Cross-entropy of g(A(f(Z))) against the tokens of the truly augmented image; A is drawn anew a row and step.

    Images are uint8 [B,3,H,W] of the frozen tokenizer's own size, and Z their tokens as codebook rows. A takes the
    pixels to the size that `out_grid` stands for, and, with the same draw, the map f(Z) to the size that g takes.
    Where A looks outside of the image there is 0 in both: black pixels, zero cells. `geometry` are the ranges of
    `draw_geometry`. A tokenizer whose codes depend on the whole image only takes out_grid = grid: ValueError
    otherwise. Source: SeiT++, TokenAdapt, which names the principle; the training is not published.
    """

    def __init__(self, *, tokenizer: Tokenizer, out_grid: tuple[int, int], geometry: dict[str, Any]) -> None:
        check_grid(tokenizer, out_grid)
        self.tokenizer, self.geometry, self.out_grid = tokenizer, dict(geometry), tuple(out_grid)
        self.out_size = pixel_size(tokenizer, self.out_grid)
        self.map_grid = tuple(MAP_SCALE * side for side in tokenizer.grid)
        self.draw(StepRandom(0, 0, slice(0, 1), 1))  # wrong ranges are an error before the first step
        black = torch.zeros(1, 3, *self.out_size, dtype=torch.uint8, device=tokenizer.codebook.device)
        self.outside = encode_pixels(tokenizer, black)

    def draw(self, rng: StepRandom) -> Geometry:
        """A for each row; crops are whole cells of f's map."""
        return draw_geometry(rng, self.map_grid, **self.geometry)

    def pairs(self, images: Tensor, rng: StepRandom) -> Pairs:
        """Draw A for each image and tokenise both sides; ValueError for images of another size than the tokenizer's."""
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            tokens = self.tokenizer.encode(images).unflatten(1, self.tokenizer.grid)
        geometry = self.draw(rng)
        augmented = warp_pixels(images, geometry, self.out_size)
        return Pairs(tokens, geometry, augmented, encode_pixels(self.tokenizer, augmented))

    def logits(self, model: nn.Module, pairs: Pairs) -> Tensor:
        """Scores float32 [B,L',K] of a `TokenAdapt`, wrapped or not; ValueError when it gives another grid."""
        found = unwrap(model).out_grid
        if found != self.out_grid:
            raise ValueError(f"out_grid {found} of the model; expected {self.out_grid}; build it with the objective's")
        return model(embed_codes(pairs.tokens, self.tokenizer.codebook), pairs.geometry).float()

    def naive_codes(self, pairs: Pairs) -> Tensor:
        """Codes int64 [B,L'] of the baseline: A on the grid of codes itself, and those of black images outside."""
        return warp_codes(pairs.tokens, pairs.geometry, self.out_grid, self.outside.view(self.out_grid)).flatten(1)

    def loss(self, model: nn.Module, batch: Batch, step_rng: StepRandom) -> tuple[Tensor, dict[str, Tensor]]:
        """Return loss and metrics `hit_rate` and `naive_hit_rate`, shares of the codes that are right."""
        pairs = self.pairs(batch.inputs, step_rng)
        logits = self.logits(model, pairs)
        loss = F.cross_entropy(logits.flatten(0, 1), pairs.targets.flatten())
        hits = (logits.detach().argmax(dim=2) == pairs.targets).float().mean()
        naive = (self.naive_codes(pairs) == pairs.targets).float().mean()
        return loss, {"hit_rate": hits, "naive_hit_rate": naive}


def warp_codes(tokens: Tensor, geometry: Geometry, size: tuple[int, int], outside: Tensor) -> Tensor:
    """Codes [B,h,w] under a geometry, [B,*size], each the nearest of the grid; `outside` [*size] where there is none.

    Codes cannot be mixed, so coordinates are: a map of each cell's place goes through the geometry, and says where
    a cell of the result comes from.
    """
    rows, height, width = tokens.shape
    device = tokens.device
    y = torch.arange(height, device=device, dtype=torch.float32).view(height, 1).expand(height, width)
    x = torch.arange(width, device=device, dtype=torch.float32).expand(height, width)
    places = torch.stack([torch.ones_like(x), y, x]).expand(rows, -1, -1, -1)
    with torch.autocast(device.type, enabled=False):
        inside, y, x = apply_geometry(places, geometry, size).unbind(1)
    weight = inside.clamp(min=0.5)  # below, the cell is mostly outside
    y = (y / weight).round().long().clamp(0, height - 1)
    x = (x / weight).round().long().clamp(0, width - 1)
    found = tokens.flatten(1).gather(1, (y * width + x).flatten(1)).view(rows, *size)
    return torch.where(inside >= 0.5, found, outside)
