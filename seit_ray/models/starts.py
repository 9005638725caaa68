"""What a classifier takes over from a finished run, and whether sizes fit, by the run's record. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seit_ray.models.about import encoder_of, reading
from seit_ray.models.variants import Size, stem_grid

__all__ = ["Taken", "check_patches", "check_sizes", "patches_of", "taken_over"]

BLOCKS = ("width", "depth", "num_heads")
INPUT = {"inputs": "learned", "token_dim": 32, "stem_kernel": None, "stem_layers": 0, "stem_width": 64}


@dataclass(frozen=True)
class Taken:
    """Beside blocks, class token and norm: embedding and stem, and positions as they are (else resampled)."""

    inputs: bool
    places: bool


def taken_over(kind: str, about: Mapping[str, Any], identity: Mapping[str, Any], *, transfer: bool) -> Taken:
    """Of a run with such a model.json, by a new classifier or segmenter (kind) of data of this identity.

    A segmenter may always have another grid; of pixels, its patches are what has to agree.
    """
    if kind != "segmenter" and not transfer:
        return Taken(inputs=True, places=True)
    same = about.get("tokenizer") is not None and about["tokenizer"] == identity.get("tokenizer")
    if kind == "segmenter":
        same = same or about.get("patch_size") == identity.get("patch_size", -1)
    return Taken(inputs=same, places=False)


def patches_of(settings: Mapping[str, Any]) -> tuple[tuple[int, int], tuple[int, int]]:
    """(grid, patch grid) of a model with these keywords, of any kind that a classifier can start from."""
    kernel = settings.get("stem_kernel") or settings["kernel"]
    stride, padding = settings.get("stem_stride") or kernel, settings.get("stem_padding") or 0
    height, width = settings["grid"]
    return (height, width), stem_grid((height, width), kernel, stride, padding)


def check_patches(about: Mapping[str, Any], grid: tuple[int, int], patch_grid: tuple[int, int], uri: str) -> None:
    """ValueError unless a run sees such a grid in such patches."""
    with reading(uri):
        (rows, columns), (high, wide) = patches_of(about["settings"])
    if ((rows, columns), (high, wide)) != (tuple(grid), tuple(patch_grid)):
        raise ValueError(
            f"{uri} sees {rows}x{columns} in {high}x{wide} patches; "
            f"expected {grid[0]}x{grid[1]} in {patch_grid[0]}x{patch_grid[1]}, as the run; "
            "take a run of the same model.grid_side and model.stem_kernel"
        )


def check_sizes(
    about: Mapping[str, Any], settings: Mapping[str, Any], uri: str, taken: Taken, *, behind: str = ""
) -> None:
    """ValueError where a run's weights have other shapes than a model with these keywords (`build_model`).

    behind: the section of the model's keys, where the run is one that this call makes before it: it cannot be another,
    and what fits of it cannot be taken over instead.
    """
    model, other = (f"{behind}.model", "") if behind else ("model", ", or name another run")
    with reading(uri):
        theirs, mine = about["settings"], settings
        is_beit = encoder_of(dict(about)) == "beit"
        for name in BLOCKS if is_beit else BLOCKS[:2]:  # of ViT, no weight has a head's shape
            refuse_other(uri, name, size_of(theirs["size"], name), size_of(mine["size"], name), model, other)
        if taken.inputs and not is_beit:
            for name in input_keys(mine):
                refuse_other(uri, name, theirs.get(name, INPUT[name]), mine.get(name, INPUT[name]), model, other)
            pixels = [given.get("pixel_side", 1) > 1 for given in (theirs, mine)]
            refuse_other(uri, "stem_pixels", pixels[0], pixels[1], model, other)
        (_, found), (_, wanted) = patches_of(theirs), patches_of(mine)
    if taken.places and found != wanted:
        raise ValueError(
            f"{uri} sees {found[0]}x{found[1]} patches; expected the {wanted[0]}x{wanted[1]} of the model here; "
            f"set {model}.stem_kernel and {model}.grid_side as that run has them"
            + ("" if behind else ", or transfer=true")
        )


def input_keys(settings: Mapping[str, Any]) -> list[str]:
    """Keys of the embedding and the stem that decide a shape."""
    unread = {"token_dim"} if settings.get("inputs", "learned") != "learned" else set()
    if not settings.get("stem_layers"):
        unread.add("stem_width")
    return [name for name in INPUT if name not in unread]


def size_of(size: Size | Mapping[str, int], name: str) -> int:
    """A number of a size, as it is or as model.json has it."""
    found: int = getattr(size, name) if isinstance(size, Size) else size[name]
    return found


def refuse_other(uri: str, name: str, found: Any, wanted: Any, model: str, other: str) -> None:
    """ValueError unless the two are the same. model: the section of the key; other: what one may do instead."""
    if found != wanted:
        raise ValueError(
            f"{uri} has a model of {name} {found}; expected {wanted}, that of the model here; set "
            f"{model}.{name}={found}{other}"
        )
