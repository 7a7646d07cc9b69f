"""Draw charts as SVG: bars, and lines over a logarithmic axis.

Invariant: charts are readable without colour: every bar and line has a label, and every bar its value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

WIDTH: Final = 720
LEFT: Final = 150
RIGHT: Final = 110
COLOURS: Final = ("#2f6f9f", "#c4702b", "#4f8f4f", "#8a5a9e", "#8c6d46")
Points = Sequence[tuple[float, float]]


def bars(title: str, values: Mapping[str, float], unit: str) -> str:
    """Return a chart with one bar for each value. The largest value uses the full width."""
    largest = max(values.values(), default=0) or 1
    max_length = WIDTH - LEFT - RIGHT
    shapes = []
    for number, (name, value) in enumerate(values.items()):
        top, length = 50 + number * 34, max_length * value / largest
        shapes += [
            _text(LEFT - 10, top + 16, name, anchor="end"),
            f'<rect x="{LEFT}" y="{top}" width="{max(length, 1):.1f}" height="22" fill="{COLOURS[0]}"/>',
            _text(LEFT + length + 8, top + 16, f"{_short(value)} {unit}"),
        ]
    return _picture(title, 50 + len(values) * 34 + 14, shapes)


def lines(title: str, series: Mapping[str, Points], across: str, upwards: str) -> str:
    """Return a chart with one line for each series. The x axis is logarithmic, the y axis linear from 0."""
    points = [point for line in series.values() for point in line]
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    largest = max(y for _, y in points) or 1
    top, bottom, left, right = 60, 330, 80, WIDTH - 150
    span = math.log(high / low) or 1

    def position(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * math.log(x / low) / span, bottom - (bottom - top) * y / largest

    shapes = [f'<path d="M{left},{top - 10} V{bottom} H{right + 10}" fill="none" stroke="#555"/>']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        _, y = position(low, largest * share)
        shapes.append(_text(left - 8, y + 4, _short(largest * share), anchor="end"))
        shapes.append(f'<path d="M{left},{y:.1f} H{right}" stroke="#ddd"/>')
    for x in sorted({x for x, _ in points}):
        shapes.append(_text(position(x, 0)[0], bottom + 18, _short(x), anchor="middle"))
    shapes.append(_text((left + right) / 2, bottom + 40, across, anchor="middle"))
    shapes.append(_text(left - 60, top - 20, upwards))
    for colour, (name, line) in zip(COLOURS, series.items(), strict=False):
        positions = [position(x, y) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in positions)
        shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        shapes += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in positions]
        shapes.append(_text(positions[-1][0] + 10, positions[-1][1] + 4, name, colour=colour))
    return _picture(title, bottom + 60, shapes)


def _picture(title: str, height: int, shapes: Sequence[str]) -> str:
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            'font-family="sans-serif" font-size="13">',
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            _text(16, 26, title, size=16),
            *shapes,
            "</svg>\n",
        )
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = "#222", size: int = 13) -> str:
    attributes = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}"'
    return f"<text {attributes}>{escape(text)}</text>"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 or value == int(value) else f"{value:.2g}" if value < 1 else f"{value:.1f}"
