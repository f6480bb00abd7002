"""Tensor: an array whose operations can be recorded, differentiated and compiled.

Knows how a Tensor is made, read, assigned to, and where its gradient is. What can be computed with
it is in the files of functions beside this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinytorch.base.dtypes import as_dtype, bfloat16, bool_
from tinytorch.base.errors import CompileError, DTypeError, GradientError, ShapeError
from tinytorch.primitives.primitive import Primitive, store
from tinytorch.tensor import autograd, indexing
from tinytorch.tensor.autograd import Leaf
from tinytorch.tensor.base import TensorBase, become_concrete, from_handle, to_buffer
from tinytorch.tensor.buffer import Buffer, copy_of, is_exclusive
from tinytorch.tensor.dispatch import on_tensors, tensor_of, to_dtype
from tinytorch.tensor.interpreter import STATE, user_line
from tinytorch.tensor.methods import Methods
from tinytorch.tensor.modes import enable_grad, no_grad, precision
from tinytorch.tensor.shaping import broadcast_to

__all__ = ["Tensor", "enable_grad", "no_grad", "precision"]


class Tensor(Methods):
    """An array of numbers of one type.

    Args:
        data: numbers, nested lists, a NumPy array or a Tensor; copied.
        dtype: number type; default that of the array, float32 for Python floats, int64 for ints.
        requires_grad: record operations on it, so that `backward()` leaves its gradient in `.grad`.

    Raises:
        DTypeError: no numbers, or a gradient asked of integers.

    Cost: an operation on small Tensors takes about 1 us more than NumPy's, 3 us more when recorded.

    Differs from PyTorch: a Tensor is a value. Views share memory as long as nobody writes; writing
    to one (`x += 1`, `x[0] = 1`) never changes another. `max(dim)` gives the values alone.

    Example:
        >>> import tinytorch as tt
        >>> x = tt.Tensor([1.0, 2.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        Tensor([2., 4.])
    """

    __slots__ = ()

    def __init__(self, data: Any, dtype: Any = None, requires_grad: bool = False):
        wanted = as_dtype(dtype) if dtype is not None else None
        self._buffer = self._value = self._node = None
        if isinstance(data, TensorBase):
            source = data if wanted is None else to_dtype(data, wanted)
            if STATE.interpreter is not None:
                STATE.interpreter.meet(source)
                self._value = source._value
            else:
                self._buffer = Buffer(copy_of(source._buffer.array, source.dtype), source.dtype)
        else:
            self._buffer = to_buffer(data, wanted, copy=True)
            if STATE.interpreter is not None:
                constant = STATE.interpreter.constant(self._buffer)
                self._buffer, self._value = constant._buffer, constant._value
        if requires_grad:
            self.requires_grad_()

    @staticmethod
    def __primitive__(primitive: Primitive, operands: tuple, params: dict) -> Any:
        """How a row of the table is applied when an operand is a Tensor."""
        return on_tensors(primitive, operands, params)

    # --- gradients ---

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Begin (or end) gathering a gradient for this Tensor; gives itself."""
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
        """The same numbers, cut off from what was recorded; nothing is copied."""
        if STATE.interpreter is not None:
            STATE.interpreter.meet(self)
        return from_handle(self.handle())

    def clone(self) -> Tensor:
        """The same numbers in memory of their own; recorded."""
        if STATE.interpreter is not None:
            STATE.interpreter.meet(self)
        out = from_handle(self.handle()) if STATE.interpreter is not None else Tensor(self)
        if STATE.recording and self._node is not None:
            out._node = autograd.identity(self._node, out.handle())
        return out

    # --- in place ---

    def assign_(self, new: Any) -> Tensor:
        """Hold the numbers of `new` from now on; shape and dtype stay. Gives itself.

        Eager, they are written into its memory, or into new memory if somebody else can see the old
        (a view, a NumPy array, the tape). In a compiled function the program writes them.

        Raises:
            ShapeError, DTypeError: `new` does not have this shape, this dtype.
            GradientError: this is a leaf that gathers a gradient, and recording is on.
        """
        new = tensor_of(new)
        if new.shape != self.shape or new.dtype is not self.dtype:
            kind = ShapeError if new.shape != self.shape else DTypeError
            raise kind(
                "a tensor keeps its shape and number type when it is assigned to",
                got=f"{new.dtype.name} {new.shape} for a tensor of {self.dtype.name} {self.shape}",
                rule="both agree",
                fix="x.copy_(new), which converts and broadcasts, or make a new tensor",
            )
        if STATE.recording and (self._node is not None or new._node is not None):
            if type(self._node) is Leaf:
                raise GradientError(
                    "a tensor that gathers a gradient was changed in place",
                    got=f"an assignment at {user_line()}, while operations are recorded",
                    rule="its gradient is with respect to the numbers it had",
                    fix="with tt.no_grad(): around the assignment",
                )
            self._node = new._node
        if STATE.interpreter is not None:
            STATE.interpreter.assign(self, new)
        else:
            self._write(..., new._buffer.array)
        return self

    def _write(self, key: Any, array: Any) -> None:
        """Write stored numbers, in place if nobody else sees the memory."""
        if not is_exclusive(self):
            old = self._buffer
            self._buffer = Buffer(copy_of(old.array, old.dtype), old.dtype, old.version)
        self._buffer.array[key] = array
        self._buffer.written()

    def copy_(self, source: Any) -> Tensor:
        """Assign, converted to this dtype and broadcast to this shape. Gives itself."""
        return self.assign_(broadcast_to(to_dtype(tensor_of(source), self.dtype), self.shape))

    def zero_(self) -> Tensor:
        """Assign 0 everywhere. Gives itself."""
        return self.assign_(self.zeros_like())

    def fill_(self, value: float) -> Tensor:
        """Assign `value` everywhere. Gives itself."""
        return self.assign_(self.full_like(value))

    def _in_place(self, new: Any) -> Tensor:
        if new.dtype is not self.dtype and new.dtype.is_float and self.dtype.is_float:
            new = to_dtype(new, self.dtype)
        return self.assign_(new)

    def __iadd__(self, other) -> Tensor:
        return self._in_place(self + other)

    def __isub__(self, other) -> Tensor:
        return self._in_place(self - other)

    def __imul__(self, other) -> Tensor:
        return self._in_place(self * other)

    def __itruediv__(self, other) -> Tensor:
        return self._in_place(self / other)

    def __getitem__(self, key) -> Any:
        return indexing.getitem(self, key)

    def __setitem__(self, key, value) -> None:
        tracked = STATE.recording and (
            self._node is not None or (isinstance(value, TensorBase) and value._node is not None)
        )
        if tracked or STATE.interpreter is not None or self.dtype is bfloat16:
            self.assign_(indexing.updated(self, key, value))
            return
        value = to_dtype(tensor_of(value), self.dtype)
        parts = key if isinstance(key, tuple) else (key,)
        plain = tuple([k._buffer.array if isinstance(k, TensorBase) else k for k in parts])
        try:
            self._write(plain, value._buffer.array)
        except (IndexError, ValueError):
            indexing.updated(self, key, value)  # says in four parts what does not fit
            raise

    # --- reading ---

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
        """The numbers as a NumPy array: a read-only view (bfloat16: a float32 copy)."""
        view = self.read("numpy()").view()
        view.flags.writeable = False
        return view

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        array = self.read("numpy.asarray()")
        if dtype is not None and np.dtype(dtype) != array.dtype:
            return array.astype(dtype)
        return array.copy() if copy else self.numpy()

    def __dlpack__(self, **options) -> Any:
        self.read("DLPack")
        return self._buffer.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple:
        return (1, 0)  # kDLCPU, device 0: the DLPack header

    def __len__(self) -> int:
        if not self.shape:
            raise ShapeError(
                "a single number has no length",
                got="len() of a tensor ()",
                rule="at least one axis",
                fix="x.reshape(1)",
            )
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

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
        text = np.array2string(array, separator=", ", threshold=60, edgeitems=3, prefix="Tensor(")
        if array.size > 60:
            text += f", shape={self.shape}"
        if self.dtype.name not in ("float32", "int64", "bool"):
            text += f", dtype={self.dtype.name}"
        return f"Tensor({text}{', requires_grad=True' if self.requires_grad else ''})"

    # --- copying the object ---

    def __deepcopy__(self, memo: dict) -> Any:
        return _rebuild(
            type(self), self.read("copy.deepcopy()"), self.dtype.name, self.requires_grad
        )

    def __reduce__(self) -> tuple:
        array = np.array(self.read("pickling"))
        return _rebuild, (type(self), array, self.dtype.name, self.requires_grad)


def _rebuild(kind: type, array: np.ndarray, dtype: str, requires_grad: bool) -> Any:
    """A Tensor of class `kind` in memory of its own."""
    tensor = object.__new__(kind)
    own = as_dtype(dtype)
    tensor._buffer = Buffer(copy_of(store(array, own), own), own)
    tensor._value = None
    tensor._node = Leaf() if requires_grad and own is not bool_ else None
    return tensor


become_concrete(Tensor)
