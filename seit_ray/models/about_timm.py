"""What is known of a timm model before it is built: its name, and config.json beside its weights. Imports no torch."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seit_ray.storage import Folder

__all__ = ["CONFIG", "TimmConfig", "check_teacher", "check_timm_name", "read_timm_config"]

CONFIG = "config.json"  # as timm writes it beside model.safetensors
REGISTERED = re.compile(r"^@register_model\s+def (\w+)", re.MULTILINE)
RENAMED = re.compile(r"^register_model_deprecations\(__name__, \{(.*?)^\}", re.MULTILINE | re.DOTALL)
OLD_NAME = re.compile(r"^\s*['\"]([\w.]+)['\"]\s*:", re.MULTILINE)
TAGGED = re.compile(r"['\"](\w+)\.(\w+)['\"]\s*:")  # a model and a tag of its weights
# Arguments of a model that a file may give: its sizes and parts, not where weights come from.
SIZES = ("img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio")
PARTS = ("class_token", "reg_tokens", "no_embed_class", "qkv_bias", "init_values", "pre_norm", "final_norm")
UNREAD = ("num_classes", "global_pool", "fc_norm", "drop_rate", "drop_path_rate")  # of a head, or of training


@dataclass(frozen=True)
class TimmConfig:
    """A model by name, the arguments that are other than the name's, and how pixels are scaled where that is said."""

    architecture: str
    arguments: dict[str, Any] = field(default_factory=dict)
    scaling: dict[str, list[float]] = field(default_factory=dict)

    @property
    def patch_grid(self) -> tuple[int, int] | None:
        """(height, width) in patches, where sizes say so."""
        size, patch = (pair_of(self.arguments.get(name)) for name in SIZES[:2])
        return (size[0] // patch[0], size[1] // patch[1]) if size and patch else None


def pair_of(side: Any) -> tuple[int, int] | None:
    """(height, width) of one number or two."""
    if isinstance(side, int):
        return side, side
    return (int(side[0]), int(side[1])) if side else None


@functools.cache
def timm_names() -> dict[str, set[str]]:
    """Names of timm's models, each with the tags of its weights that are written out; of some, none are.

    By its source: to import it takes seconds, and torch. Empty where there is no source.
    """
    spec = importlib.util.find_spec("timm")
    names: dict[str, set[str]] = {}
    tagged: list[tuple[str, str]] = []
    for place in (spec and spec.submodule_search_locations) or ():
        for file in sorted((Path(place) / "models").rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            old = (name for block in RENAMED.findall(text) for name in OLD_NAME.findall(block))
            names |= {name: set() for name in (*REGISTERED.findall(text), *old)}
            tagged += TAGGED.findall(text)
    for name, tag in tagged:
        names.get(name, set()).add(tag)
    return names


def check_timm_name(key: str, name: str) -> None:
    """ValueError unless a key names a model of timm, with or without the tag of its weights."""
    names, (model, _, tag) = timm_names(), name.partition(".")
    if names and model not in names:
        raise ValueError(f"{key} {name!r}; expected a model of timm; see timm.list_models()")
    tags = names.get(model)
    if tag and tags and tag not in tags:
        raise ValueError(f"{key} {name!r}; expected {model}, or with a tag of {', '.join(sorted(tags))}")


def read_timm_config(folder: Folder) -> TimmConfig | None:
    """config.json of a folder as timm writes one; None where it is none, ValueError where it is damaged."""
    about = config_of(folder)
    if about is None:
        return None
    uri = folder.uri_of(CONFIG)
    try:
        given, pixels = dict(about.get("model_args") or {}), dict(about.get("pretrained_cfg") or {})
        found = TimmConfig(
            str(about["architecture"]),
            {name: value for name, value in given.items() if name not in UNREAD},
            {name: [float(value) for value in pixels[name]] for name in ("mean", "std") if name in pixels},
        )
        _ = found.patch_grid
    except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
        raise ValueError(f"{uri} cannot be read ({error!r}); expected what timm writes; write it again") from error
    stray = [name for name in found.arguments if name not in (*SIZES, *PARTS)]
    if stray:
        raise ValueError(
            f"{uri} with model_args {', '.join(stray)}; expected {', '.join(SIZES + PARTS)}; take another teacher"
        )
    return found


def config_of(folder: Folder) -> dict[str, Any] | None:
    """config.json of a folder where it is of timm's kind: others write files of that name too."""
    if not folder.exists(CONFIG):
        return None
    try:
        about = json.loads(folder.read(CONFIG))
    except ValueError:
        return None
    return about if isinstance(about, dict) and "architecture" in about else None


def check_teacher(name: str, weights: Folder, file: str, patch_grid: tuple[int, int]) -> TimmConfig:
    """How to build a teacher of that name; ValueError where name, weights or patches cannot be right.

    config.json beside the weights, where there is one, gives its sizes; else they are those of the name.
    """
    check_timm_name("dtm.teacher", name)
    if not weights.exists(file):
        weights.check_readable()
        raise ValueError(f"no file {weights.uri_of(file)}; expected the weights of {name}; set dtm.teacher_weights")
    found = read_timm_config(weights)
    if found is None:
        return TimmConfig(name)
    if found.architecture.partition(".")[0] != name.partition(".")[0]:
        raise ValueError(
            f"dtm.teacher {name!r} with {weights.uri_of(CONFIG)} of {found.architecture!r}; expected the same; set "
            f"dtm.teacher={found.architecture}"
        )
    if found.patch_grid:
        check_teacher_grid(name, found.patch_grid, patch_grid)
    return found


def check_teacher_grid(name: str, found: tuple[int, int], wanted: tuple[int, int]) -> None:
    """ValueError unless a teacher has the patches of the student."""
    if tuple(found) != tuple(wanted):
        raise ValueError(
            f"dtm.teacher {name!r} of {found[0]}x{found[1]} patches; expected {wanted[0]}x{wanted[1]}, as the student "
            "has; set pixels.image_size and pixels.patch_size, or take another teacher"
        )
