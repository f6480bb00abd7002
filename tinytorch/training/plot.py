"""Plots of curves: as text for a terminal, as SVG for a page; no library is needed.

Knows named lists of points, never what they measure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from tinytorch.base.checks import whole
from tinytorch.base.errors import DataError, printable

Curves = Mapping[str, Sequence[tuple[float, float]]]
MARKS = "*o+x#%"
# Colour-blind safe, from Okabe & Ito 2008, https://jfly.uni-koeln.de/color/.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 400, 70, 50, 30  # of the picture and its margins, in pixels
TICKS = 5


def text_plot(curves: Curves, width: int = 60, height: int = 12) -> str:
    """Curves drawn with characters, one mark for each.

    Args:
        curves: name -> points (x, y); numbers that are not finite are left out.
        width: columns of the drawing, at least 2.
        height: lines of the drawing, at least 2.

    Returns:
        lines: the drawing with the range of y at its left and of x below, then the marks' names.

    Raises:
        DataError: there is no point.

    Example:
        >>> print(text_plot({"loss": [(1, 4.0), (2, 1.0), (3, 0.0)]}, width=9, height=3))
           4 |*
             |
           0 |    *   *
              1       3
        * loss
    """
    columns = whole("text_plot", "width", width, at_least=2)
    lines = whole("text_plot", "height", height, at_least=2)
    points = {name: _finite(curve) for name, curve in curves.items()}
    (left, right), (low, high) = _ranges(points)
    grid = [[" "] * columns for _ in range(lines)]
    for mark, curve in zip(_cycled(MARKS, len(points)), points.values(), strict=True):
        for x, y in curve:
            row = round((high - y) / (high - low) * (lines - 1))
            grid[row][round((x - left) / (right - left) * (columns - 1))] = mark
    edges = {0: f"{high:.4g}", lines - 1: f"{low:.4g}"}
    margin = max(4, *map(len, edges.values()))
    out = [f"{edges.get(i, ''):>{margin}} |{''.join(row)}".rstrip() for i, row in enumerate(grid)]
    ends = f"{left:g}", f"{right:g}"
    out.append(" " * (margin + 2) + ends[0] + ends[1].rjust(columns - len(ends[0])))
    out += [
        f"{mark} {printable(name)}"
        for mark, name in zip(_cycled(MARKS, len(points)), points, strict=True)
    ]
    return "\n".join(out)


def svg_plot(curves: Curves, title: str = "", x_name: str = "epoch") -> str:
    """Curves as an SVG picture of 640 x 400 pixels.

    Args:
        curves: name -> points (x, y); numbers that are not finite are left out.
        title: stands above.
        x_name: stands below.

    Returns:
        the text of the file.

    Raises:
        DataError: there is no point.

    Example:
        >>> picture = svg_plot({"loss": [(1, 4.0), (2, 1.0)]})
        >>> picture.count("<polyline"), picture.startswith("<svg")
        (1, True)
    """
    points = {name: _finite(curve) for name, curve in curves.items()}
    (left, right), (low, high) = _ranges(points)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - left) / (right - left) * (WIDTH - LEFT - 20)
        return across, TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
             f'font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
             _text(WIDTH / 2, 18, title, "middle"),
             _text(WIDTH / 2, HEIGHT - 8, x_name, "middle")]  # fmt: skip
    for i in range(TICKS):
        y = low + (high - low) * i / (TICKS - 1)
        across, down = place(left, y)
        parts.append(f'<line x1="{across:.1f}" y1="{down:.1f}" x2="{WIDTH - 20}" y2="{down:.1f}" '
                     'stroke="#ddd"/>')  # fmt: skip
        parts.append(_text(LEFT - 6, down + 4, f"{y:.4g}", "end"))
        x = left + (right - left) * i / (TICKS - 1)
        parts.append(_text(place(x, low)[0], HEIGHT - BOTTOM + 16, f"{x:.4g}", "middle"))
    for i, (name, curve) in enumerate(points.items()):
        colour = COLOURS[i % len(COLOURS)]
        corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in (place(x, y) for x, y in curve))
        parts.append(f'<polyline points="{corners}" fill="none" stroke="{colour}" '
                     'stroke-width="2"/>')  # fmt: skip
        parts.append(_text(WIDTH - 24, TOP + 14 + 16 * i, name, "end", colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: float, y: float, words: str, anchor: str, colour: str = "black") -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">'
            f"{escape(printable(words))}</text>")  # fmt: skip


def _finite(curve: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in curve if math.isfinite(x) and math.isfinite(y)]


def _ranges(points: Mapping[str, list[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Smallest and largest x and y; a range of nothing is widened, so that it can be divided by."""
    every = [point for curve in points.values() for point in curve]
    if not every:
        raise DataError(
            "there is nothing to plot",
            got=f"no finite number for {', '.join(points) or 'any name'}",
            rule="at least one point",
            fix="train for an epoch, or name a column of the history",
        )
    found = []
    for numbers in zip(*every, strict=True):
        low, high = min(numbers), max(numbers)
        found.append((low, high) if low < high else (low - 0.5, high + 0.5))
    return found


def _cycled(marks: str, count: int) -> list[str]:
    return [marks[i % len(marks)] for i in range(count)]
