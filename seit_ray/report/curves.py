"""Line charts as SVG text, for the HTML page: no script, no file beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

# Each at least 3.5 to 1 against both white and near-black, and told apart by hue.
COLOURS = ("#2f7fd4", "#d1661f", "#149174", "#b267b0", "#a8830e", "#d9587a")
DASHES = ("", "7 4", "2 4")  # the second and third round through the colours
MAX_POINTS = 500  # a line of 480 pixels shows no more
HUGE, TINY = 1e300, 1e-100  # beyond these, the arithmetic of the axes overflows

WIDTH, PLOT_HEIGHT = 480, 240  # so narrow that a phone, which shrinks it to 370, leaves its text readable
RIGHT, BOTTOM = 30, 48
CHARACTER = 7.2  # pixels of an average character of the 13 pixel font: SVG text cannot be measured here

Points = list[tuple[float, float]]
Range = tuple[float, float]
Ticks = list[tuple[float, str]]
Frame = tuple[int, int, int, int]  # left, top, right, bottom


def line_chart(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], title: str, x_label: str, y_label: str
) -> str:
    """An SVG of one line for each name -> (xs, ys), with axes and legend, in the text colour around it.

    NaN and infinite values leave a gap, a lone point becomes a dot, a series without finite points is marked
    "no data" in the legend. Raises ValueError when xs and ys differ in length.
    """
    runs = {name: _finite_runs(name, xs, ys) for name, (xs, ys) in series.items()}
    points = [point for parts in runs.values() for part in parts for point in part]
    x_range = _padded_range([x for x, _ in points], 0.0)
    y_range = _padded_range([y for _, y in points], 0.05)
    legend, legend_rows = _legend({name: bool(parts) for name, parts in runs.items()})
    y_ticks = _ticks(*y_range, count=5)
    left = math.ceil(16 + CHARACTER * max(len(text) for _, text in y_ticks))
    top = 68 + 20 * legend_rows
    height = top + PLOT_HEIGHT + BOTTOM
    frame = (left, top, WIDTH - RIGHT, top + PLOT_HEIGHT)
    body = [f'<text y="18" font-size="15" font-weight="600">{escape(title)}</text>', legend]
    body.append(_labels(x_label, y_label, frame))
    if points:
        body.append(_x_axis(_ticks(*x_range, count=6), x_range, frame) + _y_axis(y_ticks, y_range, frame))
    else:
        middle = f'x="{(left + WIDTH) / 2:g}" y="{top + PLOT_HEIGHT / 2:g}"'
        body.append(f'<text {middle} text-anchor="middle" opacity="0.75">no data</text>')
    for i, parts in enumerate(runs.values()):
        body.append("".join(_line(part, i, x_range, y_range, frame) for part in parts))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" '
        f'role="img" aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="13" '
        f'fill="currentColor">{"".join(body)}</svg>'
    )


def _finite_runs(name: str, xs: Sequence[float], ys: Sequence[float]) -> list[Points]:
    """The stretches of consecutive finite points, each thinned to what the chart can show."""
    if len(xs) != len(ys):
        raise ValueError(f"series {name!r} with {len(xs)} x and {len(ys)} y values; expected as many; pass one x a y")
    pairs = [(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]
    grouped = groupby(pairs, key=lambda pair: all(abs(v) < HUGE for v in pair))  # NaN compares false
    return [_thinned(list(run)) for finite, run in grouped if finite]


def _thinned(points: Points) -> Points:
    """At most about MAX_POINTS of them: the lowest and highest of each bucket, so that no spike is lost."""
    if len(points) <= MAX_POINTS:
        return points
    size = math.ceil(2 * len(points) / MAX_POINTS)
    kept = [0, len(points) - 1]
    for i in range(0, len(points), size):
        bucket = range(i, min(i + size, len(points)))
        kept += [min(bucket, key=lambda j: points[j][1]), max(bucket, key=lambda j: points[j][1])]
    return [points[i] for i in sorted(set(kept))]


def _padded_range(values: Sequence[float], margin: float) -> Range:
    """Lowest and highest value, wider by the share margin at both ends; never empty."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    size = max(abs(low), abs(high))
    if size < TINY:
        return low - 1, high + 1
    if high - low <= 1e-9 * size:
        pad = 0.1 * size
        return low - pad, high + pad
    pad = margin * (high - low)
    return low - pad, high + pad


def _ticks(low: float, high: float, count: int) -> Ticks:
    """About count round values from low to high with their texts; steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= 0.7 * rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    size = max(abs(low), abs(high))
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    digits = max(3, math.ceil(math.log10(size / step)) + 1)  # as many as tell neighbours apart
    style = f",.{decimals}f" if size < 1e7 and decimals <= 5 else f".{digits}g"
    return [(i * step, format(i * step + 0.0, style)) for i in range(first, last + 1)]


def _x_axis(ticks: Ticks, x_range: Range, frame: Frame) -> str:
    left, _, right, bottom = frame
    parts = [f'<path d="M{left} {bottom}H{right}" stroke="currentColor" stroke-opacity="0.5" fill="none"/>']
    for value, text in ticks:
        x = _scaled(value, x_range, left, right)
        parts.append(f'<path d="M{x} {bottom}v5" stroke="currentColor" stroke-opacity="0.5"/>')
        parts.append(f'<text x="{x}" y="{bottom + 20}" text-anchor="middle" opacity="0.75">{text}</text>')
    return "".join(parts)


def _y_axis(ticks: Ticks, y_range: Range, frame: Frame) -> str:
    left, top, right, bottom = frame
    parts = []
    for value, text in ticks:
        y = _scaled(value, y_range, bottom, top)
        parts.append(f'<path d="M{left} {y}H{right}" stroke="currentColor" stroke-opacity="0.13"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4.5:g}" text-anchor="end" opacity="0.75">{text}</text>')
    return "".join(parts)


def _labels(x_label: str, y_label: str, frame: Frame) -> str:
    left, top, right, bottom = frame
    # Above its axis and not turned on its side, where it would be harder to read and cross long figures.
    return (
        f'<text x="{(left + right) / 2:g}" y="{bottom + 42}" text-anchor="middle" opacity="0.75">'
        f'{escape(x_label)}</text><text y="{top - 16}" opacity="0.75">{escape(y_label)}</text>'
    )


def _legend(has_points: Mapping[str, bool]) -> tuple[str, int]:
    """Each name beside a stroke of its line, wrapped at the right edge, and the number of rows this takes."""
    parts, x, row = [], 0.0, 0
    for i, (name, some) in enumerate(has_points.items()):
        text = name if some else f"{name} (no data)"
        width = 28 + CHARACTER * len(text) + 18
        if x > 0 and x + width > WIDTH:
            x, row = 0.0, row + 1
        y = 44 + 20 * row
        parts.append(f'<path d="M{x:g} {y - 4}h22" {_stroke(i)}/>')
        parts.append(f'<text x="{x + 28:g}" y="{y}">{escape(text)}</text>')
        x += width
    return "".join(parts), row + 1 if parts else 0


def _line(points: Points, index: int, x_range: Range, y_range: Range, frame: Frame) -> str:
    left, top, right, bottom = frame
    places = [(_scaled(x, x_range, left, right), _scaled(y, y_range, bottom, top)) for x, y in points]
    if len(places) == 1:
        (x, y), colour = places[0], COLOURS[index % len(COLOURS)]
        return f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>'
    path = " ".join(f"{x},{y}" for x, y in places)
    return f'<polyline points="{path}" {_stroke(index)}/>'


def _stroke(index: int) -> str:
    dash = DASHES[index // len(COLOURS) % len(DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    colour = COLOURS[index % len(COLOURS)]
    return f'fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"{dashed}'


def _scaled(value: float, span: Range, start: float, end: float) -> float:
    return round(start + (value - span[0]) / (span[1] - span[0]) * (end - start), 1)
