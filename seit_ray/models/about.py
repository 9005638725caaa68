"""What a finished run says of its model, in model.json: its kind, how to build it, what it eats. Imports no torch."""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from seit_ray.storage import Folder

WEIGHTS = ("model", "ema", "best")
MISSING = {"ema": ("averaged", "loop.ema_decay"), "best": ("best", "loop.keep_best")}
TARGETS = ("mtm", "ccvit", "dtm", "classifier")  # kinds of runs whose patches morphing may compare with
SOURCES = (*TARGETS, "segmenter")  # kinds of runs that one of CLASSIFIERS may start from
CLASSIFIERS = ("classifier", "segmenter")  # of images, of pixels
BEIT = ("ccvit", "dtm")  # of BEiT's blocks
KNOWN = contextvars.ContextVar[dict[str, bytes] | None]("KNOWN", default=None)  # uri -> model.json, in `reading_once`


def read_about(run: Folder, *kinds: str) -> dict[str, Any]:
    """model.json of a finished run; ValueError when there is none or it is of none of the kinds."""
    text = record_of(run)
    try:
        about = json.loads(text)
        found = about["kind"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{run.uri}/model.json cannot be read ({error!r}); export the run again") from error
    if found not in kinds:
        wanted = " or ".join(map(repr, kinds))
        raise ValueError(f"{run.uri} holds a model of kind {found!r}; expected {wanted}; name another run")
    return about


def record_of(run: Folder) -> bytes:
    """model.json of a finished run as it is; ValueError when there is none."""
    known = KNOWN.get()
    if known is not None and run.uri in known:
        return known[run.uri]
    if not run.exists("model.json"):
        run.check_readable()
        raise ValueError(f"no finished run in {run.uri}; expected model.json; let the run end first")
    text = run.read("model.json")
    if known is not None:
        known[run.uri] = text
    return text


@contextlib.contextmanager
def reading_once() -> Iterator[None]:
    """A block in which model.json of a run is asked for once: a check of many trials that read the same runs."""
    token = KNOWN.set({})
    try:
        yield
    finally:
        KNOWN.reset(token)


@contextlib.contextmanager
def reading(uri: str) -> Iterator[None]:
    """A block that reads what model.json of a run says; ValueError where it does not say so."""
    try:
        yield
    except (KeyError, TypeError) as error:
        raise ValueError(f"{uri}/model.json cannot be read ({error!r}); export the run again") from error


def check_weights(run: Folder, weights: str) -> None:
    """ValueError unless a finished run has these weights."""
    if weights not in WEIGHTS:
        raise ValueError(f"weights {weights!r}; expected one of {', '.join(WEIGHTS)}; choose one")
    if weights in MISSING and not run.exists(f"{weights}.safetensors"):
        kind, key = MISSING[weights]
        raise ValueError(
            f"{run.uri} has no {kind} weights; expected {weights}.safetensors; train with {key}, or take weights=model"
        )


def check_class_names(names: list[str] | None, about: dict[str, Any], data: str, run: str) -> list[str]:
    """The class names of some data; ValueError unless they are those of a run, in its order."""
    known = about["class_names"]
    if names is None or names != known:
        given = names or []
        pairs = zip(given, known, strict=True) if len(given) == len(known) else ()
        other = next((f", {mine!r} for {theirs!r}" for mine, theirs in pairs if mine != theirs), "")
        raise ValueError(
            f"{data} has {len(given)} classes{other}; expected the {len(known)} that {run} was trained with, by the "
            "same names; name the matching dataset"
        )
    return names


def check_void(found: int | None, about: dict[str, Any], where: str, run: str) -> None:
    """ValueError where classes that are known by number alone have other numbers, since another value is void."""
    names = about["class_names"]
    shifts = [len(names) if void is None else min(void, len(names)) for void in (found, about.get("void"))]
    if names == [str(number) for number in range(len(names))] and shifts[0] != shifts[1]:
        raise ValueError(
            f"{where} has label maps with void {found}; expected {about.get('void')}, by which {run} numbers its "
            "classes; set source.void so, or name the classes by source.class_names in both"
        )


def encoder_of(about: dict[str, Any]) -> str:
    """Which blocks a finished run has: vit or beit."""
    return "beit" if about["kind"] in BEIT else about["settings"].get("encoder") or "vit"


def weights_mark(run: Folder, weights: str) -> str:
    """What tells the weights of a run from others: the beginning of their SHA-256."""
    return hashlib.sha256(run.read(f"{weights}.safetensors")).hexdigest()[:16]
