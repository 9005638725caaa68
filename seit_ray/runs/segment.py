"""Training a segmenter, a class for each pixel, of tokens or of pixels, from a trained run or from scratch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

from torch import Tensor, nn

from seit_ray.augment.chain import Augmented
from seit_ray.augment.label_maps import ImageMapAugment, TokenMapAugment
from seit_ray.augment.random import StepRandom
from seit_ray.batches.images import ImageRows
from seit_ray.evaluation.pairs import ImagePairs, Pairs, TokenPairs
from seit_ray.evaluation.segmentation import WindowedSegmenter, figures_of, segment_counts
from seit_ray.images.decoded import Decoding
from seit_ray.images.sources.maps import check_resize
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.models.variants import taken_blocks
from seit_ray.objectives import SegmentObjective
from seit_ray.progress import silent
from seit_ray.runs.augmentation import token_augmentation
from seit_ray.runs.contents import adapt_contents
from seit_ray.runs.finetune import pixel_settings, start_settings, token_settings
from seit_ray.runs.inputs import Inputs, TokenInputs, image_inputs, map_inputs
from seit_ray.runs.listing import listed_once
from seit_ray.runs.settings import AugmentationSettings, ClassifierSettings, PixelSettings, SegmentSettings
from seit_ray.runs.train import train_and_export
from seit_ray.storage import Folder
from seit_ray.training.requests import Hooks
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from seit_ray.training.world import World

EVAL_BATCH = 16  # images: their logits are a number a class and pixel
KEPT = ("miou", "mean_accuracy", "pixel_accuracy")  # of the figures, as metrics on the way


@dataclass(frozen=True)
class Read:
    """What a segmenter learns from, and what that decides.

    val: what is measured on the way; void: the maps' value that is no class; whole: the grid of a whole image;
    settings: keywords of `build_model`; contents: what else goes into the run's identity.
    """

    inputs: Inputs
    val: Pairs | None
    void: int | None
    whole: tuple[int, int]
    settings: dict[str, Any]
    augmentation: Callable[[Tensor, Tensor, StepRandom], Augmented]
    contents: dict[str, str]


def segment(
    *,
    run: Folder,
    model: ClassifierSettings,
    segment: SegmentSettings,
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
    """A segmenter of tokens (`dataset`) or of pixels (`images`) with label maps, from a trained run or from scratch.

    Positions of that run are resampled to the grid; otherwise as `finetune`. Sources: CCViT, semantic segmentation, for
    the frame; SeiT++, section 4, for tokens.
    """
    if images is not None:
        read = read_pixels(images, run, source, pixels, model, segment, loop, world, **hooks)
    elif dataset is not None:
        read = read_tokens(dataset, model, segment, augment, adapt_run, world, loop.memory_gib)
    else:
        raise ValueError("dataset None and images None; expected one of them; give what to train on")
    encoder = start_settings(model.encoder, read.inputs, init_from, transfer=transfer)
    return train_and_export(
        "segmenter",
        head_settings(read.settings | encoder, segment),
        SegmentObjective(aux_weight=segment.aux_weight, augment=read.augmentation),
        read.inputs,
        partial(val_metrics, read, segment.stride, world),
        run,
        loop,
        optimizer,
        world,
        init_from=init_from,
        init_weights=init_weights,
        transfer=transfer,
        train_only=model.train_only,
        contents=read.contents,
        more={"stride": segment.stride, "void": read.void},
        **hooks,
    )


def val_metrics(read: Read, stride: int | None, world: World, net: nn.Module, done: int) -> dict[str, float]:
    """Figures of the val split, on the way; none where there is none."""
    if read.val is None:
        return {}
    segmenter = WindowedSegmenter(net, read.whole, stride)
    counts = segment_counts(segmenter, read.val, read.inputs.num_classes, world, EVAL_BATCH)
    figures = figures_of(counts, read.inputs.class_names or [])
    return {f"val_{name}": figures[name] for name in KEPT}


def read_tokens(
    dataset: Folder,
    model: ClassifierSettings,
    segment: SegmentSettings,
    augment: AugmentationSettings,
    adapt_run: Folder | None,
    world: World,
    memory_gib: float | None,
) -> Read:
    """Of a token dataset; ValueError where it has no label maps."""
    inputs = map_inputs(dataset, grid_side=model.grid_side, memory_gib=memory_gib)
    chain = token_augmentation(inputs, augment, adapt_run, world, quantize=model.inputs == "learned")
    return Read(
        inputs,
        val_pairs(inputs),
        inputs.dataset.info.void,
        inputs.dataset.info.grid,
        token_settings(model, inputs),
        TokenMapAugment(chain, num_classes=inputs.num_classes, max_share=segment.max_class_share),
        adapt_contents(augment, adapt_run),
    )


def read_pixels(
    images: Folder,
    run: Folder,
    source: SourceSettings | None,
    pixels: PixelSettings | None,
    model: ClassifierSettings,
    segment: SegmentSettings,
    loop: LoopSettings,
    world: World,
    **hooks: Unpack[Hooks],
) -> Read:
    """Of images with label maps."""
    pixels = pixels or PixelSettings()
    inputs, val, void = pixel_pairs(images, run, source or SourceSettings(), pixels, loop, world, **hooks)
    augmentation = ImageMapAugment(
        num_classes=inputs.num_classes,
        crop_area=pixels.crop_area,
        flip_prob=pixels.flip_prob,
        max_share=segment.max_class_share,
    )
    return Read(inputs, val, void, inputs.grid, pixel_settings(model, inputs, pixels.patch_size), augmentation, {})


def val_pairs(tokens: TokenInputs) -> Pairs | None:
    """The val split of a token dataset; None where there is none."""
    split = tokens.dataset.info.splits.get("val")
    return TokenPairs(tokens.dataset, "val") if split and split.rows else None


def pixel_pairs(
    images: Folder,
    run: Folder,
    source: SourceSettings,
    pixels: PixelSettings,
    loop: LoopSettings,
    world: World,
    **hooks: Unpack[Hooks],
) -> tuple[Inputs, Pairs | None, int | None]:
    """Images with label maps as stores, their val split, the maps' void; ValueError for a source without maps."""
    if not source.has_maps:
        raise ValueError(
            "images without source.masks or source.mask_column; expected a label map for each image; set one of them"
        )
    check_resize(source, pixels.resize)
    progress = hooks.get("on_progress", silent)
    inputs = image_inputs(
        images,
        run,
        source=source,
        pixels=pixels,
        world=world,
        need_labels=False,
        masks=True,
        memory_gib=loop.memory_gib,
        on_progress=progress,
    )
    manifest = listed_once(images, source, run, world, val_fraction=pixels.val_fraction, seed=pixels.seed)
    if "val" not in manifest.splits or not manifest.splits["val"].num_images:
        return inputs, None, manifest.void
    decoding = Decoding(pixels.image_size, pixels.resize, source.image_column, masks=True)
    rows = ImageRows.of(manifest, "val", pixels.max_images, pixels.seed)
    return inputs, ImagePairs(rows, images, decoding), manifest.void


def head_settings(settings: dict[str, Any], segment: SegmentSettings) -> dict[str, Any]:
    """Keywords of `build_segmenter`: those of a classifier with the heads in place of its own."""
    kept = {name: value for name, value in settings.items() if name != "pool"}
    return kept | {
        "head": segment.head,
        "head_width": segment.head_width,
        "aux_width": segment.aux_width,
        "taken": taken_blocks(settings["size"].depth, segment.blocks),
    }
