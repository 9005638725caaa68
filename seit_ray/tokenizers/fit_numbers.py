"""What a fit has to work with, in numbers: told in a dry run, before an image is decoded. Imports no torch."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields, replace

__all__ = ["VQGAN_SIZES", "VqganSize", "build_vqgan_size", "check_patches", "check_stride", "fitted_images"]

HELD_OUT = 10  # one image in so many


def fitted_images(num_images: int) -> int:
    """Of so many images, how many centroids are fitted on; a tenth, of 20 or more, is held out to judge them by."""
    return num_images - (num_images // HELD_OUT if num_images >= 2 * HELD_OUT else 0)


def check_patches(num_patches: int, num_centroids: int) -> None:
    """ValueError for fewer patches than centroids."""
    if num_patches < num_centroids:
        raise ValueError(
            f"{num_patches} patches to fit {num_centroids} centroids; expected more patches than centroids; "
            "use more images or a smaller codebook_size"
        )


@dataclass(frozen=True)
class VqganSize:
    """Shape of the transformer of a ViT-VQGAN's encoder or decoder.

    A number below 1, or a width that 4 does not divide (positions need it), is a ValueError.
    """

    width: int
    depth: int
    num_heads: int
    mlp_width: int

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name} {getattr(self, field.name)}; expected 1 or more; raise it")
        if self.width % 4:
            raise ValueError(f"width {self.width}; expected a multiple of 4; take {self.width + 4 - self.width % 4}")


# small to large are published (Yu et al. 2022, table 1); nano is for two cores.
VQGAN_SIZES: dict[str, VqganSize] = {
    "nano": VqganSize(64, 2, 2, 256),
    "small": VqganSize(512, 8, 8, 2048),
    "base": VqganSize(768, 12, 12, 3072),
    "large": VqganSize(1280, 32, 16, 5120),
}


def build_vqgan_size(
    name: str,
    *,
    width: int | None = None,
    depth: int | None = None,
    num_heads: int | None = None,
    mlp_width: int | None = None,
) -> VqganSize:
    """Return the named size with whatever numbers are given put in place of its own.

    An unknown name is a ValueError that names the nearest known one.
    """
    if name not in VQGAN_SIZES:
        near = difflib.get_close_matches(name, VQGAN_SIZES, n=1, cutoff=0.3)
        hint = f"did you mean {near[0]!r}?" if near else "take one of them and override its numbers"
        raise ValueError(f"size {name!r}; expected one of {', '.join(VQGAN_SIZES)}; {hint}")
    given = {"width": width, "depth": depth, "num_heads": num_heads, "mlp_width": mlp_width}
    return replace(VQGAN_SIZES[name], **{key: value for key, value in given.items() if value is not None})


def check_stride(image_size: int, stride: int) -> None:
    """ValueError for images that a discriminator of such a stride shrinks to nothing."""
    if image_size < stride:
        raise ValueError(
            f"images of {image_size} pixels for a discriminator of stride {stride}; expected no smaller ones; give it "
            "fewer layers"
        )
