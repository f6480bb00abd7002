"""Medians of blocks, and how certain a ratio of two of them is.

Knows lists of seconds; never processes.

    >>> ratio([[2.0, 2.0], [2.0, 2.0]], [[1.0, 1.0], [1.0, 1.5, 1.0]])["ratio"]
    2.0
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import median

RESAMPLES = 2000
_SEED = 20  # of the resampling: the same measurement gives the same interval

Blocks = Sequence[Sequence[float]]  # seconds of each run, block by block


def typical(blocks: Blocks) -> float:
    """The median over blocks of each block's median."""
    return median(median(block) for block in blocks)


def ratio(slow: Blocks, fast: Blocks) -> dict[str, float]:
    """typical(slow) / typical(fast), with a 95 % interval.

    Blocks that stood beside each other in time are resampled together: a neighbour on the machine
    slows both.
    """
    pairs = [(median(a), median(b)) for a, b in zip(slow, fast, strict=True)]
    draw = random.Random(_SEED)
    found = sorted(
        median(a for a, _ in picked) / median(b for _, b in picked)
        for picked in (draw.choices(pairs, k=len(pairs)) for _ in range(RESAMPLES))
    )
    low, high = found[int(0.025 * RESAMPLES)], found[int(0.975 * RESAMPLES) - 1]
    return {"ratio": typical(slow) / typical(fast), "low": low, "high": high}
