"""What a run learns from: a token dataset, or images, as stores in memory and the numbers that they decide."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from seit_ray.batches.contract import SampleStore, TokenSamples
from seit_ray.batches.images import ImageStore
from seit_ray.batches.stream import open_split
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.models.variants import model_grid
from seit_ray.progress import Progress, silent
from seit_ray.runs.settings import PixelSettings
from seit_ray.shards.dataset import TokenDataset, check_classes, identity_of
from seit_ray.storage import Folder
from seit_ray.tokenizers.contract import Tokenizer
from seit_ray.tokenizers.files import load_tokenizer


@dataclass(frozen=True)
class Inputs:
    """Stores of the splits, and what the data decides: of the run's `identity`, and the grid that the model sees."""

    train: SampleStore
    val: SampleStore | None
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


def image_inputs(
    images: Folder,
    *,
    source: SourceSettings,
    pixels: PixelSettings,
    seed: int,
    need_labels: bool = True,
    on_progress: Progress = silent,
) -> Inputs:
    """The train and val splits of a source of images, decoded into memory, for a classifier of pixels."""
    size = pixels.image_size
    stores = ImageStore.read(
        images,
        source,
        image_size=size,
        resize=pixels.resize,
        val_fraction=pixels.val_fraction,
        seed=seed,
        max_images=pixels.max_images,
        on_progress=on_progress,
    )
    if "train" not in stores:
        raise ValueError(f"{images.uri} has no train split; expected one; name its folder train")
    unlabelled = sum(int((store.labels < 0).sum()) for store in stores.values())
    if unlabelled and need_labels:
        raise ValueError(
            f"{images.uri} has {unlabelled} images without a label; expected a label for each; sort them into a folder "
            "per class"
        )
    return Inputs(
        train=stores["train"],
        val=stores.get("val"),
        class_names=stores["train"].class_names,
        identity={"image_size": size, "patch_size": pixels.patch_size, "resize": pixels.resize},
        grid=(size, size),
        where=images.uri,
    )
