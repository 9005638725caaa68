"""Pictures of a sweep as SVG text: a heat map of two keys, and trials as lines through the axes of all keys."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from seit_ray.report.curves import CHARACTER, COLOURS

MAX_CELLS, MAX_TICKS = 12, 5  # values of a heat map's and of a parallel axis; more of them become a number line
BINS = 8  # cells of a number line
LEAST, MOST = 0.06, 0.9  # opacity of the colour of the worst and of the best
WIDTH, CELL_HEIGHT, AXIS_HEIGHT = 640, 34, 240
SOFT = 'opacity="0.75"'


@dataclass(frozen=True)
class Axis:
    """Where the values of a key lie: each at a place of its own, by its text, or on a number line."""

    texts: tuple[str, ...]  # of a list of values; empty for a number line
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    @property
    def num_cells(self) -> int:
        """Cells that it is divided into."""
        return len(self.texts) or BINS

    def place(self, value: Any) -> float:
        """From 0 to 1 along the axis."""
        if self.texts:
            last = len(self.texts) - 1
            return self.texts.index(text_of(value)) / last if last else 0.5
        if self.low == self.high:
            return 0.5
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def value(self, place: float) -> float:
        """The number at a place of a number line."""
        if self.log:
            return self.low * (self.high / self.low) ** place
        return self.low + (self.high - self.low) * place

    def cell(self, value: Any) -> int:
        """Which cell a value lies in."""
        if self.texts:
            return self.texts.index(text_of(value))
        return min(int(self.place(value) * BINS), BINS - 1)

    def cell_texts(self) -> list[str]:
        """The label of each cell: its value, or the middle of its range."""
        return list(self.texts) or [f"{self.value((i + 0.5) / BINS):.2g}" for i in range(BINS)]

    def ticks(self) -> list[tuple[float, str]]:
        """(place, text) along the axis."""
        if self.texts:
            last = len(self.texts) - 1
            return [(i / last if last else 0.5, text) for i, text in enumerate(self.texts)]
        if self.low == self.high:
            return [(0.5, text_of(self.low))]
        return [(i / 4, text_of(float(self.value(i / 4)))) for i in range(5)]


def axis_of(values: Sequence[Any], max_listed: int) -> Axis:
    """The axis of these values: their list in order, or a number line where they are more than max_listed numbers.

    A number line over two powers of ten or more is logarithmic.
    """
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if numbers and len(set(values)) > max_listed:
        low, high = min(values), max(values)
        return Axis((), low, high, log=low > 0 and high / low >= 100)
    try:
        ordered = sorted(values)
    except TypeError:
        ordered = sorted(values, key=text_of)
    return Axis(tuple(dict.fromkeys(map(text_of, ordered))))


def text_of(value: Any) -> str:
    """A value as a label: four digits of a number, a list without brackets."""
    if isinstance(value, list | tuple):
        return ", ".join(text_of(v) for v in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def heat_map(
    points: Sequence[tuple[Any, Any, float]], title: str, x_label: str, y_label: str, *, best_is_low: bool = False
) -> str:
    """An SVG of cells: the mean value of all points (x, y, value) in each, the stronger coloured the better.

    x and y are numbers, which are put into ranges where there are many, or whatever `text_of` shows; a cell without a
    point is empty. ValueError without points, or for a value that is not finite.
    """
    check_values([value for _, _, value in points], title)
    across, up = (axis_of([point[i] for point in points], MAX_CELLS) for i in (0, 1))
    cells: dict[tuple[int, int], list[float]] = {}
    for x, y, value in points:
        cells.setdefault((across.cell(x), up.cell(y)), []).append(value)
    means = {place: sum(values) / len(values) for place, values in cells.items()}
    shares = shares_of(means, best_is_low)
    left = math.ceil(16 + CHARACTER * max(map(len, up.cell_texts())))
    width, top = (WIDTH - left) / across.num_cells, 56
    bottom = top + CELL_HEIGHT * up.num_cells
    body = [_text(0, top - 12, y_label, SOFT)]
    for column, row in itertools.product(range(across.num_cells), range(up.num_cells)):
        x, y = left + column * width, bottom - (row + 1) * CELL_HEIGHT
        share = shares.get((column, row))
        opacity = 0 if share is None else LEAST + (MOST - LEAST) * share
        body.append(
            f'<rect x="{x + 1:.1f}" y="{y + 1}" width="{width - 2:.1f}" height="{CELL_HEIGHT - 2}" fill="{COLOURS[0]}" '
            f'fill-opacity="{opacity:.2f}" stroke="currentColor" stroke-opacity="0.13"/>'
        )
        if share is not None:
            text = f"{means[column, row]:.4g}"
            body.append(_text(x + width / 2, y + CELL_HEIGHT / 2 + 4.5, text, 'text-anchor="middle"'))
    for i, text in enumerate(up.cell_texts()):
        body.append(_text(left - 8, bottom - (i + 0.5) * CELL_HEIGHT + 4.5, text, f'text-anchor="end" {SOFT}'))
    for i, text in enumerate(across.cell_texts()):
        body.append(_text(left + (i + 0.5) * width, bottom + 20, text, f'text-anchor="middle" {SOFT}'))
    body.append(_text((left + WIDTH) / 2, bottom + 42, x_label, f'text-anchor="middle" {SOFT}'))
    return _svg(body, title, bottom + 50)


def parallel_coordinates(
    rows: Sequence[tuple[Mapping[str, Any], float]], title: str, value_label: str, *, best_is_low: bool = False
) -> str:
    """An SVG of a line for each trial (settings, value), through an axis a key, to its value at the right.

    The stronger coloured the better; the best in a colour of its own. ValueError without rows, for other keys in one
    of them, or for a value that is not finite.
    """
    check_values([value for _, value in rows], title)
    keys = list(rows[0][0])
    if any(set(settings) != set(keys) for settings, _ in rows):
        raise ValueError(f"picture {title!r} of trials with other keys; expected {keys} in all; complete them")
    axes = [axis_of([settings[key] for settings, _ in rows], MAX_TICKS) for key in keys]
    axes.append(axis_of([float(value) for _, value in rows], 0))
    shares = shares_of({i: value for i, (_, value) in enumerate(rows)}, best_is_low)
    top, left = 72, 48
    xs = [left + i * (WIDTH - left - 80) / len(keys) for i in range(len(axes))]
    body = []
    for i in sorted(shares, key=lambda i: shares[i]):  # the best comes last, on top
        settings, value = rows[i]
        places = [axis.place(v) for axis, v in zip(axes, [*(settings[k] for k in keys), value], strict=True)]
        line = " ".join(f"{x:.1f},{top + AXIS_HEIGHT * (1 - p):.1f}" for x, p in zip(xs, places, strict=True))
        is_best = shares[i] == max(shares.values())
        look = f'stroke="{COLOURS[is_best]}" stroke-width="{2 + is_best}" stroke-opacity="{0.2 + 0.7 * shares[i]:.2f}"'
        body.append(f'<polyline points="{line}" fill="none" stroke-linejoin="round" {look}/>')
    names = [*(key.rpartition(".")[2] for key in keys), value_label]
    for i, (x, axis, name) in enumerate(zip(xs, axes, names, strict=True)):
        body.append(f'<path d="M{x:.1f} {top}v{AXIS_HEIGHT}" stroke="currentColor" stroke-opacity="0.5"/>')
        anchor = "start" if i == 0 else "end" if i == len(keys) else "middle"
        at = {"start": 0, "end": WIDTH, "middle": x}[anchor]
        body.append(_text(at, top - (30 if i % 2 else 12), name, f'text-anchor="{anchor}"'))  # so that long names fit
        body += [_text(x + 6, top + AXIS_HEIGHT * (1 - place) + 4.5, text, SOFT) for place, text in axis.ticks()]
    return _svg(body, title, top + AXIS_HEIGHT + 20)


def check_values(values: Sequence[float], title: str) -> None:
    """ValueError unless there are values, all of them finite."""
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(
            f"picture {title!r} of {len(values)} values; expected one at least, all finite; leave out others"
        )


def shares_of(values: Mapping[Any, float], best_is_low: bool) -> dict[Any, float]:
    """How far each value is from the worst, 0, to the best, 1; 1 for all where they are equal."""
    low, high = min(values.values()), max(values.values())
    if low == high:
        return dict.fromkeys(values, 1.0)
    return {k: (high - v if best_is_low else v - low) / (high - low) for k, v in values.items()}


def _text(x: float, y: float, text: str, look: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{escape(text)}</text>'


def _svg(body: list[str], title: str, height: float) -> str:
    heading = f'<text y="18" font-size="15" font-weight="600">{escape(title)}</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" '
        f'height="{height:g}" role="img" aria-label="{escape(title)}" font-family="system-ui, sans-serif" '
        f'font-size="13" fill="currentColor">{heading}{"".join(body)}</svg>'
    )
