"""The pictures of a program's page: time line, memory over time, roofline.

Knows numbers, colours by name, and how to draw; never programs. Shapes carry what they show as a
title, which a browser shows under the pointer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import atan2, ceil, degrees, floor, log10

from tinytorch.base.amounts import count_text, time_text
from tinytorch.compiler.run.markup import Markup, joined, tag


@dataclass(frozen=True)
class PicturePart:
    """A shape of a picture.

    Args:
        row: the lane of a time line; unused elsewhere.
        left, right: where it begins and ends: seconds, or numbers of tasks.
        low, high: of memory, its bytes; of a roofline, FLOPs and bytes.
        colour: the name of its class.
        name: what is written on it, where there is room.
        title: what is shown under the pointer.
    """

    row: int
    left: float
    right: float
    low: float
    high: float
    colour: str
    name: str
    title: str


def time_line(parts: Iterable[PicturePart], rows: Sequence[str], whole: float) -> Markup:
    """A lane for each thread; in percent of the width, so that a wider lane shows more.

    Args:
        parts: what was done, in seconds.
        rows: names of the lanes.
        whole: seconds from edge to edge.
    """
    lanes: list[list[Markup]] = [[] for _ in rows]
    for p in parts:
        style = f"left:{100 * p.left / whole:.3f}%;width:{100 * (p.right - p.left) / whole:.3f}%"
        shown = p.name if p.right - p.left > whole / 5000 else ""  # a pixel of five screens
        lanes[p.row].append(tag("i", shown, class_=p.colour, style=style, title=p.title))
    marks = [
        tag("span", time_text(t), style=f"left:{100 * t / whole:.2f}%")
        for t in steps(whole, 8)
        if t < 0.97 * whole
    ]
    drawn = [
        tag("div", tag("b", name), *lane, class_="lane")
        for name, lane in zip(rows, lanes, strict=True)
    ]
    return tag("div", tag("div", *drawn, tag("div", *marks, class_="ticks"), id="time"),
               class_="wide")  # fmt: skip


def steps(whole: float, most: int) -> list[float]:
    """Round numbers from 0 to `whole`, at most `most` + 1 of them.

    >>> steps(0.7, 8)
    [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    """
    if whole <= 0:
        return [0.0]
    size = 10.0 ** floor(log10(whole / most))
    size = next(size * m for m in (1, 2, 5, 10) if whole / (size * m) <= most)
    return [round(i * size, 12) for i in range(int(whole / size + 1e-9) + 1)]


MEMORY_WIDTH, MEMORY_HEIGHT = 1000.0, 320.0  # units, stretched to the page


def memory(parts: Iterable[PicturePart], tasks: int, size: int, alive: Sequence[int]) -> Markup:
    """The arena: tasks from left to right, bytes from the bottom up, a rectangle a temporary.

    Args:
        parts: temporaries: first task and last + 1, first byte and last + 1.
        tasks: how many there are.
        size: bytes of the arena.
        alive: bytes in use at each task: the line over the rectangles.
    """
    x, y = MEMORY_WIDTH / max(1, tasks), MEMORY_HEIGHT / max(1, size)
    shapes = [
        tag(
            "rect", tag("title", p.title), class_=p.colour, x=x * p.left,
            y=MEMORY_HEIGHT - y * p.high, width=x * (p.right - p.left), height=y * (p.high - p.low),
        )
        for p in parts
    ]  # fmt: skip
    line = " ".join(
        f"{x * at:.1f},{MEMORY_HEIGHT - y * n:.1f}"
        for i, n in enumerate(alive)
        for at in (i, i + 1)
    )
    shapes.append(tag("polyline", points=line))
    box = f"0 0 {MEMORY_WIDTH:.0f} {MEMORY_HEIGHT:.0f}"
    return tag("svg", *shapes, class_="memory", viewBox=box, preserveAspectRatio="none")


@dataclass(frozen=True)
class PictureLine:
    """A logarithmic edge of a picture: from a power of ten to another, over some of its units."""

    low: int
    high: int
    start: float
    length: float

    def at(self, number: float) -> float:
        """Where a number lies."""
        return self.start + self.length * (log10(number) - self.low) / (self.high - self.low)

    @property
    def powers(self) -> list[float]:
        """The powers of ten on it."""
        return [10.0**n for n in range(self.low, self.high + 1)]


def scale_for(numbers: Sequence[float], start: float, length: float) -> PictureLine:
    """An axis on which all the numbers lie.

    >>> scale_for([3.0, 200.0], 0, 90)
    PictureLine(low=0, high=3, start=0, length=90)
    """
    low, high = floor(log10(min(numbers))), ceil(log10(max(numbers)))
    return PictureLine(low, max(high, low + 1), start, length)


RIGHT = 600  # where the lines of a roofline end and their names begin


def roofline(
    dots: Sequence[PicturePart],
    peaks: Sequence[tuple[str, float]],
    reads: Sequence[tuple[str, float]],
) -> Markup:
    """Operations a byte from left to right, operations a second from the bottom up.

    Args:
        dots: kernels: `low` FLOPs on `high` bytes in `right` - `left` seconds; `row` is the radius.
        peaks: (name, operations a second) of each unit: the level lines.
        reads: (name, bytes a second) of the fastest and the slowest memory: the slanted lines.
    """
    at = [(p.low / p.high, p.low / (p.right - p.left)) for p in dots]
    bandwidth = [b for _, b in reads]
    top = [peak for _, peak in peaks]
    xs = scale_for([0.1, *(x for x, _ in at), 2 * max(top) / min(bandwidth)], 62, RIGHT - 62)
    ys = scale_for([*(y for _, y in at), min(bandwidth), 1.5 * max(top)], 360, -340)
    shapes = [
        tag("line", class_="grid", x1=xs.at(n), x2=xs.at(n), y1=20, y2=360) for n in xs.powers
    ] + [tag("line", class_="grid", x1=62, x2=RIGHT, y1=ys.at(n), y2=ys.at(n)) for n in ys.powers]
    labels = [tag("text", f"{n:g}", x=xs.at(n), y=376, text_anchor="middle") for n in xs.powers]
    labels += [
        tag("text", count_text(int(n)).replace(".0", ""), x=56, y=ys.at(n) + 4, text_anchor="end")
        for n in ys.powers
    ]
    labels.append(
        tag(
            "text",
            "operations for each byte moved",
            x=(62 + RIGHT) / 2,
            y=394,
            text_anchor="middle",
        )
    )
    for name, peak in peaks:
        ridge = max(10.0**xs.low, peak / max(bandwidth))
        shapes.append(
            tag("line", class_="roof", x1=xs.at(ridge), x2=RIGHT, y1=ys.at(peak), y2=ys.at(peak))
        )
        labels.append(tag("text", name, x=RIGHT + 8, y=ys.at(peak) + 4))
    for beside, (name, rate) in zip((-6, 15), reads, strict=True):
        low = max(10.0**xs.low, 10.0**ys.low / rate)
        high = max(top) / rate
        ends = [(xs.at(x), ys.at(x * rate)) for x in (low, high)]
        (x1, y1), (x2, y2) = ends
        shapes.append(tag("line", class_="roof", x1=x1, x2=x2, y1=y1, y2=y2))
        x, y = x1 + 0.25 * (x2 - x1), y1 + 0.25 * (y2 - y1)
        slope = degrees(atan2(y2 - y1, x2 - x1))
        turn = f"rotate({slope:.1f} {x:.0f} {y:.0f})"
        labels.append(tag("text", name, x=x, y=y + beside, transform=turn))
    for p, (x, y) in sorted(zip(dots, at, strict=True), key=lambda pair: -pair[0].row):
        shapes.append(
            tag("circle", tag("title", p.title), class_=p.colour, cx=xs.at(x), cy=ys.at(y), r=p.row)
        )
    return tag("svg", joined([*shapes, *labels]), class_="roofline", viewBox="0 0 740 402")
