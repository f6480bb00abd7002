"""A view is taken again, or put back: how a write to a view becomes an update of what it shows.

Knows chains of rows that take views, and the tape; memory is written elsewhere (sharing.py). A
write, seen as a function of old numbers, is: the base with the new numbers at the view's places.
This is what the tape records and what a captured program contains; gradients follow from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch.base.errors import GradientError, OverlapError
from tinytorch.tensor.autograd import Leaf, Node
from tinytorch.tensor.base import make
from tinytorch.tensor.dispatch import apply
from tinytorch.tensor.indexing import put_rows, put_slice
from tinytorch.tensor.interpreter import STATE, user_line
from tinytorch.tensor.shaping import permute, reshape
from tinytorch.tensor.sharing import DETACH, Same, relatives, taken_from

Row = tuple[Any, dict]  # what takes a view of x: a primitive, or one of sharing's, and its params


def origin(x: Any) -> tuple | None:
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


def _node(primitive: Any, params: dict, ins: tuple, parents: tuple, out: Any) -> Node:
    """A Node of a rule that needs shapes alone: it keeps no numbers."""
    node = Node(primitive, params, tuple([x.spec for x in ins]), parents, out.spec)
    node.versions = 0
    return node


class _Put:
    """In the tape: x with `new` at the places that a chain of rows takes."""

    asks_needs = True

    @staticmethod
    def vjp(g: Any, out: Any, x: Any, new: Any, *, chain: Sequence[Row], needs: tuple) -> tuple:
        """Zeros where x was overwritten; what is at those places goes to `new`."""
        there = taken_again(g, chain)
        return (
            put_back(g, chain, there.zeros_like()) if needs[0] else None,
            there if needs[1] else None,
        )

    def __repr__(self) -> str:
        return "assignment to a view"


_PUT = _Put()


def taken_again(x: Any, chain: Sequence[Row]) -> Any:
    """The view of x that a chain of rows takes."""
    for row, params in chain:
        x = take(x, row, params)
    return x


def take(x: Any, row: Any, params: dict) -> Any:
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


def _put_at(x: Any, chain: Sequence[Row], new: Any) -> Any:
    """The same through a row that repeats numbers: the places are counted."""
    places = np.arange(x.size).reshape(x.shape)
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


def _put(x: Any, row: Any, params: dict, new: Any) -> Any:
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
