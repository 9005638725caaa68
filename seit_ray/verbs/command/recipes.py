"""Which recipe fits a training for which none was named: the defaults of its verb are no paper's settings."""

from __future__ import annotations

import itertools

import yaml

from seit_ray.config import Finetune, Pretrain, Verb
from seit_ray.config.loading import RECIPES

ALIKE = {"task": "classify", "objective": "mtm"}  # keys, with their defaults, that tell methods apart


def recipe_note(verb: str, config: Verb) -> str | None:
    """A line that names the recipe of tokens of the same method, size and inputs, or of the size base; None else."""
    if not isinstance(config, Pretrain | Finetune) or config.images:
        return None
    inputs = getattr(config.model, "inputs", "learned")
    fitting: dict[str, str] = {}  # size -> the first recipe of it
    for file in sorted(RECIPES.glob(f"{verb}_*.yaml")):
        recipe = yaml.safe_load(file.read_text(encoding="utf-8"))
        model = recipe["model"]
        if "image_size" in recipe.get("pixels", {}):  # of images
            continue
        if any(recipe.get(key, plain) != getattr(config, key, plain) for key, plain in ALIKE.items()):
            continue
        if model.get("inputs", "learned") == inputs:
            fitting.setdefault(model["size"], file.stem)
    name = fitting.get(config.model.size) or fitting.get("base")
    if name is None:
        return None
    what = first_sentence((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    return f"note: no --config, so that augmentation is off but for what is set; --config {name} is: {what}"


def first_sentence(text: str) -> str:
    """That of the comment at the head of a file, without its full stop."""
    head = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    return " ".join(line.strip("# ") for line in head).partition(". ")[0].rstrip(".")
