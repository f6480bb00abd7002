"""RowGradient: the gradient of a table of which few rows were read.

Knows which rows, and what they get. Wherever a whole Tensor is needed it is one, made then; who
knows of it (optimizers, clipping) goes through its rows alone.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

from typing import Any

import numpy as np

from tinytorch.base.dtypes import as_dtype, int64
from tinytorch.primitives import TABLE
from tinytorch.tensor import autograd
from tinytorch.tensor.autograd import GradientRule
from tinytorch.tensor.creation import iota
from tinytorch.tensor.dispatch import apply, to_dtype
from tinytorch.tensor.indexing import put_rows, take
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.memory import TensorBase, from_array, held
from tinytorch.tensor.operands import Axes
from tinytorch.tensor.shaping import concat, reshape
from tinytorch.tensor.tensor import Tensor


class RowGradient(Tensor):
    """`values` added at the rows `index` of a table of zeros.

    Sums and multiples of RowGradients are RowGradients; anything else makes the whole table first.

    Args:
        index: integers (N,) in [0, V), equal ones add up.
        values: (N, ...).
        size: V.

    Cost: N rows. The whole table, where one is needed, V rows.

    Example:
        >>> import tinytorch as tt
        >>> table = tt.nn.Embedding(1000, 4, sparse=True)
        >>> table(tt.tensor([7, 7, 3])).sum().backward()
        >>> table.weight.grad.rows().tolist(), table.weight.grad.shape
        ([3, 7], (1000, 4))
    """

    __slots__ = ("_dense", "_interpreter", "index", "length", "values")

    def __init__(self, index: Any, values: Any, size: int):
        self._node = None
        self.index, self.values, self.length = index, values, size
        self._dense: Any = None
        self._interpreter = STATE.interpreter

    # --- the whole table, where somebody needs one ---

    def dense(self) -> Any:
        """The whole table, (V, ...)."""
        if self._dense is None:
            params = {"axis": 0, "size": self.length}
            operands = (self.values, self.index)
            if self._interpreter is not None:  # also when the recording is about to end
                self._dense = self._interpreter.apply(TABLE["scatter_add"], operands, params)
            else:
                self._dense = apply(TABLE["scatter_add"], operands, params)
        return self._dense

    @property
    def _buffer(self) -> Any:
        return None if self._interpreter is not None else self.dense()._buffer

    @property
    def _value(self) -> Any:
        return None if self._interpreter is None else self.dense()._value

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole table."""
        return (self.length, *self.values.shape[1:])

    @property
    def dtype(self) -> Any:
        """Number type."""
        return self.values.dtype

    def detach(self) -> Any:
        """Itself: it is never recorded."""
        return self

    # --- row by row ---

    def rows(self) -> np.ndarray:
        """The rows that get something, ascending, each once (eager)."""
        return np.unique(self.index.numpy())

    def joined(self) -> RowGradient:
        """The same with each row once, ascending (eager)."""
        index = self.index.numpy()
        rows, place = np.unique(index, return_inverse=True)
        if len(rows) == len(index) and np.array_equal(rows, index):
            return self
        where_to = from_array(place.astype(np.int64).reshape(-1), int64)
        params = {"axis": 0, "size": len(rows)}
        sums = apply(TABLE["scatter_add"], (self.values, where_to), params)
        return RowGradient(from_array(rows.astype(np.int64), int64), sums, self.length)

    def totals(self) -> Any:
        """For each mention of a row all that the row gets, (N, ...); captured too.

        How many rows there are is not known before a program runs. So each mention i is led to the
        last mention of its row: last[index[i]], where last[index[i]] = i was written for all i.
        """
        count = self.index.shape[0]
        turn = iota((count,), 0)
        none = apply(TABLE["full"], (), {"shape": (self.length,), "value": 0, "dtype": int64})
        last = take(put_rows(none, self.index, turn), self.index, 0)
        params = {"axis": 0, "size": count}
        sums = apply(TABLE["scatter_add"], (self.values, last), params)
        return take(sums, last, 0)

    def __add__(self, other: Any) -> Any:
        if type(other) is RowGradient and other.shape == self.shape and _alike(self, other):
            index = concat([self.index, other.index])
            return RowGradient(index, concat([self.values, other.values]), self.length)
        return self.dense() + (other.dense() if type(other) is RowGradient else other)

    def __radd__(self, other: Any) -> Any:
        return other + self.dense()

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, (int, float)) or (isinstance(other, TensorBase) and other.shape == ()):
            return RowGradient(self.index, self.values * other, self.length)
        if other is self and self._interpreter is None:
            once = self.joined()
            return RowGradient(once.index, once.values * once.values, self.length)
        return self.dense() * (other.dense() if type(other) is RowGradient else other)

    __rmul__ = __mul__

    def sum(self, dim: Axes = None, **named: Any) -> Any:
        """The sum of all numbers without the table; along axes with it."""
        if dim is None and not named:
            return self.values.sum()
        return self.dense().sum(dim, **named)

    def astype(self, dtype: Any) -> Any:
        """In another number type."""
        return RowGradient(self.index, to_dtype(self.values, as_dtype(dtype)), self.length)

    def __repr__(self) -> str:
        if self._interpreter is not None:
            return f"RowGradient(<{self.dtype.name} {self.shape}, captured>)"
        return f"RowGradient({self.values.shape[0]} of {self.length} rows, {self.dtype.name})"

    def __reduce__(self) -> tuple[Any, ...]:
        return self.dense().__reduce__()


def _alike(a: RowGradient, b: RowGradient) -> bool:
    return (
        a._interpreter is b._interpreter and a.dtype is b.dtype and a.index.dtype is b.index.dtype
    )


class _Rows(GradientRule):
    """Stands in the tape for a lookup whose gradient is a RowGradient."""

    name = "take_rows"

    def __init__(self, index: Any):
        self.index = index

    def vjp(self, g: Any, out: Any, table: Any) -> tuple[Any, ...]:
        """What the rows of the table get; recorded, as the whole table, for second derivatives."""
        size = table.shape[0]
        index = reshape(self.index, (-1,))
        values = reshape(g, (index.shape[0], *table.shape[1:]))
        if STATE.recording:
            return (apply(TABLE["scatter_add"], (values, index), {"axis": 0, "size": size}),)
        return (RowGradient(index, values, size),)


def take_rows(table: Any, index: Any) -> Any:
    """table[index], with a gradient that names the rows.

    Args:
        table: (V, ...).
        index: integers of any shape in [0, V).
    """
    out = take(table.detach(), index, 0)
    if not STATE.recording or table._node is None:
        return out
    return autograd.record(_Rows(held(index)), (table,), {}, out)
