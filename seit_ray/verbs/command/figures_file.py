"""The files of figures that `evaluate` leaves: what each is called, and what it says of what was evaluated."""

from __future__ import annotations

import json
import posixpath
from typing import Any

from seit_ray.config import Evaluate
from seit_ray.config.deciding import deciding
from seit_ray.storage import Folder, StorageError, split_uri
from seit_ray.storage.output import refuse_overlap
from seit_ray.verbs.command.places import folder_of

COMPARED = ("data", "hold_out", "scored_classes", "source")  # what tells figures of one name apart
BESIDE = {"segments": ("html", "png", "csv"), "robustness": ("html", "svg", "csv"), "units": ("html", "svg", "csv")}


def file_name(kind: str, config: Evaluate) -> str:
    """Of the figures, in the run. kind: evaluate, robustness, units or segments."""
    both = kind in ("evaluate", "segments")  # the others are of images, or of tokens, alone
    what = [kind, *(["images"] if both and config.images else []), config.split]
    return "-".join([*what, *([config.weights] if config.weights != "model" else [])]) + ".json"


def output_of(kind: str, config: Evaluate) -> str:
    """Where the figures go: config.output, or a file in the run."""
    return config.output or folder_of(config.run, config.storage).uri_of(file_name(kind, config))


def evaluated_what(config: Evaluate) -> dict[str, Any]:
    """What figures say of themselves: run, weights, data; of tokens the tokenizer's fingerprint, of images the rest."""
    run = folder_of(config.run, config.storage).uri
    named = folder_of(config.dataset or config.images or "", config.storage)
    found: dict[str, Any] = {"run": run, "weights": config.weights, "data": named.uri}
    if config.dataset:
        from seit_ray.shards import TokenDataset

        return {**found, "tokenizer": TokenDataset(named).info.tokenizer}
    hold_out = {"val_fraction": config.val_fraction, "seed": config.seed if config.val_fraction else 0}
    source = {key: value for key, value in deciding(config).items() if key.startswith("source.")}
    return {**found, "hold_out": hold_out, "scored_classes": config.classes, "source": source}


def refuse_other_figures(kind: str, config: Evaluate) -> None:
    """ValueError where the run's file of figures is of other data, another hold-out or other classes.

    A file that the user names is written as asked, but not over files of others beside it, nor where images are read.
    """
    run, name = folder_of(config.run, config.storage), file_name(kind, config)
    if config.output:
        what = "dataset" if config.dataset else "images"
        read = folder_of(config.dataset or config.images or "", config.storage)
        refuse_overlap(folder_of(config.output, config.storage), read, what)
        refuse_beside(kind, config)
    if config.output or not run.exists(name):
        return
    try:
        before = json.loads(run.read(name))
    except ValueError:  # no figures of ours, or cut short
        return
    now = evaluated_what(config)
    if key := other_key(before, now):
        raise ValueError(
            f"{run.uri_of(name)} holds figures of {key} {before[key]!r}; expected {now[key]!r}; set "
            "output=FILE.json for these, or delete that file"
        )


def other_key(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """The first of the keys by which two figures are of other things; None where those that both have agree."""
    return next((key for key in COMPARED if key in before and key in now and before[key] != now[key]), None)


def refuse_beside(kind: str, config: Evaluate) -> None:
    """ValueError where figures, page, picture or table would lie over each other, or over files that are not theirs."""
    folder, name = figures_place(kind, config)
    stem, suffix = posixpath.splitext(name)
    beside = [f"{stem}.{ending}" for ending in BESIDE.get(kind, ())]
    if beside and suffix != ".json":
        raise ValueError(f"output {config.output}; expected a name that ends in .json; {beside[0]} lies beside it")
    if not folder.exists(name) and any(folder.list(f"{name}/", include_hidden=True)):
        raise ValueError(f"output {config.output} is a folder; expected the name of a file; choose another one")
    ours = is_of_kind(folder, name, kind)
    begun = ours or any(work_of(folder, stem).list())  # a kill leaves work without figures
    other = None if begun else next(filter(folder.exists, beside), None)
    if other is None and folder.exists(name) and not ours:
        other = name
    if other:
        raise ValueError(
            f"{folder.uri_of(other)} exists, which this output would replace; expected a free name; choose another one"
        )


def is_of_kind(folder: Folder, name: str, kind: str) -> bool:
    """Whether a file holds figures of ours of this kind."""
    try:
        found = json.loads(folder.read(name)) if folder.exists(name) else None
    except StorageError:
        raise
    except ValueError:
        return False
    if not isinstance(found, dict) or "samples" not in found:
        return False
    cases, segments = kind in ("robustness", "units"), kind == "segments"
    return ("corruptions" in found) == cases and ("miou" in found) == segments


def work_of(folder: Folder, stem: str) -> Folder:
    """What is kept, while a report is made, to go on from after a kill: see `report_files`."""
    return folder.join(f"_{stem}.work")


def figures_place(kind: str, config: Evaluate) -> tuple[Folder, str]:
    """(folder, name) of the file of figures."""
    folder, name = split_uri(output_of(kind, config))
    return folder_of(folder, config.storage), name
