"""What is measured: one file for each case, with our side and the peer's beside each other.

A case is a module with these names:

    TITLE       one line for the table
    settings()  -> the list of measurements: dicts of plain values with a "name"
    inputs(setting)                 -> arrays both sides start from (weights, batch)
    ours(setting, arrays)           -> Side
    peer(setting, variant, arrays)  -> Side; imports torch inside
    variants(setting)               -> names of ways the peer is run
    tolerance(setting)              -> largest relative difference of what the two sides show
    work(setting)                   -> (operations, bytes from memory) of one run

Knows models and sizes; never processes, clocks or statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Side:
    """One framework made ready for a case.

    Args:
        run: one run of what is timed; returns when the result is there.
        show: numbers by which the two sides are compared; called before anything is timed.
    """

    run: Callable[[], object]
    show: Callable[[], dict[str, np.ndarray]]


def numbers(shape: tuple[int, ...], seed: int, scale: float = 1.0) -> np.ndarray:
    """Normal random numbers, float32, the same on both sides because only one side makes them."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)
