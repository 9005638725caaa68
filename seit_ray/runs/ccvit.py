"""Pre-training by CCViT: images or centroid tokens in, an encoder out that goes on with tokens and with pixels."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, Unpack

from torch import nn

from seit_ray.augment.color_jitter import ColorJitter
from seit_ray.augment.images import ImageAugment
from seit_ray.augment.mask_counts import patch_grid_of
from seit_ray.batches.contract import Samples
from seit_ray.batches.decoded import DecodedSamples
from seit_ray.evaluation.pretraining import objective_metrics
from seit_ray.evaluation.probe import probe_metrics
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.models.variants import build_size
from seit_ray.objectives import CentroidObjective
from seit_ray.progress import silent
from seit_ray.runs.augmentation import token_augmentation
from seit_ray.runs.inputs import Inputs, TokenInputs, cropped, image_inputs, token_inputs
from seit_ray.runs.method_settings import CcvitSettings, DtmSettings, PretrainPixelSettings
from seit_ray.runs.morph_sources import MorphSources
from seit_ray.runs.morphing import Reads, check_alignment, morphing_of, with_stream
from seit_ray.runs.settings import AugmentationSettings, ModelSettings, ProbeSettings
from seit_ray.runs.train import SIZE_KEYS, train_and_export
from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.contract import Tokenizer
from seit_ray.tokenizers.files import load_tokenizer
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
    if dataset is None and (images is None or tokenizer is None):
        raise ValueError("images None or ccvit.tokenizer None; expected both, or a dataset; give what to train on")
    inputs: Inputs
    if dataset is not None:
        inputs = token_inputs(dataset, need_labels=False, grid_side=model.grid_side, memory_gib=loop.memory_gib)
    else:
        assert images is not None  # see above
        assert tokenizer is not None
        found = image_inputs(
            images,
            run,
            source=source or SourceSettings(),
            pixels=pixels,
            world=world,
            need_labels=False,
            memory_gib=loop.memory_gib,
            on_progress=hooks.get("on_progress", silent),
        )
        inputs = with_tokenizer(found, pixels, tokenizer, model.stem_kernel)
    sources, on_tokens = sources or MorphSources(), isinstance(inputs, TokenInputs)
    if dtm and isinstance(inputs, TokenInputs):
        inputs = with_stream(inputs, dtm, sources, loop)
    coder = centroids_of(inputs.tokenizer, inputs.where).to(world.device)
    sees = "codebook" if on_tokens and ccvit.sees != "pixels" else "pixels"
    grid = grid_of(inputs, coder, sees, pixels)
    settings = model_keywords(model, ccvit, coder, grid, sees)
    shared = objective_keywords(ccvit, coder, grid, sees, unit=model.stem_kernel, on_tokens=on_tokens)
    plain, morphing = CentroidObjective(**shared), None
    if dtm:
        check_alignment(dtm, on_tokens and moves_tokens(augment, pixels, sees))
        width = settings["size"].width
        reads = Reads("ccvit", plain.patch_grid, plain.unit, width, coder.codebook, sees == "codebook")
        morphing = morphing_of(dtm, sources, reads, inputs, loop, world)
        settings["morph_dim"] = morphing.head_dim
    change: Any = image_change(pixels)
    if isinstance(inputs, TokenInputs) and sees == "codebook":
        change = token_augmentation(inputs, augment, adapt_run, world, quantize=True)
    objective = plain.changed(change, morphing)
    as_images = sees == "pixels" and on_tokens

    def shown(store: Samples) -> Samples:
        return DecodedSamples(store, coder, grid) if as_images else store

    def evaluate(net: nn.Module, epoch: float) -> dict[str, float]:
        values = objective_metrics(net, plain, inputs.val, world) if inputs.val else {}
        return {"val_" + name: value for name, value in values.items()} | probes(
            net, inputs, shown, probe, loop, world, epoch
        )

    return train_and_export("ccvit", settings, objective, inputs, evaluate, run, loop, optimizer, world, **hooks)


def grid_of(inputs: Inputs, coder: CentroidTokenizer, sees: str, pixels: PretrainPixelSettings) -> tuple[int, int]:
    """The grid of codes that is learnt from; ValueError for a crop of it that decoded images would not have."""
    if not isinstance(inputs, TokenInputs):
        side = pixels.image_size // coder.patch_size
        return side, side
    if sees == "pixels" and inputs.grid != coder.grid:
        raise ValueError(
            f"model.grid_side {inputs.grid[0]} with ccvit.sees pixels; expected whole grids; leave it out, and crop by "
            "pixels.crop_area"
        )
    return inputs.grid


def objective_keywords(
    ccvit: CcvitSettings, coder: CentroidTokenizer, grid: tuple[int, int], sees: str, *, unit: int, on_tokens: bool
) -> dict[str, Any]:
    """Keywords of `CentroidObjective`."""
    masked, replaced = ccvit.counts(patch_grid_of(grid, unit), on_tokens=on_tokens)
    return {
        "tokenizer": coder,
        "grid": grid,
        "unit": unit,
        "sees": sees,
        "loss": ccvit.loss,
        "replace": ccvit.how(on_tokens=on_tokens),
        "num_masked": masked,
        "num_replaced": replaced,
        "min_block": ccvit.min_block,
        "num_near": ccvit.num_near,
        "soft_tau": ccvit.soft_tau,
        "pixel_weight": ccvit.pixel_weight,
        "min_std": ccvit.least_std(on_tokens=on_tokens),
    }


def probes(
    net: nn.Module,
    inputs: Inputs,
    shown: Any,
    probe: ProbeSettings,
    loop: LoopSettings,
    world: World,
    epoch: float,
) -> dict[str, float]:
    """Probes of the encoder where they are due; those that need labels where there are some."""
    probing = asdict(probe)
    every = probing.pop("every_epochs")
    if not (every and (round(epoch) % every == 0 or epoch >= loop.epochs)):
        return {}
    train: Any = inputs.train
    if isinstance(inputs, TokenInputs):
        train = cropped(getattr(train, "first", train), inputs.dataset.info.grid, inputs.grid)
    val = shown(inputs.val) if inputs.val else None
    return probe_metrics(net, shown(train), val, len(inputs.class_names or []), world, **probing)


def with_tokenizer(inputs: Inputs, pixels: PretrainPixelSettings, tokenizer: Folder, unit: int) -> Inputs:
    """Images with the tokenizer that names their patches."""
    coder, about = load_tokenizer(tokenizer)
    patch = centroids_of(coder, tokenizer.uri).patch_size
    if pixels.image_size % patch:
        raise ValueError(
            f"pixels.image_size {pixels.image_size} with a tokenizer of {patch}x{patch} patches; expected a multiple; "
            f"set {pixels.image_size // patch * patch or patch}"
        )
    identity = {**inputs.identity, "patch_size": unit * patch, "tokenizer": about["fingerprint"]}
    return replace(inputs, tokenizer=coder, identity=identity)


def centroids_of(tokenizer: Tokenizer | None, where: str) -> CentroidTokenizer:
    """ValueError unless it is a centroid tokenizer, whose codes are pixels."""
    if not isinstance(tokenizer, CentroidTokenizer):
        family = tokenizer.family if tokenizer else None
        raise ValueError(
            f"tokenizer {family} of {where} for objective ccvit; expected a centroid tokenizer, whose codes are "
            "pixels; take a dataset of one, or objective=mtm"
        )
    return tokenizer


def model_keywords(
    model: ModelSettings, ccvit: CcvitSettings, coder: CentroidTokenizer, grid: tuple[int, int], sees: str
) -> dict[str, Any]:
    """Keywords of `build_model("ccvit")`."""
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
