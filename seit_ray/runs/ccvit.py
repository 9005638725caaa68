"""Pre-training by CCViT: images or centroid tokens in, an encoder out that goes on with tokens and with pixels."""

from __future__ import annotations

from typing import Any, Unpack

from torch import nn

from seit_ray.augment.color_jitter import ColorJitter
from seit_ray.augment.images import ImageAugment
from seit_ray.augment.mask_counts import patch_grid_of
from seit_ray.evaluation.pretraining import objective_metrics
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.models.variants import build_size
from seit_ray.objectives import CentroidObjective
from seit_ray.objectives.morph_loss import Morphing
from seit_ray.progress import silent
from seit_ray.runs.augmentation import token_augmentation
from seit_ray.runs.contents import adapt_contents, morph_contents
from seit_ray.runs.inputs import Inputs, TokenInputs, token_inputs
from seit_ray.runs.method_settings import CcvitSettings, DtmSettings, PretrainPixelSettings
from seit_ray.runs.morph_sources import MorphSources
from seit_ray.runs.morphing import Reads, check_alignment, morphing_of, with_stream
from seit_ray.runs.probing import deciding_probes, probes
from seit_ray.runs.settings import AugmentationSettings, ModelSettings, ProbeSettings
from seit_ray.runs.sight import Sight, coded_images, sight_of
from seit_ray.runs.train import SIZE_KEYS, train_and_export
from seit_ray.storage import Folder
from seit_ray.training.requests import Hooks
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from seit_ray.training.world import World


def pretrain_ccvit(
    *,
    run: Folder,
    model: ModelSettings,
    ccvit: CcvitSettings,
    augment: AugmentationSettings,
    pixels: PretrainPixelSettings,
    probe: ProbeSettings,
    loop: LoopSettings,
    optimizer: OptimizerSettings,
    world: World,
    dataset: Folder | None = None,
    images: Folder | None = None,
    source: SourceSettings | None = None,
    tokenizer: Folder | None = None,
    adapt_run: Folder | None = None,
    dtm: DtmSettings | None = None,
    sources: MorphSources | None = None,
    **hooks: Unpack[Hooks],
) -> dict[str, Any]:
    """CCViT on images with a tokenizer, or on a token dataset of a centroid tokenizer; `dtm` adds morphing.

    Source: CCViT (arXiv 2303.04664), section 3.
    """
    if dataset is not None:
        inputs: Inputs = token_inputs(dataset, need_labels=False, grid_side=model.grid_side, memory_gib=loop.memory_gib)
    else:
        progress = hooks.get("on_progress", silent)
        inputs = coded_images(images, source, tokenizer, run, pixels, model.stem_kernel, loop, world, progress)
    sources = sources or MorphSources()
    if dtm and isinstance(inputs, TokenInputs):
        inputs = with_stream(inputs, dtm, sources, loop)
    sight = sight_of(inputs, ccvit, pixels, world)
    settings = model_keywords(model, ccvit, sight)
    plain, morphing = CentroidObjective(**objective_keywords(ccvit, sight, unit=model.stem_kernel)), None
    if dtm:
        moves = moves_tokens(augment, pixels, sight.sees)
        morphing = morphing_beside(dtm, sources, plain, settings["size"].width, sight, inputs, moves, loop, world)
        settings["morph_dim"] = morphing.head_dim
    change: Any = image_change(pixels)
    contents = morph_contents(sources) if dtm else {}
    if isinstance(inputs, TokenInputs) and sight.sees == "codebook":
        change = token_augmentation(inputs, augment, adapt_run, world, quantize=True)
        contents |= adapt_contents(augment, adapt_run)
    hooks["decided_by"] = hooks.get("decided_by", {}) | deciding_probes(probe, loop)

    def evaluate(net: nn.Module, done: int) -> dict[str, float]:
        values = objective_metrics(net, plain, inputs.val, world) if inputs.val else {}
        metrics = {"val_" + name: value for name, value in values.items()}
        return metrics | probes(net, inputs, probe, loop, world, done, shown=sight.shown)

    objective = plain.changed(change, morphing)
    return train_and_export(
        "ccvit", settings, objective, inputs, evaluate, run, loop, optimizer, world, contents=contents, **hooks
    )


def morphing_beside(
    dtm: DtmSettings,
    sources: MorphSources,
    plain: CentroidObjective,
    width: int,
    sight: Sight,
    inputs: Inputs,
    moves: bool,
    loop: LoopSettings,
    world: World,
) -> Morphing:
    """The morphing beside CCViT; ValueError where tokens leave the places of those that they are compared with."""
    check_alignment(dtm, sight.on_tokens and moves)
    on_rows = sight.sees == "codebook"
    reads = Reads("ccvit", plain.patch_grid, plain.unit, width, sight.coder.codebook, tokens=on_rows)
    return morphing_of(dtm, sources, reads, inputs, loop, world)


def objective_keywords(ccvit: CcvitSettings, sight: Sight, *, unit: int) -> dict[str, Any]:
    """Keywords of `CentroidObjective`."""
    masked, replaced = ccvit.counts(patch_grid_of(sight.grid, unit), on_tokens=sight.on_tokens)
    return {
        "tokenizer": sight.coder,
        "grid": sight.grid,
        "unit": unit,
        "sees": sight.sees,
        "loss": ccvit.loss,
        "replace": ccvit.how(on_tokens=sight.on_tokens),
        "num_masked": masked,
        "num_replaced": replaced,
        "min_block": ccvit.min_block,
        "num_near": ccvit.num_near,
        "soft_tau": ccvit.soft_tau,
        "pixel_weight": ccvit.pixel_weight,
        "min_std": ccvit.least_std(on_tokens=sight.on_tokens),
    }


def model_keywords(model: ModelSettings, ccvit: CcvitSettings, sight: Sight) -> dict[str, Any]:
    """Keywords of `build_model("ccvit")`."""
    coder, grid, sees = sight.coder, sight.grid, sight.sees
    num_codes, dim = coder.codebook.shape
    patch, unit = coder.patch_size, model.stem_kernel
    found: dict[str, Any] = {
        "size": build_size(model.size, **{key: getattr(model, key) for key in SIZE_KEYS}),
        "inputs": sees,
        "grid": grid,
        "kernel": unit,
        "num_codes": num_codes,
        "code_dim": dim,
        "unit": unit,
        "early_layers": ccvit.early_layers,
        "head_layers": ccvit.head_layers,
        "layer_scale": ccvit.layer_scale,
        "shared_head": ccvit.loss != "dual",
    }
    if sees == "codebook":
        return {**found, "codebook": coder.codebook.cpu()}
    return {**found, "grid": (grid[0] * patch, grid[1] * patch), "kernel": unit * patch}


def image_change(pixels: PretrainPixelSettings) -> ColorJitter | ImageAugment | None:
    """Jitter, crop and flip of images; None where all are off."""
    crop = None if pixels.crop_area == (1.0, 1.0) else pixels.crop_area
    geometry = ImageAugment(crop_area=crop, flip_prob=pixels.flip_prob)
    if pixels.color_jitter:
        return ColorJitter(pixels.color_jitter, geometry)  # type: ignore[arg-type]  # labels pass through
    return geometry if crop is not None or pixels.flip_prob else None


def moves_tokens(augment: AugmentationSettings, pixels: PretrainPixelSettings, sees: str) -> bool:
    """Whether augmentation moves what is on a place to another."""
    if sees == "pixels":
        return image_change(pixels) is not None
    return bool(augment.random_crop or augment.swap_prob or augment.adapt != "none")
