"""What the layout of memory costs: `python -m benchmarks.layout`.

Knows three questions of the course (S4-12): is walking along rows faster than along columns, is a
view free, and what does one NumPy call save over a Python loop. Times are processor time, the least
of several runs; every answer is checked for equality first.
"""

from __future__ import annotations

import sys
import time
import timeit

import numpy as np

import tinytorch as tt

SIZE = 2048  # 16 MiB of float32: more than the caches of one core
ROUNDS = 7
SEEN = 0.02  # seconds: some clocks of processor time tick every hundredth


def least(way) -> float:
    """Milliseconds a call, of so many in a row that a coarse clock sees them."""
    timer, calls = timeit.Timer(way, timer=time.process_time), 1
    while timer.timeit(calls) < SEEN:
        calls *= 2
    return min(timer.repeat(ROUNDS, calls)) / calls * 1e3


def by_lines(x: tt.Tensor) -> tt.Tensor:
    """The sum of each line x[i], one after the other: what a line is, the layout decides."""
    return tt.stack([x[i].sum() for i in range(x.shape[0])])


def loop(values: list[float]) -> float:
    """A sum by Python alone."""
    total = 0.0
    for value in values:
        total += value
    return total


def rows(size: int = SIZE) -> list[tuple[str, float, str]]:
    """(what, milliseconds, how much that is of the line before it in its group)."""
    x = tt.randn(size, size, generator=tt.Generator(0))
    column = x.contiguous("column")
    if not (np.array_equal(x.numpy(), column.numpy()) and tt.shares_memory(x, x.T)):
        raise RuntimeError("the layouts differ in their numbers")
    line = x[0].tolist()
    if abs(loop(line) - x[0].double().sum().item()) > 1e-9:
        raise RuntimeError("the sums differ")
    views = {
        "x.T": lambda: x.T, "x[10:500, ::2]": lambda: x[10:500, ::2],
        "x.reshape(-1)": lambda: x.reshape(-1),
    }  # fmt: skip
    out = []
    row, col = least(lambda: by_lines(x)), least(lambda: by_lines(column))
    out.append(("sum of every row, row-major", row, ""))
    out.append(("sum of every row, column-major", col, f"{col / row:.1f} times"))
    copy = least(lambda: x.T.contiguous())
    for name, way in views.items():
        cost = least(way)
        out.append((f"{name}, a view", cost, f"1 / {copy / cost:.0f} of the copy"))
    out.append(("x.T.contiguous(), a copy", copy, ""))
    python, numpy = least(lambda: loop(line)), least(lambda: x[0].sum())
    out.append((f"sum of {size} numbers, one call", numpy, ""))
    out.append((f"sum of {size} numbers, a Python loop", python, f"{python / numpy:.0f} times"))
    return out


def main() -> int:
    """Print the table."""
    print(f"{'float32, ' + str(SIZE) + ' x ' + str(SIZE):40}{'ms':>12}")
    for what, milliseconds, ratio in rows():
        print(f"{what:40}{milliseconds:12.5f}  {ratio}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
