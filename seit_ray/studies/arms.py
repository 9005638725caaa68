"""The arms of a storage curve, as plain values: what is stored of the images, and how much of it. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from seit_ray.images.recode import Recoding
from seit_ray.storage import Folder
from seit_ray.studies.stored import read_stored

FLOAT_BYTES = 4  # of a value of a codebook as it is stored


@dataclass(frozen=True)
class PictureArms:
    """Arms of pixels; fields as in `config.Pictures`."""

    source: bool = True
    sizes: tuple[int, ...] = ()
    jpeg: tuple[int, ...] = ()
    webp: tuple[int, ...] = ()
    avif: tuple[int, ...] = ()
    palettes: tuple[int, ...] = ()

    def recodings(self, image_size: int) -> Iterator[tuple[str, str, Recoding]]:
        """(arm, setting, recoding) of each."""
        if self.source:
            yield "images as they are", "all", Recoding("source")
        for side in self.sizes:
            yield "smaller images", f"{side} pixels", Recoding("size", side, image_size)
        for name, kind in (("JPEG", "jpeg"), ("WebP", "webp"), ("AVIF", "avif")):
            for quality in getattr(self, kind):
                yield name, f"quality {quality}", Recoding(kind, quality, image_size)
        for colours in self.palettes:
            yield "fewer colours", f"{colours} colours", Recoding("palette", colours, image_size)


@dataclass(frozen=True)
class TokenArms:
    """Arms of tokens: each codebook with each patch, counted in each encoding; fields as in `config.Tokens`."""

    codebook_sizes: tuple[int, ...] = ()
    patch_sizes: tuple[int, ...] = ()
    encodings: tuple[str, ...] = ("plain", "compact")
    iterations: int = 20
    sample_images: int = 5000
    sample_patches: int = 500_000

    def settings(self, image_size: int, resize: str) -> Iterator[tuple[str, CentroidSettings]]:
        """(setting, how its tokenizer is fitted) of each."""
        more = (resize, self.iterations, self.sample_images, self.sample_patches)
        for codes in self.codebook_sizes:
            for patch in self.patch_sizes:
                yield f"K {codes}, {patch}x{patch}", CentroidSettings(image_size, patch, codes, *more)


@dataclass(frozen=True)
class CentroidSettings:
    """How a tokenizer is fitted; fields as in `config.Centroid`."""

    image_size: int
    patch_size: int
    codebook_size: int
    resize: str = "squash"
    iterations: int = 20
    sample_images: int = 5000
    sample_patches: int = 500_000

    @property
    def codebook_bytes(self) -> int:
        """Those of the codebook alone."""
        return FLOAT_BYTES * self.codebook_size * 3 * self.patch_size**2


@dataclass(frozen=True)
class Budget:
    """Bytes that an arm may take: a number, or as many as another arm takes in an encoding."""

    num_bytes: int | None = None
    of: Folder | None = None
    encoding: str | None = None

    def value(self) -> int:
        """In bytes."""
        if self.num_bytes is not None:
            return self.num_bytes
        assert self.of is not None  # one of the two is given
        return read_stored(self.of).total(self.encoding)
