"""Arguments and results as trees: what of them is data, and what belongs to the program.

Knows containers, arrays and Tensors as leaves; never graphs. Tensors and NumPy arrays are data: the
signature keeps their shapes and number types. Everything else (numbers, strings, settings) is
static: it is part of the signature itself, so another value is another program. Classes are asked
for, never `isinstance`, which runs the code of a user's object (objects.py).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

import numpy as np

from tinytorch.base.errors import CompileError
from tinytorch.compiler.record.objects import class_of, is_a
from tinytorch.tensor.assignment import root_of
from tinytorch.tensor.autograd import Leaf
from tinytorch.tensor.tensor import Tensor

_NO_SHAPES: Mapping[int, Any] = {}
_STATIC = frozenset((bool, int, str, bytes, type(None)))


def flatten(
    tree: Any, key: list[Any], leaves: list[Any], shapes: Mapping[int, Any] = _NO_SHAPES
) -> None:
    """Append the leaves of `tree` to `leaves`, and to `key` all that makes it another program.

    Args:
        tree: an argument.
        key, leaves: what is appended to.
        shapes: by id of an array, its shape with dims in it (dynamic.py): its lengths may differ.

    Cost: about 0.3 us a leaf; it runs at every call of a compiled function.

    Raises:
        CompileError: an object that is neither data nor usable as a key.
    """
    cls = class_of(tree)
    if cls is tuple or cls is list:
        key.append(cls)
        key.append(len(tree))
        for x in tree:
            flatten(x, key, leaves, shapes)
    elif cls is Tensor or issubclass(cls, Tensor):
        said = shapes.get(id(tree)) if shapes else None
        buffer = tree._buffer
        array = buffer.array
        if said is None:
            key.append((array.shape, buffer.dtype))
            if not array.flags.c_contiguous:  # whether reshape() gives a view depends on it
                key.append(array.strides)
        else:
            key.append((said[0], buffer.dtype))
        leaves.append(tree)
        if tree._node is not None and type(tree._node) is Leaf:
            key.append("leaf")
            if tree._node.grad is not None:
                flatten(tree._node.grad, key, leaves, shapes)
    elif cls is np.ndarray or issubclass(cls, (np.ndarray, np.generic)):
        said = shapes.get(id(tree)) if shapes else None
        key.append((tree.shape if said is None else said[0], tree.dtype))
        leaves.append(tree)
    elif cls in _STATIC:
        key.append(cls)
        key.append(tree)
    elif cls is float:
        key.append(tree.hex())  # tells -0.0 from 0.0, and nan equals itself
    elif issubclass(cls, dict):
        key.append(cls)
        key.append(tuple(tree))
        for x in tree.values():
            flatten(x, key, leaves, shapes)
    elif issubclass(cls, (tuple, list)):  # named tuples and the like
        key.append(cls)
        key.append(len(tree))
        for x in tree:
            flatten(x, key, leaves, shapes)
    else:
        _append_static(tree, key)


def overlaps(
    leaves: list[Any], written: Container[int], updated: list[Any], states: list[Any]
) -> tuple[tuple[Any, ...], frozenset[int]] | None:
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
    key: list[Any] = ["overlap"]
    for i in found:
        root, chain, _ = root_of(leaves[i])
        whole, part = root._buffer, leaves[i]._buffer
        key.append((i, id(root), part.address - whole.address, part.array.strides, bool(chain)))
    return tuple(key), frozenset([id(leaves[i]) for i in found])


def _sharing(tensor: Any) -> Any:
    """The same for all Tensors over one memory."""
    family = tensor._buffer.family
    return id(tensor) if family is None else family


def _append_static(tree: Any, key: list[Any]) -> None:
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


class Slot:
    """A place in a result tree that each call fills: `kind` says from where, `index` which one.

    `like`: a Tensor whose class it has, and which gathers a gradient or not; None: a plain Tensor.
    `ends`: it depends on what gathers a gradient, and no backward() within the call went there.
    """

    __slots__ = ("ends", "index", "kind", "like")

    def __init__(self, kind: str, index: int, like: Any = None):
        self.kind, self.index, self.like, self.ends = kind, index, like, False


def filler(tree: Any, leaves: Any = Slot) -> Callable[[Callable[[Any], Any]], Any]:
    """A function that makes a fresh copy of `tree` with every leaf replaced by `fill(leaf)`.

    Worked out once for each program, because it runs at every call. Leaves are the objects of the
    classes given, left to right.
    """
    cls: Any = class_of(tree)
    if issubclass(cls, leaves):
        return lambda fill: fill(tree)
    if is_a(tree, dict):
        parts = [(k, filler(x, leaves)) for k, x in tree.items()]
        if cls is dict:
            return lambda fill: {k: part(fill) for k, part in parts}
        return lambda fill: cls({k: part(fill) for k, part in parts})
    if is_a(tree, (tuple, list)):
        each = [filler(x, leaves) for x in tree]
        make = cls._make if is_a(tree, tuple) and hasattr(cls, "_make") else cls
        return lambda fill: make([part(fill) for part in each])
    return lambda fill: tree


def rebuild(tree: Any, leaf: Callable[[Any], Any]) -> Any:
    """The same tree with each Tensor and each NumPy array replaced by `leaf(x)`, left to right."""
    return filler(tree, (Tensor, np.ndarray, np.generic))(leaf)
