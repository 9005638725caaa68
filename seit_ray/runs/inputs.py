"""What a run learns from: a token dataset, or images, as stores, and the numbers that they decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from seit_ray.batches.contract import Samples, SampleStore, TokenSamples
from seit_ray.batches.crop import Centred
from seit_ray.batches.images import ImageStream, ReadImages, open_images
from seit_ray.batches.stream import open_split
from seit_ray.images.decoded import Decoding
from seit_ray.images.labels import refuse_unlabelled
from seit_ray.images.manifest import check_train
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.models.variants import model_grid
from seit_ray.progress import Progress, silent
from seit_ray.runs.listing import forget_listing, listed_once
from seit_ray.runs.settings import PixelSettings
from seit_ray.shards.dataset import TokenDataset, check_classes, check_maps, identity_of
from seit_ray.storage import Folder
from seit_ray.tokenizers.contract import Tokenizer
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.training.world import World


@dataclass(frozen=True)
class Inputs:
    """Stores of the splits, and what the data decides: of the run's `identity`, and the grid that the model sees."""

    train: SampleStore
    val: Samples | None
    class_names: list[str] | None
    identity: dict[str, Any]
    grid: tuple[int, int]
    where: str
    tokenizer: Tokenizer | None = None

    @property
    def num_classes(self) -> int:
        """Classes of the labels; ValueError when there are none to tell apart."""
        return check_classes(self.class_names, self.where)


@dataclass(frozen=True, kw_only=True)
class TokenInputs(Inputs):
    """Those of a token dataset."""

    train: TokenSamples
    tokenizer: Tokenizer
    dataset: TokenDataset = field(repr=False)

    @property
    def num_codes(self) -> int:
        """K."""
        return self.dataset.info.codebook_size


def cropped(store: TokenSamples, grid: tuple[int, int], out_grid: tuple[int, int]) -> TokenSamples:
    """The centre crop of every row, as evaluation sees it."""
    return store if grid == out_grid else store.cropped(grid, out_grid)


def seen_train(inputs: Inputs) -> Samples:
    """The train split as the model sees it without augmentation: of tokens, the centre."""
    if not isinstance(inputs, TokenInputs):
        return inputs.train
    store, grid = getattr(inputs.train, "first", inputs.train), inputs.dataset.info.grid
    return store if grid == inputs.grid else Centred(store, grid, inputs.grid)


def token_inputs(
    folder: Folder, *, need_labels: bool, grid_side: int | None, memory_gib: float | None = None
) -> TokenInputs:
    """The train and val splits of a token dataset; the val split cropped to the model's grid.

    Each is held in memory where it fits into `memory_gib` (half of the node's by default), and streamed else.

    The train split stays whole: its crops are drawn in every step.
    """
    dataset = TokenDataset(folder)
    info = dataset.info
    grid = model_grid(info.grid, grid_side)
    tokenizer, _ = load_tokenizer(folder.join("tokenizer"))
    train = open_split(dataset, "train", need_labels=need_labels, memory_gib=memory_gib)
    split = info.splits.get("val")
    val = None
    if split and split.rows:
        val = open_split(dataset, "val", need_labels=need_labels, memory_gib=memory_gib)
    return TokenInputs(
        train=train,
        val=cropped(val, info.grid, grid) if val else None,
        class_names=info.class_names,
        identity=identity_of(dataset),
        grid=grid,
        where=folder.uri,
        tokenizer=tokenizer,
        dataset=dataset,
    )


def map_inputs(folder: Folder, *, grid_side: int | None, memory_gib: float | None = None) -> TokenInputs:
    """The train split of a token dataset with its label maps, squashed to the images' size; ValueError without maps.

    Maps keep their own size in evaluation, which reads the val split itself (`evaluation.pairs`).
    """
    dataset = TokenDataset(folder)
    info = dataset.info
    check_maps(dataset)
    tokenizer, _ = load_tokenizer(folder.join("tokenizer"))
    train = open_split(dataset, "train", need_labels=False, memory_gib=memory_gib, map_side=info.image_size)
    return TokenInputs(
        train=train,
        val=None,
        class_names=info.class_names,
        identity=identity_of(dataset),
        grid=model_grid(info.grid, grid_side),
        where=folder.uri,
        tokenizer=tokenizer,
        dataset=dataset,
    )


def image_inputs(
    images: Folder,
    run: Folder,
    *,
    source: SourceSettings,
    pixels: PixelSettings,
    world: World,
    need_labels: bool = True,
    masks: bool = False,
    memory_gib: float | None = None,
    on_progress: Progress = silent,
) -> Inputs:
    """The train and val splits of a source of images, decoded as they are needed, for a classifier of pixels.

    val: what of it can be read. masks: with label maps in place of labels, for a segmenter.
    """
    size = pixels.image_size
    streams = image_streams(
        images,
        run,
        source=source,
        image_size=size,
        resize=pixels.resize,
        val_fraction=pixels.val_fraction,
        seed=pixels.seed,
        max_images=pixels.max_images,
        masks=masks,
        world=world,
        memory_gib=memory_gib,
        on_progress=on_progress,
    )
    for split, stream in streams.items() if need_labels else ():
        unlabelled = int((stream.labels < 0).sum())
        if unlabelled:
            forget_listing(run, world)
        refuse_unlabelled(unlabelled, split, images.uri)
    return Inputs(
        train=streams["train"],
        val=val_of(streams),
        class_names=streams["train"].class_names,
        identity={"image_size": size, "patch_size": pixels.patch_size, "resize": pixels.resize},
        grid=(size, size),
        where=images.uri,
    )


def val_of(streams: Mapping[str, ImageStream]) -> ReadImages | None:
    """The val split, where there is one, as figures are of it."""
    return ReadImages(streams["val"]) if "val" in streams else None


def image_streams(
    images: Folder,
    run: Folder,
    *,
    source: SourceSettings,
    image_size: int,
    resize: str,
    val_fraction: float,
    seed: int,
    max_images: int | None,
    world: World,
    masks: bool = False,
    memory_gib: float | None = None,
    on_progress: Progress = silent,
) -> dict[str, ImageStream]:
    """The images of every split, listed once for all ranks and all calls of a run; ValueError without a train split.

    The hold-out and the sample of max_images are drawn by `seed`, which is not that of the training.
    """
    manifest = listed_once(images, source, run, world, val_fraction=val_fraction, seed=seed, on_progress=on_progress)
    try:
        check_train(manifest, images.uri)
    except ValueError:
        forget_listing(run, world)
        raise
    return open_images(
        manifest,
        images,
        Decoding(image_size, resize, source.image_column, masks=masks),
        max_images=max_images,
        seed=seed,
        splits=("train",) if masks else None,  # maps of val are compared at their own size (`evaluation.pairs`)
        memory_gib=memory_gib,
        on_progress=on_progress,
    )
