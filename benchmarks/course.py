"""`python -m benchmarks.course`: what the course's optimised versions gain over its slow ones.

Knows pairs of functions that give the same numbers. Both sides run in this process, in turns, and
are compared before they are timed; the numbers are kept in results/course.json.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np

import tinytorch as tt
from benchmarks import RESULTS
from benchmarks.machine import describe
from benchmarks.statistics import ratio, typical
from tinytorch.core.attention import attention_naive, attention_optimized
from tinytorch.core.kernels import fused_relu_add
from tinytorch.core.matmul import matmul_naive, matmul_optimized_v3, matmul_vectorized

ROUNDS = 9
Pair = tuple[str, float, Callable, Callable]  # what, times asked, slow, fast


def pairs() -> list[Pair]:
    """Rows S0-23, S2-36, S3-10 and S4-84: what is asked of each."""
    found: list[Pair] = []
    for shape in ((8, 8, 256, 64), (1, 12, 1024, 64), (64, 4, 64, 64)):
        # Unscaled scores of 64 normal numbers have deviation 8: a quarter of that stays soft.
        q, k, v = (tt.randn(*shape) * 0.5 for _ in range(3))
        found.append((
            f"attention_optimized over attention_naive {shape}", 10,
            lambda q=q, k=k, v=v: attention_naive(q, k, v),
            lambda q=q, k=k, v=v: attention_optimized(q, k, v),
        ))  # fmt: skip
    x, y = tt.randn(4096, 1024), tt.randn(4096, 1024)
    found.append((
        "fused_relu_add over add, then relu, 4 million numbers", 2,
        lambda: tt.nn.functional.relu(x + y), lambda: fused_relu_add(x, y),
    ))  # fmt: skip
    a, b = (tt.randn(160, 160, dtype="float64").numpy() for _ in range(2))
    for name, asked, fast in (
        ("matmul_vectorized", 5, matmul_vectorized),
        ("matmul_optimized_v3", 80, matmul_optimized_v3),
    ):
        found.append((
            f"{name} over matmul_naive, 160 x 160", asked,
            lambda: matmul_naive(a, b), lambda fast=fast: fast(a, b),
        ))  # fmt: skip
    return found


def measure(slow: Callable, fast: Callable) -> dict:
    """Seconds of both, and their ratio with its 95 % interval."""
    expected, found = (np.asarray(f()) for f in (slow, fast))
    # float32 sums of up to 1024 terms of size 1, and a softmax of them
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    blocks: tuple[list, list] = ([], [])
    for _ in range(ROUNDS):
        for block, call in zip(blocks, (slow, fast), strict=True):
            times = []
            while sum(times) < 0.1 or len(times) < 2:
                begin = time.perf_counter()
                call()
                times.append(time.perf_counter() - begin)
            block.append(times)
    slower, faster = blocks
    return {"slow": typical(slower), "fast": typical(faster), **ratio(slower, faster)}


def main() -> None:
    """Measure, print, keep."""
    tt.manual_seed(0)
    rows = []
    for what, asked, slow, fast in pairs():
        row = {"what": what, "asked": asked, **measure(slow, fast)}
        rows.append(row)
        times = f"{1e3 * row['slow']:9.3f} ms {1e3 * row['fast']:9.3f} ms"
        found = f"{row['ratio']:.1f} [{row['low']:.1f}, {row['high']:.1f}] times"
        print(f"{what:<60} {times}  {found}, asked {asked}", flush=True)
    machine = describe(tt.num_threads())
    text = json.dumps({"case": "course", "machine": machine, "rows": rows}, indent=1)
    (RESULTS / "course.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
