"""host_call: a Python function of the user inside a program.

Knows Tensors and whoever records. Eagerly the function is called at once; recorded, it becomes a
place between two native parts, at which each run calls it.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from tinytorch.base.dtypes import DType, as_dtype, from_bfloat16
from tinytorch.base.errors import ArgumentTypeError, GradientError
from tinytorch.base.lengths import is_size
from tinytorch.primitives.host import HostFunction
from tinytorch.primitives.primitive import Spec, store
from tinytorch.tensor import autograd
from tinytorch.tensor.autograd import GradientRule
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.memory import TensorBase, from_array
from tinytorch.tensor.operands import tensor_of


def host_call(function: Callable[..., Any], result: Any, *tensors: Any) -> Any:
    """What a Python function makes of the numbers of Tensors, also inside a compiled program.

    Args:
        function: of NumPy arrays (copies that it may keep; bfloat16 comes as float32), to an array,
            or to a tuple of them.
        result: what it gives: a pair (shape, dtype), or a Tensor like it; a list of such for
            several; None for nothing.
        tensors: Tensors, arrays or numbers.

    Returns:
        a Tensor, a tuple of them where `result` is a list, None where it is None.

    Raises:
        ShapeError, DTypeError: the function gave something else than `result` says.
        GradientError: (in backward) a gradient is asked for; `tt.custom_vjp` gives one.
        Exception: whatever the function raises, as it is. Of a compiled program no state has
            changed then.

    Cost: compiled, an end of a native part and the beginning of another, about 10 us, and copies.
    `explain()` shows it among the host calls, and does not call it.

    A compiled program calls it once in each run, in the order of the program, whether or not the
    result is used. It must not assign to Tensors that the program updates.

    Differs from JAX's `pure_callback`: never left out, and the shape is a pair.

    Example:
        >>> import numpy as np, tinytorch as tt
        >>> @tt.compile
        ... def largest_two(x):
        ...     return tt.host_call(lambda a: np.sort(a)[-2:], ((2,), tt.float32), x * 2)
        >>> largest_two(tt.Tensor([1.0, 4.0, 3.0])).tolist()
        [6.0, 8.0]
    """
    specs = _specs_of(result)
    called = function if isinstance(function, HostFunction) else HostFunction(function)
    operands = [tensor_of(x) for x in tensors]
    if STATE.interpreter is not None:
        outs = STATE.interpreter.call_host(called, operands, specs)
    else:
        made = called([_wide(t) for t in operands], specs)
        pairs = zip(made, specs, strict=True)
        outs = tuple([from_array(store(x, s.dtype), s.dtype) for x, s in pairs])
    if STATE.recording and outs and any(t._node is not None for t in operands):
        outs = autograd.record(_NoGradient(called.name), operands, {}, tuple(outs))
    if result is None:
        return None
    return tuple(outs) if type(result) is list else outs[0]


def _wide(tensor: Any) -> np.ndarray:
    array, dtype = tensor._buffer.array, tensor.dtype
    return from_bfloat16(array) if dtype.name == "bfloat16" else array


class _NoGradient(GradientRule):
    """Stands in the tape for a function whose gradient nobody knows."""

    def __init__(self, name: str):
        self.name = name

    def vjp(self, g: Any, out: Any, *inputs: Any) -> Any:
        """There is none."""
        raise GradientError(
            "a gradient goes through a host call, which has none",
            got=f"the function {self.name!r}",
            rule="what a Python function does with numbers is not recorded",
            fix="tt.custom_vjp around it, with a gradient; or x.detach() before it",
        )


def _specs_of(result: Any) -> tuple[Spec, ...]:
    if result is None:
        return ()
    several = cast(list[Any], result if isinstance(result, list) else [result])
    return tuple(map(_spec_of, several))


def _spec_of(result: Any) -> Spec:
    if isinstance(result, TensorBase):
        return Spec(tuple(result.shape), result.dtype)
    if isinstance(result, Spec):
        return result
    try:
        shape, dtype = result
        whole = (shape,) if is_size(shape) else shape
        return Spec(
            tuple(n if is_size(n) else int(n) for n in whole),
            dtype if type(dtype) is DType else as_dtype(dtype),
        )
    except (TypeError, ValueError):
        raise ArgumentTypeError(
            "host_call: this does not say what the function gives",
            got=repr(result),
            rule="a pair (shape, dtype), a Tensor like it, a list of those, or None",
            fix="tt.host_call(function, ((2, 3), tt.float32), x)",
        ) from None
