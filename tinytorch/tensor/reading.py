"""Reading a Tensor: as Python numbers, as text, as an array of NumPy or of another library.

Knows numbers, never gradients. While a program is captured there are none to read, and each of
these says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinytorch.base.dtypes import bfloat16
from tinytorch.base.errors import CompileError, DTypeError, SettingError, ShapeError
from tinytorch.tensor import exchange
from tinytorch.tensor.indexing import getitem
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.layout import Layout
from tinytorch.tensor.methods import Methods

_SHOWN = 60  # elements that a repr shows in full; more are shortened to 3 at each end
_CELLS = 10  # rows, and columns, of the table in a notebook


class Readable(Methods, Layout):
    """A Tensor's numbers, handed out."""

    __slots__ = ()

    def read(self, what: str) -> np.ndarray:
        """The numbers as a NumPy array (bfloat16 as float32), for `what`; not during a capture."""
        if STATE.interpreter is not None:
            STATE.interpreter.refuse(what)
        if self._buffer is None:
            raise CompileError(
                "this tensor has no numbers",
                got=f"{what} of a tensor {self.shape} made while a function was compiled",
                rule="inside a compiled function tensors stand for numbers to come",
                fix="return it from the compiled function, and use what the call returns",
            )
        return self._buffer.numbers()

    def item(self) -> Any:
        """The only element, as a Python number."""
        array = self.read("item()")
        if array.size != 1:
            raise ShapeError(
                "item() needs a single number",
                got=f"a tensor {self.shape}",
                rule="exactly one element",
                fix="x.tolist(), or x.sum().item()",
            )
        return array.item()

    def tolist(self) -> Any:
        """The numbers as nested lists."""
        return self.read("tolist()").tolist()

    def numpy(self) -> np.ndarray:
        """The numbers as a NumPy array over the same memory (bfloat16: a read-only copy).

        Writing to one writes to the other, views included. The array of a Tensor that gathers a
        gradient or was recorded is read-only: the tape cannot see what NumPy writes. Write to
        `x.detach().numpy()`, as in PyTorch, where what was recorded before is then not of interest.
        """
        view = self.read("numpy()").view()
        if self._node is not None or self.dtype is bfloat16:
            view.flags.writeable = False
        return view

    def __array__(self, dtype=None, copy: bool | None = None) -> np.ndarray:
        array = self.read("numpy.asarray()")
        if dtype is not None and np.dtype(dtype) != array.dtype:
            return array.astype(dtype) if copy is not False else _refuse_copy(array, dtype)
        if self.dtype.name == "bfloat16" and copy is False:
            return _refuse_copy(array, "float32")
        return array.copy() if copy else self.numpy()

    def __array_function__(self, function, types, args, kwargs) -> Any:
        """NumPy's own functions (`np.mean(x)`, `np.argmax(x, 1)`) see an array and give arrays."""
        return function(*_as_arrays(args), **{k: _as_arrays(v) for k, v in kwargs.items()})

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None) -> Any:
        self.read("DLPack")
        return exchange.to_dlpack(
            self._buffer, max_version, dl_device, copy, read_only=self._node is not None
        )

    def __dlpack_device__(self) -> tuple[int, int]:
        return exchange.CPU

    def __buffer__(self, flags: int) -> memoryview:
        """For `memoryview(x)`: the numbers, row by row (Python 3.12 on)."""
        array: Any = self.numpy()
        try:
            return array.__buffer__(flags)
        except BufferError:  # bytes(x.T): the asker knows no strides
            return exchange.rows_of(array).__buffer__(flags)  # type: ignore[attr-defined]

    def __len__(self) -> int:
        if not self.shape:
            raise ShapeError(
                "a single number has no length",
                got="len() of a tensor ()",
                rule="at least one axis",
                fix="x.reshape(1)",
            )
        return self.shape[0]

    def __contains__(self, value) -> bool:
        return bool((self == value).any())

    def __iter__(self) -> Iterator[Any]:
        return (getitem(self, i) for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self._single("a yes or no (if, while, and, or)"))

    def __float__(self) -> float:
        return float(self._single("float()"))

    def __int__(self) -> int:
        return int(self._single("int()"))

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise DTypeError(
                "only a whole number can be an index",
                got=f"a tensor of {self.dtype.name}",
                rule="an integer type",
                fix="int(x)",
            )
        return int(self._single("an index"))

    def __format__(self, spec: str) -> str:
        return format(self._single("a format"), spec) if spec else str(self)

    def _single(self, what: str) -> Any:
        array = self.read(what)
        if array.size != 1:
            raise ShapeError(
                "a tensor of several numbers was used as one",
                got=f"{what} of a tensor {self.shape}",
                rule="exactly one element",
                fix="x.any(), x.all(), or x[0]",
            )
        return array.item()

    def __repr__(self) -> str:
        if STATE.interpreter is not None or self._buffer is None:
            return f"Tensor(<{self.dtype.name} {self.shape}, captured>)"
        array = self._buffer.numbers()
        text = np.array2string(
            array, separator=", ", threshold=_SHOWN, edgeitems=3, prefix="Tensor("
        )
        if array.size > _SHOWN or not array.size:
            text += f", shape={self.shape}"
        if self.dtype.name not in ("float32", "int64", "bool"):
            text += f", dtype={self.dtype.name}"
        return f"Tensor({text}{', requires_grad=True' if self.requires_grad else ''})"

    def _repr_html_(self) -> str:
        """What a notebook shows: shape and type, and the corner of the (last) matrix."""
        import html  # here: it takes 1 ms to load, and few need it

        title = f"Tensor {self.shape} {self.dtype.name}" + ", requires grad" * self.requires_grad
        if STATE.interpreter is not None or self._buffer is None or not 1 <= self.ndim <= 4:
            return f"<pre>{html.escape(repr(self))}</pre>"
        array = self._buffer.numbers()
        if array.ndim > 2 and array.size:
            title += f"; [{', '.join('0' * (array.ndim - 2))}] is shown"
            array = array[(0,) * (array.ndim - 2)]
        rows = array.reshape(1, -1) if array.ndim == 1 else array
        lines = [_row(row) for row in (rows[:_CELLS] if rows.ndim == 2 else ())]
        more = "<tr><td>&#8942;</td></tr>" if len(rows) > _CELLS else ""
        return f"<table><caption>{html.escape(title)}</caption>{''.join(lines)}{more}</table>"


def _as_arrays(x: Any) -> Any:
    """The argument of a NumPy function with arrays in place of Tensors."""
    if isinstance(x, Readable):
        return np.asarray(x)
    return type(x)(map(_as_arrays, x)) if type(x) in (tuple, list) else x


def _row(numbers: np.ndarray) -> str:
    cells = [f"{x:.4g}" if numbers.dtype.kind == "f" else str(x) for x in numbers[:_CELLS]]
    cells += ["&#8943;"] if len(numbers) > _CELLS else []
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _refuse_copy(array: np.ndarray, dtype: Any) -> np.ndarray:
    raise SettingError(
        "this tensor cannot be handed out without a copy",
        got=f"numpy.asarray(x, dtype={np.dtype(dtype)}, copy=False)",
        rule="numbers in another type are other memory",
        fix="numpy.asarray(x, dtype=...), which copies where it must",
    )


exchange.offer_buffers(Readable)
