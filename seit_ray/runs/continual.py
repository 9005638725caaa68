"""Class-incremental learning: classes come step by step, and of earlier ones there is a memory of a number of bytes.

A trial: one arm, budget, selection and seed. Each step trains the same transformer on the images of its new classes and
on the exemplars, chooses exemplars of the new classes, balances, and is evaluated on all classes so far.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from typing import Any, Unpack

from seit_ray.batches.class_steps import class_order, class_steps, places_of
from seit_ray.batches.exemplar_codecs import Codec, JpegCodec, RawCodec, TokenCodec
from seit_ray.batches.exemplars import Memory, label_bytes
from seit_ray.runs.continual_inputs import open_streams
from seit_ray.runs.continual_learner import Learner
from seit_ray.runs.continual_method import Method
from seit_ray.runs.continual_settings import (
    Arm,
    ContinualSettings,
    LabelledImages,
    MemorySettings,
    arm_named,
    check_budget,
)
from seit_ray.runs.continual_views import PixelView, Streams, TokenView, View
from seit_ray.runs.settings import ClassifierSettings
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.training.requests import Hooks
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from seit_ray.training.world import World

# the others say how often to look, to save, and what fits
OF_LOOP = ("epochs", "global_batch_size", "precision", "tf32", "ema_decay", "seed")


def continual(
    *,
    run: Folder,
    images: LabelledImages,
    tokenizer: Folder | None,
    token_side: int,
    memory: MemorySettings,
    seed: int,
    settings: ContinualSettings,
    model: ClassifierSettings,
    loop: LoopSettings,
    optimizer: OptimizerSettings,
    world: World,
    **hooks: Unpack[Hooks],
) -> dict[str, Any]:
    """One trial; its figures (`incremental_figures`, and what the memory holds and takes).

    tokenizer: that of an arm of tokens; token_side: pixels of a side of a token, of which the patches of an arm of
    pixels are made. `seed` is that of the trainings and, with settings.order_seed, of the order of classes. ValueError
    for a class without images in a split, and for a budget that does not hold the tokenizer.
    """
    streams, labels, names = open_streams(images, world, loop.memory_gib)
    arm, num_classes = arm_named(memory.arm), len(names)
    view = view_of(arm, streams, tokenizer, token_side, model, settings, world)
    check_budget(memory, view.shared_bytes)
    order = class_order(num_classes, settings.order_seed + seed)
    method = Method(
        view=view,
        places=places_of(order),
        settings=settings,
        loop=replace(loop, seed=loop.seed + seed),
        optimizer=optimizer,
        selection=memory.selection,
        world=world,
        identity={"kind": "continual", "arm": arm.name, **view.identity},
        hooks={},
    )
    empty = Memory(codec_of(arm, view), memory.budget_bytes or 0, view.shared_bytes, label_bytes(num_classes))
    steps = class_steps(num_classes, settings.num_steps)
    decided_by = settled(memory=memory, continual=settings, model=model, loop=loop, optimizer=optimizer)
    learner = Learner(run, arm, method, order, steps, labels, empty, hooks, {**decided_by, "seed": seed})
    figures = learner.run_all()
    if world.is_main:
        about = {**view.identity, "data": images.images.uri, "class_names": [names[c] for c in order]}
        about |= {"precision": loop.precision_on(world.device), "device": world.device.type, "metrics": figures}
        learner.export(about)
    return figures


def settled(*, loop: LoopSettings, **parts: Any) -> dict[str, Any]:
    """What decides a trial's result, by section and name."""
    found = {f"loop.{name}": getattr(loop, name) for name in OF_LOOP}
    for section, settings in parts.items():
        found |= {f"{section}.{name}": value for name, value in asdict(settings).items()}
    return found


def view_of(
    arm: Arm,
    streams: Streams,
    tokenizer: Folder | None,
    token_side: int,
    model: ClassifierSettings,
    settings: ContinualSettings,
    world: World,
) -> View:
    """Tokens or pixels, for transformers of the same positions."""
    if arm.sees == "pixels":
        return PixelView(streams, model, settings, token_side=token_side)
    assert tokenizer is not None  # whoever makes such a trial gives it
    return TokenView(streams, load_tokenizer(tokenizer)[0], model, settings, world.device)


def codec_of(arm: Arm, view: View) -> Codec | None:
    """How an arm stores its exemplars; None where it keeps none."""
    read = partial(view.read, "train")
    if arm.keeps is None:
        return None
    if arm.keeps == "jpeg":
        return JpegCodec(read, arm.quality)
    return RawCodec(read) if arm.keeps == "raw" else TokenCodec(read, arm.keeps, view.identity["codebook_size"])
