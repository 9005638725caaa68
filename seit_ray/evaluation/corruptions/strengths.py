"""Names, groups and published strengths of the corruptions; a severity is 1 to 5. Imports nothing: dry runs look here.

Sources: Hendrycks & Dietterich 2019, and the parameters that its release states for ImageNet (224 pixels) and CIFAR-10
(32). Lengths are in pixels of the image as the model sees it; those of LENGTHS_OF_SIDE are shares of its side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

GROUPS: dict[str, tuple[str, ...]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "extra": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),
}
EXTRA = GROUPS["extra"]
IMAGENET_C = tuple(name for group in GROUPS if group != "extra" for name in GROUPS[group])
NAMES = (*IMAGENET_C, *EXTRA)
SETS: dict[str, tuple[str, ...]] = {"imagenet_c": IMAGENET_C, "imagenet_c_extra": EXTRA, **GROUPS}
SEVERITIES = (1, 2, 3, 4, 5)

SMALL_SIDE = 64  # an image with a shorter side gets the strengths for 32 pixels, where none are named
LENGTHS_OF_SIDE = {"cifar10_c": ("elastic_transform",)}

# name -> what the corruption takes, for each severity
STRENGTHS: dict[str, dict[str, tuple[Any, ...]]] = {
    "imagenet_c": {
        "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),  # deviation
        "shot_noise": (60, 25, 12, 5, 3),  # photons of white
        "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),  # share of values
        "speckle_noise": (0.15, 0.2, 0.35, 0.45, 0.6),  # deviation, of the value
        "gaussian_blur": (1, 2, 3, 4, 6),  # sigma
        "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),  # radius, sigma of its edge
        "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),  # sigma, distance, rounds
        "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),  # radius, sigma
        "zoom_blur": ((0.01, 12), (0.01, 16), (0.02, 11), (0.02, 13), (0.03, 11)),  # step of the factor, how many
        "snow": (  # mean, deviation, zoom, threshold, radius and sigma of the motion, share of the image's colours
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),  # weights of image and frost
        "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),  # weight, decay of the fractal
        "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),  # added to the value of HSV
        "spatter": (  # mean, deviation, sigma, threshold, weight of water or sigma of mud, whether it is mud
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1),
            (0.67, 0.4, 1, 0.65, 1.5, 1),
        ),
        "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),  # factor around the mean
        "elastic_transform": (  # length of the displacement, its sigma, reach of the affine map: 244 as published
            (244 * 2, 244 * 0.7, 244 * 0.1),
            (244 * 2, 244 * 0.08, 244 * 0.2),
            (244 * 0.05, 244 * 0.01, 244 * 0.02),
            (244 * 0.07, 244 * 0.01, 244 * 0.02),
            (244 * 0.12, 244 * 0.01, 244 * 0.02),
        ),
        "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),  # factor of the side
        "jpeg_compression": (25, 18, 15, 10, 7),  # quality
        "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),  # factor and addend of the saturation of HSV
    },
    "cifar10_c": {
        "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
        "shot_noise": (500, 250, 100, 75, 50),
        "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
        "speckle_noise": (0.06, 0.1, 0.12, 0.16, 0.2),
        "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1),
        "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        "zoom_blur": ((0.01, 7), (0.01, 12), (0.01, 16), (0.01, 21), (0.01, 26)),
        "snow": (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
        "spatter": (
            (0.62, 0.1, 0.7, 0.7, 0.5, 0),
            (0.65, 0.1, 0.8, 0.7, 0.5, 0),
            (0.65, 0.3, 1, 0.69, 0.5, 0),
            (0.65, 0.1, 0.7, 0.69, 0.6, 1),
            (0.65, 0.1, 0.5, 0.68, 0.6, 1),
        ),
        "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
        "elastic_transform": (
            (0, 0, 0.08),
            (0.05, 0.2, 0.07),
            (0.08, 0.06, 0.06),
            (0.1, 0.04, 0.05),
            (0.1, 0.03, 0.03),
        ),
        "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
        "jpeg_compression": (80, 65, 58, 50, 40),
        "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    },
}


def corruption_names(asked: Iterable[str]) -> list[str]:
    """The corruptions of names and of SETS, each once, in the order of NAMES; ValueError for an unknown name."""
    asked = list(asked)
    unknown = [name for name in asked if name not in SETS and name not in NAMES]
    if unknown:
        raise ValueError(
            f"corruption {unknown[0]!r}; expected some of {', '.join([*SETS, *NAMES])}; correct the key corruptions"
        )
    wanted = {name for given in asked for name in SETS.get(given, (given,))}
    return [name for name in NAMES if name in wanted]


def check_severities(severities: Sequence[int]) -> list[int]:
    """The severities, each once, ascending; ValueError for one that is not of 1 to 5, or for none."""
    wrong = [severity for severity in severities if severity not in SEVERITIES]
    if wrong or not severities:
        raise ValueError(
            f"severity {wrong[0] if wrong else 'none'}; expected some of {', '.join(map(str, SEVERITIES))}; correct "
            "the key severities"
        )
    return sorted(set(severities))


def strengths_for(image_size: int, named: str = "auto") -> str:
    """Which of STRENGTHS an image of that side gets, unless one is named."""
    if named != "auto":
        return named
    return "cifar10_c" if image_size < SMALL_SIDE else "imagenet_c"


def strength_of(name: str, severity: int, strengths: str, side: int) -> Any:
    """What a corruption takes at a severity, lengths in pixels of an image with that side."""
    found = STRENGTHS[strengths][name][severity - 1]
    if name in LENGTHS_OF_SIDE.get(strengths, ()):
        return tuple(side * share for share in found)
    return found
