"""Figures of a finished classifier on a split of a token dataset, on any ranks."""

from __future__ import annotations

from functools import partial
from typing import Any

from seit_ray.augment.lookup import mirror_codes, mirrored
from seit_ray.batches.stream import open_split
from seit_ray.evaluation.classification import View, figures_of_views, view_counts
from seit_ray.models.about import check_class_names
from seit_ray.models.exports import import_model
from seit_ray.runs.inputs import cropped
from seit_ray.shards import TokenDataset
from seit_ray.shards.dataset import identity_of
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.training.identity import check_same
from seit_ray.training.precision import autocast, precision_of
from seit_ray.training.world import World


def evaluate_tokens(
    *,
    dataset: Folder,
    run: Folder,
    split: str,
    batch_size: int,
    world: World,
    weights: str = "model",
    mirror: bool = False,
    **hooks: object,
) -> dict[str, Any]:
    """Figures of a finished fine-tuning run on a split: top1, top5, loss, per_class_top1, samples.

    mirror: those of the mean of the logits of tokens and of their mirror image too, as "mirrored"; of a tokenizer whose
    codes are pixels.
    """
    del hooks  # one pass over a split: nothing to report on the way
    tokens = TokenDataset(dataset)
    model, about = import_model(run, "classifier", weights)
    check_same(about, identity_of(tokens), run.uri)
    names = check_names(tokens, about, run)
    store = cropped(open_split(tokens, split, need_labels=True), tokens.info.grid, model.grid)
    mirror_of = mirror_view(dataset, model.grid, world) if mirror else None
    with autocast(world.device, precision_of(about, world.device)):
        counts = view_counts(model.to(world.device), store, len(names), world, batch_size, mirror_of)
    return {"split": split, **figures_of_views(counts, names)}


def mirror_view(dataset: Folder, grid: tuple[int, int], world: World) -> View:
    """Tokens [B,L] of a grid -> those of their mirror images."""
    tokenizer, _ = load_tokenizer(dataset.join("tokenizer"))
    return partial(mirrored, codes=mirror_codes(tokenizer.codebook.to(world.device)), grid=grid)


def check_names(tokens: TokenDataset, about: dict[str, Any], run: Folder) -> list[str]:
    """The classes of a dataset; ValueError unless they are those of a run, by name."""
    return check_class_names(tokens.info.class_names, about, tokens.folder.uri, run.uri)
