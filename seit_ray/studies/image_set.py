"""The labelled images that a study is about: which are trained on, which are held out. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seit_ray.batches.sampler import num_steps
from seit_ray.images.labels import check_all_labelled
from seit_ray.images.listing import list_images
from seit_ray.images.manifest import Manifest, load_manifest
from seit_ray.images.sources.identity import identity
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.progress import Progress, silent
from seit_ray.storage import Folder
from seit_ray.studies.study import trial_name
from seit_ray.studies.trials import Stage, Trial, trial_folder
from seit_ray.training.settings import LoopSettings

LISTED = 0.05  # of the cost of a training


@dataclass(frozen=True)
class ImageSet:
    """Labelled images, which of them are held out, and, of a large set, how many of each split are taken."""

    images: Folder
    source: SourceSettings
    val_fraction: float = 0.0
    seed: int = 0
    max_images: int | None = None

    def listed(self, folder: Folder, on_progress: Progress = silent) -> Manifest:
        """The listing, into a folder; ValueError unless there are train and val images of some classes."""
        found = list_images(
            self.images,
            self.source,
            folder,
            val_fraction=self.val_fraction,
            seed=self.seed,
            on_progress=on_progress,
        )
        check_splits(found, self.images.uri)
        return found

    def same_as(self, listing: Folder, other: Manifest | None = None) -> Manifest:
        """The study's listing; ValueError where another one of the same images has others."""
        if other is not None:
            return refuse_other_images(listing, other, self.images.uri)
        found = load_manifest(listing)
        assert found is not None  # its trial has finished before
        return found

    def listing_trial(self, study: Folder, what: str, decided_by: Mapping[str, Any]) -> Trial:
        """Lists them once, for all trials of a study that need them; `stages[-1].run` is where."""
        name = trial_name(f"list {what}", {"listed": what, **decided_by})
        run = trial_folder(study, name).join("listing")
        stage = Stage("list", "seit_ray.studies.storage_stages:list_images_once", {"run": run, "data": self})
        return Trial(name, {"arm": f"list of {what}"}, (stage,), cost=LISTED)

    @property
    def sample(self) -> dict[str, Any]:
        """Which of the listed images are taken, and from where."""
        return {"image_column": self.source.image_column, "max_images": self.max_images, "seed": self.seed}

    @property
    def plan(self) -> dict[str, Any]:
        """For dataset.json."""
        hold_out = {"val_fraction": self.val_fraction, "seed": self.seed, "max_images": self.max_images}
        return {**identity(self.images, self.source), "decode": "exact", **hold_out}


def check_splits(manifest: Manifest, uri: str, key: str = "pixels.val_fraction") -> None:
    """ValueError unless there is something to train on, to test on, and a class that both have.

    key: by which images are held out.
    """
    for split in ("train", "val"):
        if split not in manifest.splits or not manifest.splits[split].num_images:
            raise ValueError(
                f"{uri} has no {split} images but {', '.join(sorted(manifest.splits))}; expected both train and val; "
                f"name its folders so, or set {key}=0.1"
            )
    for split in ("train", "val"):
        check_all_labelled(manifest, split, uri)
    found = {
        split: {label for part in manifest.labels(split) for label in part.to_pylist()} for split in manifest.splits
    }
    common = (found["train"] & found["val"]) - {None}
    if not manifest.class_names or len(found["train"] - {None}) < 2 or not common:
        raise ValueError(
            f"{uri} has {len(manifest.class_names or [])} classes, {len(common)} of them in both train and val; "
            "expected two in train at least, and one that both have; sort the images into a folder per class"
        )


def check_steps(manifest: Manifest, max_images: int | None, loop: LoopSettings, uri: str) -> None:
    """ValueError where so few train images give not one step of training."""
    listed = manifest.splits["train"].num_images
    try:
        num_steps(min(listed, max_images or listed), loop.global_batch_size, loop.epochs)
    except ValueError as error:
        raise ValueError(f"{uri}: {error}") from error


def refuse_other_images(listing: Folder, found: Manifest, uri: str) -> Manifest:
    """The listing that a study has made; ValueError where what is found now are other images."""
    made = load_manifest(listing)
    assert made is not None  # its trial has finished before
    if made.digest != found.digest:
        raise ValueError(
            f"{uri} has other images than when the study listed them; expected the same for all of its "
            "trials; bring them back, or begin again in another output"
        )
    return made
