"""Kernels over a grid of blocks of threads, in NumPy: how a program for a GPU is thought of.

Knows blocks and threads. A block's threads run in step: every statement of a kernel is done by all
of them, as one NumPy operation on arrays that have an entry for each thread. So no barrier is
needed inside a block, memory shared by a block is an array, and blocks, which run one after the
other in any order, must not depend on one another.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tinytorch.base.arguments import whole
from tinytorch.base.errors import SettingError

__all__ = ["Block", "blocks_for", "kernel"]

MOST_THREADS = 1024  # of a block, as on the hardware this follows


class Block:
    """What a kernel sees: which block it is, and which threads it has.

    Args:
        index: this block's place in the grid, up to three numbers (x first).
        size: threads along each axis.
        grid: blocks along each axis.
    """

    def __init__(self, index: tuple[int, ...], size: tuple[int, ...], grid: tuple[int, ...]):
        self.index, self.size, self.grid = index, size, grid
        # Axis 0 of an array of threads is the last axis of the block, so that x is contiguous.
        places = np.indices(size[::-1])[::-1]
        self.thread = tuple(places)

    def __getattr__(self, name: str) -> np.ndarray:
        """`x`, `y`, `z`: place of each thread in the whole grid along that axis."""
        axis = "xyz".find(name) if len(name) == 1 else -1
        if not 0 <= axis < len(self.size):
            raise AttributeError(f"a block of {len(self.size)} axes has no {name!r}")
        return self.index[axis] * self.size[axis] + self.thread[axis]

    def shared(self, *shape: int, dtype: DTypeLike = "float32") -> np.ndarray:
        """Memory of this block, zero at first."""
        return np.zeros(shape, dtype)


class kernel:
    """A function of (block, *arrays) that is launched over a grid: `add[grid, block](a, b, out)`.

    Args:
        function: writes into its arrays; it returns nothing.

    Example:
        >>> @kernel
        ... def add(block, a, b, out):
        ...     i = block.x[block.x < len(out)]       # the last block reaches past the end
        ...     out[i] = a[i] + b[i]
        >>> out = np.zeros(5)
        >>> add[blocks_for(5, 4), 4](np.arange(5.0), np.ones(5), out)
        >>> out
        array([1., 2., 3., 4., 5.])
    """

    def __init__(self, function: Callable):
        self.function = function
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__

    def __getitem__(self, launch: tuple) -> Callable[..., None]:
        """The launch with (grid, block), each a number or up to three."""
        if not isinstance(launch, tuple) or len(launch) != 2:
            raise SettingError(
                f"{self.__name__}: how is it launched?",
                got=repr(launch),
                rule="[blocks of the grid, threads of a block], each a number or up to three",
                fix=f"{self.__name__}[blocks_for(n, 256), 256](...)",
            )
        grid, size = (
            _sizes(self.__name__, name, n)
            for name, n in zip(("grid", "block"), launch, strict=True)
        )
        if len(grid) != len(size) or np.prod(size) > MOST_THREADS:
            raise SettingError(
                f"{self.__name__}: grid and block do not fit",
                got=f"grid {grid}, block {size}",
                rule=f"as many axes each, and at most {MOST_THREADS} threads in a block",
                fix="smaller blocks and more of them",
            )

        def run(*arguments: Any) -> None:
            for index in itertools.product(*map(range, grid)):
                self.function(Block(index, size, grid), *arguments)

        return run


def blocks_for(n: int, threads: int) -> int:
    """Blocks of so many threads that cover n elements.

    >>> blocks_for(1000, 256)
    4
    """
    return -(-n // threads)


def _sizes(owner: str, name: str, given: object) -> tuple[int, ...]:
    sizes = given if isinstance(given, tuple) else (given,)
    if not 1 <= len(sizes) <= 3:
        raise SettingError(
            f"{owner}: a {name} has one to three axes", got=repr(given), rule="1 to 3 numbers",
            fix="(16, 16)",
        )  # fmt: skip
    return tuple(whole(owner, name, n, at_least=1) for n in sizes)
