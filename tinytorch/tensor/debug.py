"""`tt.debug`: looking at numbers while a program runs.

Knows host calls, which it is made of. `tt.compile(..., check_nan=True)` says where the first NaN
arises.
"""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from tinytorch.base.errors import ArgumentError
from tinytorch.primitives.host import HostFunction
from tinytorch.tensor.host import host_call
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.memory import TensorBase

__all__ = ["print"]


def print(format: str, *values: Any, **named: Any) -> None:
    """Print numbers of Tensors, eagerly and inside compiled programs, at each run.

    Args:
        format: as of `str.format`: "loss = {:.3f}, w = {w}".
        values, named: what stands in its fields: Tensors as NumPy prints their arrays, and anything
            else as it was when the program was recorded.

    Raises:
        ArgumentError: a field of `format` has no value.

    Cost: that of `tt.host_call` in each run; nothing where no compiled function calls it.

    Gradients are those without it. In a compiled program lines come in the order of the program;
    those of a run that raises an error later are printed.

    Source: JAX's `jax.debug.print`, whose form it has.

    Example:
        >>> import tinytorch as tt
        >>> double = tt.compile(lambda x: tt.debug.print("x = {}", x) or x * 2)
        >>> y = double(tt.Tensor([1.0, 2.0]))
        x = [1. 2.]
    """
    _check(format, len(values), tuple(named))
    everything = (*values, *named.values())
    places = [i for i, x in enumerate(everything) if isinstance(x, TensorBase)]

    def show(*arrays: np.ndarray) -> None:
        filled = list(everything)
        for place, array in zip(places, arrays, strict=True):
            filled[place] = array[()]  # of one number the number: it takes a format
        given = dict(zip(named, filled[len(values) :], strict=True))
        builtins.print(format.format(*filled[: len(values)], **given))

    with no_grad():
        host_call(HostFunction(show, "print"), None, *(everything[i] for i in places))


class _Anything:
    """Fits every field."""

    def __format__(self, spec: str) -> str:
        return ""

    def __getattr__(self, name: str) -> _Anything:
        return self

    def __getitem__(self, key: object) -> _Anything:
        return self


def _check(format: str, count: int, names: tuple[str, ...]) -> None:
    try:
        format.format(*[_Anything()] * count, **{name: _Anything() for name in names})
    except (IndexError, KeyError, ValueError) as problem:
        raise ArgumentError(
            "debug.print: the format does not fit its values",
            got=f"{format!r} with {count} values and the names {list(names)}: {problem}",
            rule='fields of str.format: "{}" for each value, "{name}" for each named one',
            fix='tt.debug.print("x = {}, y = {y}", x, y=y)',
        ) from None
