"""What an operation on a small Tensor costs over NumPy's: `python -m benchmarks.operation_cost`.

Knows three ways to do the same: NumPy, a Tensor, a Tensor that is recorded. They take turns in
blocks, so that the machine's mood meets all three; what is printed is the median over the blocks of
the difference to the NumPy block beside it, in processor time, which other programs do not disturb.
Correctness first: the results are equal.

Budget: 2 us without recording, 5 us with (`--check`: exit 1 if over). "where" is two operations.
"""

from __future__ import annotations

import statistics
import sys
import time
import timeit

import numpy as np

import tinytorch as tt

BUDGET = (2.0, 5.0)  # us: without, with recording
OPERATIONS = {"where": 2}  # in a row that is more than one
BLOCKS, CALLS = 41, 1000


def cases() -> dict:
    """For each operation: how NumPy does it, and how a Tensor does it."""
    return {
        "add": (lambda a, b: a + b, lambda a, b: a + b),
        "mul by a number": (lambda a, b: a * 2.0, lambda a, b: a * 2.0),
        "div": (lambda a, b: a / b, lambda a, b: a / b),
        "exp": (lambda a, b: np.exp(a), lambda a, b: a.exp()),
        "maximum": (lambda a, b: np.maximum(a, b), lambda a, b: tt.maximum(a, b)),
        "compare": (lambda a, b: a < b, lambda a, b: a < b),
        "sum": (lambda a, b: a.sum(0), lambda a, b: a.sum(0)),
        "matmul": (lambda a, b: a @ b, lambda a, b: a @ b),
        "where": (lambda a, b: np.where(a < b, a, b), lambda a, b: tt.where(a < b, a, b)),
        "reshape": (lambda a, b: a.reshape(64), lambda a, b: a.reshape(64)),
        "transpose": (lambda a, b: a.T, lambda a, b: a.T),
        "x[1:3]": (lambda a, b: a[1:3], lambda a, b: a[1:3]),
    }


def measure(name: str, size: int = 8) -> tuple[float, float, float]:
    """Microseconds: NumPy, then what a Tensor adds without and with recording."""
    numpy_way, tensor_way = cases()[name]
    a = np.linspace(0.5, 1.5, size * size, dtype=np.float32).reshape(size, size)
    b = a[::-1].copy()
    x, y, w = tt.Tensor(a), tt.Tensor(b), tt.Tensor(a, requires_grad=True)
    if not np.allclose(numpy_way(a, b), tensor_way(x, y).numpy(), rtol=1e-6):
        raise RuntimeError(f"{name}: the results differ")
    ways = (lambda: numpy_way(a, b), lambda: tensor_way(x, y), lambda: tensor_way(w, y))
    times = [
        [timeit.timeit(way, timer=time.process_time, number=CALLS) / CALLS * 1e6 for way in ways]
        for _ in range(BLOCKS)
    ]
    return (
        statistics.median(t[0] for t in times),
        statistics.median(t[1] - t[0] for t in times),
        statistics.median(t[2] - t[0] for t in times),
    )


def main() -> int:
    """Print the table; with `--check`, say whether the budget holds."""
    over = []
    print(f"{'operation':18}{'NumPy us':>10}{'Tensor +us':>12}{'recorded +us':>14}")
    for name in cases():
        base, plain, recorded = measure(name)
        print(f"{name:18}{base:10.2f}{plain:12.2f}{recorded:14.2f}")
        count = OPERATIONS.get(name, 1)
        if plain > BUDGET[0] * count or recorded > BUDGET[1] * count:
            over.append(name)
    if over:
        print(f"over the budget of {BUDGET[0]:g} and {BUDGET[1]:g} us: {', '.join(over)}")
    return 1 if over and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
