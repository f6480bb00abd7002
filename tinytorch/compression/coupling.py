"""Which parts of which weights stand and fall together, derived from a recorded graph.

Knows primitives, axes of values and where numbers on them come from and go to; never modules or
their names. Each place on each axis of each value has a label. An operation that reads two places
as one (a sum of products over an axis, an addition) joins their labels; what has one label at the
end is a unit: the rows that make a channel, its bias, its scale and shift in each norm, the columns
that read it, through shortcuts, concatenations and flattening. What cannot go has the label 0.

Note [what cannot go]
    Places of the model's inputs and outputs, of constants, of what is summed, averaged or sorted
    over (a mean over fewer channels is another mean), on an axis of size 1, and of the values of
    operations without a rule here, loops among them. An axis that is cut into several keeps its
    outermost part: of heads x numbers the heads, of groups x channels the groups. So each unit can
    be removed alone, and what is left is the model in which the unit's numbers are all zero.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from tinytorch.compiler.graph.graph import Graph, Node, Value
from tinytorch.primitives.primitive import OpClass

Labels = np.ndarray  # (n,) int64: of each place on an axis
Axes = tuple[Labels, ...]  # of each axis of a value


def _fixed(n: int) -> Labels:
    return np.zeros(n, np.int64)


class Coupling:
    """The labels of a graph, and which of them are one.

    Args:
        graph: a recorded call.
        free: states whose places may go: weights and what belongs to them.

    Attributes:
        of: the axes of each value.
        summed: labels of places that a product sums over: there a weight reads, elsewhere it makes.
    """

    def __init__(self, graph: Graph, free: Iterable[Value]):
        self._parent = [0]
        self.of: dict[Value, Axes] = {}
        self.summed: set[int] = set()
        free = set(free)
        for value in (*graph.arguments, *graph.states, *graph.constants):
            make = self.fresh if value in free else _fixed
            self.of[value] = tuple(make(n) for n in value.shape)
        for node in graph.nodes:
            outs = self._through(node, [self.of[v] for v in node.inputs])
            self.of.update(zip(node.outputs, outs, strict=True))
            self.fix(*(x for axes in outs for x in axes if len(x) == 1))
        for value in graph.outputs:
            self.fix(*self.of[value])

    def fresh(self, n: int) -> Labels:
        """New labels, different from all others."""
        start = len(self._parent)
        self._parent += range(start, start + n)
        return np.arange(start, start + n)

    def root(self, label: int) -> int:
        """The label that stands for all that it was joined with; 0 if it cannot go."""
        parent = self._parent
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    def roots(self, labels: Labels) -> Labels:
        """`root` of each."""
        return np.array([self.root(int(label)) for label in labels], np.int64)

    def join(self, a: Labels, b: Labels) -> None:
        """The places of two axes, one by one, are one."""
        for i in np.flatnonzero(a != b):
            x, y = self.root(int(a[i])), self.root(int(b[i]))
            self._parent[max(x, y)] = min(x, y)  # 0 stands for all that it meets

    def fix(self, *axes: Labels) -> None:
        """None of these places can go."""
        for labels in axes:
            self.join(labels, _fixed(len(labels)))

    def one(self, labels: Labels) -> int:
        """The label of places that can only go together."""
        distinct = np.unique(labels)
        self.join(np.full(len(distinct), distinct[0]), distinct)
        return int(distinct[0])

    def copied(self, labels: Labels) -> Labels:
        """New labels, joined with these: what a product makes, apart from the weight's own."""
        new = self.fresh(len(labels))
        self.join(new, labels)
        return new

    def _through(self, node: Node, ins: list[Axes]) -> Sequence[Axes]:
        row = node.primitive
        rule = BY_NAME.get(row.name) or BY_CLASS.get(row.op_class, _unknown)
        return rule(self, node, ins)


Rule = Callable[[Coupling, Node, list[Axes]], Sequence[Axes]]


def _unknown(c: Coupling, node: Node, ins: list[Axes]) -> Sequence[Axes]:
    """An operation of which nothing is known."""
    for axes in ins:
        c.fix(*axes)
    return [tuple(map(_fixed, v.shape)) for v in node.outputs]


def _broadcast(c: Coupling, several: Sequence[Axes]) -> Axes:
    """The axes of values that are stretched to each other."""
    rank = max(map(len, several))
    out: list[Labels] = []
    for axis in range(-rank, 0):
        found = [axes[axis] for axes in several if len(axes) >= -axis]
        n = next((len(x) for x in found if len(x) != 1), 1)
        first, *others = [x for x in found if len(x) == n]
        for other in others:
            c.join(first, other)
        out.append(first)
    return tuple(out)


def _elementwise(c: Coupling, node: Node, ins: list[Axes]) -> Sequence[Axes]:
    return [_broadcast(c, ins)]


def _reduction(c: Coupling, node: Node, ins: list[Axes]) -> Sequence[Axes]:
    (axes,) = ins
    over = node.params.get("axes", node.params.get("axis"))
    rank = len(axes)
    several = range(rank) if over is None else (over,) if isinstance(over, int) else over
    reduced = {a % rank for a in several}
    c.fix(*(axes[a] for a in reduced))
    if len(node.outputs[0].shape) == rank:
        return [tuple(_fixed(1) if a in reduced else axes[a] for a in range(rank))]
    return [tuple(axes[a] for a in range(rank) if a not in reduced)]


def _ordered(c: Coupling, node: Node, ins: list[Axes]) -> Sequence[Axes]:
    """Sorted, or summed up, along an axis."""
    c.fix(ins[0][node.params["axis"]])
    return [ins[0] for _ in node.outputs]


def _source(c: Coupling, node: Node, ins: list[Axes]) -> Sequence[Axes]:
    make = _fixed if node.is_position else c.fresh
    return [tuple(make(n) for n in v.shape) for v in node.outputs]


def _reshape(c: Coupling, node: Node, ins: list[Axes]) -> Sequence[Axes]:
    (axes,) = ins
    out: list[Labels] = [_fixed(n) for n in node.outputs[0].shape]
    for before, after in _blocks([len(a) for a in axes], node.outputs[0].shape):
        if len(before) == len(after) == 1:
            out[after[0]] = axes[before[0]]
            continue
        labels = _merged(c, [axes[i] for i in before])
        first, *inner = after
        n = len(out[first])
        outer = labels.reshape(n, -1) if n else labels.reshape(0, 1)
        out[first] = np.array([c.one(part) for part in outer], np.int64)
        for i in inner:
            out[i] = _fixed(len(out[i]))
    return [tuple(out)]


def _blocks(a: Sequence[int], b: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Axes of two shapes, without those of size 1, in the smallest runs of equal products.

    >>> _blocks((2, 3, 4, 5), (2, 12, 1, 5))
    [([0], [0]), ([1, 2], [1]), ([3], [3])]
    """
    left = [i for i, n in enumerate(a) if n != 1]
    right = [i for i, n in enumerate(b) if n != 1]
    if 0 in a:
        return [(left, right)] if left and right else []
    found: list[tuple[list[int], list[int]]] = []
    while left and right:
        x, y = [left.pop(0)], [right.pop(0)]
        while (m := math.prod(a[i] for i in x)) != (n := math.prod(b[i] for i in y)):
            if m < n:
                x.append(left.pop(0))
            else:
                y.append(right.pop(0))
        found.append((x, y))
    return found


def _merged(c: Coupling, several: Sequence[Labels]) -> Labels:
    """Axes laid into one: of those whose places may go the outermost does, the others stay."""
    may_go = [bool(c.roots(labels).any()) for labels in several]
    at = may_go.index(True) if any(may_go) else 0
    for labels in several[at + 1 :]:
        c.fix(labels)
    inner = math.prod(len(x) for x in several[at + 1 :])
    outer = math.prod(len(x) for x in several[:at])
    return np.tile(np.repeat(several[at], inner), outer)


def _permute(c: Coupling, node: Node, ins: list[Axes]) -> Sequence[Axes]:
    return [tuple(ins[0][a] for a in node.params["axes"])]


def _stretch(c: Coupling, node: Node, ins: list[Axes]) -> Sequence[Axes]:
    shape = node.outputs[0].shape
    return [_broadcast(c, [tuple(c.fresh(n) for n in shape), ins[0]])]


def _slice(c: Coupling, node: Node, ins: list[Axes]) -> Sequence[Axes]:
    p = node.params
    limits = zip(ins[0], p["start"], p["stop"], p["step"], strict=True)
    return [tuple(labels[a:b:s] for labels, a, b, s in limits)]


def _flip(c: Coupling, node: Node, ins: list[Axes]) -> Sequence[Axes]:
    turned = {a % len(ins[0]) for a in node.params["axes"]}
    return [tuple(x[::-1] if a in turned else x for a, x in enumerate(ins[0]))]


def _pad(c: Coupling, node: Node, ins: list[Axes]) -> Sequence[Axes]:
    """What is added stays: the program says how much."""
    limits = zip(ins[0], node.params["before"], node.params["after"], strict=True)
    return [tuple(np.concatenate([_fixed(a), x, _fixed(b)]) for x, a, b in limits)]


def _concatenate(c: Coupling, node: Node, ins: list[Axes]) -> Sequence[Axes]:
    at = node.params["axis"] % len(ins[0])
    out = list(ins[0])
    out[at] = np.concatenate([axes[at] for axes in ins])
    for axes in ins[1:]:
        for a, labels in enumerate(axes):
            if a != at:
                c.join(out[a], labels)
    return [tuple(out)]


def _take(c: Coupling, node: Node, ins: list[Axes]) -> Sequence[Axes]:
    rows, index = ins
    at = node.params["axis"] % len(rows)
    c.fix(rows[at])
    rest = [c.copied(labels) for labels in rows]
    return [(*rest[:at], *index, *rest[at + 1 :])]


def _window(c: Coupling, node: Node, ins: list[Axes]) -> Sequence[Axes]:
    """Windows over the images of each channel."""
    (n, channels, *image), *_ = ins
    c.fix(*image)
    outs = [v.shape for v in node.outputs]
    return [(n, channels, *map(_fixed, shape[2:])) for shape in outs]


def _matmul(c: Coupling, node: Node, ins: list[Axes]) -> Sequence[Axes]:
    (*batch, rows, read), (*others, depth, columns) = ins
    _read(c, read, depth)
    lead = _broadcast(c, [tuple(batch), tuple(others)]) if batch or others else ()
    return [(*lead, c.copied(rows), c.copied(columns))]


def _read(c: Coupling, a: Labels, b: Labels) -> None:
    c.join(a, b)
    c.summed.update(map(int, a))
    c.summed.update(map(int, b))


def _attention(c: Coupling, node: Node, ins: list[Axes]) -> Sequence[Axes]:
    """Heads stand and fall together; the scale belongs to their size, which stays."""
    for i in (0, 1):
        c.join(ins[0][i], ins[1][i])
        c.join(ins[0][i], ins[2][i])
    for axes in ins:
        c.fix(*axes[2:])
    batch, heads = ins[0][:2]
    return [(batch, heads, *map(_fixed, v.shape[2:])) for v in node.outputs]


def _convolution(c: Coupling, node: Node, ins: list[Axes]) -> Sequence[Axes]:
    """Images (N, C, H, W), filters (K, C / groups, ...)."""
    (n, channels, *image), (filters, depth, *window) = ins
    c.fix(*image, *window)
    out = c.copied(filters)
    _connect(c, channels, depth, filters, node.params["groups"])
    return [(n, out, *map(_fixed, node.outputs[0].shape[2:]))]


def _connect(c: Coupling, read: Labels, depth: Labels, rows: Labels, groups: int) -> None:
    """The channels that are read, and the axes of filters that belong to them."""
    if groups == 1:
        _read(c, read, depth)
        return
    c.fix(depth)  # of several groups whole ones go
    for mine, own in zip(np.split(read, groups), np.split(rows, groups), strict=True):
        c.one(np.concatenate([mine, own]))


def _transposed(c: Coupling, node: Node, ins: list[Axes]) -> Sequence[Axes]:
    """What is read (N, K, H, W), filters (K, C / groups, ...): gives (N, C, ...)."""
    (n, channels, *image), (filters, depth, *window) = ins
    c.fix(*image, *window)
    groups, shape = node.params["groups"], node.outputs[0].shape
    if groups == 1:
        _read(c, channels, filters)
        made = c.copied(depth)
    else:
        c.fix(depth)
        c.join(channels, filters)
        parts = [c.one(part) for part in np.split(channels, groups)]
        made = np.repeat(np.array(parts, np.int64), shape[1] // groups)
    return [(n, made, *map(_fixed, shape[2:]))]


BY_NAME: dict[str, Rule] = {
    "reshape": _reshape,
    "permute": _permute,
    "broadcast_to": _stretch,
    "slice": _slice,
    "flip": _flip,
    "pad": _pad,
    "concatenate": _concatenate,
    "take": _take,
    "max_pool2d": _window,
    "matmul": _matmul,
    "attention": _attention,
    "convolution": _convolution,
    "convolution_input_gradient": _transposed,
}
BY_CLASS: dict[OpClass, Rule] = {
    OpClass.ELEMENTWISE: _elementwise,
    OpClass.REDUCTION: _reduction,
    OpClass.ARG_REDUCTION: _reduction,
    OpClass.SCAN: _ordered,
    OpClass.SORT: _ordered,
    OpClass.SOURCE: _source,
}


class Unit:
    """What can be removed together: some places on some axes of some weights.

    Args:
        places: (number of the weight, axis) -> the places.
    """

    def __init__(self, places: dict[tuple[int, int], list[int]]):
        self.places = places

    @property
    def kind(self) -> frozenset[tuple[int, int]]:
        """The axes it has a part in: units of one kind are alike, the channels of one layer."""
        return frozenset(self.places)


def units(coupling: Coupling, weights: Sequence[Value]) -> list[Unit]:
    """All units that can be removed, in the order of their first places.

    Args:
        coupling: of the graph.
        weights: states; a unit names them by their number.
    """
    found: dict[int, dict[tuple[int, int], list[int]]] = {}
    whole: set[int] = set()
    for number, value in enumerate(weights):
        for axis, labels in enumerate(coupling.of[value]):
            roots = coupling.roots(labels)
            for place, root in enumerate(roots.tolist()):
                if root:
                    found.setdefault(root, {}).setdefault((number, axis), []).append(place)
            whole.update(np.unique(roots).tolist() if len(set(roots.tolist())) == 1 else ())
    made = makes(coupling, weights)
    return [
        Unit(places)
        for root, places in found.items()
        # what nothing reads here (places of a longer text) is no part of what this graph shows
        if root not in whole and {made(*slot) for slot in places} == {True, False}
    ]


def makes(coupling: Coupling, weights: Sequence[Value]) -> Callable[[int, int], bool]:
    """Whether on an axis of a weight what is made lies, not what is read."""

    @functools.cache
    def made(number: int, axis: int) -> bool:
        return coupling.summed.isdisjoint(coupling.of[weights[number]][axis].tolist())

    return made
