"""The runs a user starts: token dataset in, trained model out. Plain keyword arguments, no Ray.

Each returns the last metrics, on every rank. `dataset` and `run` are folders; the same run continues.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from seit_ray.augment.synonyms import nearest_codes
from seit_ray.batches import TokenStore
from seit_ray.evaluation.classification import class_counts, classification_metrics, per_class_top1
from seit_ray.evaluation.masked import masked_metrics
from seit_ray.models import build_size, init_from_pretrained, load_weights
from seit_ray.objectives import MTMObjective, SupervisedObjective
from seit_ray.shards import TokenDataset
from seit_ray.storage import Folder
from seit_ray.tokenizers import load_tokenizer
from seit_ray.training.checkpoints import check_same
from seit_ray.training.exports import build_model, export_model, import_model, read_about
from seit_ray.training.loop import Trainer
from seit_ray.training.world import World

SIZE_KEYS = ("width", "depth", "num_heads", "decoder_width", "decoder_depth", "decoder_num_heads")


def identity_of(dataset: TokenDataset) -> dict[str, Any]:
    """What a model and the tokens it is given must agree on."""
    info = dataset.info
    return {"tokenizer": info.tokenizer, "grid": list(info.grid), "codebook_size": info.codebook_size}


def model_settings(model: dict[str, Any], dataset: TokenDataset, **more: Any) -> dict[str, Any]:
    """Numbers of a model: the user's, and those that the dataset decides."""
    given = dict(model)
    size = build_size(given.pop("size"), **{key: given.pop(key) for key in SIZE_KEYS})
    return {
        "size": size,
        "grid": tuple(dataset.info.grid),
        "num_codes": dataset.info.codebook_size,
        **given,
        **more,
    }


def num_classes_of(dataset: TokenDataset) -> int:
    """Classes of a labelled dataset; ValueError when there are none to tell apart."""
    names = dataset.info.class_names
    if not names or len(names) < 2:
        raise ValueError(
            f"{dataset.folder.uri} has {len(names or [])} classes; expected at least 2; tokenise from a folder per "
            "class or a table with labels"
        )
    return len(names)


def val_store(dataset: TokenDataset, *, need_labels: bool) -> TokenStore | None:
    """The val split in memory; None when the dataset has none."""
    split = dataset.info.splits.get("val")
    return TokenStore.read(dataset, "val", need_labels=need_labels) if split and split.rows else None


def pretrain(
    *,
    dataset: Folder,
    run: Folder,
    model: dict[str, Any],
    masking: dict[str, Any],
    loop: dict[str, Any],
    optimizer: dict[str, Any],
    world: World,
    **hooks: Callable,
) -> dict[str, Any]:
    """Masked token modelling on the train split (SeiT++, section 3)."""
    tokens = TokenDataset(dataset)
    objective = MTMObjective(**masking)
    settings = model_settings(model, tokens, mask_ratio_min=masking["mask_ratio_min"])
    store, val = TokenStore.read(tokens, "train", need_labels=False), val_store(tokens, need_labels=False)

    def evaluate(net: torch.nn.Module) -> dict[str, float]:
        values = masked_metrics(net, objective, val, world) if val else {}
        return {"val_" + name: value for name, value in values.items()}

    return train_and_export(
        "mtm", settings, objective, store, evaluate, tokens, run, loop, optimizer, world, None, **hooks
    )


def finetune(
    *,
    dataset: Folder,
    run: Folder,
    init_from: Folder | None,
    model: dict[str, Any],
    label_smoothing: float,
    augment: dict[str, Any],
    loop: dict[str, Any],
    optimizer: dict[str, Any],
    world: World,
    **hooks: Callable,
) -> dict[str, Any]:
    """A classifier of tokens, from a pre-training run's encoder or from scratch (SeiT++, section 4)."""
    tokens = TokenDataset(dataset)
    classes = num_classes_of(tokens)
    settings = model_settings(model, tokens, num_classes=classes)
    if init_from is not None:
        check_same(read_about(init_from, "mtm"), identity_of(tokens), init_from.uri)
    store, val = TokenStore.read(tokens, "train", need_labels=True), val_store(tokens, need_labels=True)

    def evaluate(net: torch.nn.Module) -> dict[str, float]:
        values = classification_metrics(net, val, classes, world) if val else {}
        return {"val_" + name: value for name, value in values.items()}

    objective = SupervisedObjective(label_smoothing=label_smoothing, **synonym_settings(tokens, augment, world))
    return train_and_export(
        "classifier",
        settings,
        objective,
        store,
        evaluate,
        tokens,
        run,
        loop,
        optimizer,
        world,
        init_from,
        **hooks,
    )


def synonym_settings(dataset: TokenDataset, augment: dict[str, Any], world: World) -> dict[str, Any]:
    """The objective's synonym replacement: a table from the dataset's own codebook; nothing where the share is 0."""
    if not augment["synonym_share"]:
        return {}
    tokenizer, _ = load_tokenizer(dataset.folder.join("tokenizer"))
    synonyms = nearest_codes(tokenizer.codebook, augment["num_synonyms"]).to(world.device)
    return {"synonyms": synonyms, "synonym_share": augment["synonym_share"]}


def train_and_export(
    kind: str,
    settings: dict[str, Any],
    objective: Any,
    store: TokenStore,
    evaluate: Callable[[torch.nn.Module], dict[str, float]],
    tokens: TokenDataset,
    run: Folder,
    loop: dict[str, Any],
    optimizer: dict[str, Any],
    world: World,
    init_from: Folder | None,
    **hooks: Callable,
) -> dict[str, Any]:
    """Build the seeded model, train it, write it out."""
    torch.manual_seed(loop["seed"])
    model = build_model(kind, settings)
    if init_from is not None:
        init_from_pretrained(model, load_weights(init_from.read("model.safetensors")))
    identity = {"kind": kind, **identity_of(tokens), "init_from": init_from.uri if init_from else None}
    trainer = Trainer(
        model=model,
        objective=objective,
        store=store,
        evaluate=evaluate,
        run=run,
        loop=loop,
        optimizer=optimizer,
        identity=identity,
        world=world,
        **hooks,
    )
    metrics = trainer.train()
    if world.is_main:
        about = {**identity, "class_names": tokens.info.class_names, "metrics": metrics}
        export_model(run, model, kind=kind, settings=settings, about=about)
    return metrics


def evaluate(
    *, dataset: Folder, run: Folder, split: str, batch_size: int, world: World, **hooks: Callable
) -> dict[str, Any]:
    """Figures of a finished fine-tuning run on a split: top1, top5, loss, per_class_top1, samples."""
    del hooks  # one pass over a split: nothing to report on the way
    tokens = TokenDataset(dataset)
    model, about = import_model(run, "classifier")
    check_same(about, identity_of(tokens), run.uri)
    classes = num_classes_of(tokens)
    if classes != about["settings"]["num_classes"]:
        raise ValueError(
            f"{dataset.uri} has {classes} classes; expected {about['settings']['num_classes']} as {run.uri} was "
            "trained with; name the matching dataset"
        )
    store = TokenStore.read(tokens, split, need_labels=True)
    counts = class_counts(model.to(world.device), store, classes, world, batch_size)
    samples, top1, top5, loss = counts.sum(0).tolist()
    names = tokens.info.class_names
    return {
        "split": split,
        "samples": int(samples),
        "top1": top1 / samples,
        "top5": top5 / samples,
        "loss": loss / samples,
        "per_class_top1": dict(zip(names, per_class_top1(counts.cpu()), strict=True)),
    }
