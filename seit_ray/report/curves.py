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
Bar = tuple[float, float, float]  # x, lowest and highest y
Range = tuple[float, float]
Ticks = list[tuple[float, str]]
Frame = tuple[int, int, int, int]  # left, top, right, bottom


def line_chart(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str,
    x_label: str,
    y_label: str,
    *,
    log_x: bool = False,
    errors: Mapping[str, Sequence[float | None]] | None = None,
) -> str:
    """An SVG of one line for each name -> (xs, ys), with axes and legend, in the text colour around it.

    NaN and infinite values leave a gap, a lone point becomes a dot, a series without finite points is marked
    "no data" in the legend. log_x: the x axis by powers of ten. errors: of each y, how far it may be off; the points
    are then marked, each with a bar. Raises ValueError when xs and ys differ in length, or for an x that has no
    logarithm.
    """
    if log_x:
        series = {name: (_logarithms(name, xs), ys) for name, (xs, ys) in series.items()}
    runs = {name: _finite_runs(name, xs, ys) for name, (xs, ys) in series.items()}
    points = [point for parts in runs.values() for part in parts for point in part]
    bars = {name: _bars(*series[name], found) for name, found in (errors or {}).items()}
    x_range = _padded_range([x for x, _ in points], 0.05 if log_x else 0.0)
    ends = [y for found in bars.values() for _, *ys in found for y in ys]
    y_range = _padded_range([*(y for _, y in points), *ends], 0.05)
    legend, legend_rows = _legend({name: bool(parts) for name, parts in runs.items()})
    y_ticks = _ticks(*y_range, count=5)
    left = math.ceil(16 + CHARACTER * max(len(text) for _, text in y_ticks))
    top = 68 + 20 * legend_rows
    height = top + PLOT_HEIGHT + BOTTOM
    frame = (left, top, WIDTH - RIGHT, top + PLOT_HEIGHT)
    body = [f'<text y="18" font-size="15" font-weight="600">{escape(title)}</text>', legend]
    body.append(_labels(x_label, y_label, frame))
    if points:
        x_ticks = _log_ticks(*x_range) if log_x else _ticks(*x_range, count=6)
        body.append(_x_axis(x_ticks, x_range, frame) + _y_axis(y_ticks, y_range, frame))
    else:
        middle = f'x="{(left + WIDTH) / 2:g}" y="{top + PLOT_HEIGHT / 2:g}"'
        body.append(f'<text {middle} text-anchor="middle" opacity="0.75">no data</text>')
    for i, (name, parts) in enumerate(runs.items()):
        body.append("".join(_line(part, i, x_range, y_range, frame) for part in parts))
        body += [_marked(bar, i, x_range, y_range, frame) for bar in bars.get(name, ())]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" '
        f'role="img" aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="13" '
        f'fill="currentColor">{"".join(body)}</svg>'
    )


def _logarithms(name: str, xs: Sequence[float]) -> list[float]:
    """To base 10; ValueError for what has none."""
    wrong = [x for x in xs if not x > 0]
    if wrong:
        raise ValueError(f"series {name!r} with x {wrong[0]:g} on a log axis; expected more than 0; leave it out")
    return [math.log10(x) for x in xs]


def _bars(xs: Sequence[float], ys: Sequence[float], errors: Sequence[float | None]) -> list[Bar]:
    """Of each finite point; without an error, as high as the point."""
    found = zip(xs, ys, errors, strict=True)
    return [(x, y - (e or 0.0), y + (e or 0.0)) for x, y, e in found if all(abs(v) < HUGE for v in (x, y, e or 0.0))]


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


def _log_ticks(low: float, high: float) -> Ticks:
    """Of an axis of logarithms: powers of ten, and 2 and 5 of them where there are few."""
    factors = (1, 2, 5) if high - low < 2.5 else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1)
    values = [(power + math.log10(f), f * 10.0**power) for power in powers for f in factors]
    return [(place, f"{value:,.10g}") for place, value in values if low <= place <= high]


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


def _marked(bar: Bar, index: int, x_range: Range, y_range: Range, frame: Frame) -> str:
    """A point and the bar of its error."""
    left, top, right, bottom = frame
    x, colour = _scaled(bar[0], x_range, left, right), COLOURS[index % len(COLOURS)]
    low, high = (_scaled(y, y_range, bottom, top) for y in bar[1:])
    dot = f'<circle cx="{x}" cy="{(low + high) / 2:.1f}" r="3" fill="{colour}"/>'
    if low == high:
        return dot
    return f'<path d="M{x} {low}V{high}M{x - 3:g} {low}h6M{x - 3:g} {high}h6" stroke="{colour}" fill="none"/>{dot}'


def _stroke(index: int) -> str:
    dash = DASHES[index // len(COLOURS) % len(DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    colour = COLOURS[index % len(COLOURS)]
    return f'fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"{dashed}'


def _scaled(value: float, span: Range, start: float, end: float) -> float:
    return round(start + (value - span[0]) / (span[1] - span[0]) * (end - start), 1)
