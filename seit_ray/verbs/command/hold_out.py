"""What was held out of a run's training, and what is held out now: images that were trained on are never val."""

from __future__ import annotations

from typing import Any

from seit_ray.config import Evaluate
from seit_ray.models.about import SOURCES, read_about
from seit_ray.storage import Folder
from seit_ray.verbs.command.places import folder_of

NAMES = ("val_fraction", "seed")


def hold_out_of(run: Folder, about: dict[str, Any]) -> dict[str, Any]:
    """images, val_fraction and seed of what a run was trained on, by its model.json.

    Of tokens, what their dataset says; nothing where that is not known or at hand any more, and where the source
    itself says what is val.
    """
    from seit_ray.shards import TokenDataset

    decided = about.get("decided_by") or {}
    if about.get("imported"):  # its dataset says what it reads, not what it was trained on
        return {}
    if decided.get("images"):
        return {"images": decided["images"], **{name: decided.get(f"pixels.{name}", 0) for name in NAMES}}
    dataset = run.at(about["data"]) if about.get("data") else None
    if dataset is None or not dataset.exists("dataset.json"):
        return {}
    info = TokenDataset(dataset).info
    return info.plan if info.plan.get("val_fraction") or "val" not in info.splits else {}


def has_seen(theirs: dict[str, Any], mine: dict[str, Any]) -> bool:
    """Whether images that are held out by `mine` were trained on by `theirs`: plans of images, val_fraction and seed.

    With one seed, a smaller share is a part of a larger one.
    """
    share = mine.get("val_fraction", 0)
    if not share or not theirs.get("images") or theirs["images"] != mine.get("images"):
        return False
    return theirs.get("val_fraction", 0) < share or theirs.get("seed", 0) != mine.get("seed", 0)


def refuse_seen_images(run: Folder, images: Folder, val_fraction: float, seed: int, prefix: str = "") -> None:
    """ValueError when images that are held out here were trained on by a run. prefix: what stands before the keys."""
    theirs = hold_out_of(run, about_of(run))
    if has_seen(theirs, {"images": images.uri, "val_fraction": val_fraction, "seed": seed}):
        raise ValueError(
            f"{prefix}val_fraction {val_fraction:g} and {prefix}seed {seed}; expected {words(theirs)}, the hold-out of "
            f"what {run.uri} was trained on; else it has seen images that are held out here; set them so"
        )


def refuse_seen_tokens(run: Folder, dataset: Folder) -> None:
    """ValueError when images that a token dataset holds out were trained on by a run."""
    from seit_ray.shards import TokenDataset

    about = about_of(run)
    if about.get("data") == dataset.uri:
        return
    theirs, mine = hold_out_of(run, about), TokenDataset(dataset).info.plan
    if has_seen(theirs, mine):
        raise ValueError(
            f"{dataset.uri} with val_fraction {mine['val_fraction']:g} and seed {mine.get('seed', 0)}; expected "
            f"{words(theirs)}, the hold-out of what {run.uri} was trained on; else it has seen images that are held "
            "out here; tokenise them so"
        )


def about_of(run: Folder) -> dict[str, Any]:
    """model.json of a finished run of any kind."""
    return read_about(run, *SOURCES)


def with_hold_out(config: Evaluate) -> Evaluate:
    """The config of an evaluation on images with val_fraction and seed: the run's, on the same images, if left out.

    ValueError where images that the run was trained on would be val.
    """
    run, images = folder_of(config.run, config.storage), folder_of(config.images or "", config.storage)
    theirs = hold_out_of(run, about_of(run))
    same = theirs if theirs.get("images") == images.uri else {}
    given = {name: getattr(config, name) for name in NAMES}
    found = {name: same.get(name, 0) if value is None else value for name, value in given.items()}
    if config.split == "val":
        refuse_seen_images(run, images, **found)
    return config.model_copy(update=found)


def words(plan: dict[str, Any]) -> str:
    """A hold-out as it is written down."""
    return f"{plan.get('val_fraction', 0):g} and {plan.get('seed', 0)}"
