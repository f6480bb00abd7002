"""The tape: what is recorded of operations, so that a gradient can flow back through them.

Knows places in the tape (Leaf, TapeNode, Port) and how they come into it; `tape(x)` shows what is
there. The way back is in autograd.py.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tinytorch.base.errors import GradientError
from tinytorch.primitives.primitive import Primitive
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.memory import Buffer

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
