"""Half precision inside a composite: computed in float32 and rounded once, at the end.

Knows functions of Tensors as arguments and results, never their formulas. A row of the table
computes its own result in float32 and rounds it (primitives); a formula of several rows would round
after each, and what it holds in between (a sum of 70,000 ones, a square) need not fit at all.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np

from tinytorch.base.dtypes import DType, bfloat16, float16, float32
from tinytorch.tensor.base import TensorBase
from tinytorch.tensor.dispatch import tensor_of, to_dtype

P = ParamSpec("P")
R = TypeVar("R")
_HALF = (float16, bfloat16)


def in_float32(*followed: str, state: tuple[str, ...] = ()) -> Callable:
    """Decorator for a composite: float16 and bfloat16 arguments are float32 inside.

    The result is rounded to the type of the followed arguments. Their gradients are computed in
    float32 too, and rounded once. In a compiled function the conversions are part of the kernels
    that read and write.

    Args:
        followed: names of the arguments whose type the result has; default the first one. Two of
            different types: the wider one.
        state: names of arguments that the composite assigns to, which stay what they are.

    Cost: 0.3 us a call where nothing is half; else a float32 copy of each argument, eagerly.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        names = tuple(inspect.signature(function).parameters)
        leads = followed or names[:1]

        @functools.wraps(function)
        def composite(*args: P.args, **settings: P.kwargs) -> R:
            try:  # the usual case by the shortest way
                if args[0]._buffer.dtype is float32:  # type: ignore[union-attr]
                    return function(*args, **settings)
            except (AttributeError, IndexError):  # captured, no Tensor, or given by name
                pass
            first: Any = args[0] if args else settings.get(leads[0])
            if args and isinstance(first, np.ndarray) and first.dtype == np.float16:
                first = tensor_of(first)
                args = (first, *args[1:])  # type: ignore[assignment]
            if not isinstance(first, TensorBase) or first.dtype not in _HALF:
                return function(*args, **settings)  # a half beside float32 is widened anyway
            given: dict[str, Any] = dict(zip(names, args, strict=False)) | settings
            if given.get("dtype") is not None:  # another type is asked for, and `function` makes it
                return function(*args, **settings)
            kinds = [given[n].dtype for n in leads if isinstance(given.get(n), TensorBase)]
            floats = {d for d in kinds if d.is_float}
            wide = [a if n in state else _widened(a) for n, a in zip(names, args, strict=False)]
            named = {n: a if n in state else _widened(a) for n, a in settings.items()}
            out: Any = function(*wide, *args[len(wide) :], **named)  # type: ignore[arg-type]
            return _rounded(out, floats.pop()) if len(floats) == 1 else out

        return composite

    return decorate


def _widened(x: Any) -> Any:
    return to_dtype(x, float32) if isinstance(x, TensorBase) and x.dtype in _HALF else x


def _rounded(out: Any, dtype: DType) -> Any:
    if isinstance(out, tuple):
        return tuple(_rounded(o, dtype) for o in out)
    return to_dtype(out, dtype) if out.dtype is float32 else out
