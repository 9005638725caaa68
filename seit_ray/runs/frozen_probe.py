"""A linear probe of the classifier that a fine-tuning would start from, before its first step."""

from __future__ import annotations

from typing import Any

import torch

from seit_ray.evaluation.probe import probe_metrics
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.models.build import build_model
from seit_ray.progress import Progress, silent
from seit_ray.runs.finetune import read_for
from seit_ray.runs.inputs import seen_train
from seit_ray.runs.settings import ClassifierSettings, PixelSettings
from seit_ray.runs.train import checked_start, start_from
from seit_ray.storage import Folder
from seit_ray.training.world import World


def probe_frozen(
    *,
    run: Folder,
    model: ClassifierSettings,
    seed: int,
    world: World,
    dataset: Folder | None = None,
    images: Folder | None = None,
    source: SourceSettings | None = None,
    pixels: PixelSettings | None = None,
    init_from: Folder | None = None,
    max_images: int = 10_000,
    on_progress: Progress = silent,
    **hooks: Any,
) -> dict[str, Any]:
    """top1 of a logistic regression on its frozen features, fitted on train and scored on val, `max_images` of each.

    Beside it that of the nearest neighbours (knn_top1), and the effective rank of the features of train (rankme).

    What the trained run does not fit (tokens of another tokenizer, pixels) is new, drawn by the seed, as it is when
    fine-tuning begins; without a run all of it is.
    """
    inputs, settings = read_for(
        model,
        run,
        dataset=dataset,
        images=images,
        source=source,
        pixels=pixels,
        init_from=init_from,
        transfer=True,
        world=world,
        on_progress=on_progress,
    )
    torch.manual_seed(seed)
    net = build_model("classifier", **settings)
    if init_from is not None:
        taken = checked_start("classifier", settings, init_from, inputs.identity, transfer=True)
        start_from(net, init_from, "model", taken, train_only="all")
    found = probe_metrics(
        net.to(world.device),
        seen_train(inputs),
        inputs.val,
        inputs.num_classes,
        world,
        max_train=max_images,
        max_val=max_images,
    )
    if "probe_linear_top1" not in found:
        raise ValueError(f"{inputs.where} has no labelled val images to probe; expected some; give it a val split")
    return {
        "top1": found["probe_linear_top1"],
        "samples": found["probe_val_samples"],
        "ridge": found["probe_linear_ridge"],
        "knn_top1": found["probe_knn_top1"],
        "rankme": found["probe_rankme"],
    }
