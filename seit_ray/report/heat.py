"""A matrix of counts as SVG text: rows are what is, columns are what it was taken for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

CELL, FONT, CHARACTER = 40, 13, 7.2  # pixels; of an average character
RIGHT_COLOUR, WRONG_COLOUR = "#2f7fd4", "#d1661f"
MAX_NAME = 14  # characters of a name that are shown


def confusion_chart(counts: np.ndarray, names: Sequence[str], title: str) -> str:
    """An SVG of counts int [C,C], as strong in colour as their share of the row; ValueError for other names or shapes.

    The diagonal, which is right, has a colour of its own. Names are cut to MAX_NAME characters, and turned on the
    columns.
    """
    num = len(names)
    if counts.shape != (num, num) or not num:
        raise ValueError(f"counts {counts.shape} for {num} names; expected [C,C] for C names; pass one name a class")
    shown = [name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "\u2026" for name in names]
    edge = math.ceil(12 + CHARACTER * max(map(len, shown)))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    body = [_names(shown, edge)]
    for i in range(num):
        body += [_cell(edge, i, j, int(counts[i, j]), float(shares[i, j])) for j in range(num)]
    size = edge + num * CELL
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" width="{size}" height="{size}" '
        f'role="img" aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="{FONT}" '
        f'fill="currentColor">'
        f"{''.join(body)}</svg>"
    )


def _names(names: Sequence[str], edge: int) -> str:
    parts = []
    for i, name in enumerate(names):
        middle = edge + (i + 0.5) * CELL
        parts.append(f'<text x="{edge - 8}" y="{middle + 4.5:g}" text-anchor="end">{escape(name)}</text>')
        turned = f'transform="translate({middle + 4.5:g} {edge - 8}) rotate(-90)"'
        parts.append(f"<text {turned}>{escape(name)}</text>")
    return "".join(parts)


def _cell(edge: int, row: int, column: int, count: int, share: float) -> str:
    x, y = edge + column * CELL, edge + row * CELL
    colour = RIGHT_COLOUR if row == column else WRONG_COLOUR
    side = CELL - 2
    # a mistake of a tenth of a class is much: the root shows it
    strength = 0.06 if not count else 0.12 + 0.6 * math.sqrt(share)
    box = (
        f'<rect x="{x + 1}" y="{y + 1}" width="{side}" height="{side}" rx="4" fill="{colour}" '
        f'fill-opacity="{strength:.2f}"/>'
    )
    if not count:
        return box
    return f'{box}<text x="{x + CELL / 2:g}" y="{y + CELL / 2 + 4.5:g}" text-anchor="middle">{count}</text>'
