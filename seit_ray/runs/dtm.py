"""Pre-training by DTM as published: images in, a student of a frozen teacher's morphed features out."""

from __future__ import annotations

from typing import Any, Unpack

from torch import nn

from seit_ray.augment.mask_counts import patch_grid_of
from seit_ray.evaluation.pretraining import objective_metrics
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.models.variants import build_size
from seit_ray.objectives import MorphingObjective
from seit_ray.objectives.corrupted import keep
from seit_ray.progress import silent
from seit_ray.runs.ccvit import image_change
from seit_ray.runs.contents import morph_contents
from seit_ray.runs.inputs import image_inputs
from seit_ray.runs.method_settings import DtmSettings, PretrainPixelSettings
from seit_ray.runs.morph_sources import MorphSources
from seit_ray.runs.morphing import Reads, morphing_of
from seit_ray.runs.probing import deciding_probes, probes
from seit_ray.runs.settings import ModelSettings, ProbeSettings
from seit_ray.runs.train import SIZE_KEYS, train_and_export
from seit_ray.storage import Folder
from seit_ray.training.requests import Hooks
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from seit_ray.training.world import World


def pretrain_dtm(
    *,
    images: Folder,
    source: SourceSettings,
    run: Folder,
    model: ModelSettings,
    dtm: DtmSettings,
    sources: MorphSources,
    pixels: PretrainPixelSettings,
    probe: ProbeSettings,
    loop: LoopSettings,
    optimizer: OptimizerSettings,
    world: World,
    **hooks: Unpack[Hooks],
) -> dict[str, Any]:
    """The student on the images' train split (DTM, sections 3 and 4.1)."""
    inputs = image_inputs(
        images,
        run,
        source=source,
        pixels=pixels,
        world=world,
        need_labels=False,
        memory_gib=loop.memory_gib,
        on_progress=hooks.get("on_progress", silent),
    )
    hooks["decided_by"] = hooks.get("decided_by", {}) | deciding_probes(probe, loop)
    patch_grid = patch_grid_of(inputs.grid, pixels.patch_size)
    size = build_size(model.size, **{key: getattr(model, key) for key in SIZE_KEYS})
    reads = Reads("dtm", patch_grid, 1, size.width, None, tokens=False)
    morphing = morphing_of(dtm, sources, reads, inputs, loop, world)
    counts: dict[str, Any] = {"num_masked": dtm.num_masked, "min_block": dtm.min_block}
    objective = MorphingObjective(morphing, **counts, augment=image_change(pixels) or keep)
    plain = MorphingObjective(morphing, **counts)
    settings = {
        "size": size,
        "inputs": "pixels",
        "grid": inputs.grid,
        "kernel": pixels.patch_size,
        "output_dim": morphing.target.dim,
        "layer_scale": dtm.layer_scale,
        "own_bias": dtm.own_bias,
    }

    def evaluate(net: nn.Module, done: int) -> dict[str, float]:
        values = objective_metrics(net, plain, inputs.val, world) if inputs.val else {}
        metrics = {"val_" + name: value for name, value in values.items()}
        return metrics | probes(net, inputs, probe, loop, world, done)

    contents = morph_contents(sources)
    return train_and_export(
        "dtm", settings, objective, inputs, evaluate, run, loop, optimizer, world, contents=contents, **hooks
    )
