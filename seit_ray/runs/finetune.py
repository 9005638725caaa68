"""Training a classifier of tokens or of pixels, from a trained run or from scratch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Unpack

from torch import Tensor

from seit_ray.augment.chain import Augmented
from seit_ray.augment.random import StepRandom
from seit_ray.evaluation.classification import classification_metrics
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.models.about import SOURCES, encoder_of, read_about
from seit_ray.models.vit import TokenViT
from seit_ray.objectives import SupervisedObjective
from seit_ray.progress import Progress, silent
from seit_ray.runs.augmentation import image_augmentation, token_augmentation
from seit_ray.runs.contents import adapt_contents
from seit_ray.runs.inputs import Inputs, TokenInputs, image_inputs, token_inputs
from seit_ray.runs.settings import AugmentationSettings, ClassifierSettings, PixelSettings
from seit_ray.runs.train import model_settings, train_and_export
from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.training.identity import check_same
from seit_ray.training.requests import Hooks
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from seit_ray.training.world import World


def finetune(
    *,
    run: Folder,
    model: ClassifierSettings,
    label_smoothing: float,
    augment: AugmentationSettings,
    loop: LoopSettings,
    optimizer: OptimizerSettings,
    world: World,
    adapt_run: Folder | None = None,
    dataset: Folder | None = None,
    images: Folder | None = None,
    source: SourceSettings | None = None,
    pixels: PixelSettings | None = None,
    init_from: Folder | None = None,
    init_weights: str = "model",
    transfer: bool = False,
    **hooks: Unpack[Hooks],
) -> dict[str, Any]:
    """A classifier of tokens (`dataset`) or of pixels (`images`), from a trained run or from scratch.

    init_weights: which of the run to start from: model, ema or best. `transfer` lets that run have other tokens,
    another grid, other classes or tokens where these are pixels. Sources: SeiT; SeiT++, section 4.
    """
    inputs, settings = read_for(
        model,
        run,
        dataset=dataset,
        images=images,
        source=source,
        pixels=pixels,
        init_from=init_from,
        transfer=transfer,
        world=world,
        memory_gib=loop.memory_gib,
        on_progress=hooks.get("on_progress", silent),
    )
    augmentation: Callable[[Tensor, Tensor, StepRandom], Augmented]
    contents: dict[str, str] = {}
    if isinstance(inputs, TokenInputs):
        augmentation = token_augmentation(inputs, augment, adapt_run, world, quantize=model.inputs == "learned")
        contents = adapt_contents(augment, adapt_run)
    else:
        augmentation = image_augmentation(augment, pixels or PixelSettings())

    def evaluate(net: TokenViT, done: int) -> dict[str, float]:
        values = classification_metrics(net, inputs.val, inputs.num_classes, world) if inputs.val else {}
        return {"val_" + name: value for name, value in values.items()}

    return train_and_export(
        "classifier",
        settings,
        SupervisedObjective(label_smoothing=label_smoothing, augment=augmentation),
        inputs,
        evaluate,
        run,
        loop,
        optimizer,
        world,
        init_from=init_from,
        init_weights=init_weights,
        transfer=transfer,
        train_only=model.train_only,
        contents=contents,
        **hooks,
    )


def read_for(
    model: ClassifierSettings,
    run: Folder,
    *,
    dataset: Folder | None,
    images: Folder | None,
    source: SourceSettings | None,
    pixels: PixelSettings | None,
    init_from: Folder | None,
    transfer: bool,
    world: World,
    memory_gib: float | None = None,
    on_progress: Progress = silent,
) -> tuple[Inputs, dict[str, Any]]:
    """What a classifier learns from, tokens or images, and keywords of `build_model` for one that can start there.

    ValueError where the run to start from has other tokens, and is not to be transferred.
    """
    inputs: Inputs
    if images is not None:
        pixels = pixels or PixelSettings()
        inputs = image_inputs(
            images,
            run,
            source=source or SourceSettings(),
            pixels=pixels,
            world=world,
            memory_gib=memory_gib,
            on_progress=on_progress,
        )
        settings = pixel_settings(model, inputs, pixels.patch_size)
    elif dataset is not None:
        inputs = tokens = token_inputs(dataset, need_labels=True, grid_side=model.grid_side, memory_gib=memory_gib)
        settings = token_settings(model, tokens)
    else:
        raise ValueError("dataset None and images None; expected one of them; give what to train on")
    return inputs, settings | start_settings(model.encoder, inputs, init_from, transfer=transfer)


def start_settings(encoder: str | None, inputs: Inputs, init_from: Folder | None, *, transfer: bool) -> dict[str, Any]:
    """`encoder_settings` of a run to start from, if any; ValueError where it has other inputs, unless for transfer."""
    if init_from is None:
        return encoder_settings(encoder, None, where="")
    about = read_about(init_from, *SOURCES)
    if not transfer:
        check_same(about, inputs.identity, init_from.uri)
    return encoder_settings(encoder, about, where=init_from.uri)


def encoder_settings(encoder: str | None, about: dict[str, Any] | None, *, where: str) -> dict[str, Any]:
    """Which blocks a classifier has: those of the run that it starts from, or those that are asked for.

    ValueError where the two differ: their weights mean different things.
    """
    found = encoder_of(about) if about else None
    if encoder and found and encoder != found:
        raise ValueError(
            f"model.encoder {encoder} with a run of {found} in {where}; expected {found}; set "
            f"model.encoder={found}, or leave it out"
        )
    chosen = encoder or found or "vit"
    own_bias = bool(about and about["settings"].get("own_bias"))
    return {"encoder": chosen, **({"own_bias": own_bias} if chosen == "beit" else {})}


def token_settings(model: ClassifierSettings, inputs: TokenInputs) -> dict[str, Any]:
    """Keywords of `build_model` for a classifier of tokens, by a table of its own or on the rows of the codebook."""
    given: dict[str, Any] = {"codebook": inputs.tokenizer.codebook} if model.inputs == "codebook" else {}
    if model.stem_pixels:
        tokenizer = inputs.tokenizer
        if not isinstance(tokenizer, CentroidTokenizer):
            raise ValueError(
                f"model.stem_pixels with a {tokenizer.family} tokenizer; expected a centroid tokenizer, whose codes "
                "are pixels; leave it out"
            )
        given["pixel_side"] = tokenizer.patch_size
    return model_settings(model, grid=inputs.grid, num_codes=inputs.num_codes, num_classes=inputs.num_classes, **given)


def pixel_settings(model: ClassifierSettings, inputs: Inputs, patch_size: int) -> dict[str, Any]:
    """Keywords of `build_model` for a classifier of pixels, whose stem cuts the image into patches."""
    if model.stem_pixels or model.standardize:
        raise ValueError("model.stem_pixels or standardize with images; expected neither, as there is no codebook")
    model = replace(model, inputs="pixels", stem_kernel=patch_size, stem_stride=patch_size, stem_padding=0)
    return model_settings(model, grid=inputs.grid, num_classes=inputs.num_classes)
