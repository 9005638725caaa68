"""What an encoder knows of the classes while it is pre-trained without them: linear and kNN probes of its features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from seit_ray.batches.contract import Samples
from seit_ray.batches.crop import center_crop_tokens
from seit_ray.evaluation.features import labelled_sample, split_features
from seit_ray.evaluation.knn import knn_probe
from seit_ray.evaluation.linear_probe import linear_probe
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.models.vit import TokenViT
from seit_ray.tokenizers.exact import exact_products
from seit_ray.training.world import World

METHODS = ("linear", "knn")
PROBE_SEED = 0x5E17  # the samples are the same for every run, epoch and world size


def probe_metrics(
    model: nn.Module,
    train_store: Samples,
    val_store: Samples,
    num_classes: int,
    world: World,
    *,
    grid: tuple[int, int] | None = None,
    max_train: int = 10_000,
    max_val: int = 10_000,
    k: int = 20,
    methods: Sequence[str] = METHODS,
    batch_size: int = 512,
) -> dict[str, float]:
    """probe_linear_top1 and probe_knn_top1 (shares) of a model's features, scored on val; alike on every rank.

    Fitted on a seeded sample of `max_train` labelled rows of train, scored on `max_val` of val; k is lowered to the
    number of train rows. `grid` is that of the stores' tokens, the model's own by default: the centre of a larger one
    is taken. Nothing where train has not two classes or val no label. The model is left in the mode it was in, and no
    global generator is drawn from. ValueError for an unknown method.
    """
    unknown = [m for m in methods if m not in METHODS]
    if unknown:
        raise ValueError(f"probe method {unknown[0]!r}; expected some of {', '.join(METHODS)}; correct it")
    train, val = (labelled_sample(s, n, PROBE_SEED) for s, n in ((train_store, max_train), (val_store, max_val)))
    if not len(val) or len(set(train.labels.tolist())) < 2:
        return {}
    encode, was_training = encoder_of(model, grid), model.training
    model.eval()
    try:
        train_x, train_y = split_features(encode, train, world, batch_size=batch_size)
        val_x, val_y = split_features(encode, val, world, batch_size=batch_size)
    finally:
        model.train(was_training)
    # Every rank has all features and scores them itself: no rank waits for another, whatever goes wrong.
    metrics = {}
    with exact_products(world.device):  # only the encoder runs in the precision of the training
        if "linear" in methods:
            metrics["probe_linear_top1"] = linear_probe(train_x, train_y, val_x, val_y, num_classes).top1
        if "knn" in methods:
            found = knn_probe(train_x, train_y, val_x, val_y, num_classes, k=min(k, len(train)))
            metrics["probe_knn_top1"] = found.top1
    return metrics


def encoder_of(model: nn.Module, grid: tuple[int, int] | None = None) -> Callable[[Tensor], Tensor]:
    """From the inputs of a store, with tokens of `grid` [B,L], to the features [B,D] of a known model."""
    if isinstance(model, MaskedTokenModel):
        features = model.features
    elif isinstance(model, TokenViT):
        features = model.forward_features
    else:  # those of BEiT: by attribute and not by type, since timm, which they are of, takes seconds to import
        found = getattr(model, "features", None) or getattr(model, "forward_features", None)
        if found is None:
            raise ValueError(
                f"model {type(model).__name__} to probe; expected a MaskedTokenModel or TokenViT, or one with "
                "features; pass the bare model"
            )
        features = found
    out_grid: Any = model.grid
    if grid is None or grid == out_grid:
        return features
    return lambda tokens: features(center_crop_tokens(tokens, grid, out_grid))
