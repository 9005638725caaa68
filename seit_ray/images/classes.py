"""Numbers for labels, and what the classes of the splits say of a mistake in the source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

MAX_LABEL = 1_000_000
SHOWN = 3


def extended_classes(
    known: Sequence[str], labels: list[str | int], class_names: Sequence[str] | None
) -> tuple[list[str | int], Sequence[str]]:
    """(labels, class names) of images that come to others whose classes are known: new names follow those."""
    if class_names is not None:
        if list(class_names[: len(known)]) != list(known):
            raise ValueError(
                f"class names {list(class_names)}; expected those of before first, {list(known)}; choose a new output"
            )
        return labels, class_names
    numbers = [label for label in labels if isinstance(label, int)]
    if len(numbers) == len(labels) and list(known) == [str(i) for i in range(len(known))]:
        last = min(max(numbers, default=0), MAX_LABEL)
        return labels, [*known, *map(str, range(len(known), last + 1))]
    names = [str(label) for label in labels]
    return list(names), [*known, *sorted(set(names) - set(known))]


def code_of(label: str | int | None, codes: dict[str | int, int]) -> int | None:
    if label is None:
        return None
    if len(codes) > MAX_LABEL and label not in codes:
        raise ValueError(f"labels with more than {MAX_LABEL} different values; expected classes; set label_column")
    return codes.setdefault(label, len(codes))


def final_labels(values: Sequence[str | int], class_names: Sequence[str] | None) -> tuple[list[str] | None, list[int]]:
    """(class names, label of each code) for the distinct labels in the order of their codes."""
    if not values:
        return None, []
    numbers = [value for value in values if isinstance(value, int)]
    if len(numbers) == len(values):
        last = MAX_LABEL if class_names is None else len(class_names) - 1
        for value in (min(numbers), max(numbers)):
            if not 0 <= value <= last:
                of = f", of {last + 1} class names" if class_names else ""
                raise ValueError(f"label {value}; expected 0 to {last}{of}; number the classes from 0, or give names")
        return list(class_names or map(str, range(max(numbers) + 1))), numbers
    # Integers among strings are names too: a CSV file does not say which it means.
    texts = [str(value) for value in values]
    names = list(class_names or sorted(set(texts)))
    number_of = {name: number for number, name in enumerate(names)}
    for text in texts:
        if text not in number_of:
            raise ValueError(f"label {text!r}; expected one of {len(names)} class names; add it to them")
    return names, [number_of[text] for text in texts]


def class_notes(classes: Mapping[str, Set[str]], uri: str) -> list[str]:
    """Notes on the classes of each split, for a person to look at before any work; none where all is usual.

    ValueError for train and val without a class in common.
    """
    train, notes = classes.get("train", frozenset()), []
    everything = frozenset().union(*classes.values())
    if len(everything) == 1:
        notes.append(
            f"one class in all, {next(iter(everything))!r}: if it is none, point at the folder of the class folders"
        )
    for split, names in classes.items():
        if split == "train" or not names or not train or len(everything) == 1:
            continue
        if split == "val" and not names & train:
            raise ValueError(
                f"train of {uri} has the classes {shown(train)}, val {shown(names)}; expected classes in common; lay "
                "both out alike, or set source.kind=flat to read them without labels"
            )
        if len(names) == 1:
            notes.append(f"{split} has one class only, {next(iter(names))!r}, and train {len(train)}")
        elif names - train:
            notes.append(f"{split} has {len(names - train)} classes that train lacks: {shown(names - train)}")
    return notes


def shown(names: Set[str]) -> str:
    """The first of some names."""
    return ", ".join(map(repr, sorted(names)[:SHOWN])) + (", ..." if len(names) > SHOWN else "")
