"""A function of the user's as an operation: what no row says, Python does, wherever a program runs.

Knows arrays and functions of arrays. A program carries such a call out once in each run, between
the parts that are native. `after` and the last result say in which order: each call takes what the
call before it gave. So none is left out, done twice or moved before another, by the rules that hold
for every row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinytorch.base.dtypes import Array, bool_, float32, float64, int64
from tinytorch.base.errors import DTypeError, ShapeError
from tinytorch.primitives.primitive import (
    NOT_DIFFERENTIABLE,
    OpClass,
    Primitive,
    Spec,
    no_flops,
    numbers,
    refused,
    sample,
)

ORDER = Spec((), bool_)  # of what says the order


class HostFunction:
    """A function that is called with NumPy arrays.

    Programs that differ by the function alone share their machine code: it is known by its name
    there, and each recording brings its own. So the disk cache never holds one.

    Args:
        function: of arrays that are its own (bfloat16 comes as float32), to what `results` ask.
        name: for messages and `explain()`; default the function's own.
    """

    def __init__(self, function: Callable[..., Any], name: str = ""):
        self.function = function
        self.name = name or getattr(function, "__name__", type(function).__name__)

    def __call__(self, arrays: Sequence[Array], results: Sequence[Spec]) -> list[Array]:
        """What the function makes of copies of the arrays.

        Raises:
            ShapeError, DTypeError: it gave something else than it was said to.
            Exception: whatever the function raises.
        """
        given = self.function(*(np.array(a, order="C") for a in arrays))
        several: Any = given if issubclass(type(given), (tuple, list)) else (given,)
        made = [np.asarray(x) for x in several] if results else []
        if len(made) != len(results) or any(
            x.shape != spec.shape for x, spec in zip(made, results, strict=True)
        ):
            raise ShapeError(
                f"host_call: {self.name!r} gave arrays of other shapes than it was said to",
                got=f"{[x.shape for x in made]}",
                rule=f"shapes {[spec.shape for spec in results]}, as the call says",
                fix="the second argument of host_call is the shape and dtype of the result",
            )
        for x, spec in zip(made, results, strict=True):
            if not np.can_cast(x.dtype, spec.dtype.compute, "same_kind"):
                raise DTypeError(
                    f"host_call: {self.name!r} gave numbers of another kind than it was said to",
                    got=f"{x.dtype.name}",
                    rule=f"{spec.dtype.name}, or what it can hold",
                    fix="result.astype(...) in the function, or another dtype in the call",
                )
        pairs = zip(made, results, strict=True)
        return [np.array(x, s.dtype.compute, order="C") for x, s in pairs]

    def __repr__(self) -> str:
        return f"<function {self.name}>"


def _infer(after: Spec, *inputs: Spec, function: HostFunction, results: tuple[Spec, ...]) -> Any:
    if after != ORDER:
        raise DTypeError(
            "host_call: the first operand says the order of calls",
            got=f"{after.dtype.name}{after.shape}",
            rule="one bool: the last result of the call before",
            fix="tt.host_call(function, result, *tensors), which gives it",
        )
    return (*results, ORDER)


def _called(
    after: Array, *inputs: Array, function: HostFunction, results: tuple[Spec, ...]
) -> tuple[Array, ...]:
    return (*function(inputs, results), np.array(after))


def _sums(x: Array, y: Array) -> tuple[Array, Array]:
    """Of the samples."""
    return x + y, np.asarray(x.size, np.int64)


_FIRST = np.zeros((), bool)
_SUMS = HostFunction(_sums, "sums")
host_call = Primitive(
    "host_call", _infer, _called, vjp=NOT_DIFFERENTIABLE, flops=no_flops, op_class=OpClass.OPAQUE,
    samples=lambda: [
        sample(_FIRST, numbers(*shape), numbers(*shape, seed=1), function=_SUMS,
               results=(Spec(shape, dtype), Spec((), int64)))
        for shape, dtype in (((3, 2), float64), ((), float64), ((0, 2), float32))
    ],
    error_samples=lambda: [
        refused(DTypeError, "order of calls", np.zeros(2, bool), function=_SUMS, results=()),
    ],
    doc="(*results, after): what a Python function makes of arrays.",
)  # fmt: skip
