"""Pictures to one size, bicubic: as Pillow does it (exact), or vectorised by torch (fast, within a few levels).

What is made of a picture depends on nothing else: not on its neighbours, nor on how many threads there are.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

MAX_ASPECT = 4  # of pictures whose whole is resized before the centre is cut out


def squash(image: Image.Image, size: int) -> Image.Image:
    """Both sides to size."""
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BICUBIC)


def crop(image: Image.Image, size: int) -> Image.Image:
    """The short side to size, then the centre; rounded as torchvision's Resize and CenterCrop."""
    width, height = image.size
    scaled_width, scaled_height, left, top = places(width, height, size)
    if (scaled_width, scaled_height) == (width, height):
        return image.crop((left, top, left + size, top + size))
    # Only the part that remains is made: the whole of a 1x100000 strip would be 6.5 billion pixels.
    box = (
        left * width / scaled_width,
        top * height / scaled_height,
        (left + size) * width / scaled_width,
        (top + size) * height / scaled_height,
    )
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


RESIZERS = {"squash": squash, "crop": crop}


def places(width: int, height: int, size: int) -> tuple[int, int, int, int]:
    """(width, height) of a picture whose short side is size, and (left, top) of its centre."""
    scaled_width = size if width <= height else int(size * width / height)
    scaled_height = size if height <= width else int(size * height / width)
    return scaled_width, scaled_height, round((scaled_width - size) / 2), round((scaled_height - size) / 2)


def resize_exact(image: Image.Image | np.ndarray, size: int, resize: str, out: np.ndarray | None = None) -> np.ndarray:
    """Pixels uint8 [3,size,size], in `out` where that is given, of a picture in mode RGB, or of RGB [H,W,3]."""
    if isinstance(image, np.ndarray):
        if image.shape[:2] == (size, size):  # most small pictures: half of their time would go into copies
            return laid_out(image, out)
        image = Image.fromarray(image)
    resized = RESIZERS[resize](image, size)
    return laid_out(np.frombuffer(resized.tobytes("raw", "RGB"), np.uint8).reshape(size, size, 3), out)


def laid_out(pixels: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """RGB [H,W,3] as uint8 [3,H,W], in `out` or in a new array."""
    channels = pixels.transpose(2, 0, 1)
    if out is None:
        return np.ascontiguousarray(channels)
    out[:] = channels
    return out


def resize_fast(image: Image.Image | np.ndarray, size: int, resize: str, out: np.ndarray | None = None) -> np.ndarray:
    """As `resize_exact`, four times as fast, from RGB [H,W,3]; kinds of CPU may differ by a level."""
    values = np.array(image) if isinstance(image, Image.Image) else image
    height, width = values.shape[:2]
    scaled_width, scaled_height, left, top = (size, size, 0, 0) if resize == "squash" else places(width, height, size)
    if max(width, height) > MAX_ASPECT * min(width, height) and resize == "crop":
        return resize_exact(values, size, resize, out)
    if (scaled_width, scaled_height) != (width, height):
        import torch  # a second to import, and needed in this mode alone
        from torch.nn.functional import interpolate

        channels = torch.from_numpy(values).permute(2, 0, 1)[None]
        channels = interpolate(channels, (scaled_height, scaled_width), mode="bicubic", antialias=True)
        values = channels[0].permute(1, 2, 0).numpy()
    return laid_out(values[top : top + size, left : left + size], out)
