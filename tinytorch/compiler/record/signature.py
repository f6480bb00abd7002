"""Arguments and results as trees: what of them is data, and what belongs to the program.

Knows containers, arrays and Tensors as leaves; never graphs. Tensors and NumPy arrays are data: the
signature keeps their shapes and number types. Everything else (numbers, strings, settings) is
static: it is part of the signature itself, so another value is another program. Classes are asked
for, never `isinstance`, which runs the code of a user's object (compiler/record/objects.py).
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

import numpy as np

from tinytorch.base.errors import CompileError
from tinytorch.compiler.record.objects import is_a
from tinytorch.tensor.assignment import root_of
from tinytorch.tensor.tape import Leaf
from tinytorch.tensor.tensor import Tensor

_STATIC = frozenset((bool, int, str, bytes, type(None)))


def flatten(tree: Any, key: list, leaves: list) -> None:
    """Append the leaves of `tree` to `leaves`, and to `key` all that makes it another program.

    Cost: about 0.5 us a leaf; it runs at every call of a compiled function.

    Raises:
        CompileError: an object that is neither data nor usable as a key.
    """
    kind = type(tree)
    if kind is Tensor or issubclass(kind, Tensor):
        key.append((tree.shape, tree.dtype))
        array = tree._buffer.array
        if not array.flags.c_contiguous:  # whether reshape() gives a view depends on it
            key.append(array.strides)
        leaves.append(tree)
        if tree._node is not None and type(tree._node) is Leaf:
            key.append("leaf")
            if tree._node.grad is not None:
                flatten(tree._node.grad, key, leaves)
    elif kind is np.ndarray or issubclass(kind, (np.ndarray, np.generic)):
        key.append((tree.shape, tree.dtype))
        leaves.append(tree)
    elif kind in _STATIC:
        key.append(kind)
        key.append(tree)
    elif kind is float:
        key.append(tree.hex())  # tells -0.0 from 0.0, and nan equals itself
    elif kind is tuple or kind is list:
        key.append(kind)
        key.append(len(tree))
        for x in tree:
            flatten(x, key, leaves)
    elif issubclass(kind, dict):
        key.append(kind)
        key.append(tuple(tree))
        for x in tree.values():
            flatten(x, key, leaves)
    elif issubclass(kind, (tuple, list)):  # named tuples and the like
        key.append(kind)
        key.append(len(tree))
        for x in tree:
            flatten(x, key, leaves)
    else:
        _append_static(tree, key)


def overlaps(
    leaves: list, written: Container[int], updated: list[Any], states: list[Any]
) -> tuple[tuple, frozenset[int]] | None:
    """Which arguments share memory with another, or with a state, one of which the program writes.

    Args:
        leaves: the arguments.
        written: numbers of those that the program writes.
        updated: the states that it writes.
        states: all its states.

    Returns:
        What makes it another program, and ids of the arguments that are states of it; None if what
        is written is nobody else's.
    """
    groups: dict[Any, list[int]] = {}
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor):
            groups.setdefault(_sharing(leaf), []).append(i)
    moved, read = set(map(_sharing, updated)), set(map(_sharing, states))
    found: list[int] = []
    for key, group in groups.items():
        arrays = {i: leaves[i]._buffer.array for i in group}
        changed = [i for i in group if i in written]
        if key in moved or (changed and key in read) or any(
            np.may_share_memory(arrays[i], arrays[j]) for i in changed for j in group if j != i
        ):  # fmt: skip
            found += group
    if not found:
        return None
    key: list = ["overlap"]
    for i in found:
        root, chain, _ = root_of(leaves[i])
        whole, part = root._buffer, leaves[i]._buffer
        key.append((i, id(root), part.address - whole.address, part.array.strides, bool(chain)))
    return tuple(key), frozenset([id(leaves[i]) for i in found])


def _sharing(tensor: Any) -> Any:
    """The same for all Tensors over one memory."""
    family = tensor._buffer.family
    return id(tensor) if family is None else family


def _append_static(tree: Any, key: list) -> None:
    try:
        hash(tree)
    except TypeError:
        raise CompileError(
            "a compiled function was given an argument it cannot take",
            got=f"{type(tree).__name__}, which is neither data nor hashable",
            rule="arguments are Tensors, arrays, numbers, strings, hashable objects, and "
            "tuples, lists or dicts of them",
            fix="pass the arrays inside it one by one, or let the function close over it",
        ) from None
    key.append(type(tree))
    key.append(tree)


def rebuild(tree: Any, leaf: Callable[[Any], Any]) -> Any:
    """The same tree with each Tensor and each NumPy array replaced by `leaf(x)`, left to right."""
    kind = type(tree)
    if is_a(tree, (Tensor, np.ndarray, np.generic)):
        return leaf(tree)
    if is_a(tree, dict):
        made = {k: rebuild(x, leaf) for k, x in tree.items()}
        return made if kind is dict else kind(made)
    if kind is tuple or kind is list:
        return kind([rebuild(x, leaf) for x in tree])
    if is_a(tree, tuple) and hasattr(kind, "_make"):
        return kind._make([rebuild(x, leaf) for x in tree])
    if is_a(tree, (tuple, list)):
        return kind([rebuild(x, leaf) for x in tree])
    return tree


class Slot:
    """A place in a result tree that each call fills: `kind` says from where, `index` which one.

    `like`: a Tensor whose class it has, and which gathers a gradient or not; None: a plain Tensor.
    `ends`: it depends on what gathers a gradient, and no backward() within the call went there.
    """

    __slots__ = ("ends", "index", "kind", "like")

    def __init__(self, kind: str, index: int, like: Any = None):
        self.kind, self.index, self.like, self.ends = kind, index, like, False


def filler(tree: Any) -> Callable[[Callable[[Slot], Any]], Any]:
    """A function that makes a fresh copy of `tree` with every Slot replaced by `fill(slot)`.

    Worked out once for each program, because it runs at every call.
    """
    kind = type(tree)
    if kind is Slot:
        return lambda fill: fill(tree)
    if is_a(tree, dict):
        parts = {k: filler(x) for k, x in tree.items()}
        return lambda fill: kind((k, part(fill)) for k, part in parts.items())
    if is_a(tree, (tuple, list)):
        each = [filler(x) for x in tree]
        if is_a(tree, tuple) and hasattr(kind, "_make"):
            return lambda fill: kind._make([part(fill) for part in each])
        return lambda fill: kind([part(fill) for part in each])
    return lambda fill: tree
