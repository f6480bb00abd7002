"""The tape: how a gradient flows back through recorded operations.

Knows nodes and the `vjp` of primitives; each gradient is made of the same operations, so recording
them (`create_graph`) gives second derivatives, and an interpreter captures them like any others.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Sequence
from sys import getrefcount
from typing import Any

import numpy as np

from tinytorch.base.errors import GradientError, ShapeError
from tinytorch.tensor.base import concrete, from_array, from_handle, from_value, is_held
from tinytorch.tensor.buffer import Buffer, copy_of
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.sharing import relatives

_count = itertools.count()


class Leaf:
    """Where gradients end: a Tensor that asked for them. All aliases of the Tensor share it."""

    __slots__ = ("__weakref__", "grad", "sequence")

    def __init__(self):
        self.sequence = next(_count)
        self.grad: Any = None


class Node:
    """One recorded operation.

    Args:
        primitive: answers `vjp(g, out, *inputs, **params)`; None for an identity.
        params: its static parameters.
        inputs: what each operand held when the operation ran (Buffers or captured values).
        parents: for each operand the Leaf, Node or Port its gradient goes to, or None.
        output: what the operation gave (a tuple for several outputs), in the same form.
    """

    __slots__ = (
        "__weakref__", "inputs", "output", "params", "parents", "primitive", "sequence", "versions",
    )  # fmt: skip

    def __init__(self, primitive, params, inputs, parents, output):
        self.sequence = next(_count)
        self.primitive, self.params = primitive, params
        self.inputs: Any = inputs
        self.parents: Any = parents
        self.output: Any = output

    def free(self) -> None:
        """Forget what backward needs; a second backward() through here is an error."""
        self.inputs = self.parents = self.output = None


class _Compiled:
    """Stands on the tape for the call of a compiled function: no gradient goes back into it."""

    vjp = None

    def __repr__(self) -> str:
        return "a compiled function"


_COMPILED = _Compiled()


def end_of_tape() -> Node:
    """A Node that refuses gradients, of what a compiled function gives.

    Without it a gradient would be lost in silence where other paths lead to leaves too.
    """
    return Node(_COMPILED, {}, None, (), None)


def ends_here(place: Any) -> bool:
    """Whether a place in the tape is an `end_of_tape`."""
    return type(place) is Node and place.primitive is _COMPILED


def goes_back(place: Any) -> bool:
    """Whether backward() would get anywhere from here: not at a Leaf, not where it has been."""
    if place is None or type(place) is Leaf:
        return False
    return (place.node if type(place) is Port else place).inputs is not None


class Port:
    """One output of a Node with several."""

    __slots__ = ("index", "node")

    def __init__(self, node: Node, index: int):
        self.node, self.index = node, index


def record(primitive: Any, operands: Sequence[Any], params: dict, out: Any) -> Any:
    """Put an operation on the tape; gives `out` back, connected.

    Args:
        primitive: the row of the table, or an object with the same `vjp`.
        operands: the Tensors it was applied to.
        params: its static parameters.
        out: the new Tensor, or tuple of Tensors, that it gave.
    """
    if type(primitive.vjp) is str:
        return out
    if STATE.interpreter is None:  # whatever another thread records with these Tensors
        inputs = tuple([t._buffer for t in operands])
    else:
        inputs = tuple([t._buffer if t._value is None else t._value for t in operands])
    parents = tuple([t._node for t in operands])
    if type(out) is tuple:
        node = Node(primitive, params, inputs, parents, tuple([t.handle() for t in out]))
        for i, t in enumerate(out):
            if t.dtype.is_float:
                t._node = Port(node, i)
    else:
        value = out._value
        if not (out._buffer if value is None else value).dtype.is_float:
            return out
        node = Node(primitive, params, inputs, parents, out._buffer if value is None else value)
        out._node = node
    versions = 0
    for handle in inputs:
        if type(handle) is Buffer:
            versions += handle.version
            if handle.family is not None:
                handle.family.keep(handle)
    node.versions = versions
    return out


def record_view(primitive: Any, buffer: Buffer, parent: Any, params: dict, out: Any) -> None:
    """Put a view on the tape: its gradient needs shapes alone, so nothing is kept of its result.

    Args:
        primitive: the row that takes it.
        buffer: of what it was taken from.
        parent: where that is in the tape.
        params: the row's static parameters.
        out: the view.
    """
    buffer.family.keep(buffer)  # pyright: ignore[reportOptionalMemberAccess]
    node = out._node = Node(primitive, params, (buffer,), (parent,), out._buffer.array)
    node.versions = buffer.version


def identity(parent: Any, handle: Any) -> Node:
    """A Node that hands its gradient on to `parent` (None: to nobody) unchanged."""
    node = Node(None, {}, (handle,), (parent,), handle)
    node.versions = 0
    if type(handle) is Buffer:
        node.versions = handle.version
        if handle.family is not None:
            handle.family.keep(handle)
    return node


def _refuse_changed(node: Node) -> None:
    """Raise: memory that the tape kept was overwritten (see Note [a view is a view])."""
    raise GradientError(
        "a tensor was changed in place after it was used",
        got=f"memory that {node.primitive} read was overwritten, before backward()",
        rule=f"backward of {node.primitive} needs the value that was read",
        fix="call backward() before the step that writes, or give it x.clone()",
    )


def _cotangents(node: Node, g: Any, final: bool) -> Sequence[Any]:
    """Gradients with respect to the operands of one node; `final`: the zeros of g are."""
    if node.primitive is _COMPILED:
        raise GradientError(
            "a gradient arrives at the result of a compiled function",
            got="backward(), or grad, of something computed from it",
            rule="gradients stay within one call: what a compiled function gives has no record",
            fix="loss and backward() inside the compiled function; or result.detach(), or "
            "no_grad() around its call, where no gradient is wanted",
        )
    if node.inputs is None:
        raise GradientError(
            "backward() went through this graph already",
            got="a second backward() over the same operations",
            rule="the first one frees what it needed, to give the memory back",
            fix="backward(retain_graph=True) the first time, or add the losses up first",
        )
    primitive = node.primitive
    if primitive is None:
        return (g,)
    versions, inputs, needs = 0, [], []
    for handle, parent in zip(node.inputs, node.parents, strict=True):
        if type(handle) is Buffer:
            versions += handle.version
            inputs.append(from_handle(handle, parent))
        else:
            inputs.append(from_value(handle, parent))
        needs.append(parent is not None)
    if versions != node.versions:
        _refuse_changed(node)
    if type(node.output) is tuple:
        out = tuple([from_handle(h, Port(node, i)) for i, h in enumerate(node.output)])
    elif isinstance(node.output, np.ndarray):
        out = None  # of a view
    else:
        out = from_handle(node.output, node)
    if getattr(primitive, "asks_needs", False):
        if final and getattr(primitive, "asks_final", False):
            return primitive.vjp(g, out, *inputs, needs=tuple(needs), final=True, **node.params)
        return primitive.vjp(g, out, *inputs, needs=tuple(needs), **node.params)
    if final and getattr(primitive, "asks_final", False):
        return primitive.vjp(g, out, *inputs, final=True, **node.params)
    return primitive.vjp(g, out, *inputs, **node.params)


def propagate(
    roots: Iterable[tuple[Any, Any]],
    wanted: Iterable[Any] | None = None,
    *,
    keep: bool = False,
    final: bool = False,
) -> dict[Any, Any]:
    """Gradients that arrive at Leafs (or at `wanted`), newest operation first.

    A node is newer than everything it read, so taking the newest first means that all its users
    have been seen: each node is visited once, whatever the graph's shape.

    Args:
        roots: pairs of where to start (`tensor._node`) and the cotangent there.
        wanted: Leafs, Nodes or Ports at which to stop and report; None: every Leaf.
        keep: keep the graph for another pass.
        final: zeros in the cotangents of the roots are final (see Primitive's Note).

    Returns:
        Gradient for each Leaf or wanted place that was reached.

    Cost: O(n log n) for n operations between; no recursion, so any depth works.
    """
    targets = None if wanted is None else set(wanted)
    oldest = -1 if targets is None else min((sequence_of(t) for t in targets), default=0)
    found: dict[Any, Any] = {}
    pending: dict[Node, Any] = {}
    heap: list[tuple[int, Node]] = []
    selected: set[Node] = set()  # whose cotangent holds final zeros

    def arrive(place: Any, g: Any, final: bool) -> None:
        if place is None or g is None:
            return
        if targets is not None and place in targets:
            found[place] = g if place not in found else found[place] + g
            return
        kind = type(place)
        if kind is Leaf:
            if targets is None:
                found[place] = g if place not in found else found[place] + g
            return
        node = place.node if kind is Port else place
        if node.sequence < oldest:
            return
        if node not in pending:
            heapq.heappush(heap, (-node.sequence, node))
            pending[node] = {} if type(node.output) is tuple else None
        if final:
            selected.add(node)
        if kind is Port:
            slots = pending[node]
            slots[place.index] = g if place.index not in slots else slots[place.index] + g
        else:
            pending[node] = g if pending[node] is None else pending[node] + g

    for place, g in roots:
        arrive(place, g, final)
    while heap:
        node = heapq.heappop(heap)[1]
        g = pending.pop(node)
        if type(node.output) is tuple:
            g = tuple([g.get(i) for i in range(len(node.output))])
        holds = node in selected
        cotangents = _cotangents(node, g, holds)
        row = node.primitive
        selects = getattr(row, "selects", ())
        goes_on = holds and not getattr(row, "mixes", False)
        for i, place in enumerate(node.parents or ()):
            arrive(place, cotangents[i], goes_on or i in selects)
        if not keep:
            node.free()
    return found


def sequence_of(place: Any) -> int:
    """When a place came into the tape."""
    return place.node.sequence if type(place) is Port else place.sequence


def next_sequence() -> int:
    """A moment: what is in the tape already is older, what comes is newer."""
    return next(_count)


def backward(tensor: Any, gradient: Any, *, retain_graph: bool, create_graph: bool) -> None:
    """Add the gradient of `tensor` to `.grad` of every leaf that it depends on."""
    if tensor._node is None:
        raise GradientError(
            "backward() has nothing to go back through",
            got=f"a tensor {tensor.shape} that depends on no tensor with requires_grad=True",
            rule="operations are recorded where an operand requires a gradient, outside no_grad(); "
            "not those of a compiled function: its backward() is called inside it",
            fix="x = tt.Tensor(..., requires_grad=True) before computing the loss, or loss and "
            "backward() inside the compiled function",
        )
    if gradient is None:
        if tensor.size != 1:
            raise GradientError(
                "backward() needs a single number to start from",
                got=f"a tensor {tensor.shape}",
                rule="gradients are of one number with respect to many",
                fix="loss.mean().backward(), or backward(gradient) with a gradient of its shape",
            )
        gradient = tensor.ones_like()
    elif gradient.shape != tensor.shape:
        raise ShapeError(
            "the gradient given to backward() has another shape",
            got=f"gradient {gradient.shape} for a tensor {tensor.shape}",
            rule="it holds one number for each number of the tensor",
            fix="gradient.reshape(tensor.shape), or gradient.broadcast_to(tensor.shape)",
        )
    before, STATE.recording = STATE.recording, create_graph
    try:
        found = propagate([(tensor._node, gradient)], keep=retain_graph or create_graph)
        for leaf in [*found]:
            g = found.pop(leaf)  # so that nobody else holds it
            leaf.grad = _owned(g) if leaf.grad is None else leaf.grad + g
    finally:
        STATE.recording = before


def _owned(g: Any) -> Any:
    """A gradient in memory that no other Tensor shows, since `.grad` may be written.

    A rule may give one Tensor to several operands (`a + b`), a view, or what it was given.
    """
    if type(g) is not concrete() and not is_held(g):  # a RowGradient makes its own
        return g
    if g._value is not None:
        return from_handle(g.handle(), g._node)
    # known here, in the loop of `backward`, and as getrefcount's argument
    if getrefcount(g) <= 3 and not is_held(g) and len(relatives(g)) == 1:
        array = g._buffer.array
        if array.flags.writeable and 0 not in array.strides:
            return g
    out = from_array(copy_of(g._buffer.array, g.dtype), g.dtype)
    out._node = g._node
    return out
