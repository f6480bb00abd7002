"""How a product is cut into tiles, a short one so that a few threads end together.

Knows counts of rows and panels, never what is multiplied.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil

from tinytorch.codegen.kernel import LEAST_TILES, Split

TILE_ROWS = 128  # of a tile at most, where there are that many blocks
# A core does so many in 2 us, at which a second thread begins to pay, and so many in the 0.15 us in
# which a tile is taken.
SHARED_FLOPS, TAKING_FLOPS = 2.6e5, 2e4


def tile_counts(
    sizes: tuple[int, int, int], batch: int, blocks: Split, panels: int, flops: float
) -> tuple[int, int]:
    """Row tiles and column tiles: about `flops` each, as square as the register blocks allow."""
    (m, n, k), batch = sizes, max(batch, 1)
    wanted = max(1.0, 2 * m * n * k / flops)
    if 2 * m * n * k * batch > 1e6:
        wanted = max(wanted, LEAST_TILES / batch)
    rows = min(blocks.parts, max(ceil(m / TILE_ROWS), round((wanted * m / n) ** 0.5)))
    columns = min(panels, max(1, ceil(wanted / rows)))
    rows = min(blocks.parts, max(rows, ceil(wanted / columns)))
    return rows, columns


@lru_cache(maxsize=256)
def even_tile_counts(flops: int, blocks: Split, panels: int, direct_b: bool) -> tuple[int, int]:
    """Row tiles and column tiles of a short product, with which 2 and 4 threads end soonest.

    With few tiles a larger one at the end keeps the other threads waiting: 3 x 3 tiles of 128 x 128
    sums take two threads 1.14 times as long as half the work, 2 x 4 tiles 1.02. There are 8, so
    that a thread that comes late finds some, unless they were too short then.

    Cost: up to a millisecond, once for each size.

    >>> even_tile_counts(2 * 128**3, Split(128, 10), 4, True)
    (2, 4)
    """
    most = max(1, min(2 * LEAST_TILES, int(flops / SHARED_FLOPS)))
    least = min(LEAST_TILES, 1 << most.bit_length() - 1, blocks.parts * panels)
    taking = TAKING_FLOPS * blocks.parts * panels / max(flops, 1)
    found: list[tuple[float, int, int]] = []
    for rows in range(1, min(blocks.parts, most) + 1):
        for columns in range(ceil(least / rows), min(panels, most // rows) + 1):
            down, across = Split(blocks.parts, rows).sizes, Split(panels, columns).sizes
            tiles = [i * j + taking for i in down for j in across]
            busiest = _busiest(tiles, 2) + _busiest(tiles, 4)
            if rows > 1 and not direct_b:  # b is then packed before, with a barrier between
                busiest *= 1.1
            found.append((busiest, rows, columns))
    return min(found)[1:]


def _busiest(tiles: Sequence[float], threads: int) -> float:
    """How long threads take that take tiles from two ends; see codegen/team.py."""
    ends, until = [0, len(tiles) - 1], [0.0] * threads
    while ends[0] <= ends[1]:
        thread = until.index(min(until))
        until[thread] += tiles[ends[thread % 2]]
        ends[thread % 2] += -1 if thread % 2 else 1
    return max(until)
