"""The stages of a transfer's trials: pre-train on set A, then probe or fine-tune on a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from seit_ray.images.manifest import load_manifest
from seit_ray.runs.ccvit import pretrain_ccvit
from seit_ray.runs.dtm import pretrain_dtm
from seit_ray.runs.finetune import finetune
from seit_ray.runs.frozen_probe import probe_frozen
from seit_ray.runs.listing import FOLDER as LISTING
from seit_ray.runs.listing import forget_listing, listed_once
from seit_ray.runs.method_checks import target_kind
from seit_ray.runs.method_settings import PretrainPixelSettings
from seit_ray.runs.morph_sources import MorphSources
from seit_ray.runs.pretrain import pretrain as pretrain_tokens
from seit_ray.runs.settings import (
    AugmentationSettings,
    ClassifierSettings,
    ModelSettings,
    PixelSettings,
    ProbeSettings,
)
from seit_ray.storage import Folder
from seit_ray.studies.image_set import ImageSet
from seit_ray.studies.methods import EMA_DECAY, Method
from seit_ray.studies.picture_store import picture_source, picture_subset
from seit_ray.studies.storage_stages import as_many_steps, pixels_model
from seit_ray.studies.stored import MARKER, read_stored
from seit_ray.studies.transfer import Pretraining
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from seit_ray.training.world import World


def pretrain(
    *,
    run: Folder,
    tokens: Folder,
    model: ClassifierSettings,
    method: Method,
    how: Pretraining,
    sources: MorphSources,
    **hooks: Any,
) -> dict[str, Any]:
    """Pre-train on the tokens of A by the method of a row; what it was given, and its losses.

    sources: what a morphing compares with that is a row of its own.
    """
    given = {**shared_of(run, model, how), "dataset": tokens.join("data")}
    given |= {"augment": how.augment, "adapt_run": how.adapt_run, **morphed(method, how, sources)}
    if method.objective == "ccvit":
        metrics = pretrain_ccvit(ccvit=how.ccvit, pixels=PretrainPixelSettings(), **given, **hooks)
    else:
        metrics = pretrain_tokens(masking=how.masking, **given, **hooks)
    return {**pretrained_on(tokens), **speed_and_loss(metrics)}


def pretrain_on_images(
    *,
    run: Folder,
    tokens: Folder,
    model: ClassifierSettings,
    method: Method,
    how: Pretraining,
    data: ImageSet,
    listing: Folder,
    pixels: PixelSettings,
    world: World,
    **hooks: Any,
) -> dict[str, Any]:
    """Pre-train on the images of A themselves, as published: CCViT by the tokenizer of its tokens, DTM by a teacher."""
    refuse_other_images(run, data, listing, pixels, world)
    seen = PretrainPixelSettings(**{field.name: getattr(pixels, field.name) for field in fields(PixelSettings)})
    given = {**shared_of(run, model, how), "images": data.images, "source": data.source, "pixels": seen}
    if method.objective == "ccvit":
        given |= {"ccvit": how.ccvit, "augment": AugmentationSettings(), "tokenizer": tokens.join("data", "tokenizer")}
        metrics = pretrain_ccvit(**given, world=world, **hooks)
    else:
        metrics = pretrain_dtm(**given, **morphed(method, how, how.teacher), world=world, **hooks)
    return {"images": read_stored(tokens).images, **speed_and_loss(metrics)}


def shared_of(run: Folder, model: ClassifierSettings, how: Pretraining) -> dict[str, Any]:
    """Arguments of all pre-trainings."""
    encoder = ModelSettings(**{field.name: getattr(model, field.name) for field in fields(ModelSettings)})
    return {"run": run, "model": encoder, "probe": ProbeSettings(), "loop": how.loop, "optimizer": how.optimizer}


def morphed(method: Method, how: Pretraining, sources: MorphSources) -> dict[str, Any]:
    """Arguments of a pre-training with morphing; none without."""
    if not method.morph:
        return {}
    on_images, weight = method.on_images, 1.0 if how.dtm.weight is None else how.dtm.weight
    dtm = replace(how.dtm, weight=weight, teacher=how.dtm.teacher if on_images else None)
    if method.morph != "set":
        dtm = replace(dtm, target=method.morph)
    if target_kind(dtm, on_tokens=not on_images) != "average":
        return {"dtm": dtm, "sources": sources}
    return {"dtm": dtm, "sources": sources, "loop": replace(how.loop, ema_decay=how.loop.ema_decay or EMA_DECAY)}


def speed_and_loss(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """How a pre-training ended."""
    return {"train_loss": metrics["train_loss"], "steps": metrics["step"], "samples_per_s": metrics["samples_per_s"]}


def supervise(
    *,
    run: Folder,
    tokens: Folder,
    model: ClassifierSettings,
    pixels: PixelSettings,
    loop: LoopSettings,
    optimizer: OptimizerSettings,
    files: Folder | None = None,
    world: World,
    **more: Any,
) -> dict[str, Any]:
    """Train a classifier of A's classes on its tokens; with `files`, on as many of its images as take the same bytes.

    Both take the same number of steps. Source: SeiT, storage-efficient pre-training.
    """
    if files is None:
        given: dict[str, Any] = {"dataset": tokens.join("data"), "model": model}
        place = tokens
    else:
        place, whole = run.join("subset"), read_stored(files)
        if not place.exists(MARKER):
            picture_subset(files, place, read_stored(tokens).total(), loop.seed)
        given = {"images": place.join("data"), "source": picture_source(whole)}
        given |= {"pixels": replace(pixels, max_images=None), "model": pixels_model(model)}
        num = read_stored(place).images
        loop, optimizer = as_many_steps(loop, optimizer, whole.images, num, world.device)
    metrics = finetune(run=run, loop=loop, optimizer=optimizer, world=world, **given, **more)
    return {**pretrained_on(place), "top1_of_a": metrics.get("val_top1"), **speed_and_loss(metrics)}


def pretrained_on(store: Folder) -> dict[str, Any]:
    """Bytes and images of A."""
    stored = read_stored(store)
    return {"bytes": stored.total(), "images": stored.images, "rejected": stored.rejected}


def measure(
    *,
    run: Folder,
    data: ImageSet,
    listing: Folder,
    store: Folder | None,
    pixels: PixelSettings,
    model: ClassifierSettings,
    start: Folder | None,
    how: str,
    loop: LoopSettings,
    optimizer: OptimizerSettings,
    world: World,
    **more: Any,
) -> dict[str, Any]:
    """Top-1 on a target's val split, of a linear probe of frozen features or of a fine-tuning; from A's run, or none.

    store: the target's tokens; without one, its pixels are read.
    """
    given: dict[str, Any] = {"run": run, "init_from": start, "world": world}
    if store is not None:
        given |= {"dataset": store.join("data"), "model": model}
    else:
        refuse_other_images(run, data, listing, pixels, world)
        given |= {"images": data.images, "source": data.source, "pixels": pixels, "model": pixels_model(model)}
    rejects = {"rejected": read_stored(store).rejected} if store is not None else {}
    if how == "probe":
        found = probe_frozen(seed=loop.seed, **given, **{key: more[key] for key in ("on_progress",) if key in more})
        more_of = {"test_images": found["samples"], **{name: found[name] for name in ("ridge", "knn_top1", "rankme")}}
        return {"top1": found["top1"], **more_of, **rejects}
    metrics = finetune(transfer=start is not None, loop=loop, optimizer=optimizer, **given, **more)
    num = num_tested(run, store, pixels)
    return {"top1": metrics["val_top1"], "test_images": num, "steps": metrics["step"], **rejects}


def refuse_other_images(run: Folder, data: ImageSet, listing: Folder, pixels: PixelSettings, world: World) -> None:
    """List the images for a run that reads them themselves; ValueError where they are not those of the study."""
    shared = {"val_fraction": pixels.val_fraction, "seed": pixels.seed}
    found = listed_once(data.images, data.source, run, world, **shared)  # type: ignore[arg-type]
    try:
        data.same_as(listing, found)
    except ValueError:
        forget_listing(run, world)
        raise


def num_tested(run: Folder, store: Folder | None, pixels: PixelSettings) -> int:
    """Images of a target's val split: of its tokens, or of those that a run listed."""
    if store is not None:
        return read_stored(store).test_images
    manifest = load_manifest(run.join(LISTING))
    assert manifest is not None  # the run has ended
    listed = manifest.splits["val"].num_images
    return min(listed, pixels.max_images or listed)
