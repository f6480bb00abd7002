"""Looking at the tape: which operations a Tensor was computed by, and what they keep in memory.

Knows what autograd.py recorded; changes nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from tinytorch.base.errors import GradientError
from tinytorch.tensor.autograd import Leaf, Node, Port
from tinytorch.tensor.buffer import Buffer

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


def _reached(place: Any) -> tuple[list[Node], set[Leaf]]:
    """Nodes behind a place, oldest first, and leaves."""
    nodes, leaves, stack = set(), set(), [place]
    while stack:
        place = stack.pop()
        node = place.node if type(place) is Port else place
        if type(node) is Leaf:
            leaves.add(node)
        elif type(node) is Node and node not in nodes and node.parents is not None:
            nodes.add(node)
            stack.extend(p for p in node.parents if p is not None)
    return sorted(nodes, key=lambda node: node.sequence), leaves


def _described(node: Node, order: dict[Node, int]) -> Operation:
    reads = []
    for parent in node.parents:
        at = parent.node if type(parent) is Port else parent
        reads.append("leaf" if type(at) is Leaf else order.get(at))
    outs = node.output if type(node.output) is tuple else (node.output,)
    name = "identity" if node.primitive is None else repr(node.primitive)
    return Operation(name, outs[0].shape, tuple(h.shape for h in node.inputs), tuple(reads))


def _kept(nodes: list[Node]) -> int:
    arrays: dict[int, Any] = {}
    owned: set[int] = set()
    for node in nodes:
        outs = node.output if type(node.output) is tuple else (node.output,)
        for handle, parent in [
            *zip(node.inputs, node.parents, strict=True),
            *((o, node) for o in outs),
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
