"""What a run learns from: a token dataset, or images, as stores in memory and the numbers that they decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from seit_ray.batches import ImageStore, TokenStore, TokenStream, open_split
from seit_ray.shards import TokenDataset
from seit_ray.storage import Folder
from seit_ray.tokenizers import load_tokenizer
from seit_ray.tokenizers.contract import Tokenizer


@dataclass(frozen=True)
class Inputs:
    """Stores of the splits, and what the data decides of the model (`settings`) and of the run's `identity`."""

    train: TokenStore | TokenStream | ImageStore
    val: TokenStore | TokenStream | ImageStore | None
    class_names: list[str] | None
    identity: dict[str, Any]
    settings: dict[str, Any]
    where: str
    tokenizer: Tokenizer | None = None
    dataset: TokenDataset | None = field(default=None, repr=False)

    @property
    def num_classes(self) -> int:
        """Classes of the labels; ValueError when there are none to tell apart."""
        return check_classes(self.class_names, self.where)


def check_classes(names: list[str] | None, where: str) -> int:
    """How many classes there are; ValueError when there are none to tell apart."""
    if not names or len(names) < 2:
        raise ValueError(
            f"{where} has {len(names or [])} classes; expected at least 2; take a folder per class or a table "
            "with labels"
        )
    return len(names)


def identity_of(dataset: TokenDataset) -> dict[str, Any]:
    """What a model and the tokens it is given must agree on."""
    info = dataset.info
    return {"tokenizer": info.tokenizer, "grid": list(info.grid), "codebook_size": info.codebook_size}


def model_grid(grid: tuple[int, int], grid_side: int | None) -> tuple[int, int]:
    """The grid that a model sees: the whole, or a square crop of it; ValueError when the crop is larger."""
    if grid_side is None:
        return tuple(grid)
    if grid_side > min(grid):
        raise ValueError(f"model.grid_side {grid_side}; expected at most {min(grid)}, the tokens' grid; lower it")
    return (grid_side, grid_side)


def cropped(
    store: TokenStore | TokenStream, grid: tuple[int, int], out_grid: tuple[int, int]
) -> TokenStore | TokenStream:
    """The centre crop of every row, as evaluation sees it."""
    if tuple(grid) == tuple(out_grid):
        return store
    return store.cropped(tuple(grid), tuple(out_grid))


def token_inputs(
    folder: Folder, *, need_labels: bool, grid_side: int | None, inputs: str, memory_gib: float | None = None
) -> Inputs:
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
    settings: dict[str, Any] = {"grid": grid, "num_codes": info.codebook_size}
    if inputs == "codebook":
        settings["codebook"] = tokenizer.codebook
    return Inputs(
        train=train,
        val=cropped(val, info.grid, grid) if val else None,
        class_names=info.class_names,
        identity=identity_of(dataset),
        settings=settings,
        where=folder.uri,
        tokenizer=tokenizer,
        dataset=dataset,
    )


def image_inputs(
    images: Folder,
    *,
    source: dict[str, Any],
    pixels: dict[str, Any],
    seed: int,
    on_progress: Callable[[str, int, int, str], None] = lambda phase, done, total, note: None,
) -> Inputs:
    """The train and val splits of a source of images, decoded into memory, for a classifier of pixels."""
    size = pixels["image_size"]
    stores = ImageStore.read(
        images,
        source,
        image_size=size,
        resize=pixels["resize"],
        val_fraction=pixels["val_fraction"],
        seed=seed,
        max_images=pixels["max_images"],
        on_progress=on_progress,
    )
    if "train" not in stores:
        raise ValueError(f"{images.uri} has no train split; expected one; name its folder train")
    unlabelled = sum(int((store.labels < 0).sum()) for store in stores.values())
    if unlabelled:
        raise ValueError(
            f"{images.uri} has {unlabelled} images without a label; expected a label for each; sort them into a folder "
            "per class"
        )
    return Inputs(
        train=stores["train"],
        val=stores.get("val"),
        class_names=stores["train"].class_names,
        identity={"image_size": size, "patch_size": pixels["patch_size"], "resize": pixels["resize"]},
        settings={"grid": (size, size)},
        where=images.uri,
    )
