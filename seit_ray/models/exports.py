"""The model that a run leaves: model.safetensors, then model.json, which says how to build it and what it eats."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Literal, overload

from safetensors import torch as safetensors
from torch import Tensor, nn

from seit_ray.models.about import check_weights, read_about
from seit_ray.models.build import build_model
from seit_ray.models.mtm import MaskedTokenModel
from seit_ray.models.tokenadapt import TokenAdapt
from seit_ray.models.variants import Size
from seit_ray.models.vit import TokenViT
from seit_ray.models.weights import load_named, load_weights, save_tensors, save_weights
from seit_ray.storage import Folder


def export_model(
    run: Folder,
    model: nn.Module,
    *,
    kind: str,
    settings: dict[str, Any],
    about: dict[str, Any],
    ema: dict[str, Tensor] | None = None,
    best: dict[str, Tensor] | None = None,
) -> None:
    """Write a run's final model; `about` carries identity and metrics.

    `ema` are the averaged weights and `best` those of the best evaluation, where there are any.

    A codebook among the settings goes to a file of its own: it is part of the model's input, not of its weights.
    """
    stored = {name: value for name, value in settings.items() if name != "codebook"}
    if "size" in stored:
        stored["size"] = asdict(stored["size"])
    if settings.get("codebook") is not None:
        codebook = settings["codebook"].detach().cpu().contiguous()
        run.write("codebook.safetensors", safetensors.save({"codebook": codebook}))
    for name, weights in (("ema", ema), ("best", best)):
        if weights:
            run.write(f"{name}.safetensors", save_tensors(weights))
    run.write("model.safetensors", save_weights(model))
    run.write("model.json", json.dumps({"kind": kind, "settings": stored, **about}, indent=1).encode())


@overload
def import_model(run: Folder, kind: Literal["mtm"], weights: str = ...) -> tuple[MaskedTokenModel, dict[str, Any]]: ...
@overload
def import_model(run: Folder, kind: Literal["classifier"], weights: str = ...) -> tuple[TokenViT, dict[str, Any]]: ...
@overload
def import_model(run: Folder, kind: Literal["tokenadapt"], weights: str = ...) -> tuple[TokenAdapt, dict[str, Any]]: ...
@overload
def import_model(run: Folder, kind: str, weights: str = ...) -> tuple[Any, dict[str, Any]]: ...


def import_model(run: Folder, kind: str, weights: str = "model") -> tuple[nn.Module, dict[str, Any]]:
    """The model of a finished run, in eval mode, and its model.json.

    `weights` "ema" takes the averaged ones, "best" those of the best evaluation.
    """
    about = read_about(run, kind)
    check_weights(run, weights)
    try:
        settings = dict(about["settings"])
        if "size" in settings:
            settings["size"] = Size(**settings["size"])
        settings["grid"] = tuple(settings["grid"])
        if settings.get("inputs") == "codebook":
            settings["codebook"] = load_weights(run.read("codebook.safetensors"))["codebook"]
        model = build_model(kind, **settings)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{run.uri}/model.json cannot be read ({error!r}); export the run again") from error
    load_named(model, load_weights(run.read(f"{weights}.safetensors")))
    return model.eval(), about
