"""What an encoder knows while it is pre-trained: linear and kNN probes of its features, and their effective rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from torch import Tensor, nn

from seit_ray.batches.contract import Samples
from seit_ray.evaluation.features import labelled_sample, split_features
from seit_ray.evaluation.knn import knn_probe
from seit_ray.evaluation.linear_probe import linear_probe
from seit_ray.evaluation.rankme import rankme
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.models.vit import TokenViT
from seit_ray.tokenizers.exact import exact_products
from seit_ray.training.world import World

METHODS = ("linear", "knn", "rankme")
PROBE_SEED = 0x5E17  # the samples are the same for every run, epoch and world size


def probe_metrics(
    model: nn.Module,
    train_store: Samples,
    val_store: Samples | None,
    num_classes: int,
    world: World,
    *,
    max_train: int = 10_000,
    max_val: int = 10_000,
    k: int = 20,
    temperature: float = 0.07,
    ridge: float | Literal["auto"] = "auto",
    epochs: int = 50,
    methods: Sequence[str] = METHODS,
    batch_size: int = 512,
) -> dict[str, float]:
    """Figures of a model's features, each with what it depends on beside it; alike on every rank.

    probe_linear_top1, probe_knn_top1 (shares), probe_rankme; probe_linear_ridge (that was taken), probe_linear_epochs,
    probe_knn_k, probe_knn_temperature, probe_..._samples. Fitted on a seeded sample of `max_train` labelled rows of
    train, scored on `max_val` of val; RankMe of as many of train, labelled or not; k is lowered to the number of train
    rows. No top-1 where train has not two classes or val no labelled row that can be read. The model is left in the
    mode it was in, and no global generator is drawn from. ValueError for an unknown method.
    """
    unknown = [m for m in methods if m not in METHODS]
    if unknown:
        raise ValueError(f"probe method {unknown[0]!r}; expected some of {', '.join(METHODS)}; correct it")
    train, seen = (labelled_sample(train_store, max_train, PROBE_SEED, need_labels=need) for need in (True, False))
    val = labelled_sample(val_store, max_val, PROBE_SEED) if val_store is not None else None
    scores = {"linear", "knn"} & set(methods)
    if val is None or not len(val) or len(set(train.labels.tolist())) < 2:
        scores = set()
    encode, was_training = encoder_of(model), model.training
    found: dict[str, tuple[Tensor, Tensor]] = {}
    model.eval()
    try:
        if scores and val is not None:
            found["train"] = split_features(encode, train, world, batch_size=batch_size)
            found["val"] = split_features(encode, val, world, batch_size=batch_size)
            scores = scores if len(found["val"][0]) else set()
        if "rankme" in methods and len(seen):
            is_same = "train" in found and np.array_equal(seen.rows, train.rows)
            found["rankme"] = found["train"] if is_same else split_features(encode, seen, world, batch_size=batch_size)
    finally:
        model.train(was_training)
    # Every rank has all features and scores them itself: no rank waits for another, whatever goes wrong.
    metrics: dict[str, float] = {}
    with exact_products(world.device):  # only the encoder runs in the precision of the training
        if "linear" in scores:
            fitted = linear_probe(*found["train"], *found["val"], num_classes, l2=ridge, max_iterations=epochs)
            metrics |= {"probe_linear_top1": fitted.top1, "probe_linear_ridge": fitted.l2}
            metrics["probe_linear_epochs"] = epochs
        if "knn" in scores:
            k = min(k, len(train))
            nearest = knn_probe(*found["train"], *found["val"], num_classes, k=k, temperature=temperature)
            metrics |= {"probe_knn_top1": nearest.top1, "probe_knn_k": k, "probe_knn_temperature": temperature}
        if "rankme" in found:
            metrics["probe_rankme"] = rankme(found["rankme"][0])
    return metrics | {f"probe_{name}_samples": len(labels) for name, (_, labels) in found.items()}


def encoder_of(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """From the inputs of a store to the features [B,D] of a known model."""
    if isinstance(model, MaskedTokenModel):
        return model.features
    if isinstance(model, TokenViT):
        return model.forward_features
    # those of BEiT: by attribute and not by type, since timm, which they are of, takes seconds to import
    found = getattr(model, "features", None) or getattr(model, "forward_features", None)
    if found is None:
        raise ValueError(
            f"model {type(model).__name__} to probe; expected a MaskedTokenModel or TokenViT, or one with features; "
            "pass the bare model"
        )
    return found
