"""Figures of a finished classifier on a split of a token dataset, on any ranks."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from seit_ray.augment.lookup import mirrored
from seit_ray.batches.stream import open_split
from seit_ray.evaluation.classification import class_counts, figures_of_counts
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
    models: dict[str, nn.Module] = {"": model.to(world.device)}
    if mirror:
        codebook = load_tokenizer(dataset.join("tokenizer"))[0].codebook
        models["mirrored"] = WithMirrored(model, codebook.to(world.device), model.grid)
    found = dict[str, Any]()
    with autocast(world.device, precision_of(about, world.device)):
        for name, one in models.items():
            counts = class_counts(one, store, len(names), world, batch_size)
            figures = figures_of_counts(counts.cpu(), names)
            found |= {name: figures} if name else figures
    return {"split": split, **found}


class WithMirrored(nn.Module):
    """Tokens [B,L] -> the mean of a model's logits [B,C] of them and of their mirror image."""

    def __init__(self, model: nn.Module, codebook: Tensor, grid: tuple[int, int]):
        super().__init__()
        self.model, self.codebook, self.grid = model, codebook, grid

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.model(tokens) + self.model(mirrored(tokens, self.codebook, self.grid))
        return logits / 2


def check_names(tokens: TokenDataset, about: dict[str, Any], run: Folder) -> list[str]:
    """The classes of a dataset; ValueError unless they are those of a run, by name."""
    return check_class_names(tokens.info.class_names, about, tokens.folder.uri, run.uri)
