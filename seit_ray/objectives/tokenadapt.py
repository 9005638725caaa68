"""Training of TokenAdapt: which tokens the augmented image has, from the tokens of the image.

Legend: h x w token grid, h' x w' that of the result, L and L' tokens on them, K codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seit_ray.augment.crops import center_crop
from seit_ray.augment.geometry import Geometry, apply_geometry, draw_geometry, warp_pixels
from seit_ray.augment.random import StepRandom
from seit_ray.models.tokenadapt import MAP_SCALE
from seit_ray.objectives.code_cross_entropy import Judged, judge_codes
from seit_ray.objectives.contract import Batch, unwrap
from seit_ray.tokenizers.codebook import embed_codes
from seit_ray.tokenizers.contract import Tokenizer
from seit_ray.tokenizers.pixels import check_grid, decode_pixels, encode_pixels, encodes_any_grid, pixel_size

__all__ = ["Pairs", "TokenAdaptObjective", "warp_codes"]


@dataclass(frozen=True)
class Pairs:
    """Images before and after: tokens int64 [B,h,w], the draw, the augmented pixels uint8 [B,3,H',W'], their tokens.

    `drawn` is A on the pixels, `geometry` on codes and maps: the same, or its middle where the tokens of the augmented
    image are more than the `targets` int64 [B,L'].
    """

    tokens: Tensor
    drawn: Geometry
    geometry: Geometry
    augmented: Tensor
    all_targets: Tensor
    targets: Tensor


class TokenAdaptObjective:
    """Cross-entropy of g(A(f(Z))) against the tokens of the truly augmented image; A is drawn anew a row and step.

    Images are uint8 [B,3,H,W] of the frozen tokenizer's own size, and Z their tokens as codebook rows. A takes the
    pixels to the size that `out_grid` stands for, and, with the same draw, the map f(Z) to the size that g takes.
    Where A looks outside of the image there is 0 in both: black pixels, zero cells. `geometry` are the ranges of
    `draw_geometry`. A tokenizer whose codes depend on the whole image gets the whole augmented image, and an out_grid
    smaller than its grid is the middle of those tokens; a larger one is a ValueError. Source: SeiT++, TokenAdapt, which
    names the principle; the training is not published.
    """

    def __init__(self, *, tokenizer: Tokenizer, out_grid: tuple[int, int], geometry: dict[str, Any]) -> None:
        self.tokenizer, self.geometry, self.out_grid = tokenizer, dict(geometry), (out_grid[0], out_grid[1])
        self.looks = True  # at the hits of a step
        # the grid of the augmented image: what is asked for, or all of it, of which the middle is taken
        self.seen_grid = self.out_grid if encodes_any_grid(tokenizer) else tokenizer.grid
        check_grid(tokenizer, self.seen_grid)
        if min(self.out_grid) < 1 or any(out > seen for out, seen in zip(self.out_grid, self.seen_grid, strict=True)):
            raise ValueError(
                f"out_grid {self.out_grid} of a {tokenizer.family} tokenizer; expected at most its own "
                f"{self.seen_grid}; lower it"
            )
        self.out_size = pixel_size(tokenizer, self.seen_grid)
        self.map_grid = (MAP_SCALE * tokenizer.grid[0], MAP_SCALE * tokenizer.grid[1])
        self.draw(StepRandom(0, 0, slice(0, 1), 1))  # wrong ranges are an error before the first step
        black = torch.zeros(1, 3, *self.out_size, dtype=torch.uint8, device=tokenizer.codebook.device)
        self.outside = self.middle(encode_pixels(tokenizer, black))

    def middle(self, tokens: Tensor) -> Tensor:
        """Tokens [B,L'] on out_grid, of those [B,...] of the whole augmented image."""
        return center_crop(tokens.unflatten(1, self.seen_grid), self.out_grid).flatten(1)

    def draw(self, rng: StepRandom) -> Geometry:
        """A for each row; crops are whole cells of f's map."""
        return draw_geometry(rng, self.map_grid, **self.geometry)

    def pairs(self, images: Tensor, rng: StepRandom) -> Pairs:
        """Draw A for each image and tokenise both sides; ValueError for images of another size than the tokenizer's."""
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            tokens = self.tokenizer.encode(images).unflatten(1, self.tokenizer.grid)
        drawn = self.draw(rng)
        shares = [out / seen for out, seen in zip(self.out_grid, self.seen_grid, strict=True)]
        geometry = drawn if self.out_grid == self.seen_grid else drawn.center(*shares)
        augmented = warp_pixels(images, drawn, self.out_size)
        all_targets = encode_pixels(self.tokenizer, augmented)
        return Pairs(tokens, drawn, geometry, augmented, all_targets, self.middle(all_targets))

    def decode(self, codes: Tensor, pairs: Pairs) -> Tensor:
        """uint8 images like the augmented ones, of codes [B,L']; around them, where there is more, the right ones."""
        if self.out_grid == self.seen_grid:
            return decode_pixels(self.tokenizer, codes, self.out_grid)
        whole = pairs.all_targets.unflatten(1, self.seen_grid).clone()
        top, left = ((seen - out) // 2 for seen, out in zip(self.seen_grid, self.out_grid, strict=True))
        height, width = self.out_grid
        whole[:, top : top + height, left : left + width] = codes.unflatten(1, self.out_grid)
        return decode_pixels(self.tokenizer, whole.flatten(1), self.seen_grid)

    def reencoded_codes(self, pairs: Pairs) -> Tensor:
        """Codes int64 [B,L'] of A on the pixels that the tokens decode to: what needs no learning, but a decoder."""
        decoded = decode_pixels(self.tokenizer, pairs.tokens.flatten(1), self.tokenizer.grid)
        return self.middle(encode_pixels(self.tokenizer, warp_pixels(decoded, pairs.drawn, self.out_size)))

    def logits(self, model: nn.Module, pairs: Pairs) -> Tensor:
        """Scores float32 [B,L',K] of a `TokenAdapt`, wrapped or not; ValueError when it gives another grid."""
        self.check_model(model)
        return model(embed_codes(pairs.tokens, self.tokenizer.codebook), pairs.geometry).float()

    def check_model(self, model: nn.Module) -> None:
        """ValueError when it gives another grid."""
        found: tuple[int, int] = unwrap(model).out_grid
        if found != self.out_grid:
            raise ValueError(f"out_grid {found} of the model; expected {self.out_grid}; build it with the objective's")

    def naive_codes(self, pairs: Pairs) -> Tensor:
        """Codes int64 [B,L'] of the baseline: A on the grid of codes itself, and those of black images outside."""
        return warp_codes(pairs.tokens, pairs.geometry, self.out_grid, self.outside.view(self.out_grid)).flatten(1)

    def loss(self, model: nn.Module, batch: Batch, step_rng: StepRandom) -> tuple[Tensor, dict[str, Tensor]]:
        """Return loss and, if it looks, metrics `hit_rate` and `naive_hit_rate`, shares of the codes that are right."""
        pairs = self.pairs(batch.inputs, step_rng)
        self.check_model(model)

        def judge(features: Tensor, weight: Tensor, bias: Tensor) -> Judged:
            return judge_codes(features, weight, bias, pairs.targets.view(-1, 1), counts=self.looks)

        loss, hits = model(embed_codes(pairs.tokens, self.tokenizer.codebook), pairs.geometry, judge)
        loss = loss.float()
        if hits is None:
            return loss, {}
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
    inside, y, x = apply_geometry(places, geometry, size).unbind(1)
    weight = inside.clamp(min=0.5)  # below, the cell is mostly outside
    y = (y / weight).round().long().clamp(0, height - 1)
    x = (x / weight).round().long().clamp(0, width - 1)
    found = tokens.flatten(1).gather(1, (y * width + x).flatten(1)).view(rows, *size)
    return torch.where(inside >= 0.5, found, outside)
