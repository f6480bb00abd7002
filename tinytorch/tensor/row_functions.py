"""Functions and methods of Tensors that are one elementwise row each: `tt.tanh(x)`, `x.tanh()`.

Knows the table: names, number types and docstrings stand in the row (`functions`, `methods`,
`kinds`, `doc`). What editors and type checkers see is row_functions.pyi, which
scripts/make_row_stub writes and a test compares. Functions that are more than their row
(`divide` with its rounding, `power`, `clip`) are in elementwise.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinytorch.base.dtypes import float32
from tinytorch.primitives.primitive import TABLE, Primitive
from tinytorch.primitives.shapes import FLOAT
from tinytorch.tensor.dispatch import as_floats, binary, elementwise, to_dtype
from tinytorch.tensor.operands import Operand, tensor_of


def function_of(row: Primitive) -> Callable[..., Any]:
    """The function of Tensors that applies an elementwise row of one or two operands."""

    def of_one(x: Operand) -> Any:
        return elementwise(row, (tensor_of(x),))

    def of_one_float(x: Operand) -> Any:
        x = tensor_of(x)  # `as_float`, written out: a call less
        return elementwise(row, (x if x.dtype.is_float else to_dtype(x, float32),))

    def of_two(a: Operand, b: Operand) -> Any:
        return binary(row, a, b)

    def of_two_floats(a: Operand, b: Operand) -> Any:
        return elementwise(row, as_floats(a, b))

    if row.infer.__code__.co_argcount == 1:
        made = of_one_float if row.kinds == FLOAT else of_one
    else:
        made = of_two_floats if row.kinds == FLOAT else of_two
    name = row.functions[0]
    made.__name__ = made.__qualname__ = name
    made.__code__ = made.__code__.replace(co_name=name, co_qualname=name)  # for tracebacks
    made.__doc__ = row.__doc__
    return made


class RowMethods:
    """The methods of Tensors that are one row each."""

    __slots__ = ()


_functions: dict[str, Callable[..., Any]] = {}
for _row in TABLE.values():
    if _row.functions:
        _made = function_of(_row)
        _functions.update(dict.fromkeys(_row.functions, _made))
        for _name in _row.methods:
            setattr(RowMethods, _name, _made)
globals().update(_functions)
__all__ = [*_functions]  # pyright: ignore[reportUnsupportedDunderAll]
