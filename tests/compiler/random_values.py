"""What random programs are made of: sizes, number types, arrays, and how they are chosen.

Knows numbers, never programs. Numbers are of three kinds. Whole ones are small, so that sums and
products are exact in every order and ties abound; normal ones are like weights; odd ones have NaN,
infinities, zeros of both signs and one number again and again among them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from random import Random
from time import monotonic

import numpy as np

from tinytorch.base.dtypes import (
    DType,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int8,
    int32,
    int64,
    uint8,
)
from tinytorch.primitives.primitive import store

SIZES = (1, 2, 3, 5, 7, 8, 16, 17, 31, 33, 64, 0)
MOST = 6000  # elements of an ordinary value
LARGE = ((70001,), (257, 512), (1024, 96), (3, 40000), (9, 64, 130), (40000, 3))
FLOATS = (float32, float32, float32, float64, bfloat16, float16)
WHOLE = (int32, int64, uint8, int8)
KINDS = ("whole", "whole", "normal", "normal", "normal", "odd")


class Refused(Exception):
    """What was chosen does not fit what there is."""


class Chooser:
    """Chooses at random, or again what was chosen before: a program is its list of choices.

    Args:
        seed: of the random choices.
        replayed: choices to make instead; when they are used up, the first of the options.
    """

    def __init__(self, seed: object = 0, replayed: Sequence[int] | None = None):
        self._random, self._replayed = Random(str(seed)), replayed
        self.made: list[int] = []

    def choose(self, options):
        """One of the options; a small program has the earlier ones."""
        options = list(options)
        if not options:
            raise Refused
        return options[self.number(0, len(options) - 1)]

    def number(self, low: int, high: int) -> int:
        """A whole number, both ends among them."""
        if self._replayed is None:
            made = self._random.randint(0, high - low)
        elif len(self.made) < len(self._replayed):
            made = min(self._replayed[len(self.made)], high - low)
        else:
            made = 0
        self.made.append(made)
        return low + made

    def flag(self) -> bool:
        return self.number(0, 1) == 1

    def rarely(self, times: int) -> bool:
        """True once in so many times."""
        return self.number(0, times - 1) == times - 1

    def order(self, rank: int) -> tuple[int, ...]:
        """A permutation of the axes."""
        left = list(range(rank))
        return tuple(left.pop(self.number(0, len(left) - 1)) for _ in range(rank))

    def axes(self, rank: int) -> tuple[int, ...]:
        """One axis or more, rising."""
        chosen = tuple(d for d in range(rank) if self.flag())
        return chosen or (self.number(0, rank - 1),)

    def shape(self, least: int = 0, most: int = 3) -> tuple[int, ...]:
        """Axes of ordinary sizes, in all at most MOST elements."""
        shape: tuple[int, ...] = ()
        for _ in range(self.number(least, most)):
            n = self.choose(SIZES)
            shape = (*shape, n if prod(shape) * n <= MOST else 1)
        return shape


def numbers(seed: int, shape: tuple[int, ...], dtype: DType, kind: str = "whole") -> np.ndarray:
    """A stored array; the same arguments give the same numbers."""
    random = np.random.default_rng(seed)
    if not dtype.is_float or kind == "whole":
        low = 0 if dtype in (bool_, uint8) else -4
        return store(random.integers(low, 2 if dtype is bool_ else 5, shape), dtype)
    array = random.standard_normal(shape)
    if kind == "odd" and array.size:
        odd = np.array([np.nan, np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 1.0])
        flat = array.reshape(-1)
        places = random.integers(0, flat.size, 1 + flat.size // 4)
        flat[places] = random.choice(odd, places.size)
    with np.errstate(all="ignore"):
        return store(array, dtype)


def indices(seed: int, shape: tuple[int, ...], size: int, dtype: DType = int64) -> np.ndarray:
    """Positions of an axis, from either end; with few positions many are equal."""
    random = np.random.default_rng(seed)
    return random.integers(-size, size, shape).astype(dtype.storage)


def made_small(made: Sequence[int], fails: Callable[[Sequence[int]], bool], seconds: float = 60):
    """Choices that still fail, with none left that could be taken out or made the first option.

    Args:
        made: choices of a program that fails.
        fails: whether the program of other choices fails too, in the same way.
        seconds: after which the smallest so far is taken.
    """
    best, end = list(made), monotonic() + seconds

    def tries(other: list[int]) -> bool:
        nonlocal best
        if monotonic() > end or other == best or not fails(other):
            return False
        best = other
        return True

    def deleted(at: int, size: int) -> list[int]:
        return best[:at] + best[at + size :]

    before = None
    while before != best and monotonic() < end:
        before = best
        for size in (64, 32, 16, 8, 4, 2, 1):
            at = len(best) - size
            while at >= 0:
                tries(deleted(at, size))
                at -= size
        for at in reversed(range(len(best))):
            if at < len(best) and best[at]:
                for lower in {0, best[at] // 2, best[at] - 1}:
                    if lower < best[at]:
                        tries([*best[:at], lower, *best[at + 1 :]])
    return best
