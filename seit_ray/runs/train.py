"""What all runs share: a seeded model is built, trained by the loop and written out."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Unpack

import torch

from seit_ray.models.about import CLASSIFIERS, SOURCES, check_weights, read_about, weights_mark
from seit_ray.models.build import build_model
from seit_ray.models.exports import export_model
from seit_ray.models.starts import Taken, check_sizes, patches_of, taken_over
from seit_ray.models.transfer import freeze_all_but, transfer_weights
from seit_ray.models.variants import build_size
from seit_ray.models.vit import TokenViT
from seit_ray.models.weights import init_from_pretrained, load_weights
from seit_ray.objectives.contract import Objective
from seit_ray.runs.best_checks import check_kept
from seit_ray.runs.first_batch import write_first_batch
from seit_ray.runs.inputs import Inputs
from seit_ray.runs.settings import ModelSettings
from seit_ray.storage import Folder
from seit_ray.training.averages import Evaluate
from seit_ray.training.identity import CONTENTS, DECIDED_BY
from seit_ray.training.loop import Trainer
from seit_ray.training.replay import replay_step
from seit_ray.training.requests import Hooks
from seit_ray.training.settings import LoopSettings, OptimizerSettings
from seit_ray.training.world import World

DECIDED = ("grid_side", "train_only", "stem_pixels")  # keys that the data turns into keywords of the model
SIZE_KEYS = ("width", "depth", "num_heads", "decoder_width", "decoder_depth", "decoder_num_heads")


def model_settings(model: ModelSettings, **decided: Any) -> dict[str, Any]:
    """Keywords of `build_model`: the user's numbers, and those that the data decides."""
    given = {name: value for name, value in asdict(model).items() if name not in DECIDED}
    size = build_size(given.pop("size"), **{key: given.pop(key) for key in SIZE_KEYS})
    return {"size": size, **given, **decided}


def checked_start(
    kind: str, settings: dict[str, Any], folder: Folder, identity: dict[str, Any], *, transfer: bool
) -> Taken:
    """What a new classifier or segmenter of these settings takes over; ValueError for a run of other sizes."""
    about = read_about(folder, *SOURCES)
    taken = taken_over(kind, about, identity, transfer=transfer)
    check_sizes(about, settings, folder.uri, taken)
    return taken


def start_from(net: Any, folder: Folder, weights: str, taken: Taken, *, train_only: str) -> None:
    """Load a finished run's weights into a new classifier or segmenter, and freeze what is not to be trained.

    A segmenter may have another grid than the run: its positions are resampled. weights: model, ema or best;
    ValueError where the run has none such.
    """
    check_weights(folder, weights)
    state = load_weights(folder.read(f"{weights}.safetensors"))
    about = read_about(folder, *SOURCES)
    patch_grid = patches_of(about["settings"])[1]
    if not isinstance(net, TokenViT):
        from seit_ray.models.beit_transfer import init_beit  # of timm, which takes seconds to import

        new = init_beit(net, state, patch_grid, transfer=not taken.places)
    elif not taken.places:
        new = transfer_weights(net, state, patch_grid, same_tokens=taken.inputs)
    else:
        new = init_from_pretrained(net, state)
    freeze_all_but(net, train_only, new)


def train_and_export(
    kind: str,
    settings: dict[str, Any],
    objective: Objective,
    inputs: Inputs,
    evaluate: Evaluate,
    run: Folder,
    loop: LoopSettings,
    optimizer: OptimizerSettings,
    world: World,
    *,
    init_from: Folder | None = None,
    init_weights: str = "model",
    transfer: bool = False,
    train_only: str = "all",
    contents: dict[str, str] | None = None,
    more: dict[str, Any] | None = None,
    **hooks: Unpack[Hooks],
) -> dict[str, Any]:
    """Build the seeded model, train it, write it out; or replay one of its steps, where that is asked for.

    contents: marks of the weights that the run reads from elsewhere, by the key that names them.
    more: what else its model.json says.
    """
    if kind != "segmenter":  # which reads its val split itself
        names = inputs.class_names or []
        has_val, has_labels = inputs.val is not None, len(names) > 1
        check_kept(loop.keep_best, has_val=has_val, has_labels=has_labels, where=inputs.where)
    if init_from is not None:
        assert kind in CLASSIFIERS  # the other kinds start from nothing
        taken = checked_start(kind, settings, init_from, inputs.identity, transfer=transfer)
    torch.manual_seed(loop.seed)
    model = build_model(kind, **settings)
    if init_from is not None:
        start_from(model, init_from, init_weights, taken, train_only=train_only)
    marks = dict(contents or {}) | ({"init_from": weights_mark(init_from, init_weights)} if init_from else {})
    identity = {"kind": kind, **inputs.identity, "init_from": init_from.uri if init_from else None, CONTENTS: marks}
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
    if trainer.replay is not None:
        return replay_step(trainer, trainer.replay)
    start = trainer.resume()
    if world.is_main and not start:
        coder = inputs.tokenizer
        write_first_batch(
            run, objective, trainer.store, tokenizer=coder, loop=loop, device=world.device, model=trainer.model
        )
    metrics = trainer.train(start)
    if world.is_main and (start < trainer.steps or not run.exists("model.json")):  # a finished run stays what it was
        about = {**identity, "data": inputs.where, "class_names": inputs.class_names, "metrics": metrics}
        export_run(trainer, kind, settings, about | (more or {}))
    return metrics


def export_run(trainer: Trainer, kind: str, settings: dict[str, Any], about: dict[str, Any]) -> None:
    """Write a finished run's model, its averaged and its best weights."""
    about = {**about, DECIDED_BY: trainer.identity[DECIDED_BY]}
    about |= {"best": trainer.best.about(), "precision": trainer.precision, "device": trainer.world.device.type}
    weights = {"ema": trainer.ema, "best": trainer.best.weights}
    export_model(trainer.run, trainer.model, kind=kind, settings=settings, about=about, **weights)
