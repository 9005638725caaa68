"""Training a classifier of tokens or of pixels, from a trained run or from scratch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from seit_ray.evaluation.classification import classification_metrics
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.models.about import read_about
from seit_ray.objectives import SupervisedObjective
from seit_ray.runs.augmentation import image_augmentation, token_augmentation
from seit_ray.runs.inputs import image_inputs, token_inputs
from seit_ray.runs.settings import AugmentationSettings, ClassifierSettings, PixelSettings
from seit_ray.runs.train import SOURCES, model_settings, train_and_export
from seit_ray.storage import Folder
from seit_ray.training.identity import check_same
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
    transfer: bool = False,
    **hooks: Callable,
) -> dict[str, Any]:
    """A classifier of tokens (`dataset`) or of pixels (`images`), from a trained run or from scratch.

    `transfer` lets the run to start from have other tokens, another grid, other classes or tokens where these are
    pixels. Sources: SeiT; SeiT++, section 4.
    """
    if images is not None:
        inputs = image_inputs(images, source=source, pixels=pixels, seed=loop.seed)
        patch = pixels.patch_size
        model = replace(model, inputs="pixels", stem_kernel=patch, stem_stride=patch, stem_padding=0)
        settings = model_settings(model, **inputs.settings, num_classes=inputs.num_classes)
        augmentation = image_augmentation(augment, pixels)
    else:
        chosen = {"grid_side": model.grid_side, "inputs": model.inputs, "memory_gib": loop.memory_gib}
        inputs = token_inputs(dataset, need_labels=True, **chosen)
        settings = model_settings(model, **inputs.settings, num_classes=inputs.num_classes)
        augmentation = token_augmentation(inputs, augment, adapt_run, world, quantize=model.inputs == "learned")
    if init_from is not None and not transfer:
        check_same(read_about(init_from, *SOURCES), inputs.identity, init_from.uri)

    def evaluate(net: torch.nn.Module, epoch: float) -> dict[str, float]:
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
        transfer=transfer,
        train_only=model.train_only,
        **hooks,
    )
