"""Figures and pictures of a finished segmenter on tokens or images with label maps, on any ranks."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from seit_ray.batches.images import ImageRows
from seit_ray.evaluation.image_segmenter import ImageSegmenter
from seit_ray.evaluation.pairs import ImagePairs, PairBatch, Pairs, TokenPairs
from seit_ray.evaluation.segmentation import SegmentCounts, WindowedSegmenter, figures_of, labels_at
from seit_ray.images.decode import MAX_PIXELS
from seit_ray.images.decoded import Decoding
from seit_ray.images.fetch import MAX_BYTES
from seit_ray.images.label_maps import VOID, middle_cells, squash_map
from seit_ray.images.listing import list_images
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.models.about import check_void
from seit_ray.models.exports import import_model
from seit_ray.runs.evaluate_images import check_alike
from seit_ray.runs.evaluate_tokens import check_names
from seit_ray.shards.dataset import TokenDataset, check_maps, identity_of
from seit_ray.storage import Folder
from seit_ray.tokenizers.contract import Tokenizer
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.training.identity import check_same
from seit_ray.training.precision import autocast, precision_of
from seit_ray.training.world import World

ROWS_PER_PART = 64
SHOWN, SHOWN_SIDE = 6, 192  # images in the picture, and their side in pixels


@dataclass(frozen=True)
class Shown:
    """One image of the picture: image uint8 [3,S,S], truth and told uint8 [S,S] with VOID; row: its number."""

    row: int
    image: np.ndarray
    truth: np.ndarray
    told: np.ndarray


def evaluate_segments(
    *,
    run: Folder,
    split: str,
    batch_size: int,
    world: World,
    weights: str = "model",
    dataset: Folder | None = None,
    images: Folder | None = None,
    source: SourceSettings | None = None,
    val_fraction: float = 0.0,
    seed: int = 0,
    tokenizer: Folder | None = None,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    **hooks: object,
) -> dict[str, Any]:
    """`figures_of` a finished segmenter on a split of a token dataset, or of images with maps through its tokenizer.

    Beside them listed = samples + rejected (of images), and `pictures`: images, truths and what was told of a few.
    ValueError for other classes than the run's, and tokens of another tokenizer.
    """
    del hooks  # one pass over a split: no metrics on the way
    if dataset is not None:
        return of_tokens(run, dataset, split, weights, batch_size, world)
    assert images is not None
    assert source is not None
    with tempfile.TemporaryDirectory(prefix="seit_ray-") as name:
        whole = ImageSegmenter.load(run, tokenizer=tokenizer, weights=weights).to(world.device)
        manifest = list_images(
            images, source, Folder(name), val_fraction=val_fraction, seed=seed, rows_per_part=ROWS_PER_PART
        )
        check_alike(manifest, world, images.uri)
        if split not in manifest.splits:
            raise ValueError(f"split {split!r} of {images.uri}; expected one of {sorted(manifest.splits)}; correct it")
        check_classes_of(manifest.class_names, whole.class_names, images, run)
        check_void(manifest.void, whole.about, images.uri, run.uri)
        decoding = Decoding(
            whole.image_size, whole.resize, source.image_column, whole.decode, max_bytes, max_pixels, masks=True
        )
        pairs = ImagePairs(ImageRows(manifest, split), images, decoding)
        return evaluated(
            whole.windowed, pairs, whole.class_names, split, whole.about, whole.tokenizer, whole, batch_size, world
        )


def of_tokens(run: Folder, dataset: Folder, split: str, weights: str, batch_size: int, world: World) -> dict[str, Any]:
    """Those on a split of a token dataset, whose identity and class names have to be the run's."""
    model, about = import_model(run, "segmenter", weights)
    tokens = TokenDataset(dataset)
    check_maps(tokens)
    check_same(about, identity_of(tokens), run.uri)
    names = check_names(tokens, about, run)
    check_void(tokens.info.void, about, dataset.uri, run.uri)
    tokens.split(split)
    coder = load_tokenizer(dataset.join("tokenizer"))[0]
    segmenter = WindowedSegmenter(model.to(world.device), tokens.info.grid, about.get("stride"))
    return evaluated(segmenter, TokenPairs(tokens, split), names, split, about, coder, None, batch_size, world)


def check_classes_of(found: list[str] | None, names: list[str], images: Folder, run: Folder) -> None:
    """ValueError unless images have label maps of the run's classes, by number, and by name where they have names."""
    if found is None:
        raise ValueError(
            f"{images.uri} without label maps; expected them for a segmenter; set source.masks or source.mask_column"
        )
    plain = [str(number) for number in range(len(found))]
    if len(found) != len(names) or (found != names and found != plain):
        raise ValueError(
            f"{images.uri} has {len(found)} classes; expected the {len(names)} that {run.uri} was trained with, by the "
            "same names; set source.class_names or source.num_classes"
        )


def evaluated(
    segmenter: WindowedSegmenter,
    pairs: Pairs,
    names: list[str],
    split: str,
    about: dict[str, Any],
    coder: Tokenizer | None,
    whole: ImageSegmenter | None,
    batch_size: int,
    world: World,
) -> dict[str, Any]:
    """One pass over a split; `whole` where inputs are images that it has to tokenise."""
    counts = SegmentCounts(len(pairs), len(names), world.device)
    segmenter.model.eval()
    wanted = {*np.linspace(0, len(pairs) - 1, min(SHOWN, len(pairs))).round().astype(int).tolist()}
    shown: list[Shown] = []
    rejected: list[tuple[str, str]] = []
    with torch.inference_mode(), autocast(world.device, precision_of(about, world.device)):
        for batch in pairs.batches(batch_size, world):
            rejected += batch.rejected
            if not len(batch.rows):
                continue
            inputs = batch.inputs.to(world.device)
            tokens = whole.tokens(inputs) if whole is not None else inputs
            for place, logits in enumerate(segmenter(tokens)):
                truth = batch.maps[place]
                told = labels_at(logits, truth.shape)
                counts.add(int(batch.rows[place]), torch.from_numpy(truth.copy()).to(world.device), told)
                if int(batch.rows[place]) in wanted:
                    shown.append(shown_of(batch, place, told, coder))
    figures = figures_of(counts.sum(world), names)
    everything = [row for rows in world.gather(rejected) for row in rows]
    if not figures["samples"]:
        why = f" ({everything[0][0]}: {everything[0][1]})" if everything else ""
        raise ValueError(f"split {split!r} has no image with a label map that counts{why}; expected some; mend them")
    return {
        "split": split,
        **figures,
        "listed": len(pairs),
        "rejected": [{"key": key, "reason": reason} for key, reason in everything],
        "pictures": sorted((one for some in world.gather(shown) for one in some), key=lambda one: one.row),
    }


def shown_of(batch: PairBatch, place: int, told: torch.Tensor, coder: Tokenizer | None) -> Shown:
    """What the picture shows of an image: its tokens as pixels, or itself."""
    values = batch.inputs[place : place + 1]
    if values.ndim == 2:
        assert coder is not None  # tokens have one
        try:
            values = coder.decode(values.to(coder.codebook.device)).cpu()
        except ValueError:  # only its codebook is at hand
            values = torch.full((1, 3, SHOWN_SIDE, SHOWN_SIDE), 128, dtype=torch.uint8)
    image = values[0].numpy()
    cells = middle_cells(image.shape[1], SHOWN_SIDE)
    return Shown(
        int(batch.rows[place]),
        np.ascontiguousarray(image[:, cells][:, :, cells]),
        squash_map(batch.maps[place], SHOWN_SIDE),
        squash_map(np.where(batch.maps[place] == VOID, VOID, told.cpu().numpy()).astype(np.uint8), SHOWN_SIDE),
    )
