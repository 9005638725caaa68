"""An encoded image as fewer bytes: scaled down, by a codec at a lower quality, or with fewer colours."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from PIL import Image, features

from seit_ray.images.decode import MAX_PIXELS, decode_picture
from seit_ray.images.formats import open_image

KINDS = ("source", "size", "jpeg", "webp", "avif", "palette")
NEEDED = {"jpeg": "jpg", "webp": "webp", "avif": "avif"}  # kind -> the feature of Pillow that writes it
SIZE_QUALITY = 90  # of smaller images in a codec that loses something
SLOW: dict[str, dict[str, Any]] = {  # the smallest files that each codec gives
    "JPEG": {"optimize": True},
    "WEBP": {"method": 6},
    "AVIF": {"speed": 6},
    "PNG": {"optimize": True},
}


@dataclass(frozen=True)
class Recoding:
    """What becomes of an image: its file as it is (source), its short side at most `value` pixels in its own codec
    (size), a quality of 1 to 100 of jpeg, webp or avif, or a PNG of `value` colours (palette).

    short_side: of all but source, what is larger is scaled down to it first, since a model that sees no more pays for
    pixels it does not see.
    """

    kind: str
    value: int = 0
    short_side: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"recoding {self.kind!r}; expected one of {', '.join(KINDS)}; choose one")

    def of(self, data: bytes, *, max_pixels: int = MAX_PIXELS, white_level: int | None = None) -> bytes:
        """The file that is stored of a file; ImageError for one that cannot be read."""
        picture = decode_picture(data, max_pixels=max_pixels, white_level=white_level)  # of source: is it one?
        if self.kind == "source":
            return data
        sides = [side for side in (self.short_side, self.value if self.kind == "size" else None) if side]
        for side in sides:
            picture = scaled(picture, side)
        if self.kind == "palette":
            return written(picture.quantize(self.value), "PNG")
        if self.kind == "size":
            codec = open_image(data).format or "PNG"
            return written(picture, codec if codec in SLOW else "PNG", SIZE_QUALITY)
        return written(picture, self.kind.upper(), self.value)


def scaled(picture: Image.Image, side: int) -> Image.Image:
    """With a short side of at most so many pixels, bicubic; a smaller one as it is."""
    width, height = picture.size
    short = min(width, height)
    if short <= side:
        return picture
    return picture.resize(
        (max(1, round(width * side / short)), max(1, round(height * side / short))), Image.Resampling.BICUBIC
    )


def written(picture: Image.Image, codec: str, quality: int | None = None) -> bytes:
    """The bytes of a file without anything but the picture."""
    sink = io.BytesIO()
    options = {**SLOW[codec], **({"quality": quality} if quality is not None and codec != "PNG" else {})}
    picture.save(sink, codec, **options)
    return sink.getvalue()


def check_writes(kind: str) -> None:
    """ValueError where this build of Pillow cannot write a kind."""
    feature = NEEDED.get(kind)
    if feature is not None and not features.check(feature):
        raise ValueError(
            f"{kind} with a Pillow that does not write it; expected one that does; update Pillow, or set "
            f"pictures.{kind}=[]"
        )
