"""Assigning to a Tensor: whole, in part, or by an operator with `=`.

A write to a view is a write to what it shows, and the reverse (Note [a view is a view] in
memory.py). Knows what an assignment means for gradients:

- to a leaf that gathers a gradient or a view of it, while operations are recorded: an error;
- to anything else that is recorded: the new numbers have their own place in the tape, in every
  Tensor that shows them, and what used the old ones keeps the old ones, so every gradient is that
  of the numbers that were used;
- under `no_grad()`: the same, and nothing is recorded.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from tinytorch.base.dtypes import DType, bfloat16
from tinytorch.base.errors import (
    DTypeError,
    GradientError,
    OverlapError,
    SettingError,
    ShapeError,
    printable,
    short,
)
from tinytorch.base.settings import STRUCTURE
from tinytorch.primitives.ieee import ieee_call
from tinytorch.tensor import elementwise, indexing
from tinytorch.tensor.autograd import GradientRule, Leaf, TapeNode
from tinytorch.tensor.contractions import matmul
from tinytorch.tensor.creation import full_like, tensor, zeros_like
from tinytorch.tensor.dispatch import apply, tensor_in, to_dtype
from tinytorch.tensor.indexing import put_rows, put_slice
from tinytorch.tensor.interpreter import STATE, no_grad, user_line
from tinytorch.tensor.memory import (
    DETACH,
    Buffer,
    Same,
    TensorBase,
    copy_of,
    from_buffer,
    held,
    hold,
    relatives,
    taken_from,
    writable,
)
from tinytorch.tensor.operands import Operand, entries_of, make, tensor_of
from tinytorch.tensor.shaping import broadcast_to, permute, reshape


def assign_(x: TensorBase, new: Any) -> Any:
    """Hold the numbers of `new` from now on; shape and dtype stay. Gives itself.

    They are written into its memory, so views of it, what it is a view of, and NumPy arrays
    that share the memory (`from_numpy`) show them too. In a compiled function the program
    writes them.

    Raises:
        ShapeError, DTypeError: `new` does not have this shape, this dtype.
        GradientError: this is a leaf that gathers a gradient or a view of one, and recording is
            on.
        OverlapError: its elements lie at the same place (`expand`).
    """
    new = tensor_of(new)
    if new.shape != x.shape or new.dtype is not x.dtype:
        kind = ShapeError if new.shape != x.shape else DTypeError
        raise kind(
            "a tensor keeps its shape and number type when it is assigned to",
            got=f"{new.dtype.name} {new.shape} for a tensor of {x.dtype.name} {x.shape}",
            rule="both agree",
            fix="x.copy_(new), which converts and broadcasts, or make a new tensor",
        )
    tracked = is_tracked(x, new)
    if STATE.journal is not None:
        STATE.journal.note(x)
    if STATE.interpreter is not None:
        STATE.interpreter.assign(x, new)
        return x
    source = new._buffer.array
    writable(x)[...] = source
    if tracked:
        retrace(x, new)
    return x


def copy_(x: TensorBase, source: Any) -> Any:
    """Assign, converted to this dtype and broadcast to this shape. Gives itself."""
    return assign_(x, broadcast_to(tensor_in(source, x.dtype), x.shape))


def zero_(x: TensorBase) -> Any:
    """Assign 0 everywhere. Gives itself."""
    return assign_(x, zeros_like(x))


def fill_(x: TensorBase, value: Any) -> Any:
    """Assign `value`, a number or a 0-d Tensor, everywhere. Gives itself.

    Raises:
        ShapeError: a Tensor with axes (`copy_` takes one).
    """
    if isinstance(value, TensorBase) and value.shape:
        raise ShapeError(
            "fill_ takes a single number",
            got=f"a value {value.shape}",
            rule="a number, or a tensor of no axes",
            fix="x.copy_(value), which broadcasts",
        )
    return assign_(x, full_like(x, value))


def add_(x: TensorBase, other: Any, *, alpha: Any = 1) -> Any:
    """x += alpha * other. Gives itself."""
    return iadd(x, elementwise.times(other, alpha))


def sub_(x: TensorBase, other: Any, *, alpha: Any = 1) -> Any:
    """x -= alpha * other. Gives itself."""
    return isub(x, elementwise.times(other, alpha))


def mul_(x: TensorBase, other: Any) -> Any:
    """x *= other. Gives itself."""
    return imul(x, other)


def div_(x: TensorBase, other: Any) -> Any:
    """x /= other. Gives itself."""
    return itruediv(x, other)


def clamp_(x: TensorBase, min: Any = None, max: Any = None) -> Any:
    """At least `min`, at most `max` from now on. Gives itself."""
    return _become(x, elementwise.clip(x, min, max))


def masked_fill_(x: TensorBase, mask: Any, value: Any) -> Any:
    """Assign `value` where `mask` is true. Gives itself."""
    return assign_(x, elementwise.masked_fill(x, mask, value))


def _become(x: TensorBase, new: Any) -> Any:
    if new.dtype is not x.dtype and new.dtype.is_float and x.dtype.is_float:
        new = to_dtype(new, x.dtype)
    return assign_(x, new)


def _written_by(x: TensorBase, ufunc: np.ufunc, other: Any) -> bool:
    """Whether NumPy could write `ufunc(x, other)` straight into this memory, and did.

    Without a temporary array it takes half the time on large ones: optimizers live on this.
    """
    if (
        STATE.interpreter is not None
        or STATE.journal is not None
        or not x.dtype.is_float
        or x.dtype is bfloat16
        or is_tracked(x, None)
    ):
        return False
    if other.__class__ is not float and other.__class__ is not int:
        if not isinstance(other, TensorBase) or other.dtype is not x.dtype:
            return False
        if other._buffer is None or (STATE.recording and other._node is not None):
            return False
        shape = other.shape
        if shape and shape != x.shape[len(x.shape) - len(shape) :]:
            return False
        other = other._buffer.array
    array = writable(x)
    ieee_call(ufunc, array, other, array)
    return True


def _in_place(
    operation: Callable[[Any, Any], Any], ufunc: np.ufunc | None = None
) -> Callable[[TensorBase, Operand], Any]:
    """The operator with `=` of an operation; `ufunc` does the same on arrays of floats."""

    def assign(x: TensorBase, other: Operand) -> Any:
        if ufunc is not None and _written_by(x, ufunc, other):
            return x
        return _become(x, operation(x, other))

    return assign


iadd = _in_place(operator.add, np.add)


isub = _in_place(operator.sub, np.subtract)


imul = _in_place(operator.mul, np.multiply)


itruediv = _in_place(elementwise.divide, np.divide)


ifloordiv = _in_place(elementwise.floor_divide)


imod = _in_place(elementwise.remainder)


ipow = _in_place(elementwise.power)


imatmul = _in_place(matmul)


iand = _in_place(elementwise.bitwise_and)


ior = _in_place(elementwise.bitwise_or)


ixor = _in_place(elementwise.bitwise_xor)


ilshift = _in_place(elementwise.shift_left)


irshift = _in_place(elementwise.shift_right)


def retype(x: TensorBase, dtype: DType) -> None:
    """Hold the same numbers in another number type from now on, the gradient too.

    The object, whether it gathers a gradient, and so its place in a module and an optimizer
    stay; views taken before, and what was recorded, keep the old memory.
    """
    if STATE.interpreter is not None:
        STATE.interpreter.refuse("the number type of a tensor made outside, to be changed")
    new = to_dtype(held(x), dtype)
    hold(x, Buffer(copy_of(new._buffer.array, dtype), dtype, x._buffer.version + 1))
    STRUCTURE.bump()
    if type(x._node) is Leaf and (gradient := x._node.grad) is not None:
        x._node.grad = gradient.astype(dtype)


def setitem(x: TensorBase, key: Any, value: Any) -> None:
    """x[key] = value."""
    tracked = is_tracked(x, value if isinstance(value, TensorBase) else None)
    if tracked or STATE.interpreter is not None:
        part = _part(x, key)
        if part is not None:
            assign_(part, indexing.fit(tensor_in(value, x.dtype), part.shape))
            return
    if tracked or STATE.interpreter is not None or STATE.journal is not None or x.dtype is bfloat16:
        assign_(x, indexing.updated(x, key, value))
        return
    value = tensor_in(value, x.dtype)
    parts: tuple[Any, ...] = key if key.__class__ is tuple else (key,)
    plain = tuple([k._buffer.array if isinstance(k, TensorBase) else k for k in parts])
    if 0 in x._buffer.array.strides and (part := _part(x, key)) is not None:
        assign_(part, indexing.fit(value, part.shape))  # the part may lie without repetition
        return
    array = writable(x)
    try:
        array, plain = indexing.numbers_first(array, plain)
        array[plain] = value._buffer.array
    except (IndexError, ValueError):
        indexing.updated(x, key, value)  # says in four parts what does not fit
        raise


def _part(x: TensorBase, key: Any) -> Any:
    """x[key] as a view to be written in place of x; None where that is no help."""
    if not indexing.is_plain(key):
        return None
    if STATE.interpreter is None:
        return indexing.part_of(x, key)
    return indexing.getitem(x, key) if origin(x) is not None else None


# --- views: taken again, or put back ---
#
# A write, seen as a function of old numbers, is: the base with the new numbers at the places of
# the view. The tape records this, a captured program contains it, and gradients follow from it.

Row: TypeAlias = tuple[
    Any, dict[str, Any]
]  # what takes a view of x: a primitive or a Same, and its params


def origin(x: Any) -> tuple[Any, ...] | None:
    """(base, primitive, params, whether recorded) of a view, eager or captured; else None."""
    return taken_from(x) if STATE.interpreter is None else STATE.interpreter.taken_from(x)


def root_of(x: Any) -> tuple[Any, list[Row], bool]:
    """What x was taken from at first, how, and whether the tape may follow all of that.

    Where a view is cut off from gradients (`detach()`), the way ends: x is then a root itself.
    """
    chain: list[Row] = []
    recorded = True
    while (found := origin(x)) is not None and found[1] is not DETACH:
        x = found[0]
        chain.append((found[1], found[2]))
        recorded = recorded and found[3]
    chain.reverse()
    return x, chain, recorded


def is_tracked(x: Any, new: Any) -> bool:
    """Whether writing `new` to x belongs on the tape.

    Raises:
        GradientError: x is, or shows, a leaf that gathers a gradient; or it was taken under
            `no_grad()`, and its gradient cannot be followed.
    """
    if not STATE.recording:
        return False
    root, chain, recorded = root_of(x) if _may_show(x) else (x, [], True)
    if x._node is None and root._node is None and (new is None or new._node is None):
        return False
    if type(x._node) is Leaf or type(root._node) is Leaf:
        what = "a tensor" if not chain else "a view of a tensor"
        raise GradientError(
            f"{what} that gathers a gradient was changed in place",
            got=f"an assignment at {user_line()}, while operations are recorded",
            rule="its gradient is with respect to the numbers it had",
            fix="with tt.no_grad(): around the assignment",
        )
    if not recorded:
        raise GradientError(
            "a view that was taken under no_grad() was changed while operations are recorded",
            got=f"an assignment at {user_line()} to a view {x.shape}",
            rule="its gradient would have to pass through the view, which was not recorded",
            fix="take the view outside of no_grad(), or write under no_grad()",
        )
    return True


def _may_show(x: Any) -> bool:
    if STATE.interpreter is not None:
        return True
    return x._buffer is not None and x._buffer.family is not None


def retrace(x: Any, new: Any) -> None:
    """After the numbers of `new` were written to x: let the tape say so, for x and all who show it.

    Eager: the memory shows the numbers already, so nothing is computed.
    """
    root, chain, _ = root_of(x)
    before = root._node
    if chain and root.dtype.is_float:
        params = {"chain": tuple(chain)}
        root._node = _node(_PUT, params, (root, new), (before, new._node), root)
    elif not chain:
        root._node = place_after(root, new)
    if root._node is before or root._buffer.family is None:
        return
    moved = {id(root)}
    for member in relatives(root):
        taken = taken_from(member)
        if taken is None or taken[1] is DETACH or id(taken[0]) not in moved or not taken[3]:
            continue
        moved.add(id(member))
        if type(member._node) is not Leaf and member.dtype.is_float:
            base, row, params, _ = taken
            node = (
                None if base._node is None else _node(row, params, (base,), (base._node,), member)
            )
            member._node = node


def place_after(x: Any, new: Any) -> Any:
    """Where in the tape x is after `new` was written to all of it.

    Overwritten by numbers without a gradient, it still requires one: of zeros, as in PyTorch.
    """
    if not x.dtype.is_float or (x._node is None and new._node is None):
        return None
    if new._node is None:
        return _node(_PUT, {"chain": ()}, (x, new), (x._node, None), x)
    return _node(None, {}, (new,), (new._node,), new) if type(new._node) is Leaf else new._node


def _node(
    primitive: Any, params: dict[str, Any], ins: tuple[Any, ...], parents: tuple[Any, ...], out: Any
) -> TapeNode:
    """A TapeNode of a rule that needs shapes alone: it keeps no numbers."""
    node = TapeNode(primitive, params, tuple([x.spec for x in ins]), parents, out.spec)
    node.versions = 0
    return node


class _Put(GradientRule):
    """In the tape: x with `new` at the places that a chain of rows takes."""

    name = "assignment to a view"

    asks_needs = True

    @staticmethod
    def vjp(
        g: Any, out: Any, x: Any, new: Any, *, chain: Sequence[Row], needs: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        """Zeros where x was overwritten; what is at those places goes to `new`."""
        there = taken_again(g, chain)
        return (
            put_back(g, chain, there.zeros_like()) if needs[0] else None,
            there if needs[1] else None,
        )


_PUT = _Put()


def taken_again(x: Any, chain: Sequence[Row]) -> Any:
    """The view of x that a chain of rows takes."""
    for row, params in chain:
        x = take(x, row, params)
    return x


def take(x: Any, row: Any, params: dict[str, Any]) -> Any:
    """The view of x that one row takes."""
    if isinstance(row, Same):
        return x
    own = getattr(row, "take", None)
    return apply(row, (x,), params) if own is None else own(x, **params)


def put_back(x: Any, chain: Sequence[Row], new: Any) -> Any:
    """A new Tensor: x with `new` at the places that a chain of rows takes.

    Raises:
        OverlapError: the view repeats numbers.
    """
    if not chain:
        return new
    if any(repr(row) == "broadcast_to" for row, _ in chain):
        return _put_at(x, chain, new)
    (row, params), *rest = chain
    return _put(x, row, params, put_back(take(x, row, params), rest, new) if rest else new)


def _put_at(x: TensorBase, chain: Sequence[Row], new: Any) -> Any:
    """The same through a row that repeats numbers: the places are counted."""
    places = np.arange(x.size, dtype=np.int64).reshape(x.shape)
    for row, params in chain:
        places = row.numpy(places, **params)
    if np.unique(places).size < places.size:
        raise OverlapError(
            "a tensor whose elements lie at the same place cannot be written",
            got=f"an assignment to a tensor {new.shape} that repeats the numbers of one {x.shape}",
            rule="one place holds one number; expand() and broadcast_to() repeat without copying",
            fix="x = x.clone() first, or write to what was expanded",
        )
    flat = put_rows(reshape(x, -1), make(places.reshape(-1)), reshape(new, -1))
    return reshape(flat, x.shape)


def _put(x: Any, row: Any, params: dict[str, Any], new: Any) -> Any:
    if isinstance(row, Same):
        return new
    if hasattr(row, "put"):
        return row.put(x, new, **params)
    if row.name == "reshape":
        return reshape(new, x.shape)
    if row.name == "permute":
        order = params["axes"]
        return permute(new, *[order.index(i) for i in range(len(order))]) if order else new
    if row.name == "slice":
        return put_slice(x, new, **params)
    return apply(row, (new,), params)  # flip, its own inverse


# --- by name, all or nothing: modules and optimizers load with it ---


def copy_named(
    own: Mapping[str, Any], given: Mapping[str, Any], *, owner: str, strict: bool = True
) -> tuple[list[str], list[str]]:
    """Copy the given values into `own` by name; everything is checked before anything is changed.

    Args:
        own: the tensors that receive, by name.
        given: name -> Tensor, NumPy array, or (array in storage form, DType). Floats are converted
            to the receiving float type, integers to the receiving integer type.
        owner: whose tensors they are, for messages.
        strict: both must have the same names.

    Returns:
        names missing in `given`, names of `given` that were not used.

    Raises:
        SettingError: names differ (if strict).
        ShapeError: a shape differs.
        DTypeError: floats given for integers or the reverse.
    """
    missing = [name for name in own if name not in given]
    unexpected = [name for name in given if name not in own]
    if strict and (missing or unexpected):
        raise _names_differ(owner, own, missing, unexpected)
    values = {name: as_given(given[name]) for name in own if name in given}
    for name, value in values.items():
        _check_named(owner, name, own[name], value)
    with no_grad():
        for name, value in values.items():
            mine = own[name]
            mine.assign_(value if value.dtype is mine.dtype else value.astype(mine.dtype))
    return missing, unexpected


def as_given(x: Any) -> Any:
    """A Tensor of what a state holds under a name: see `given` of `copy_named`."""
    if isinstance(x, TensorBase):
        return x.detach()
    parts = entries_of(x)
    if x.__class__ is tuple and len(parts) == 2 and isinstance(parts[1], DType):
        return from_buffer(Buffer.of_outside(np.asarray(parts[0]), parts[1]))
    try:
        return tensor(np.asarray(x))
    except (ValueError, TypeError):  # ragged, or of something else than numbers
        raise DTypeError(
            "a state that is no array of numbers",
            got=f"a {type(x).__name__}: {short(x)}",
            rule="a Tensor, an array, or (array in storage form, DType)",
            fix="what state_dict() gave",
        ) from None


def _check_named(owner: str, name: str, own: Any, value: Any) -> None:
    if tuple(own.shape) != tuple(value.shape):
        raise ShapeError(
            f"{owner}: {name!r} has another shape",
            got=f"{tuple(value.shape)} for {name} {tuple(own.shape)}",
            rule="each array has the shape of the tensor it is loaded into",
            fix="build it with the sizes it was saved with",
        )
    if own.dtype.is_float is not value.dtype.is_float:
        raise DTypeError(
            f"{owner}: {name!r} has another kind of number",
            got=f"{value.dtype.name} for {name} {own.dtype.name}",
            rule="floats load into floats, whole numbers into whole numbers",
            fix=f"convert it first, for example array.astype({own.dtype.name!r})",
        )


def _names_differ(
    owner: str, own: Mapping[str, Any], missing: list[str], unexpected: list[str]
) -> SettingError:
    from difflib import get_close_matches  # here: it takes a while to load, for errors alone

    parts = [
        f"{kind}: {_some(names)}"
        for kind, names in (("missing", missing), ("unknown", unexpected))
        if names
    ]
    near = get_close_matches(unexpected[0], list(own), n=1) if unexpected else []
    fix = f"rename {unexpected[0]!r} to {near[0]!r}, or " if near else ""
    return SettingError(
        f"{owner}: the names in this state are not its names",
        got="; ".join(parts),
        rule=f"exactly the {len(own)} names of state_dict()",
        fix=fix + "strict=False to load what fits",
    )


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(printable(name) for name in names[:most]) + more
