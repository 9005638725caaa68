"""Classes that come step by step: in which order, and which come together. C classes, T steps."""

from __future__ import annotations

import itertools

import numpy as np

FIELD_SEED = 1993  # of the order that papers on class-incremental learning share


def class_order(num_classes: int, seed: int) -> np.ndarray:
    """Classes int64 [C] in the order in which they come.

    Drawn as the field draws it, by numpy's old generator, so that 1993 gives the order of the papers (iCaRL, Rebuffi et
    al. 2017, and those after it).
    """
    return np.random.RandomState(seed).permutation(num_classes).astype(np.int64)


def class_steps(num_classes: int, num_steps: int) -> list[range]:
    """Places in the order that come in each of T steps, as even as they can be; the earlier steps are the larger ones.

    All classes are shared out alike, and no step holds more of them as a base ("B0"). ValueError for fewer than two
    steps, and for a step without a class.
    """
    if not 2 <= num_steps <= num_classes:
        raise ValueError(
            f"num_steps {num_steps} of {num_classes} classes; expected 2 to {num_classes}, a class a step at least; "
            "correct num_steps"
        )
    bounds = [-(-num_classes * step // num_steps) for step in range(num_steps + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(bounds)]


def places_of(order: np.ndarray) -> np.ndarray:
    """Class -> its place in the order, int64 [C]: the label that a model of the classes seen so far has for it."""
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return places
