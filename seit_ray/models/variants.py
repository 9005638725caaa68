"""Named model sizes: the widths, depths and head counts of the papers, and a smaller one for two cores."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

__all__ = ["SIZES", "Size", "build_size"]

LEVELS = 4  # maps that UPerNet reads, each of a block


@dataclass(frozen=True)
class Size:
    """Shape of a transformer: encoder, and the decoder that masked token modelling puts behind it.

    A width that its head count does not divide, or a number below 1, is a ValueError.
    """

    width: int
    depth: int
    num_heads: int
    decoder_width: int
    decoder_depth: int
    decoder_num_heads: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 1:
                raise ValueError(f"{field.name} {value}; expected 1 or more; raise it")
        _check_heads("width", self.width, "num_heads", self.num_heads)
        _check_heads("decoder_width", self.decoder_width, "decoder_num_heads", self.decoder_num_heads)


def _check_heads(width_name: str, width: int, heads_name: str, num_heads: int) -> None:
    if width % num_heads:
        near = max(num_heads, round(width / num_heads) * num_heads)
        raise ValueError(
            f"{width_name} {width} with {heads_name} {num_heads}; expected a width that the heads divide; "
            f"set {width_name}={near} or another {heads_name}"
        )


# tiny to large: ViT (Dosovitskiy et al. 2021, table 1; Touvron et al. 2021, table 1). The decoder of base is
# that of SeiT++ (512 wide, 4 deep, 16 heads); it names none for the others, which keep its heads of width 32.
SIZES: dict[str, Size] = {
    "nano": Size(128, 4, 4, decoder_width=96, decoder_depth=2, decoder_num_heads=3),
    "tiny": Size(192, 12, 3, decoder_width=128, decoder_depth=2, decoder_num_heads=4),
    "small": Size(384, 12, 6, decoder_width=256, decoder_depth=4, decoder_num_heads=8),
    "base": Size(768, 12, 12, decoder_width=512, decoder_depth=4, decoder_num_heads=16),
    "large": Size(1024, 24, 16, decoder_width=512, decoder_depth=4, decoder_num_heads=16),
}


def build_size(
    name: str,
    *,
    width: int | None = None,
    depth: int | None = None,
    num_heads: int | None = None,
    decoder_width: int | None = None,
    decoder_depth: int | None = None,
    decoder_num_heads: int | None = None,
) -> Size:
    """Return the named size with whatever numbers are given put in place of its own.

    An unknown name is a ValueError that names the nearest known one; so is a width its heads do not divide.
    """
    if name not in SIZES:
        near = difflib.get_close_matches(name, SIZES, n=1, cutoff=0.3)
        hint = f"did you mean {near[0]!r}?" if near else "take one of them and override its numbers"
        raise ValueError(f"size {name!r}; expected one of {', '.join(SIZES)}; {hint}")
    given = {
        "width": width,
        "depth": depth,
        "num_heads": num_heads,
        "decoder_width": decoder_width,
        "decoder_depth": decoder_depth,
        "decoder_num_heads": decoder_num_heads,
    }
    return replace(SIZES[name], **{key: value for key, value in given.items() if value is not None})


def model_grid(grid: tuple[int, int], grid_side: int | None) -> tuple[int, int]:
    """The grid that a model sees: the whole, or a square crop of it; ValueError when the crop is larger."""
    if grid_side is None:
        return grid
    if grid_side > min(grid):
        raise ValueError(f"model.grid_side {grid_side}; expected at most {min(grid)}, the tokens' grid; lower it")
    return (grid_side, grid_side)


def check_stem(kernel: int, stride: int, padding: int) -> None:
    """ValueError for a stem that no grid has."""
    if kernel < 1 or stride < 1 or not 0 <= padding < kernel:
        raise ValueError(
            f"stem kernel {kernel}, stride {stride}, padding {padding}; expected kernel >= 1, "
            "stride >= 1 and 0 <= padding < kernel; take 4,2,1 (SeiT), 2,2,0 (SeiT++) or 1,1,0"
        )


def check_pixel_rows(dim: int, pixel_side: int, layers: int) -> int:
    """How many layers halve the sides; ValueError where rows of a codebook are no such pixels, or layers too few."""
    halvings = pixel_side.bit_length() - 1
    if pixel_side != 2**halvings or halvings > layers or dim % pixel_side**2:
        raise ValueError(
            f"rows of {dim} values as pixels of {pixel_side}x{pixel_side}, with {layers} stem layers; expected "
            "a side that is a power of two, a layer for each halving of it, and rows that are pixels; raise "
            "stem_layers, or leave stem_pixels out"
        )
    return halvings


def check_positions(width: int) -> None:
    """ValueError for a width that sin-cos positions do not have."""
    if width % 4:
        raise ValueError(f"width {width} for sin-cos positions; expected a multiple of 4; take {width + 4 - width % 4}")


def stem_grid(grid: tuple[int, int], kernel: int, stride: int, padding: int) -> tuple[int, int]:
    """(height, width) in patches of a grid under a stem; one that it does not tile is a ValueError."""
    free = [size + 2 * padding - kernel for size in grid]
    if min(free) < 0 or any(f % stride for f in free):
        raise ValueError(
            f"grid {grid[0]}x{grid[1]} under a stem of kernel {kernel}, stride {stride}, padding "
            f"{padding}; expected sides of {kernel - 2 * padding} plus a multiple of {stride}; "
            "crop the grid or choose another stem"
        )
    return free[0] // stride + 1, free[1] // stride + 1


def early_layers_of(depth: int, early_layers: int | None) -> int:
    """Block behind which CCViT's second branch takes its patches; ValueError unless the encoder has it.

    By default as published: 9 of 12, 21 of 24.
    """
    chosen = max(1, depth - 3) if early_layers is None else early_layers
    if not 1 <= chosen <= depth:
        raise ValueError(f"early_layers {chosen} of {depth} blocks; expected 1 to {depth}; lower ccvit.early_layers")
    return chosen


def taken_blocks(depth: int, blocks: Sequence[int] | None) -> tuple[int, ...]:
    """Numbers of the four blocks, from 1, whose patches are read; by default a third, half, two thirds and the last.

    Of 12 these are 4, 6, 8 and 12, as published (CCViT). ValueError for numbers that do not rise to the last block.
    """
    if blocks is None:
        return tuple(max(1, round(depth * share)) for share in (1 / 3, 1 / 2, 2 / 3, 1))
    if len(blocks) != LEVELS or sorted(blocks) != list(blocks) or blocks[0] < 1 or blocks[-1] != depth:
        raise ValueError(
            f"segment.blocks {list(blocks)} of {depth} blocks; expected {LEVELS} numbers from 1 on that do not fall, "
            f"the last {depth}; correct them"
        )
    return tuple(blocks)
