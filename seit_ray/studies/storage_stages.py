"""The stages of a storage curve's trials: make what an arm stores, then train the same classifier on it."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import torch

from seit_ray.images.recode import Recoding
from seit_ray.progress import Progress, silent
from seit_ray.runs.finetune import finetune
from seit_ray.runs.settings import AugmentationSettings, ClassifierSettings, PixelSettings
from seit_ray.shards.dataset import TokenDataset
from seit_ray.storage import Folder
from seit_ray.studies.arms import Budget, CentroidSettings
from seit_ray.studies.image_set import ImageSet
from seit_ray.studies.picture_store import picture_source, picture_subset, store_pictures
from seit_ray.studies.stored import MARKER, Stored, read_stored, write_stored
from seit_ray.studies.token_store import count_tokens, fit_on, token_subset, tokenised
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from seit_ray.training.world import World


def list_images_once(*, run: Folder, data: ImageSet, on_progress: Progress = silent, **hooks: Any) -> dict[str, Any]:
    """The listing that all trials of a study read, in `run`; how many images, and the digest of which."""
    found = data.listed(run, on_progress)
    return {**{f"{name}_images": split.num_images for name, split in found.splits.items()}, "listing": found.digest}


def make_pictures(
    *, run: Folder, data: ImageSet, listing: Folder, recoding: Recoding, on_progress: Progress = silent, **hooks: Any
) -> dict[str, Any]:
    """What an arm of pixels stores, in `run`/data; its counts."""
    if not run.exists(MARKER):
        manifest = data.same_as(listing)
        store_pictures(manifest, data.images, run, recoding, on_progress=on_progress, **data.sample)
    return counts(read_stored(run))


def make_tokens(
    *,
    run: Folder,
    data: ImageSet,
    listing: Folder,
    centroid: CentroidSettings,
    encodings: tuple[str, ...],
    tokenizer: Folder | None = None,
    world: World,
    on_progress: Progress = silent,
    **hooks: Any,
) -> dict[str, Any]:
    """What an arm of tokens stores, in `run`/data, in the first of the encodings; its counts in all of them.

    The tokenizer is fitted on the train images, unless one is given.
    """
    if not run.exists(MARKER):
        manifest = data.same_as(listing)
        given = {"on_progress": on_progress, **data.sample}
        if tokenizer is None:
            coder, report = fit_on(manifest, data.images, centroid, device=world.device.type, **given)
        else:
            coder, about = load_tokenizer(tokenizer)
            report = about["report"]
        more = {"plan": data.plan, "encoding": encodings[0], **given}
        tokenised(manifest, data.images, run.join("data"), coder.to("cpu"), report, **more)
        write_stored(run, count_tokens(TokenDataset(run.join("data")), encodings))
    about = load_tokenizer(run.join("data", "tokenizer"))[1]
    return {**counts(read_stored(run)), "psnr_db": about["report"].get("psnr_held_out_db", about["report"]["psnr_db"])}


def counts(stored: Stored) -> dict[str, Any]:
    """As figures of a trial; bytes in all, in the smallest encoding and in each."""
    each = {f"bytes_{name}": stored.total(name) for name in stored.data_bytes}
    known = {name: asdict(stored)[name] for name in ("images", "test_images", "label_bytes", "tokenizer_bytes")}
    return {"bytes": stored.total(), **each, **known, "rejected": stored.rejected}


def train_arm(
    *,
    run: Folder,
    store: Folder,
    is_tokens: bool,
    budget: Budget | None,
    equal: str,
    encoding: str,
    model: ClassifierSettings,
    pixels: PixelSettings,
    augment: AugmentationSettings,
    label_smoothing: float,
    loop: LoopSettings,
    optimizer: OptimizerSettings,
    adapt_run: Folder | None = None,
    world: World,
    **hooks: Any,
) -> dict[str, Any]:
    """Train on what an arm stores, or on as much of it as fits into a budget; top-1 on val, and real bytes.

    equal: "steps", as many as on all images, or "epochs".
    """
    whole, place = read_stored(store), store
    if budget is not None:
        place = run.join("subset")
        if not place.exists(MARKER):
            if is_tokens:
                token_subset(store, place, budget.value(), encoding, loop.seed)
            else:
                picture_subset(store, place, budget.value(), loop.seed)
    stored = read_stored(place)
    if equal == "steps" and stored.images < whole.images:
        loop, optimizer = as_many_steps(loop, optimizer, whole.images, stored.images, world.device)
    given: dict[str, Any] = {"augment": augment, "adapt_run": adapt_run, "label_smoothing": label_smoothing}
    if is_tokens:
        given |= {"dataset": place.join("data"), "model": model}
    else:
        given |= {"images": place.join("data"), "source": picture_source(stored), "model": pixels_model(model)}
        given |= {"pixels": replace(pixels, max_images=None)}  # these were taken when the store was made
    metrics = finetune(run=run.join("run"), loop=loop, optimizer=optimizer, world=world, **given, **hooks)
    trained = {"top1": metrics["val_top1"], "steps": metrics["step"], "epochs": metrics["epoch"]}
    return {**trained, "train_loss": metrics["train_loss"], **counts(stored)}


def pixels_model(model: ClassifierSettings) -> ClassifierSettings:
    """The classifier for pixels: what it says of a codebook has nothing to act on there."""
    return replace(model, stem_pixels=False, standardize=False)


def as_many_steps(
    loop: LoopSettings, optimizer: OptimizerSettings, whole: int, images: int, device: torch.device
) -> tuple[LoopSettings, OptimizerSettings]:
    """For fewer images: as many steps as all of them take, as many of them warming up, and as many looks on the way."""
    ratio = whole / images
    steps = whole * loop.epochs // loop.global_batch_size
    epochs = max(1, math.ceil(steps * loop.global_batch_size / images))
    # what nobody set is counted in epochs of all images too: else a small subset is mostly evaluated
    each = {"eval_every_epochs": loop.eval_interval(device), "checkpoint_every_epochs": loop.checkpoint_every_epochs}
    looks: dict[str, Any] = {name: math.ceil(every * ratio) for name, every in each.items()}
    return (
        replace(loop, epochs=epochs, **looks),
        replace(optimizer, warmup_epochs=min(optimizer.warmup_epochs * ratio, epochs * 0.999)),
    )
