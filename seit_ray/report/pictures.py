"""Contact sheets: rows of small images as one PNG, and images with their masked grid cells painted grey.

Shapes: N images, C = 3 channels, H x W pixels, h x w grid cells.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from torch import Tensor

SHOWN_PIXELS = 80  # the side that scale="auto" aims at
GAP_PIXELS = 4
TITLE_PIXELS = 15
# Readable on white and on black, since the sheet is transparent and takes the colour of the page around it.
TITLE_COLOUR = (127, 132, 142, 255)
MASK_GREY = 128


def contact_sheet(rows: Sequence[Tensor | np.ndarray], row_titles: Sequence[str], scale: int | str = "auto") -> bytes:
    """One PNG with a row of N pictures for each entry of rows, its title at the left.

    rows: uint8 [N, 3, H, W] each, all of one shape (originals, decoded, ...); scale: the whole number by
    which pixels are repeated, where "auto" brings small images to about 64 to 96 pixels and leaves large ones
    as they are. Raises ValueError for no rows, unequal shapes, other types, or not one title a row.
    """
    pictures = [_as_uint8(row, f"row {i}") for i, row in enumerate(rows)]
    if not pictures or len(pictures) != len(row_titles):
        raise ValueError(
            f"{len(pictures)} rows and {len(row_titles)} titles; expected at least one row, as many titles; "
            "pass one title a row"
        )
    shapes = {row.shape for row in pictures}
    if len(shapes) != 1:
        raise ValueError(f"rows of shapes {sorted(shapes)}; expected one shape; give all rows the same images")
    factor = _scale_factor(scale, *pictures[0].shape[2:])
    strips = [_strip(row, factor) for row in pictures]
    font = ImageFont.load_default(size=TITLE_PIXELS)
    left = max(_text_width(title, font) for title in row_titles)
    left += 3 * GAP_PIXELS if left else 0
    height, width = strips[0].shape[:2]
    sheet = Image.new("RGBA", (left + width, len(strips) * (height + GAP_PIXELS) - GAP_PIXELS))
    draw = ImageDraw.Draw(sheet)
    for i, (strip, title) in enumerate(zip(strips, row_titles, strict=True)):
        top = i * (height + GAP_PIXELS)
        sheet.paste(Image.fromarray(strip), (left, top))
        draw.text((0, top + height / 2), title.strip(), fill=TITLE_COLOUR, font=font, anchor="lm")
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def grey_out(images: Tensor | np.ndarray, mask: Tensor | np.ndarray) -> np.ndarray:
    """A copy of images uint8 [N, 3, H, W] in which the cells where mask bool [N, h, w] is true are grey.

    H and W must be multiples of h and w; anything else raises ValueError.
    """
    images = _as_uint8(images, "images").copy()
    mask = np.asarray(_on_host(mask))
    _, _, height, width = images.shape
    if mask.dtype != bool or mask.ndim != 3 or len(mask) != len(images) or 0 in mask.shape:
        raise ValueError(
            f"mask {mask.dtype} of shape {mask.shape}; expected bool [{len(images)}, h, w]; "
            "reshape a flat mask to the token grid"
        )
    h, w = mask.shape[1:]
    if height % h or width % w:
        raise ValueError(
            f"mask grid {h} x {w} on images of {height} x {width}; expected a grid that divides the image; "
            "use the grid of the tokenizer that made the tokens"
        )
    covered = mask.repeat(height // h, axis=1).repeat(width // w, axis=2)
    np.copyto(images, np.uint8(MASK_GREY), where=covered[:, None])
    return images


def _on_host(values: Tensor | np.ndarray) -> np.ndarray:
    # By attribute and not by type, so that drawing a report does not load torch.
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def _as_uint8(images: Tensor | np.ndarray, what: str) -> np.ndarray:
    """images as an array [N, 3, H, W], or a ValueError that says what it was."""
    array = _on_host(images)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[1] != 3 or 0 in array.shape:
        raise ValueError(
            f"{what} {array.dtype} of shape {array.shape}; expected uint8 [N, 3, H, W], at least one image; "
            "repeat grey images over three channels, scale floats to 0-255"
        )
    return array


def _scale_factor(scale: int | str, height: int, width: int) -> int:
    if scale == "auto":
        return max(1, round(SHOWN_PIXELS / max(height, width)))
    if isinstance(scale, str) or scale < 1 or scale != int(scale):
        raise ValueError(f"scale {scale!r}; expected a whole number of at least 1 or 'auto'; try 'auto'")
    return int(scale)


def _strip(row: np.ndarray, factor: int) -> np.ndarray:
    """[N, 3, H, W] -> uint8 [H', W', 4]: the pictures side by side, enlarged, with clear gaps between."""
    enlarged = row.transpose(0, 2, 3, 1).repeat(factor, axis=1).repeat(factor, axis=2)
    count, height, width, _ = enlarged.shape
    strip = np.zeros((height, count, width + GAP_PIXELS, 4), np.uint8)
    strip[:, :, :width, :3] = enlarged.transpose(1, 0, 2, 3)
    strip[:, :, :width, 3] = 255
    return np.ascontiguousarray(strip.reshape(height, -1, 4)[:, :-GAP_PIXELS])


def _text_width(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    return round(font.getlength(text.strip()))
