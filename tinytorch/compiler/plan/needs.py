"""Which places of each value anybody needs, in a program with lengths (graph/lengths.py).

Knows graphs and axes, never kernels. Of a result the valid places are needed; backwards from there,
each operation says what it reads for the places of its result that are needed. What is masked
before it is read is needed as far as the mask goes. A kernel whose stored values are not needed
beyond a length leaves out the rows beyond it; an operation without a rule needs all it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinytorch.codegen.kernel import RaggedRows
from tinytorch.compiler.graph.axes import Axes, Axis, plain_axes, plain_axis, taken_apart
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.graph.rewriter import Simplified
from tinytorch.compiler.plan.masks import Masks, argument_of, ragged_rows
from tinytorch.compiler.plan.stages import Group
from tinytorch.primitives.primitive import OpClass

Rule = Callable[["Needs", Node, Axes], "Sequence[Axes | None]"]
_ALL = None  # of an input: every place


class Needs:
    """The needed places of every value.

    Args:
        program: its operations, and which axes of its results are ragged.

    Attributes:
        of: the axes of each value that is needed, plain where all of an axis is; nothing if the
            program has no lengths.
        lengths: the argument behind the name of each buffer with a length.
    """

    def __init__(self, program: Simplified):
        graph, captured = program.graph, program.captured.graph
        self.masks = Masks(program)
        self.lengths = {argument_of(dim): v for dim, v in captured.lengths.items()}
        self.of: dict[Value, Axes] = {}
        if not self.lengths:
            return
        for v in (*(new for _, new in graph.updates), *(c.index for c in program.checks)):
            self._add(v, _ALL)
        for v, as_captured in zip(graph.results, captured.results, strict=True):
            self._add(v, captured.ragged.get(as_captured))
        for node in reversed(graph.nodes):
            wanted = [self.of[v] for v in node.outputs if v in self.of]
            if not wanted:
                continue
            for axes in wanted:
                rule = RULES.get(node.primitive.name) or RULES.get(node.primitive.op_class)
                same = len(node.outputs) == 1 or rule in _FOR_EACH_RESULT
                read = rule(self, node, axes) if rule is not None and same else None
                for v, of in zip(node.inputs, read or [_ALL] * len(node.inputs), strict=True):
                    self._add(v, of)

    def _add(self, v: Value, axes: Axes | None) -> None:
        """Somebody needs these places of v too."""
        wanted = plain_axes(v.shape) if axes is None else axes
        have = self.of.get(v)
        if have is not None:
            wanted = tuple(
                a if a == b else plain_axis(a.size) for a, b in zip(have, wanted, strict=True)
            )
        self.of[v] = wanted

    def of_group(self, group: Group, stored: Sequence[Value]) -> list[tuple[int, RaggedRows]]:
        """Of which axes of a group's domain not every place is needed.

        Args:
            group: the group.
            stored: what its kernel stores.

        Returns:
            (axis, the rows that are needed along it), one for each length.
        """
        read = [v for v in stored if v in self.of]
        if not read:
            return []
        each = [self._over_domain(group, v) for v in read]
        common = [
            several[0] if len({*several}) == 1 else None for several in zip(*each, strict=True)
        ]
        return [(d, r) for d, axis in enumerate(common) if axis for r in ragged_rows(axis)]

    def summed(self, node: Node) -> list[RaggedRows]:
        """Which places of the axis that a contraction sums over count; none: all."""
        return [] if node.ends is None else ragged_rows(node.ends)

    def _over_domain(self, group: Group, v: Value) -> list[Axis | None]:
        """For each axis of the domain how much of a stored value is needed; None: all."""
        reduced = group.axes or frozenset()
        loops = list(range(len(v.shape)))
        if reduced and v.shape != group.domain:  # one number for each result of the reductions
            loops = [d for d, n in enumerate(group.domain) if d not in reduced and n != 1]
        axes = self.of[v]
        if len(loops) != len(axes):
            axes = [axis for axis in axes if axis.size != 1]
        out: list[Axis | None] = [None] * len(group.domain)
        for d, axis in zip(loops, axes, strict=True):
            out[d] = None if d in reduced else axis
        return out


# what an operation reads


def _aligned(v: Value, axes: Axes) -> Axes:
    """What an operand that is broadcast to these axes is needed of."""
    own = axes[len(axes) - len(v.shape) :]
    return tuple(plain_axis(1) if n == 1 else axis for n, axis in zip(v.shape, own, strict=True))


def _elementwise(needs: Needs, node: Node, axes: Axes) -> Sequence[Axes | None]:
    return [_aligned(v, axes) for v in node.inputs]


def _where(needs: Needs, node: Node, axes: Axes) -> Sequence[Axes | None]:
    """What a mask hides of its second operand is not needed."""
    mask, x, y = node.inputs
    seen = needs.masks.mask_of(mask)
    within = axes
    if seen is not None and len(seen) <= len(axes):
        lead = len(axes) - len(seen)
        pairs = zip(axes[lead:], seen, strict=True)
        within = (*axes[:lead], *(s if s.is_ragged and s.size == a.size else a for a, s in pairs))
    return [_aligned(mask, axes), _aligned(x, within), _aligned(y, axes)]


def _permute(needs: Needs, node: Node, axes: Axes) -> Sequence[Axes | None]:
    back = {int(a): axes[i] for i, a in enumerate(node.params["axes"])}
    return [tuple(back[d] for d in range(len(axes)))]


def _reshape(needs: Needs, node: Node, axes: Axes) -> Sequence[Axes | None]:
    return [taken_apart(axes, node.inputs[0].shape)]


def _broadcast_to(needs: Needs, node: Node, axes: Axes) -> Sequence[Axes | None]:
    return [_aligned(node.inputs[0], axes)]


def _slice(needs: Needs, node: Node, axes: Axes) -> Sequence[Axes | None]:
    each = zip(axes, node.inputs[0].shape, node.params["start"], node.params["step"], strict=True)
    return [
        tuple(
            a if a.size == n and first == 0 and by == 1 else plain_axis(n)
            for a, n, first, by in each
        )
    ]


def _reduction(needs: Needs, node: Node, axes: Axes) -> Sequence[Axes | None]:
    kept = iter(axes)
    over, own = node.reduced_axes, list[Axis]()
    for d, n in enumerate(node.inputs[0].shape):
        if d in over:
            own.append(plain_axis(n))
            if node.params["keepdims"]:
                next(kept)
        else:
            own.append(next(kept))
    return [tuple(own)]


def _scan(needs: Needs, node: Node, axes: Axes) -> Sequence[Axes | None]:
    return [axes]


def _concatenate(needs: Needs, node: Node, axes: Axes) -> Sequence[Axes | None]:
    """Of each operand all places along the axis on which they lie side by side."""
    d = int(node.params["axis"]) % len(axes)
    return [(*axes[:d], plain_axis(v.shape[d]), *axes[d + 1 :]) for v in node.inputs]


def _lookup(needs: Needs, node: Node, axes: Axes) -> Sequence[Axes | None]:
    """Of the table all rows, of the indices all: they are checked."""
    (x, index), d = node.inputs, int(node.params["axis"])
    after = axes[d + len(index.shape) :]
    return [(*axes[:d], plain_axis(x.shape[d]), *after), _ALL]


def _matmul(needs: Needs, node: Node, axes: Axes) -> Sequence[Axes | None]:
    a, b = node.inputs
    inner = node.ends or plain_axis(a.shape[-1])
    left = (*_aligned(a, (*axes[:-1], inner)),)
    right = _aligned(b, (*axes[:-2], inner, axes[-1]))
    return [left, right]


def _grouped(needs: Needs, node: Node, axes: Axes) -> Sequence[Axes | None]:
    """Row by row; all of the weight."""
    return [(*axes[:-1], plain_axis(node.inputs[0].shape[-1])), _ALL, _ALL]


def _sparse(needs: Needs, node: Node, axes: Axes) -> Sequence[Axes | None]:
    """Row by row; all of the matrix."""
    return [(axes[0], plain_axis(node.inputs[0].shape[1])), _ALL, _ALL, _ALL]


def _attention(needs: Needs, node: Node, axes: Axes) -> Sequence[Axes | None]:
    """A query sees the keys before it: no valid one sees a key beyond."""
    q, k, _ = node.inputs
    lead, rows = axes[:2], axes[2]
    queries = (*lead, rows, plain_axis(q.shape[3]))
    same = node.params["causal"] and q.shape[2] == k.shape[2]
    keys = (*lead, rows if same else plain_axis(k.shape[2]), plain_axis(k.shape[3]))
    return [queries, keys, keys]


def _attention_gradient(needs: Needs, node: Node, axes: Axes) -> Sequence[Axes | None]:
    """Head by head, as far as its queries count; the gradients of keys that they see."""
    _, q, k, *_ = node.inputs
    lead = axes[:2]
    rows = (*lead, node.ends or plain_axis(q.shape[2]))
    same = node.params["causal"] and q.shape[2] == k.shape[2]
    keys = (*lead, rows[2] if same else plain_axis(k.shape[2]), plain_axis(k.shape[3]))
    queries = (*rows, plain_axis(q.shape[3]))
    return [queries, queries, keys, keys, queries, rows]


def _pooling(needs: Needs, node: Node, axes: Axes) -> Sequence[Axes | None]:
    """Picture by picture, channel by channel; the result and its index alike."""
    return [(*axes[:2], *plain_axes(node.inputs[0].shape[2:]))]


def _pooled(needs: Needs, node: Node, axes: Axes) -> Sequence[Axes | None]:
    """The same of what a pooling made."""
    return [(*axes[:2], *plain_axes(v.shape[2:])) for v in node.inputs]


def _images(needs: Needs, node: Node, axes: Axes) -> Sequence[Axes | None]:
    """Picture by picture; all of the filter."""
    x, *_ = node.inputs
    return [(axes[0], *plain_axes(x.shape[1:])), *[_ALL] * (len(node.inputs) - 1)]


def _weight_gradient(needs: Needs, node: Node, axes: Axes) -> Sequence[Axes | None]:
    """The pictures that count."""
    return [(node.ends or plain_axis(v.shape[0]), *plain_axes(v.shape[1:])) for v in node.inputs]


# rules that say of each result what is read for it
_FOR_EACH_RESULT = (_attention, _attention_gradient, _pooling)
RULES: dict[str | OpClass, Rule] = {
    OpClass.ELEMENTWISE: _elementwise,
    OpClass.REDUCTION: _reduction,
    OpClass.SCAN: _scan,
    OpClass.LOOKUP: _lookup,
    OpClass.WINDOW: _pooling,
    "where": _where,
    "permute": _permute,
    "reshape": _reshape,
    "broadcast_to": _broadcast_to,
    "concatenate": _concatenate,
    "slice": _slice,
    "matmul": _matmul,
    "grouped_matmul": _grouped,
    "sparse_matmul": _sparse,
    "attention": _attention,
    "convolution": _images,
    "attention_gradient": _attention_gradient,
    "convolution_input_gradient": _images,
    "convolution_weight_gradient": _weight_gradient,
    "max_pool2d_gradient": _pooled,
}
