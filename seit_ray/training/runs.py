"""The runs a user starts: token dataset in, trained model out. Plain keyword arguments, no Ray.

Each returns the last metrics, on every rank. `dataset`, `images` and `run` are folders; the same run continues.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from seit_ray.batches import TokenStore
from seit_ray.evaluation.classification import class_counts, classification_metrics, figures_of_counts
from seit_ray.evaluation.masked import masked_metrics
from seit_ray.evaluation.probe import probe_metrics
from seit_ray.models import build_model, build_size, init_from_pretrained, load_weights
from seit_ray.models.transfer import freeze_all_but, transfer_weights
from seit_ray.objectives import MTMObjective, SupervisedObjective
from seit_ray.shards import TokenDataset
from seit_ray.storage import Folder
from seit_ray.training.augmentation import image_augmentation, token_augmentation
from seit_ray.training.checkpoints import check_same
from seit_ray.training.exports import export_model, import_model, read_about
from seit_ray.training.first_batch import write_first_batch
from seit_ray.training.inputs import Inputs, cropped, identity_of, image_inputs, token_inputs
from seit_ray.training.loop import Trainer
from seit_ray.training.world import World

SIZE_KEYS = ("width", "depth", "num_heads", "decoder_width", "decoder_depth", "decoder_num_heads")
SOURCES = ("mtm", "classifier")  # kinds of runs that a classifier may start from


def model_settings(model: dict[str, Any], **decided: Any) -> dict[str, Any]:
    """Numbers of a model: the user's, and those that the data decides."""
    given = {name: value for name, value in model.items() if name not in ("grid_side", "train_only")}
    size = build_size(given.pop("size"), **{key: given.pop(key) for key in SIZE_KEYS})
    return {"size": size, **given, **decided}


def memory_of(loop: dict[str, Any]) -> dict[str, float | None]:
    """What a run's loop says of the memory for its data."""
    return {"memory_gib": loop.get("memory_gib")}


def pretrain(
    *,
    dataset: Folder,
    run: Folder,
    model: dict[str, Any],
    masking: dict[str, Any],
    augment: dict[str, Any],
    adapt_run: Folder | None,
    probe: dict[str, Any],
    loop: dict[str, Any],
    optimizer: dict[str, Any],
    world: World,
    **hooks: Callable,
) -> dict[str, Any]:
    """Masked token modelling on the train split (SeiT++, section 3)."""
    inputs = token_inputs(dataset, need_labels=False, grid_side=model["grid_side"], inputs="learned", **memory_of(loop))
    plain = MTMObjective(**masking)
    objective = MTMObjective(**masking, augment=token_augmentation(inputs, augment, adapt_run, world, quantize=True))
    settings = model_settings(model, **inputs.settings, mask_ratio_min=masking["mask_ratio_min"])
    every = probe["every_epochs"]
    probing = {name: value for name, value in probe.items() if name != "every_epochs"}
    probed = cropped(inputs.train, inputs.dataset.info.grid, inputs.settings["grid"]) if every else None

    def evaluate(net: torch.nn.Module, epoch: float) -> dict[str, float]:
        values = masked_metrics(net, plain, inputs.val, world) if inputs.val else {}
        metrics = {"val_" + name: value for name, value in values.items()}
        due = every and (round(epoch) % every == 0 or epoch >= loop["epochs"])
        if due and inputs.val and inputs.class_names:
            metrics |= probe_metrics(net, probed, inputs.val, inputs.num_classes, world, **probing)
        return metrics

    return train_and_export("mtm", settings, objective, inputs, evaluate, run, loop, optimizer, world, **hooks)


def finetune(
    *,
    run: Folder,
    model: dict[str, Any],
    label_smoothing: float,
    augment: dict[str, Any],
    loop: dict[str, Any],
    optimizer: dict[str, Any],
    world: World,
    adapt_run: Folder | None = None,
    dataset: Folder | None = None,
    images: Folder | None = None,
    source: dict[str, Any] | None = None,
    pixels: dict[str, Any] | None = None,
    init_from: Folder | None = None,
    transfer: bool = False,
    **hooks: Callable,
) -> dict[str, Any]:
    """A classifier of tokens (`dataset`) or of pixels (`images`), from a trained run or from scratch.

    `transfer` lets the run to start from have other tokens, another grid, other classes or tokens where these are
    pixels. Sources: SeiT; SeiT++, section 4.
    """
    if images is not None:
        inputs = image_inputs(images, source=source, pixels=pixels, seed=loop["seed"])
        patch = pixels["patch_size"]
        stem = {"inputs": "pixels", "stem_kernel": patch, "stem_stride": patch, "stem_padding": 0}
        settings = model_settings({**model, **stem}, **inputs.settings, num_classes=inputs.num_classes)
        augmentation = image_augmentation(augment, pixels)
    else:
        chosen = {"grid_side": model["grid_side"], "inputs": model["inputs"], **memory_of(loop)}
        inputs = token_inputs(dataset, need_labels=True, **chosen)
        settings = model_settings(model, **inputs.settings, num_classes=inputs.num_classes)
        augmentation = token_augmentation(inputs, augment, adapt_run, world, quantize=model["inputs"] == "learned")
    if init_from is not None and not transfer:
        check_same(read_about(init_from, *SOURCES), inputs.identity, init_from.uri)

    def evaluate(net: torch.nn.Module, epoch: float) -> dict[str, float]:
        values = classification_metrics(net, inputs.val, inputs.num_classes, world) if inputs.val else {}
        return {"val_" + name: value for name, value in values.items()}

    return train_and_export(
        "classifier",
        settings,
        SupervisedObjective(label_smoothing=label_smoothing, augment=augmentation),
        inputs,
        evaluate,
        run,
        loop,
        optimizer,
        world,
        init_from=init_from,
        transfer=transfer,
        train_only=model["train_only"],
        **hooks,
    )


def start_from(
    net: torch.nn.Module, folder: Folder, identity: dict[str, Any], *, transfer: bool, train_only: str
) -> None:
    """Load a finished run's weights into a new classifier, and freeze what is not to be trained."""
    state = load_weights(folder.read("model.safetensors"))
    if transfer:
        about = read_about(folder, *SOURCES)
        trained, _ = import_model(folder, about["kind"])
        same = about.get("tokenizer") is not None and about["tokenizer"] == identity.get("tokenizer")
        new = transfer_weights(net, state, trained.patch_grid, same_tokens=same)
    else:
        new = init_from_pretrained(net, state)
    freeze_all_but(net, train_only, new)


def train_and_export(
    kind: str,
    settings: dict[str, Any],
    objective: Any,
    inputs: Inputs,
    evaluate: Callable[[torch.nn.Module, float], dict[str, float]],
    run: Folder,
    loop: dict[str, Any],
    optimizer: dict[str, Any],
    world: World,
    *,
    init_from: Folder | None = None,
    transfer: bool = False,
    train_only: str = "all",
    **hooks: Callable,
) -> dict[str, Any]:
    """Build the seeded model, train it, write it out."""
    torch.manual_seed(loop["seed"])
    model = build_model(kind, settings)
    if init_from is not None:
        start_from(model, init_from, inputs.identity, transfer=transfer, train_only=train_only)
    identity = {"kind": kind, **inputs.identity, "init_from": init_from.uri if init_from else None}
    trainer = Trainer(
        model=model,
        objective=objective,
        store=inputs.train,
        evaluate=evaluate,
        run=run,
        loop=loop,
        optimizer=optimizer,
        identity=identity,
        world=world,
        **hooks,
    )
    if world.is_main:
        write_first_batch(run, objective, inputs.train, tokenizer=inputs.tokenizer, loop=loop, device=world.device)
    metrics = trainer.train()
    if world.is_main:
        about = {**identity, "data": inputs.where, "class_names": inputs.class_names, "metrics": metrics}
        about["best"] = trainer.best.about()
        weights = {"ema": trainer.ema, "best": trainer.best.weights}
        export_model(run, model, kind=kind, settings=settings, about=about, **weights)
    return metrics


def evaluate(
    *,
    dataset: Folder,
    run: Folder,
    split: str,
    batch_size: int,
    world: World,
    weights: str = "model",
    **hooks: Callable,
) -> dict[str, Any]:
    """Figures of a finished fine-tuning run on a split: top1, top5, loss, per_class_top1, samples."""
    del hooks  # one pass over a split: nothing to report on the way
    tokens = TokenDataset(dataset)
    model, about = import_model(run, "classifier", weights)
    check_same(about, identity_of(tokens), run.uri)
    names = tokens.info.class_names
    if names != about["class_names"]:
        raise ValueError(
            f"{dataset.uri} has {len(names or [])} classes; expected the {len(about['class_names'])} that {run.uri} "
            "was trained with, by the same names; name the matching dataset"
        )
    store = TokenStore.read(tokens, split, need_labels=True)
    store = cropped(store, tokens.info.grid, model.grid)
    counts = class_counts(model.to(world.device), store, len(names), world, batch_size)
    return {"split": split, **figures_of_counts(counts.cpu(), names)}
