"""The model that a run leaves: model.safetensors, then model.json, which says how to build it and what it eats."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from torch import nn

from seit_ray.models import (
    MaskedTokenModel,
    Size,
    TokenEmbedding,
    TokenViT,
    load_named,
    load_weights,
    save_weights,
)
from seit_ray.storage import Folder


def build_masked_model(
    *,
    size: Size,
    grid: tuple[int, int],
    num_codes: int,
    token_dim: int,
    stem_kernel: int,
    dropout: float,
    mask_ratio_min: float,
) -> MaskedTokenModel:
    """The masked token model of the given numbers."""
    return MaskedTokenModel(
        grid=grid,
        num_codes=num_codes,
        size=size,
        token_dim=token_dim,
        unit=stem_kernel,
        mask_ratio_min=mask_ratio_min,
        dropout=dropout,
    )


def build_classifier(
    *,
    size: Size,
    grid: tuple[int, int],
    num_codes: int,
    token_dim: int,
    stem_kernel: int,
    dropout: float,
    num_classes: int,
    pool: str,
    drop_path: float,
) -> TokenViT:
    """The token classifier of the given numbers."""
    return TokenViT(
        grid=grid,
        num_classes=num_classes,
        size=size,
        embedding=TokenEmbedding(num_codes, token_dim, dropout),
        kernel=stem_kernel,
        stride=stem_kernel,
        pool=pool,
        drop_path=drop_path,
        head_init_std=2e-5,
    )


KINDS = {"mtm": build_masked_model, "classifier": build_classifier}


def build_model(kind: str, settings: dict[str, Any]) -> nn.Module:
    """A model of a registered kind."""
    return KINDS[kind](**settings)


def export_model(run: Folder, model: nn.Module, *, kind: str, settings: dict[str, Any], about: dict[str, Any]) -> None:
    """Write a run's final model; `about` carries identity and metrics."""
    run.write("model.safetensors", save_weights(model))
    stored = {**settings, "size": asdict(settings["size"])}
    run.write("model.json", json.dumps({"kind": kind, "settings": stored, **about}, indent=1).encode())


def read_about(run: Folder, kind: str) -> dict[str, Any]:
    """model.json of a finished run; ValueError when there is none or it is of another kind."""
    if not run.exists("model.json"):
        run.check_readable()
        raise ValueError(f"no finished run in {run.uri}; expected model.json; let the run end first")
    text = run.read("model.json")
    try:
        about = json.loads(text)
        found = about["kind"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{run.uri}/model.json cannot be read ({error!r}); export the run again") from error
    if found != kind:
        raise ValueError(f"{run.uri} holds a model of kind {found!r}; expected {kind!r}; name another run")
    return about


def import_model(run: Folder, kind: str) -> tuple[nn.Module, dict[str, Any]]:
    """The model of a finished run, in eval mode, and its model.json."""
    about = read_about(run, kind)
    try:
        stored = about["settings"]
        model = build_model(kind, {**stored, "size": Size(**stored["size"]), "grid": tuple(stored["grid"])})
    except (KeyError, TypeError) as error:
        raise ValueError(f"{run.uri}/model.json cannot be read ({error!r}); export the run again") from error
    load_named(model, load_weights(run.read("model.safetensors")))
    return model.eval(), about
