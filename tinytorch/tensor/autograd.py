"""How a gradient flows: what is recorded of operations on the tape, and the way back through it.

Knows places in the tape (Leaf, TapeNode, Port) and the `vjp` of primitives. Each gradient is made
of the same operations, so recording them (`create_graph`) gives second derivatives, and an
interpreter captures them like any others. `tape(x)` shows what is there.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from sys import getrefcount
from typing import Any, TypeAlias

import numpy as np

from tinytorch.base.errors import GradientError, ShapeError
from tinytorch.primitives.primitive import Primitive
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.memory import (
    Buffer,
    concrete,
    copy_of,
    from_array,
    from_handle,
    from_value,
    is_alone,
    is_held,
    relatives,
)

_count = itertools.count()
Handle: TypeAlias = Any  # what a Tensor held: a Buffer, or a captured value


class GradientRule:
    """What stands on the tape in place of a row of the table: the gradient of several at once.

    Subclasses have `vjp(g, out, *inputs, **params)`, which gives one cotangent, or None, for each
    input; the other attributes are those of a row (see Primitive).
    """

    name = ""
    vjp: Any = None
    asks_needs = asks_final = mixes = False
    selects: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return self.name


class Leaf:
    """Where gradients end: a Tensor that asked for them. All aliases of the Tensor share it."""

    __slots__ = ("__weakref__", "grad", "sequence")

    def __init__(self):
        self.sequence = next(_count)
        self.grad: Any = None


class TapeNode:
    """One recorded operation.

    Args:
        primitive: answers `vjp(g, out, *inputs, **params)`; None for an identity.
        params: its static parameters.
        inputs: what each operand held when the operation ran (Buffers or captured values).
        parents: for each operand the Leaf, TapeNode or Port its gradient goes to, or None.
        output: what the operation gave (a tuple for several outputs), in the same form.
    """

    __slots__ = (
        "__weakref__", "inputs", "output", "params", "parents", "primitive", "sequence", "versions",
    )  # fmt: skip

    def __init__(
        self, primitive: Primitive | GradientRule | None, params: dict[str, Any],
        inputs: tuple[Handle, ...] | None, parents: tuple[Place, ...], output: Any,
    ):  # fmt: skip
        self.sequence = next(_count)
        self.primitive, self.params = primitive, params
        self.inputs: Any = inputs
        self.parents: Any = parents
        self.output: Any = output

    @property
    def outputs(self) -> tuple[Handle, ...]:
        """What the operation gave, as a tuple of one for one output too."""
        return self.output if self.output.__class__ is tuple else (self.output,)

    def free(self) -> None:
        """Forget what backward needs; a second backward() through here is an error."""
        self.inputs = self.parents = self.output = None


class _Compiled(GradientRule):
    """Stands on the tape for the call of a compiled function: no gradient goes back into it."""

    name = "a compiled function"


_COMPILED = _Compiled()


def end_of_tape() -> TapeNode:
    """A TapeNode that refuses gradients, of what a compiled function gives.

    Without it a gradient would be lost in silence where other paths lead to leaves too.
    """
    return TapeNode(_COMPILED, {}, None, (), None)


def ends_here(place: Any) -> bool:
    """Whether a place in the tape is an `end_of_tape`."""
    return type(place) is TapeNode and place.primitive is _COMPILED


def goes_back(place: Any) -> bool:
    """Whether backward() would get anywhere from here: not at a Leaf, not where it has been."""
    if place is None or type(place) is Leaf:
        return False
    return (place.node if type(place) is Port else place).inputs is not None


class Port:
    """One output of a TapeNode with several."""

    __slots__ = ("index", "node")

    def __init__(self, node: TapeNode, index: int):
        self.node, self.index = node, index


Place: TypeAlias = Leaf | TapeNode | Port | None  # where the gradient of a Tensor goes


def record(primitive: Any, operands: Sequence[Any], params: dict[str, Any], out: Any) -> Any:
    """Put an operation on the tape; gives `out` back, connected.

    Args:
        primitive: the row of the table, or an object with the same `vjp`.
        operands: the Tensors it was applied to.
        params: its static parameters.
        out: the new Tensor, or tuple of Tensors, that it gave.
    """
    if type(primitive.vjp) is str:
        return out
    outs: tuple[Any, ...] | None = out if out.__class__ is tuple else None
    if outs is not None:
        output: Any = tuple([t.handle() for t in outs])
    else:
        output = out._buffer if out._value is None else out._value
        if not output.dtype.is_float:
            return out
    eager = STATE.interpreter is None  # whatever another thread records with these Tensors
    inputs: list[Handle] = []
    parents: list[Place] = []
    versions = 0
    for t in operands:
        handle = t._buffer if eager or t._value is None else t._value
        inputs.append(handle)
        parents.append(t._node)
        if type(handle) is Buffer:
            versions += handle.version
            if handle.family is not None:
                handle.family.keep(handle)
    node = TapeNode(primitive, params, tuple(inputs), tuple(parents), output)
    node.versions = versions
    if outs is None:
        out._node = node
        return out
    for i, t in enumerate(outs):
        if t.dtype.is_float:
            t._node = Port(node, i)
    return out


def record_view(
    primitive: Any, buffer: Buffer, parent: Any, params: dict[str, Any], out: Any
) -> None:
    """Put a view on the tape: its gradient needs shapes alone, so nothing is kept of its result.

    Args:
        primitive: the row that takes it.
        buffer: of what it was taken from.
        parent: where that is in the tape.
        params: the row's static parameters.
        out: the view.
    """
    buffer.family.keep(buffer)  # pyright: ignore[reportOptionalMemberAccess]
    node = out._node = TapeNode(primitive, params, (buffer,), (parent,), out._buffer.array)
    node.versions = buffer.version


def identity(parent: Any, handle: Any) -> TapeNode:
    """A TapeNode that hands its gradient on to `parent` (None: to nobody) unchanged."""
    node = TapeNode(None, {}, (handle,), (parent,), handle)
    node.versions = 0
    if type(handle) is Buffer:
        node.versions = handle.version
        if handle.family is not None:
            handle.family.keep(handle)
    return node


def sequence_of(place: Any) -> int:
    """When a place came into the tape."""
    return place.node.sequence if type(place) is Port else place.sequence


def next_sequence() -> int:
    """A moment: what is in the tape already is older, what comes is newer."""
    return next(_count)


# --- looking at it ---

_SHOWN = 40  # operations that a printed tape lists


@dataclass(frozen=True)
class Operation:
    """One recorded operation.

    `reads` names for each operand where its gradient goes: the position of an operation in the
    tape, "leaf", or None (no gradient).
    """

    name: str
    shape: tuple[int, ...]
    inputs: tuple[tuple[int, ...], ...]
    reads: tuple[Any, ...]

    def __str__(self) -> str:
        shapes = ", ".join(str(s) for s in self.inputs)
        places = ", ".join("-" if r is None else str(r) for r in self.reads)
        return f"{self.name} ({shapes}) -> {self.shape}   from {places}"


@dataclass(frozen=True)
class Tape:
    """The recorded operations behind a Tensor, oldest first.

    `nbytes`: memory that the tape keeps for backward, each array once; leaves (weights) not.
    """

    operations: tuple[Operation, ...]
    leaves: int
    nbytes: int

    def __len__(self) -> int:
        return len(self.operations)

    def counts(self) -> dict[str, int]:
        """How often each operation was recorded, most frequent first."""
        return dict(Counter(op.name for op in self.operations).most_common())

    def __str__(self) -> str:
        lines = [f"{i:4} {op}" for i, op in enumerate(self.operations[:_SHOWN])]
        if len(self) > _SHOWN:
            lines.append(f"     and {len(self) - _SHOWN} more")
        head = f"{len(self)} operations, {self.leaves} leaves, {self.nbytes} bytes kept"
        return "\n".join([head, *lines])


def tape(x: Any) -> Tape:
    """What is recorded behind a Tensor: the computational graph that `backward()` would walk.

    Args:
        x: a Tensor that was computed from one with `requires_grad=True`.

    Raises:
        GradientError: nothing is recorded, or backward() freed it.

    Example:
        >>> import tinytorch as tt
        >>> w = tt.Tensor([1.0, 2.0], requires_grad=True)
        >>> print(tt.tape((w * w).sum()))
        2 operations, 1 leaves, 12 bytes kept
           0 mul ((2,), (2,)) -> (2,)   from leaf, leaf
           1 sum ((2,)) -> ()   from 0
    """
    nodes, leaves = _reached(x._node)
    if not nodes:
        raise GradientError(
            "there is no tape behind this tensor",
            got=f"a tensor {x.shape} that no recorded operation computed, or whose tape was freed",
            rule="operations are recorded where an operand requires a gradient, until backward()",
            fix="look before backward(), or backward(retain_graph=True)",
        )
    order = {node: i for i, node in enumerate(nodes)}
    operations = tuple([_described(node, order) for node in nodes])
    return Tape(operations, len(leaves), _kept(nodes))


def _reached(place: Any) -> tuple[list[TapeNode], set[Leaf]]:
    """Nodes behind a place, oldest first, and leaves."""
    nodes: set[TapeNode] = set()
    leaves: set[Leaf] = set()
    stack = [place]
    while stack:
        place = stack.pop()
        node = place.node if type(place) is Port else place
        if type(node) is Leaf:
            leaves.add(node)
        elif type(node) is TapeNode and node not in nodes and node.parents is not None:
            nodes.add(node)
            stack.extend(p for p in node.parents if p is not None)
    return sorted(nodes, key=lambda node: node.sequence), leaves


def _described(node: TapeNode, order: dict[TapeNode, int]) -> Operation:
    reads: list[Any] = []
    for parent in node.parents:
        at = parent.node if type(parent) is Port else parent
        reads.append("leaf" if type(at) is Leaf else order.get(at))
    outs = node.outputs
    name = "identity" if node.primitive is None else repr(node.primitive)
    return Operation(name, outs[0].shape, tuple(h.shape for h in node.inputs), tuple(reads))


def _kept(nodes: list[TapeNode]) -> int:
    arrays: dict[int, Any] = {}
    owned: set[int] = set()
    for node in nodes:
        for handle, parent in [
            *zip(node.inputs, node.parents, strict=True),
            *((o, node) for o in node.outputs),
        ]:
            if type(handle) is not Buffer:
                continue
            base = handle.array
            while base.base is not None and hasattr(base.base, "nbytes"):
                base = base.base
            arrays[id(base)] = base
            if type(parent) is Leaf:
                owned.add(id(base))
    return sum(a.nbytes for key, a in arrays.items() if key not in owned)


# --- the way back ---


def _refuse_changed(node: TapeNode) -> None:
    """Raise: memory that the tape kept was overwritten (see Note [a view is a view])."""
    raise GradientError(
        "a tensor was changed in place after it was used",
        got=f"memory that {node.primitive} read was overwritten, before backward()",
        rule=f"backward of {node.primitive} needs the value that was read",
        fix="call backward() before the step that writes, or give it x.clone()",
    )


def _cotangents(node: TapeNode, g: Any, final: bool) -> Sequence[Any]:
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
    versions = 0
    inputs: list[Any] = []
    needs: list[bool] = []
    for handle, parent in zip(node.inputs, node.parents, strict=True):
        if type(handle) is Buffer:
            versions += handle.version
            inputs.append(from_handle(handle, parent))
        else:
            inputs.append(from_value(handle, parent))
        needs.append(parent is not None)
    if versions != node.versions:
        _refuse_changed(node)
    if node.output.__class__ is tuple:
        out: Any = tuple([from_handle(h, Port(node, i)) for i, h in enumerate(node.outputs)])
    else:  # of a view none is kept
        out = None if node.output.__class__ is np.ndarray else from_handle(node.output, node)
    asked: dict[str, Any] = {"needs": tuple(needs)} if primitive.asks_needs else {}
    if final and primitive.asks_final:
        asked["final"] = True
    rule: Callable[..., Sequence[Any]] = primitive.vjp  # type: ignore[assignment]
    if STATE.interpreter is None:
        return rule(g, out, *inputs, **asked, **node.params)
    outer, STATE.pulled = STATE.pulled, node
    try:
        return rule(g, out, *inputs, **asked, **node.params)
    finally:
        STATE.pulled = outer


def propagate(
    roots: Iterable[tuple[Any, Any]], wanted: Iterable[Any] | None = None, *, keep: bool = False,
    final: bool = False,
) -> dict[Any, Any]:  # fmt: skip
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
    pending: dict[TapeNode, Any] = {}
    heap: list[tuple[int, TapeNode]] = []
    selected: set[TapeNode] = set()  # whose cotangent holds final zeros

    def arrive(place: Any, g: Any, final: bool) -> None:
        if place is None or g is None:
            return
        if targets is not None and place in targets:
            found[place] = g if place not in found else found[place] + g
            return
        if place.__class__ is Leaf:
            if targets is None:
                found[place] = g if place not in found else found[place] + g
            return
        node = place.node if place.__class__ is Port else place
        if node.sequence < oldest:
            return
        if node not in pending:
            heapq.heappush(heap, (-node.sequence, node))
            pending[node] = {} if type(node.output) is tuple else None
        if final:
            selected.add(node)
        if place.__class__ is Port:
            slots = pending[node]
            slots[place.index] = g if place.index not in slots else slots[place.index] + g
        else:
            pending[node] = g if pending[node] is None else pending[node] + g

    for place, g in roots:
        arrive(place, g, final)
    while heap:
        node = heapq.heappop(heap)[1]
        g = pending.pop(node)
        several = type(node.output) is tuple
        if several:
            g = tuple([g.get(i) for i in range(len(node.outputs))])
        holds = node in selected
        cotangents = _cotangents(node, g, holds)
        row = node.primitive
        selects = row.selects if row is not None else ()
        goes_on = holds and not (row is not None and row.mixes)
        for i, place in enumerate(node.parents or ()):
            arrive(place, cotangents[i], goes_on or i in selects)
        if not keep:
            node.free()
    return found


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
            if leaf.grad is None:
                leaf.grad = _owned(g)
            elif create_graph or not _takes(leaf, g):
                leaf.grad = leaf.grad + g
            else:
                leaf.grad += g
    finally:
        STATE.recording = before


def _takes(leaf: Leaf, g: Any) -> bool:
    """Whether a gradient is added where the gradients before it lie: nobody can tell.

    While a program is recorded that is so for gradients from outside: who runs the program looks
    whether somebody else holds them (compiler/run/executable.py).
    """
    held: Any = leaf.grad
    if type(held) is not concrete() or type(g) is not concrete() or held.dtype is not g.dtype:
        return False
    if held._node is not None:
        return False
    if STATE.interpreter is not None:
        return held._buffer is not None
    del held
    return getrefcount(leaf.grad) <= 2 and is_alone(leaf.grad)  # the leaf, and the argument


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
