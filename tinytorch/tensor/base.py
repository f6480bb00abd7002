"""The bare Tensor: memory or captured value, and a place in the tape.

Knows what a Tensor consists of and how one is made; operators and methods are added above it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytorch.base.dtypes import OF_NUMPY, DType, as_dtype, bool_, check_fits, float32, int64
from tinytorch.base.errors import ArgumentTypeError, DTypeError
from tinytorch.primitives.casting import cast
from tinytorch.primitives.primitive import Spec
from tinytorch.primitives.quiet import quiet_cast
from tinytorch.tensor.buffer import Buffer, copy_of
from tinytorch.tensor.interpreter import STATE


class TensorBase:
    """Slots of every Tensor.

    `_buffer`: memory, None for a Tensor made during a capture; `_value`: its captured value, else
    None; `_node`: where gradients go (autograd.Leaf, Node or Port), None if nothing is recorded.
    """

    __slots__ = ("__weakref__", "_buffer", "_node", "_value")
    _buffer: Any
    _value: Any
    _node: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self._buffer.array.shape if self._value is None else self._value.shape

    @property
    def dtype(self) -> DType:
        """Number type."""
        return self._buffer.dtype if self._value is None else self._value.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        n = 1
        for s in self.shape:
            n *= s
        return n

    @property
    def spec(self) -> Spec:
        """Shape and number type."""
        return Spec(self.shape, self.dtype)

    @property
    def device(self) -> str:
        """Where the memory is: "cpu"."""
        return Buffer.device

    @property
    def requires_grad(self) -> bool:
        """Whether operations on it are recorded so that `backward()` reaches it."""
        return self._node is not None

    def handle(self) -> Any:
        """What it holds at this moment: its captured value or its Buffer. The tape keeps this."""
        if self._value is None or (STATE.interpreter is None and self._buffer is not None):
            return self._buffer  # another thread may be recording with this Tensor
        return self._value


_concrete: type[TensorBase] = TensorBase
_held: type[TensorBase] = TensorBase
_allocate = object.__new__


def become_concrete(kind: type[TensorBase], held: type[TensorBase]) -> None:
    """Let `kind` be the class of which new Tensors are made, and `held` that of `from_handle`."""
    global _concrete, _held
    _concrete, _held = kind, held


def is_held(x: TensorBase) -> bool:
    """Whether it stands for numbers that were kept, which no write to another Tensor changes."""
    return type(x) is _held


def let_go(x: TensorBase, buffer: Buffer) -> None:
    """Let a Tensor that `from_handle` made be one like others, over memory of its own."""
    x._buffer = buffer
    Buffer.moves += 1
    x.__class__ = _concrete


def concrete() -> Any:
    """The class of which new Tensors are made."""
    return _concrete


def from_buffer(buffer: Buffer, node: Any = None) -> Any:
    """A Tensor over `buffer`; nothing is copied."""
    tensor = _allocate(_concrete)
    tensor._buffer = buffer
    tensor._value = None
    tensor._node = node
    return tensor


def from_array(array: np.ndarray, dtype: DType) -> Any:
    """A Tensor over a stored array. Written flat: it runs once for each operation."""
    buffer = _allocate(Buffer)
    buffer.array = array
    buffer.dtype = dtype
    buffer.version = 0
    buffer.family = None
    tensor = _allocate(_concrete)
    tensor._buffer = buffer
    tensor._value = None
    tensor._node = None
    return tensor


def from_value(value: Any, node: Any = None) -> Any:
    """A Tensor of a captured value (for interpreters)."""
    tensor = _allocate(_concrete)
    tensor._buffer = None
    tensor._value = value
    tensor._node = node
    if STATE.interpreter is not None:
        STATE.interpreter.stands(tensor)
    return tensor


def from_handle(handle: Any, node: Any = None) -> Any:
    """A Tensor of what `handle()` gave: the numbers of that moment, whatever is written later."""
    if type(handle) is not Buffer:
        return from_value(handle, node)
    if handle.family is not None:
        handle.family.keep(handle)
    tensor = _allocate(_held)
    tensor._buffer = handle
    tensor._value = None
    tensor._node = node
    return tensor


def held(x: Any) -> Any:
    """What x holds now, at its place in the tape, whatever is assigned to x later."""
    if STATE.interpreter is not None:
        STATE.interpreter.meet(x)
    return from_handle(x.handle(), x._node)


def to_buffer(data: Any, dtype: DType | None, *, copy: bool) -> Buffer:
    """The numbers in a list, a Python number or a NumPy array, as a Buffer.

    Python floats become float32, ints int64; NumPy arrays keep their type unless `dtype` is given.
    """
    array = data
    if not isinstance(data, np.ndarray):
        if holds_tensors(data) and _recorded(data):
            refuse_tensors(data)
        try:
            array = np.asarray(data)
        except ValueError as problem:
            raise DTypeError(
                "these numbers do not form an array",
                got=str(problem),
                rule="nested lists have equal lengths on each level",
                fix="pad the short rows",
            ) from None
        array = _fitting(array, dtype)
        if dtype is None and not isinstance(data, np.generic):
            # An empty list has no numbers to say otherwise: the framework's default float.
            default = {"f": float32, "i": int64, "b": bool_}.get(array.dtype.kind)
            if default is not None and array.dtype is not default.storage:
                array = quiet_cast(array, default.storage)  # 1e40 is inf
        copy = copy and array is data
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    own = dtype_of_array(array)
    if dtype is not None and dtype is not own:
        return Buffer(cast(array, dtype=dtype), dtype)
    return Buffer(copy_of(array, own) if copy else array, own)


def _fitting(array: np.ndarray, dtype: DType | None) -> np.ndarray:
    """Python numbers, if what they become can hold them (None: int64 for whole ones)."""
    kind = array.dtype.kind
    if kind == "O" and array.size and all(type(v) is int for v in array.flat):  # beyond 64 bits
        for number in array.flat:
            check_fits(number, dtype or int64)
        return array.astype(np.float64)
    if kind == "u" and dtype is None:
        check_fits(array, int64)
    elif kind in "iuf" and dtype is not None:
        check_fits(array, dtype)
    return array


_NUMBERS = frozenset((float, int, bool))


def holds_tensors(data: Any) -> bool:
    """Whether a list, or a list in it, has a Tensor among its elements."""
    if not isinstance(data, (list, tuple)):
        return False
    kinds = set(map(type, data))
    if kinds <= _NUMBERS:
        return False
    if any(issubclass(kind, TensorBase) for kind in kinds):
        return True
    return bool(kinds & {list, tuple}) and any(map(holds_tensors, data))


def refuse_tensors(data: Any) -> None:
    """Refuse a list of Tensors where numbers are asked for: their gradients would be lost."""
    if holds_tensors(data):
        raise DTypeError(
            "a list of Tensors is no Tensor",
            got=f"a {type(data).__name__} of {len(data)}",
            rule="one Tensor, array, number or list of numbers",
            fix="tt.stack(tensors), or tt.cat(tensors), which are recorded",
        )


def _recorded(data: Any) -> bool:
    if isinstance(data, TensorBase):
        return STATE.interpreter is not None or (STATE.recording and data._node is not None)
    return isinstance(data, (list, tuple)) and any(map(_recorded, data))


def refuse_as_number(owner: Any, name: str, x: Any) -> None:
    """Refuse a Tensor where a plain number is asked for: what was recorded of it would be lost.

    Args:
        owner: the function or row.
        name: its argument.
        x: the Tensor.
    """
    raise ArgumentTypeError(
        f"{owner}: {name} is a plain number, and a Tensor was given",
        got=f"{name}: a tensor {x.shape}{' that requires a gradient' if x.requires_grad else ''}",
        rule="no gradient reaches it, and a compiled function would keep what it was",
        fix=f"{name}=x.item(), outside of the compiled function",
    )


def plain(owner: str, **numbers: Any) -> None:
    """Refuse settings that are Tensors with a gradient, which would be lost without a word.

    Args:
        owner: the function.
        numbers: its settings; a Tensor that nothing is recorded of may be read as a number.
    """
    for name, x in numbers.items():
        if isinstance(x, TensorBase) and x._node is not None and STATE.recording:
            refuse_as_number(owner, name, x)


def refuse_tensor_params(owner: Any, params: dict[str, Any]) -> None:
    """Refuse Tensors among the params of a row, which are written into programs and caches."""
    for name, x in params.items():
        for part in x if type(x) is tuple else (x,):
            if isinstance(part, TensorBase):
                refuse_as_number(owner, name, part)


def make(data: Any, dtype: DType | None = None, *, copy: bool = False) -> Any:
    """A Tensor of the numbers in `data`, a constant if a program is being captured."""
    buffer = to_buffer(data, dtype, copy=copy)
    if STATE.interpreter is not None:
        return STATE.interpreter.constant(buffer)
    return from_buffer(buffer)


def dtype_of_array(array: np.ndarray) -> DType:
    """The number type of a NumPy array (never bfloat16)."""
    known = OF_NUMPY.get(array.dtype)
    return as_dtype(array.dtype) if known is None else known
