"""Keys that one of their section has left unread: a recipe's are taken out, so that one key turns off all about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from seit_ray.config.augment import READ_WITH, Augment

Off = Callable[[Mapping[str, Any]], bool]  # whether what the keys are about is off, by the values of a section
Rule = tuple[Sequence[str], Off, Sequence[str]]  # (keys that turn on and off, whether they are off, keys unread then)

OF_STEM = ("stem_layers", "stem_width", "stem_pixels", "stem_stride", "stem_padding", "standardize")
# Section -> (key, whether a value of it leaves others unread, these).
BY_VALUE: dict[str, list[tuple[str, Callable[[Any], bool], Sequence[str]]]] = {
    "model": [
        ("inputs", lambda inputs: inputs != "codebook", ("standardize", "stem_pixels")),
        ("inputs", lambda inputs: inputs == "codebook", ("token_dim",)),
        ("encoder", lambda encoder: encoder == "beit", OF_STEM),
        ("stem_layers", lambda layers: not layers, ("stem_width", "stem_pixels")),
    ],
    "masking": [("loss", lambda loss: loss == "bce", ("label_smoothing",))],
    "ccvit": [("loss", lambda loss: loss == "two_ce_soft_shared", ("soft_tau",))],
    "dtm": [
        ("target", lambda target: target not in (None, "teacher"), ("teacher", "teacher_weights")),
        ("target", lambda target: target != "run", ("target_run",)),
        ("target", lambda target: target != "stream", ("target_dataset",)),
        ("loss", lambda loss: loss != "labels", ("label_share",)),
        ("loss", lambda loss: loss != "features", ("distance", "normalize_target")),
    ],
}


def turn_off(values: dict[str, Any], layers: Sequence[dict[str, Any]]) -> None:
    """Take out, in place, what earlier of the layers say of something that a later one turns off, in all sections."""
    for name, value in values.items():
        if isinstance(value, dict):
            below = [part if isinstance(part := layer.get(name), dict) else {} for layer in layers]
            forget_unread(value, below, rules_of(name))
            turn_off(value, below)


def rules_of(name: str) -> Iterator[Rule]:
    """The rules of a section of that name."""
    if name == "augment":
        default = {key: field.get_default() for key, field in Augment.model_fields.items()}
        for switches, keys in READ_WITH.items():
            yield switches, all_default(switches, default), keys
    for switch, is_off, unread in BY_VALUE.get(name, ()):
        yield (switch,), by_value(switch, is_off), unread


def all_default(switches: Sequence[str], default: Mapping[str, Any]) -> Off:
    """Off is the default of all of them."""
    return lambda values: all(values.get(key, default.get(key)) == default.get(key) for key in switches)


def by_value(switch: str, is_off: Callable[[Any], bool]) -> Off:
    """Off by the value of one that is said; its default is that of whoever said the others."""
    return lambda values: switch in values and is_off(values[switch])


def forget_unread(values: dict[str, Any], layers: Sequence[dict[str, Any]], rules: Iterator[Rule]) -> None:
    """Take out of a section what a later layer of it has left unread, by turning off what it is about.

    What is said together with it, or later, stays, and is refused. values: the layers, laid over each other.
    """
    said = {key: number for number, layer in enumerate(layers) for key in layer}  # where last
    for switches, is_off, keys in rules:
        turned = max((said[key] for key in switches if key in said), default=-1)
        for key in keys if is_off(values) else ():
            if key in values and said[key] < turned:
                del values[key]
                said[key] = turned
