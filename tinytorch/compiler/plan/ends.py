"""Where the sums of contractions end, in a program with lengths (graph/lengths.py).

Knows graphs, masks and axes, never kernels. What a contraction sums over along a length is 0 beyond
it: a mask has made it so. A kernel that ends there need not be given zeros; so such a contraction
is told where to end, and reads what the mask was put over. A mask that nothing reads is gone.
"""

from __future__ import annotations

from dataclasses import replace

from tinytorch.base.errors import CompileError
from tinytorch.compiler.calls.windows import has_kernel
from tinytorch.compiler.graph.axes import Axis
from tinytorch.compiler.graph.graph import Node, Value, applied, verify
from tinytorch.compiler.graph.rewriter import Simplified
from tinytorch.compiler.graph.simplify import remove_unused
from tinytorch.compiler.operations import operation_of
from tinytorch.compiler.plan.masks import Masks, ragged_rows
from tinytorch.kernels.gemm_plan import FEWEST_IN_RUN, RUN


def end_sums(program: Simplified) -> Simplified:
    """The program whose contractions end at lengths.

    Cost: linear in the nodes.
    """
    if not program.captured.graph.lengths:
        return program
    masks, graph = Masks(program), program.graph
    unmasked = _Operands(masks)
    nodes: list[Node] = []
    for node in graph.nodes:
        axis = end_of(masks, node)
        if axis is not None:
            summed = operation_of(node).summed
            inputs = tuple(
                unmasked.of(v, axis) if i in summed else v for i, v in enumerate(node.inputs)
            )
            nodes += unmasked.taken()
            node = replace(node, inputs=inputs, ends=axis)
        nodes.append(node)
    ended = replace(graph, nodes=nodes)
    return replace(program, graph=remove_unused(ended, [c.index for c in program.checks]))


def check_ends(program: Simplified) -> None:
    """See `graph.verify`; what ends is a contraction that can.

    Raises:
        CompileError: it is not.
    """
    for node in verify(program.graph, "end sums").nodes:
        if node.ends is not None and not (_can_end(node) and can_end(node.ends)):
            raise CompileError.own_fault(
                "the compiler pass 'end sums' made an invalid program: a sum cannot end there",
                got=f"{node.outputs[0]!r} at {node.ends}",
                rule="contractions of floats end, at lengths of dims",
            )


def end_of(masks: Masks, node: Node) -> Axis | None:
    """The valid places of what a contraction sums over; None: it takes all places."""
    if not _can_end(node):
        return None
    found: Axis | None = None
    for i, d in operation_of(node).summed.items():
        axes = masks.zero_beyond(node.inputs[i])
        if axes is None or not axes[d].is_ragged or found not in (None, axes[d]):
            return None
        found = axes[d]
    return found if found is not None and can_end(found) else None


def _can_end(node: Node) -> bool:
    """Whether its kernel can: what is added to signed bytes is added up over all places."""
    floats = all(v.dtype.is_float for v in (*node.inputs, *node.outputs))
    return floats and bool(operation_of(node).summed) and has_kernel(node)


def can_end(axis: Axis) -> bool:
    """Whether kernels can: each length is one of a dim, and runs of places are long."""
    rows = ragged_rows(axis)
    runs = [r.bound * r.inner for r in rows if not r.is_prefix]
    return len(rows) == sum(part.is_ragged for part in axis.parts) and all(
        n % RUN == 0 and n >= FEWEST_IN_RUN for n in runs
    )


class _Operands:
    """Gives what masks were put over; `taken` are the operations that this needs."""

    def __init__(self, masks: Masks):
        self.masks = masks
        self.nodes: list[Node] = []
        self._known: dict[Value, Value] = {}

    def taken(self) -> list[Node]:
        """The operations made since it was asked last."""
        nodes, self.nodes = self.nodes, []
        return nodes

    def of(self, v: Value, axis: Axis) -> Value:
        """The value without a mask that is there for this axis alone."""
        node = self.masks.producer.get(v)
        if node is None or self.masks.zero_beyond(v) is None:
            return v
        hidden = self.masks.hidden(node)
        if hidden is not None:
            alone = sum(len(ragged_rows(a)) for a in hidden) == len(ragged_rows(axis))
            return node.inputs[1] if alone else v
        below = self.of(node.inputs[0], axis)
        if below is node.inputs[0]:
            return v
        if v not in self._known:
            self.nodes.append(
                applied(node.primitive, (below,), node.params, node.where, node.replay)
            )
            self._known[v] = self.nodes[-1].outputs[0]
        return self._known[v]
