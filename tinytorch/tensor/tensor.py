"""Tensor: an array whose operations can be recorded, differentiated and compiled.

Knows how a Tensor is made and where its gradient is. Its operators and methods are functions: those
that read it are in interchange.py, those that write it in assignment.py, those that compute with it
in the other files. RowGradient, the gradient of a table of which few rows were read, is one too.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch.base.dtypes import (
    Array,
    as_dtype,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int32,
    int64,
)
from tinytorch.base.errors import (
    DTypeError,
    GradientError,
    SettingError,
    ShapeError,
)
from tinytorch.base.settings import LEAVES, STRUCTURE
from tinytorch.base.unknown_names import put_missing_names
from tinytorch.primitives import TABLE
from tinytorch.primitives.primitive import Primitive, store
from tinytorch.tensor import (
    assignment,
    autograd,
    contractions,
    creation,
    elementwise,
    indexing,
    interchange,
    reductions,
    shaping,
)
from tinytorch.tensor.autograd import GradientRule, Leaf
from tinytorch.tensor.creation import iota
from tinytorch.tensor.dispatch import (
    alias,
    apply,
    binary,
    captured_copy,
    copied,
    on_tensors,
    to_dtype,
    unary,
)
from tinytorch.tensor.dispatch import elementwise as apply_elementwise
from tinytorch.tensor.indexing import put_rows, take
from tinytorch.tensor.interchange import Device, check_device
from tinytorch.tensor.interpreter import STATE, no_grad
from tinytorch.tensor.memory import (
    DETACH,
    Buffer,
    TensorBase,
    become_concrete,
    copy_of,
    from_array,
    held,
    hold_memory_of,
)
from tinytorch.tensor.operands import (
    Axes,
    Operand,
    holds_whole_numbers,
    tensor_of,
    to_buffer,
    zeros_of,
)
from tinytorch.tensor.row_functions import RowMethods
from tinytorch.tensor.shaping import concat, reshape

_ADD, _SUB, _MUL, _DIV = (TABLE[name] for name in ("add", "sub", "mul", "div"))


_NEG = TABLE["neg"]


def _reflected(function: Callable[[Any, Any], Any]) -> Any:
    """The method of an operator whose left operand is no Tensor."""

    def reflected(self: Any, other: Any) -> Any:
        return function(other, self)

    return reflected


class Tensor(RowMethods, TensorBase):
    """An array of numbers of one type.

    Args:
        data: numbers, nested lists, a NumPy array or a Tensor; copied. Whole numbers without a
            list are sizes, as in PyTorch: `Tensor(2, 3)` is two rows of three zeros.
        dtype: number type; default that of an array or Tensor, float32 for Python's numbers, whole
            ones too. The function `tensor` keeps them whole. With a dtype, a number is a number.
        requires_grad: record operations on it, so that `backward()` leaves its gradient in `.grad`.
        device: None or "cpu".

    Raises:
        DTypeError: no numbers, or a gradient asked of integers.
        SettingError: several things that are not sizes.

    Cost: an operation on small Tensors takes 1 to 2 us more than NumPy's, 3 us more when recorded
    (`python -m benchmarks.operation_cost`).

    Differs from PyTorch: a write through a view never spoils a gradient: what was recorded keeps
    its old numbers, where PyTorch refuses in `backward()` (docs/decisions/010).
    `Tensor(array)` keeps the array's number type, `Tensor(2.5)` is a number, sizes give zeros.

    Example:
        >>> import tinytorch as tt
        >>> x = tt.Tensor([1.0, 2.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        Tensor([2., 4.])
    """

    __slots__ = ()

    def __init__(
        self, *data: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None
    ):
        check_device(device)
        if dtype is None:
            if not data or type(data[0]) is int:
                data = (zeros_of(data),)
            elif type(data[0]) in (list, tuple) and holds_whole_numbers(data[0]):
                dtype = float32
        if len(data) != 1:
            raise SettingError(
                "Tensor: more than one thing to hold",
                got=", ".join(type(x).__name__ for x in data),
                rule="numbers as one list, array or Tensor, or sizes; number types go by name",
                fix="Tensor(data, dtype=tt.float32)",
            )
        self._hold(data[0], dtype, requires_grad)

    def _hold(self, data: Any, dtype: Any, requires_grad: bool) -> None:
        """Begin with a copy of `data`; see the function `tensor`."""
        wanted = as_dtype(dtype) if dtype is not None else None
        if hasattr(self, "_buffer"):  # begun a second time, perhaps with another shape
            STRUCTURE.bump()
        self._buffer = self._value = self._node = None
        if isinstance(data, TensorBase):
            source = data if wanted is None else to_dtype(data, wanted)
            if STATE.interpreter is not None:
                self._value = captured_copy(source)._value
                STATE.interpreter.stands(self)
            else:
                self._buffer = Buffer(copy_of(source._buffer.array, source.dtype), source.dtype)
        else:
            self._buffer = to_buffer(data, wanted, copy=True)
            if STATE.interpreter is not None:
                constant = STATE.interpreter.constant(self._buffer)
                self._buffer, self._value = constant._buffer, constant._value
                STATE.interpreter.stands(self)
        if requires_grad:
            self.requires_grad_()

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        """The module whose functions follow the standard: `tinytorch.array_api`."""
        return sys.modules["tinytorch"].array_api

    @staticmethod
    def __primitive__(
        primitive: Primitive, operands: tuple[Any, ...], params: dict[str, Any]
    ) -> Any:
        """How a row of the table is applied when an operand is a Tensor."""
        return on_tensors(primitive, operands, params)

    # --- gradients ---

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Begin (or end) gathering a gradient for this Tensor; gives itself."""
        if STATE.interpreter is None and requires_grad is not (self._node is not None):
            LEAVES.bump()
        if not requires_grad:
            self._node = None
        elif not self.dtype.is_float:
            raise DTypeError(
                "only floats have a gradient",
                got=f"requires_grad=True for a tensor of {self.dtype.name}",
                rule="a gradient says what a small change does, and integers have none",
                fix="Tensor(data, dtype=tt.float32, requires_grad=True)",
            )
        elif self._node is None:
            self._node = Leaf()
        return self

    @property
    def requires_grad(self) -> bool:
        """Whether operations on it are recorded so that `backward()` reaches it."""
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    @property
    def is_leaf(self) -> bool:
        """Whether it was made by the user, not by a recorded operation."""
        return self._node is None or type(self._node) is Leaf

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward()` left here, None before."""
        if STATE.interpreter is not None:
            STATE.interpreter.meet(self)
        return self._node.grad if type(self._node) is Leaf else None

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if STATE.interpreter is not None:
            STATE.interpreter.meet(self)
        if type(self._node) is not Leaf:
            if value is None:
                return
            raise GradientError(
                "this tensor has no place for a gradient",
                got="x.grad = ... for a tensor that does not require one, or was computed",
                rule="gradients are kept by tensors made with requires_grad=True",
                fix="x.requires_grad_() first",
            )
        if value is not None and value.shape != self.shape:
            raise ShapeError(
                "the gradient has another shape than its tensor",
                got=f"gradient {value.shape} for a tensor {self.shape}",
                rule="one number for each number of the tensor",
                fix="gradient.reshape(x.shape)",
            )
        self._node.grad = value

    def backward(
        self, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False
    ) -> None:
        """Add the gradient of this number to `.grad` of every leaf it was computed from.

        Args:
            gradient: where to start, of this shape; may be left out for a single number.
            retain_graph: keep what was recorded, for another backward.
            create_graph: record the backward pass too, for second derivatives.

        Raises:
            GradientError: nothing was recorded, it was freed, or there is no single number.
        """
        gradient = None if gradient is None else to_dtype(tensor_of(gradient), self.dtype)
        autograd.backward(self, gradient, retain_graph=retain_graph, create_graph=create_graph)

    def detach(self) -> Tensor:
        """The same memory, cut off from what was recorded: writing to one writes to the other."""
        return alias(self, DETACH)

    @property
    def data(self) -> Tensor:
        """`detach()`; set: hold the memory of another Tensor from now on, whatever its shape.

        Setting it is no operation: the place in the tape stays, and views of the old memory keep
        that.
        """
        return alias(self, DETACH)

    @data.setter
    def data(self, new: Operand) -> None:
        if not isinstance(new, TensorBase) or new.dtype.is_float is not self.dtype.is_float:
            raise DTypeError(
                "x.data can be set to a tensor of the same kind of number",
                got=f"{getattr(new, 'dtype', type(new).__name__)} for a tensor of {self.dtype}",
                rule="a Tensor, of floats where the old numbers are floats",
                fix="x.data = tt.tensor(numbers)",
            )
        if STATE.interpreter is not None:
            if new.shape != self.shape or new.dtype is not self.dtype:
                STATE.interpreter.refuse("x.data = a tensor of another shape or number type")
            with no_grad():
                self.assign_(new)
            return
        hold_memory_of(self, new)

    def clone(self) -> Tensor:
        """The same numbers in memory of their own; recorded."""
        return copied(self)

    # --- operators; a row's own are written out, since a level more costs as much as the rest ---

    # An array on the left leaves the operation to the Tensor on the right.
    __array_ufunc__ = None
    __array_priority__ = 1000

    def __add__(self, other: Operand) -> Any:
        return binary(_ADD, self, other)

    def __radd__(self, other: Operand) -> Any:
        return binary(_ADD, other, self)

    def __sub__(self, other: Operand) -> Any:
        return binary(_SUB, self, other)

    def __rsub__(self, other: Operand) -> Any:
        return binary(_SUB, other, self)

    def __mul__(self, other: Operand) -> Any:
        return binary(_MUL, self, other)

    def __rmul__(self, other: Operand) -> Any:
        return binary(_MUL, other, self)

    def __truediv__(self, other: Operand) -> Any:
        if isinstance(other, TensorBase) and other.dtype is self.dtype is float32:
            return apply_elementwise(_DIV, (self, other))
        return elementwise.divide(self, other)

    def __rtruediv__(self, other: Operand) -> Any:
        return elementwise.divide(other, self)

    def __neg__(self) -> Any:
        return unary(_NEG, self)

    __pos__ = elementwise.positive
    __matmul__ = contractions.matmul
    __rmatmul__ = _reflected(contractions.matmul)
    __floordiv__ = elementwise.floor_divide
    __rfloordiv__ = _reflected(elementwise.floor_divide)
    __mod__ = elementwise.remainder
    __rmod__ = _reflected(elementwise.remainder)
    __pow__ = elementwise.power
    __rpow__ = _reflected(elementwise.power)
    __abs__ = elementwise.abs

    def __eq__(self, other: object) -> Any:
        if other is None or type(other) is str:  # not numbers: Python says False
            return NotImplemented
        return elementwise.eq(self, other)

    def __ne__(self, other: object) -> Any:
        if other is None or type(other) is str:
            return NotImplemented
        return elementwise.not_equal(self, other)  # type: ignore[arg-type]

    __hash__ = object.__hash__  # type: ignore[assignment]
    __lt__ = elementwise.less
    __le__ = elementwise.less_equal
    __gt__ = elementwise.greater
    __ge__ = elementwise.greater_equal
    __and__ = elementwise.bitwise_and
    __rand__ = _reflected(elementwise.bitwise_and)
    __or__ = elementwise.bitwise_or
    __ror__ = _reflected(elementwise.bitwise_or)
    __xor__ = elementwise.bitwise_xor
    __rxor__ = _reflected(elementwise.bitwise_xor)
    __invert__ = elementwise.bitwise_not
    __lshift__ = elementwise.shift_left
    __rshift__ = elementwise.shift_right
    __rlshift__ = _reflected(elementwise.shift_left)
    __rrshift__ = _reflected(elementwise.shift_right)
    __iadd__ = assignment.iadd
    __isub__ = assignment.isub
    __imul__ = assignment.imul
    __itruediv__ = assignment.itruediv
    __ifloordiv__ = assignment.ifloordiv
    __imod__ = assignment.imod
    __ipow__ = assignment.ipow
    __imatmul__ = assignment.imatmul
    __iand__ = assignment.iand
    __ior__ = assignment.ior
    __ixor__ = assignment.ixor
    __ilshift__ = assignment.ilshift
    __irshift__ = assignment.irshift

    # --- reading the numbers ---

    item = interchange.item  # type: ignore[assignment]
    tolist = interchange.tolist
    numpy = interchange.numpy
    __array__ = interchange.as_array
    __array_function__ = interchange.call_numpy
    __dlpack__ = interchange.as_dlpack
    __buffer__ = interchange.as_memoryview
    __getitem__ = indexing.getitem  # type: ignore[assignment]
    __len__ = interchange.length  # type: ignore[assignment]
    __contains__ = interchange.contains
    __iter__ = interchange.rows
    __index__ = interchange.as_index
    __format__ = interchange.as_format
    __repr__ = interchange.as_text  # type: ignore[assignment]
    _repr_html_ = interchange.as_html

    def __dlpack_device__(self) -> tuple[int, int]:
        return interchange.CPU

    def __bool__(self) -> bool:
        return bool(interchange.single_number(self, "a yes or no (if, while, and, or)"))

    def __float__(self) -> float:
        return float(interchange.single_number(self, "float()"))

    def __int__(self) -> int:
        return int(interchange.single_number(self, "int()"))

    # --- writing them; shape and number type stay ---

    assign_ = assignment.assign_
    copy_ = assignment.copy_
    zero_ = assignment.zero_
    fill_ = assignment.fill_
    add_ = assignment.add_
    sub_ = assignment.sub_
    mul_ = assignment.mul_
    div_ = assignment.div_
    clamp_ = clip_ = assignment.clamp_
    masked_fill_ = assignment.masked_fill_
    __setitem__ = assignment.setitem
    _retype = assignment.retype

    # --- memory ---

    stride = interchange.stride
    is_contiguous = interchange.is_contiguous
    contiguous = interchange.contiguous

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements, stored densely."""
        return self.size * self.dtype.itemsize

    def element_size(self) -> int:
        """Bytes of one element, by PyTorch's name."""
        return self.dtype.itemsize

    def data_ptr(self) -> int:
        """Address of the first element."""
        self.read("data_ptr()")
        return self._buffer.address

    # --- functions as methods: PyTorch's names where they mean the same, the array API's beside ---

    # shaping
    reshape = shaping.reshape
    view = shaping.view
    permute = shaping.permute
    transpose = swapaxes = shaping.transpose
    moveaxis = movedim = shaping.moveaxis
    narrow = shaping.narrow
    select = shaping.select
    flatten = shaping.flatten
    squeeze = shaping.squeeze
    unsqueeze = shaping.unsqueeze
    broadcast_to = expand = shaping.broadcast_to
    split = shaping.split
    chunk = shaping.chunk
    unbind = shaping.unbind
    flip = shaping.flip
    roll = shaping.roll
    repeat = shaping.repeat_as_torch
    repeat_interleave = shaping.repeat_interleave
    tile = shaping.tile
    unstack = shaping.unstack
    diagonal = creation.diagonal
    trace = creation.trace
    # reductions
    sum = reductions.sum
    prod = reductions.prod
    mean = reductions.mean
    var = reductions.var
    std = reductions.std
    amax = reductions.amax
    amin = reductions.amin
    argmax = reductions.argmax
    argmin = reductions.argmin
    any = reductions.any
    all = reductions.all
    cumsum = reductions.cumsum
    cumprod = reductions.cumprod
    max = reductions.max
    min = reductions.min
    sort = reductions.sort
    equal = reductions.equal
    nonzero = reductions.nonzero
    topk = reductions.topk
    count_nonzero = reductions.count_nonzero
    argsort = reductions.argsort
    softmax = reductions.softmax
    log_softmax = reductions.log_softmax
    logsumexp = reductions.logsumexp
    norm = reductions.norm
    # elementwise, beside those of one row each
    log1p = elementwise.log1p
    expm1 = elementwise.expm1
    log2 = elementwise.log2
    log10 = elementwise.log10
    square = elementwise.square
    pow = elementwise.power
    tan = elementwise.tan
    asin = elementwise.asin
    acos = elementwise.acos
    atan = elementwise.atan
    sinh = elementwise.sinh
    cosh = elementwise.cosh
    sigmoid = elementwise.sigmoid
    relu = elementwise.relu
    floor = elementwise.floor
    ceil = elementwise.ceil
    round = elementwise.round
    trunc = elementwise.trunc
    add = elementwise.add
    sub = subtract = elementwise.subtract
    div = divide = elementwise.divide
    logical_xor = elementwise.logical_xor
    allclose = elementwise.allclose
    isclose = elementwise.isclose
    clip = clamp = elementwise.clip
    masked_fill = elementwise.masked_fill
    astype = elementwise.astype
    # contractions
    matmul = mm = bmm = contractions.matmul
    outer = contractions.outer
    dot = contractions.dot
    # indexing
    take = indexing.take
    gather = indexing.gather
    index_select = indexing.index_select
    scatter_add = indexing.scatter_add
    # triangles, constants of the same shape
    tril = creation.tril
    triu = creation.triu
    zeros_like = creation.zeros_like
    ones_like = creation.ones_like
    full_like = creation.full_like

    @property
    def T(self) -> Any:
        """All axes in reverse order: for a matrix, its transpose."""
        return shaping.reversed_axes(self)

    @property
    def mT(self) -> Any:
        """The last two axes exchanged: each matrix transposed."""
        return shaping.transpose(self, -2, -1)

    def numel(self) -> int:
        """Number of elements."""
        return self.size

    def dim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    to = interchange.to

    def to_device(self, device: Device, /, *, stream: object = None) -> Any:
        """Itself; there is one device: "cpu"."""
        interchange.check_device(device)
        return self

    def view_as(self, other: TensorBase) -> Any:
        """A view shaped like `other`."""
        return shaping.view(self, other.shape)

    def reshape_as(self, other: TensorBase) -> Any:
        """Reshaped like `other`."""
        return shaping.reshape(self, other.shape)

    def expand_as(self, other: TensorBase) -> Any:
        """Broadcast to the shape of `other`."""
        return shaping.broadcast_to(self, other.shape)

    def type_as(self, other: TensorBase) -> Any:
        """In the number type of `other`."""
        return to_dtype(self, other.dtype)

    def cpu(self) -> Any:
        """Itself."""
        return self

    def float(self) -> Any:
        """As float32."""
        return to_dtype(self, float32)

    def double(self) -> Any:
        """As float64."""
        return to_dtype(self, float64)

    def half(self) -> Any:
        """As float16."""
        return to_dtype(self, float16)

    def bfloat16(self) -> Any:
        """As bfloat16."""
        return to_dtype(self, bfloat16)

    def int(self) -> Any:
        """As int32."""
        return to_dtype(self, int32)

    def long(self) -> Any:
        """As int64."""
        return to_dtype(self, int64)

    def bool(self) -> Any:
        """As bool: whether each element is not 0."""
        return to_dtype(self, bool_)

    # --- copying the object ---

    def __deepcopy__(self, memo: dict[str, Any]) -> Any:
        return _rebuild(
            type(self), self.read("copy.deepcopy()"), self.dtype.name, self.requires_grad
        )

    def __reduce__(self) -> tuple[Any, ...]:
        array = np.array(self.read("pickling"))
        return _rebuild, (type(self), array, self.dtype.name, self.requires_grad)


def _rebuild(kind: type[Tensor], array: Array, dtype: str, requires_grad: bool) -> Any:
    """A Tensor of class `kind` in memory of its own."""
    tensor: Any = object.__new__(kind)
    own = as_dtype(dtype)
    tensor._buffer = Buffer(copy_of(store(array, own), own), own)
    tensor._value = None
    tensor._node = Leaf() if requires_grad and own is not bool_ else None
    return tensor


class Held(Tensor):
    """Numbers that were kept at some moment, by the tape above all: a write elsewhere leaves them.

    Writing to it gives it memory of its own; then it is a Tensor like others.
    """

    __slots__ = ()


put_missing_names("Tensor", Tensor)
become_concrete(Tensor, Held)
interchange.offer_buffers(Tensor)


# --- the gradient of a table of which few rows were read ---
#
# Wherever a whole Tensor is needed it is one, made then; who knows of it (optimizers, clipping)
# goes through its rows alone.


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
