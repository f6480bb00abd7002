"""The memory under Tensors: Buffers, the bare Tensor over one, and who shares memory with whom.

Knows bytes, what a Tensor consists of and how NumPy takes a view; never gradients. Operators and
methods are added to the bare Tensor in tensor.py. The device is part of a Buffer from the first
day; "cpu" is its only value.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import math
from collections.abc import Iterable
from sys import getrefcount
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

from tinytorch.base.dtypes import Array, DType, from_bfloat16
from tinytorch.base.errors import CompileError, DTypeError, OutOfMemoryError, OverlapError
from tinytorch.base.settings import STRUCTURE, keep_freed_memory
from tinytorch.primitives.primitive import Spec
from tinytorch.tensor.interpreter import STATE

ALIGNMENT = 64  # bytes: one cache line, and one AVX-512 register
_BYTE = np.dtype(np.uint8)
keep_freed_memory()


class Buffer:
    """An array in memory.

    Note [a view is a view]
        A write to memory reaches every Tensor that sees it: a view, what it was taken from,
        `detach()`. What must not change are the numbers that the tape kept for `backward()`, and
        the tape keeps Buffers. So each Tensor has a Buffer of its own, whatever memory lies below,
        and the Tensors over one memory are known (`family`). Before memory is written (`writable`),
        each Buffer that somebody besides its Tensor holds is given a copy of the old numbers, and
        its Tensor a fresh Buffer over the memory. The memory itself stays where it is, so NumPy
        arrays and compiled programs that share it go on sharing it.

    Args:
        array: in storage form (bfloat16 as uint16), any strides.
        dtype: what the elements are.
        version: moves when the memory is written eagerly. (A compiled program writes only where
            nobody but the Tensor holds the Buffer, so nobody remembers a version of it.)

    Attributes:
        family: who sees this memory; None if no view was taken of it.
        taken: of a view: (what it was taken from, primitive, params, whether recorded), else None;
            with a family only.
        is_kept: whether the family knows that it may outlive its Tensor; with a family only.
        moves: how often any Tensor that was there got another Buffer, or any Buffer other memory:
            who looked at addresses when it was the same number needs not look again.
    """

    __slots__ = (
        "__weakref__", "_address", "array", "dtype", "family", "is_kept", "taken", "version",
    )  # fmt: skip
    device = "cpu"
    moves = 0

    def __init__(self, array: Array, dtype: DType, version: int = 0):
        self.array = array
        self.dtype = dtype
        self.version = version
        self.family: Family | None = None

    @classmethod
    def of_outside(cls, array: Array, dtype: DType) -> Buffer:
        """A Buffer of an array that comes from outside this process, or from the user.

        Compiled code trusts `dtype`: over smaller elements it would read and write beside them.

        Raises:
            DTypeError: the array's elements are not what `dtype` is stored as.
        """
        if array.dtype != dtype.storage:
            raise DTypeError(
                "these numbers are not of the type they are said to be",
                got=f"{array.dtype}, said to be {dtype.name}",
                rule=f"{dtype.name} is stored as {dtype.storage}",
                fix=f"array.astype({str(dtype.storage)!r})",
            )
        return cls(array, dtype)

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: DType) -> Buffer:
        """Uninitialised dense memory that starts at a multiple of 64 bytes."""
        count = math.prod(shape) * dtype.itemsize
        try:
            raw = np.empty(count + ALIGNMENT, _BYTE)
        except (MemoryError, ValueError):  # ValueError: more bytes than 63 bits can count
            raise OutOfMemoryError.of(count) from None
        at = raw.__array_interface__["data"][0]
        start = -at % ALIGNMENT
        out = cls(np.ndarray(shape, dtype.storage, raw, start), dtype)
        out._address = at + start
        return out

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self.array.shape

    @property
    def address(self) -> int:
        """Address of the first element; read once (`ndarray.ctypes.data` costs 0.8 us a time)."""
        try:
            return self._address
        except AttributeError:
            self._address = self.array.__array_interface__["data"][0]
            return self._address

    def numbers(self) -> Array:
        """The array in computing form: bfloat16 as float32, all else as stored."""
        return from_bfloat16(self.array) if self.dtype.name == "bfloat16" else self.array

    def __repr__(self) -> str:
        return f"Buffer({self.dtype.name}{list(self.shape)}, version {self.version})"


class Family:
    """Who sees one memory.

    Attributes:
        members: its Tensors, oldest first: a view comes after what it was taken from.
        kept: Buffers that the tape may hold longer than their Tensors live.
        limit: with more members, `tidy` forgets those that are gone.
    """

    __slots__ = ("_most", "kept", "limit", "members")
    founded = 0  # how many there have been: who looked at that number needs not look again

    def __init__(self) -> None:
        Family.founded += 1
        self.members: list[ref[Any]] = []
        self.kept: list[ref[Buffer]] = []
        self.limit = self._most = 32

    def tidy(self) -> None:
        """Forget who is gone; called when the members have doubled."""
        self.members = [r for r in self.members if r() is not None]
        self.limit = 2 * len(self.members) + 32

    def keep(self, buffer: Buffer) -> None:
        """Somebody besides its Tensor holds a Buffer over this memory."""
        if not buffer.is_kept:
            buffer.is_kept = True
            self.kept.append(ref(buffer))
            if len(self.kept) > self._most:
                self.kept = [r for r in self.kept if r() is not None]
                self._most = 2 * len(self.kept) + 32


class Watched:
    """Memory whose writes somebody wants to know of: what follows from its numbers was kept.

    Note [who sees a write]
        Eager code writes after `writable`, a compiled program says what it wrote, and an array that
        is handed out to be written (`numpy()`, DLPack) counts as a write: these are all ways of
        this library. It is the memory that is known, so views of any kind count. What NumPy writes
        later to an array it was given, or had before (`from_numpy`), nobody sees.

    Args:
        owner: what holds the memory; it is kept, so that no other gets its number.

    Attributes:
        count: how often it was written, or may have been.
        writes: the same of all such memory: while it stays, nothing has to be looked at.
    """

    __slots__ = ("__weakref__", "count", "owner")
    writes = 0

    def __init__(self, owner: Any):
        self.owner, self.count = owner, 0


_watched: dict[int, ref[Watched]] = {}  # by the id of the owner


def owner_of(array: Array) -> Any:
    """What holds the memory of an array."""
    return array if array.base is None else array.base


def watch(array: Array) -> Watched:
    """Have writes to the memory of an array counted, as long as what this gives is kept."""
    owner = owner_of(array)
    number = id(owner)
    known = _watched.get(number)
    found = None if known is None else known()
    if found is None:

        def forget(gone: ref[Watched]) -> None:
            if _watched.get(number) is gone:
                del _watched[number]

        found = Watched(owner)
        _watched[number] = ref(found, forget)
    return found


def note_writes(owners: Iterable[int]) -> None:
    """Memory, by the ids of what holds it, has other numbers now, or may have; see Watched."""
    for number in owners if _watched else ():
        known = _watched.get(number)
        found = None if known is None else known()
        if found is not None:
            found.count += 1
            Watched.writes += 1


def copy_of(array: Array, dtype: DType) -> Array:
    """A dense copy of a stored array, at an aligned address."""
    out = Buffer.empty(array.shape, dtype).array
    out[...] = array
    return out


# --- the bare Tensor ---


class TensorBase:
    """Slots of every Tensor.

    `_buffer`: memory, None for a Tensor made during a capture; `_value`: its captured value, else
    None; `_node`: where gradients go, a place in the tape (tape.py), None if nothing is recorded.
    """

    __slots__ = ("__weakref__", "_buffer", "_node", "_value")
    _buffer: Any
    _value: Any
    _node: Any

    if TYPE_CHECKING:  # defined in tensor.py; the files below it use these

        def __add__(self, other: Any, /) -> Any: ...
        def __radd__(self, other: Any, /) -> Any: ...
        def __sub__(self, other: Any, /) -> Any: ...
        def __rsub__(self, other: Any, /) -> Any: ...
        def __mul__(self, other: Any, /) -> Any: ...
        def __rmul__(self, other: Any, /) -> Any: ...
        def __truediv__(self, other: Any, /) -> Any: ...
        def __rtruediv__(self, other: Any, /) -> Any: ...
        def __pow__(self, other: Any, /) -> Any: ...
        def __neg__(self, /) -> Any: ...
        def __lt__(self, other: Any, /) -> Any: ...
        def __le__(self, other: Any, /) -> Any: ...
        def __gt__(self, other: Any, /) -> Any: ...
        def __ge__(self, other: Any, /) -> Any: ...
        def __eq__(self, other: Any, /) -> Any: ...
        def __ne__(self, other: Any, /) -> Any: ...
        def __and__(self, other: Any, /) -> Any: ...
        def __or__(self, other: Any, /) -> Any: ...
        def __getitem__(self, key: Any, /) -> Any: ...
        def __len__(self, /) -> int: ...
        def __bool__(self, /) -> bool: ...
        def __int__(self, /) -> int: ...
        def __float__(self, /) -> float: ...
        def item(self, /) -> Any:
            """The only number."""

        def detach(self) -> Any:
            """The same memory without a gradient."""

        def requires_grad_(self, requires_grad: bool = True) -> Any:
            """Begin (or end) gathering a gradient."""

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

    def read(self, what: str) -> Array:
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


def from_array(array: Array, dtype: DType) -> Any:
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


# --- who sees which memory, and what happens before it is written ---


class Same:
    """A row of views that show all of x at its place: `x[...]`, `reshape` to the same shape."""

    view = True
    asks_needs = asks_final = mixes = False
    selects: tuple[int, ...] = ()

    def __init__(self, name: str):
        self.name = name

    def numpy(self, array: Array) -> Array:
        """The array itself."""
        return array

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        """g."""
        return (g,)

    def __repr__(self) -> str:
        return self.name


ALIAS = Same("alias")
DETACH = Same("detach")  # without a gradient: what it was taken from is not kept alive by it


def view_of(x: Any, array: Array, primitive: Any, params: dict[str, Any]) -> Any:
    """A Tensor over `array`, NumPy's view of the memory of x; a write to one reaches the other.

    Args:
        x: a Tensor with memory.
        array: in storage form.
        primitive: takes the view again: `primitive.numpy(x's array, **params)`.
        params: its parameters.

    Cost: 0.3 us more than a Tensor over an array.
    """
    old = x._buffer
    is_kept = type(x) is _held
    if is_kept and not STATE.recording:  # a gradient rule looks at it, and that is all
        out = from_array(array, old.dtype)
        out.__class__ = _held
        return out
    family = old.family
    if family is None:
        family = old.family = Family()
        old.taken, old.is_kept = None, False
        if not is_kept:
            family.members.append(ref(x))
    out = from_array(array, old.dtype)
    new = out._buffer
    new.family = family
    new.is_kept = False
    if is_kept:  # numbers that were kept have views that are kept
        new.taken = None
        out.__class__ = type(x)
        family.keep(old)
        family.keep(new)
        return out
    if primitive is DETACH:
        new.taken = ref(x), DETACH, params, False
        first = family.members[0]()
        if first is not None and not first._buffer.is_kept:
            family.keep(first._buffer)  # used before it had a family, perhaps; gone before `out` is
    else:
        new.taken = x, primitive, params, STATE.recording
    members = family.members
    members.append(ref(out))
    if len(members) > family.limit:
        family.tidy()
    return out


def taken_from(x: Any) -> tuple[Any, ...] | None:
    """(base, primitive, params, whether recorded) of a view; None if it was taken from nothing."""
    buffer = x._buffer
    if buffer is None or buffer.family is None or buffer.taken is None:
        return None
    whole, primitive, params, recorded = buffer.taken
    if primitive is DETACH:
        whole = whole()
        if whole is None or whole._buffer.family is not buffer.family:
            return None
    return whole, primitive, params, recorded


def relatives(x: Any) -> list[Any]:
    """Every Tensor that shows some of the memory of x, itself among them, oldest first."""
    family = x._buffer.family
    if family is None:
        return [x]
    found = [r() for r in family.members]
    return [t for t in found if t is not None and t._buffer.family is family]


def writable(x: Any) -> Array:
    """The memory of x, to be written at once: who needs the old numbers has got a copy of them.

    Raises:
        OverlapError: several elements of x are the same place in memory (`expand`).

    Cost: 0.2 us for a Tensor without views; with them 0.2 us for each.
    """
    if _watched:
        note_writes((id(owner_of(x._buffer.array)),))
    if x._buffer.family is not None or type(x) is _held:
        return _of_family(x)
    buffer = x._buffer
    if getrefcount(buffer) != 3:  # x, the name here, the argument of getrefcount
        buffer = _parted(x)
    if not buffer.array.flags.writeable:
        buffer = x._buffer = Buffer(
            copy_of(buffer.array, buffer.dtype), buffer.dtype, buffer.version
        )
        Buffer.moves += 1
    buffer.version += 1
    return buffer.array


def _of_family(x: Any) -> Array:
    if is_held(x):
        return _on_its_own(x).array
    array = x._buffer.array
    if 0 in array.strides and array.size:
        _refuse_overlap(array)
    if not array.flags.writeable:
        _move_family(x)
    family: Any = x._buffer.family
    members = [t for r in family.members if (t := r()) is not None and t._buffer.family is family]
    if len(members) < len(family.members):
        family.members = [ref(t) for t in members]
    for member in members:
        if getrefcount(member._buffer) > 2:  # its Tensor, the argument
            _parted(member)
        member._buffer.version += 1
    tidy = True
    for r in family.kept:
        buffer = r()
        if buffer is None or buffer.family is not family:
            tidy = False
            continue
        for member in members:
            if member._buffer is buffer:
                break
        else:
            _leave(buffer)
            tidy = False
    if not tidy:
        family.kept = [ref(member._buffer) for member in members if member._buffer.is_kept]
    if len(members) == 1 and taken_from(x) is None:
        x._buffer.family = None
    return x._buffer.array


def is_alone(x: Any) -> bool:
    """Whether no other Tensor and no NumPy array can see the memory of x, by reference counts."""
    buffer = x._buffer
    array = buffer.array
    if buffer.family is not None or getrefcount(array) != 3 or not array.flags.writeable:
        return False
    owner = array.base
    if owner is None:
        return True
    return type(owner) is np.ndarray and owner.base is None and getrefcount(owner) == 3


def replace_memory(x: Any, array: Array) -> None:
    """Let x, which is alone, hold the same numbers elsewhere."""
    buffer = x._buffer
    buffer.array = array
    if hasattr(buffer, "_address"):
        del buffer._address
    Buffer.moves += 1


def hold_memory_of(x: Any, new: Any) -> None:
    """Let x show the memory of `new` from now on; views of its old memory keep that."""
    if x._buffer.array is new._buffer.array:
        return
    if is_held(new):
        hold(x, Buffer(copy_of(new._buffer.array, new.dtype), new.dtype))
    else:
        hold(x, view_of(new, new._buffer.array, DETACH, {})._buffer)
        hold_buffer(x, x._buffer)
    STRUCTURE.bump()  # compiled functions know shapes, and who shares memory with whom


def hold_buffer(x: Any, buffer: Buffer) -> None:
    """Let x hold a Buffer that no other Tensor holds from now on."""
    x._buffer = buffer
    Buffer.moves += 1
    if buffer.family is not None:
        buffer.family.members.append(ref(x))


def hold(x: Any, buffer: Buffer) -> None:
    """Let x hold another Buffer, and its views be views of the old memory alone."""
    for member in relatives(x):
        old = member._buffer
        if old.family is not None and old.taken is not None and old.taken[0] is x:
            old.taken = None
    x._buffer = buffer
    Buffer.moves += 1


def _on_its_own(x: Any) -> Buffer:
    """Let a Tensor of kept numbers hold a copy of them, like any other Tensor."""
    old = x._buffer
    let_go(x, Buffer(copy_of(old.array, old.dtype), old.dtype, old.version))
    return x._buffer


def _parted(x: Any) -> Buffer:
    """Give x a fresh Buffer over its memory; who holds the old one has a copy of the numbers."""
    old = x._buffer
    new = Buffer(old.array, old.dtype, old.version)
    if old.family is not None:
        new.family, new.taken, new.is_kept = old.family, old.taken, False
    x._buffer = new
    _leave(old)  # that is a move too
    return new


def _leave(buffer: Buffer) -> None:
    """Let a Buffer have the numbers of this moment in memory of its own."""
    array = buffer.array
    if 0 in array.strides and array.size:  # as small as it is: what was expanded stays expanded
        one = array[tuple([slice(None, 1) if s == 0 else slice(None) for s in array.strides])]
        buffer.array = np.broadcast_to(copy_of(one, buffer.dtype), array.shape)
    else:
        buffer.array = copy_of(array, buffer.dtype)
    if hasattr(buffer, "_address"):
        del buffer._address
    Buffer.moves += 1
    if buffer.family is not None:
        buffer.family, buffer.taken = None, None


def _refuse_overlap(array: Array) -> None:
    if any(step == 0 and n > 1 for step, n in zip(array.strides, array.shape, strict=True)):
        raise OverlapError(
            "a tensor whose elements lie at the same place cannot be written",
            got=f"an assignment to a tensor {array.shape} that repeats {_distinct(array)} numbers",
            rule="one place holds one number; expand() and broadcast_to() repeat without copying",
            fix="x = x.clone() first, or write to what was expanded",
        )


def _move_family(x: Any) -> None:
    """Give everybody who shows read-only memory the same view of a copy."""
    for member in relatives(x):
        old = member._buffer
        taken = taken_from(member)
        whole = None if taken is None else taken[0]
        if taken is None or whole is None:
            moved = np.array(old.array, order="K")  # its views are views again
        else:
            moved = taken[1].numpy(whole._buffer.array, **taken[2])
        new = Buffer(moved, old.dtype, old.version)
        new.taken, new.is_kept = old.taken, False
        family: Any = Family() if whole is None else whole._buffer.family
        new.family = family
        family.members.append(ref(member))
        member._buffer = new
    Buffer.moves += 1


def _distinct(array: Array) -> int:
    count = 1
    for step, n in zip(array.strides, array.shape, strict=True):
        count *= n if step else 1
    return count
