"""Who sees which memory, and what has to happen before it is written.

Knows Buffers, Tensors as their owners, and how NumPy takes a view; no gradients. See Note
[a view is a view] in buffer.py.
"""

from __future__ import annotations

from sys import getrefcount
from typing import Any
from weakref import ref

import numpy as np

from tinytorch.base.errors import OverlapError
from tinytorch.base.settings import STRUCTURE
from tinytorch.tensor import base
from tinytorch.tensor.base import from_array, is_held, let_go
from tinytorch.tensor.buffer import Buffer, Family, copy_of
from tinytorch.tensor.interpreter import STATE


class Same:
    """A row of views that show all of x at its place: `x[...]`, `reshape` to the same shape."""

    view = True

    def __init__(self, name: str):
        self.name = name

    def numpy(self, array: np.ndarray) -> np.ndarray:
        """The array itself."""
        return array

    def vjp(self, g: Any, out: Any, x: Any) -> tuple:
        """g."""
        return (g,)

    def __repr__(self) -> str:
        return self.name


ALIAS = Same("alias")
DETACH = Same("detach")  # without a gradient: what it was taken from is not kept alive by it


def view_of(x: Any, array: np.ndarray, primitive: Any, params: dict) -> Any:
    """A Tensor over `array`, NumPy's view of the memory of x; a write to one reaches the other.

    Args:
        x: a Tensor with memory.
        array: in storage form.
        primitive: takes the view again: `primitive.numpy(x's array, **params)`.
        params: its parameters.

    Cost: 0.3 us more than a Tensor over an array.
    """
    old = x._buffer
    is_kept = type(x) is base._held
    if is_kept and not STATE.recording:  # a gradient rule looks at it, and that is all
        out = from_array(array, old.dtype)
        out.__class__ = base._held
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


def taken_from(x: Any) -> tuple | None:
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


def writable(x: Any) -> np.ndarray:
    """The memory of x, to be written at once: who needs the old numbers has got a copy of them.

    Raises:
        OverlapError: several elements of x are the same place in memory (`expand`).

    Cost: 0.2 us for a Tensor without views; with them 0.2 us for each.
    """
    if x._buffer.family is not None or type(x) is base._held:
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


def _of_family(x: Any) -> np.ndarray:
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


def replace_memory(x: Any, array: np.ndarray) -> None:
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


def _refuse_overlap(array: np.ndarray) -> None:
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
        new.family = Family() if whole is None else whole._buffer.family
        new.family.members.append(ref(member))
        member._buffer = new
    Buffer.moves += 1


def _distinct(array: np.ndarray) -> int:
    count = 1
    for step, n in zip(array.strides, array.shape, strict=True):
        count *= n if step else 1
    return count
