"""The gradient of a recorded loop: what its trip does, what it reads, what is summed after it.

Knows one recorded trip, its tape and Tensors; never how a loop is recorded. It goes back through
the tape of the trip, and what that writes down is replayed as the trip of a loop that runs the
other way.

Note [what the gradient reads]
    A value of the forward trip that the gradient needs is stacked by the forward loop (one more y),
    unless a few cheap operations give it again from what is there: a function of analysis or a
    product is kept, a sum or a slice is not. The carried values of all trips are the stack of what
    trips handed on, moved by one.

Note [sums after the loop]
    The gradient of a weight is a sum over all trips. Where each term is a product, its factors are
    stacked and multiplied once after the loop: one large product in place of many small ones, each
    of which would read and write the whole sum. The same holds for a sum over a batch. Movement
    and conversions of the terms are done with the sum. Any other term is added to a carried sum.
"""

# What a Tensor consists of is read and set here, as in tensor/.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from tinytorch.base.lengths import at_bound
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.record.recorder import Params
from tinytorch.primitives import TABLE
from tinytorch.primitives.primitive import OpClass, Primitive
from tinytorch.tensor import autograd
from tinytorch.tensor.autograd import Port
from tinytorch.tensor.creation import zeros
from tinytorch.tensor.dispatch import apply
from tinytorch.tensor.interpreter import STATE, interpreting
from tinytorch.tensor.memory import from_value
from tinytorch.tensor.shaping import broadcast_to, concat, permute, reshape

Tensors = Sequence[Any]
_SCAN, _MATMUL, _SUM, _ADD, _CAST = (TABLE[n] for n in ("scan", "matmul", "sum", "add", "cast"))
_PERMUTE, _RESHAPE = TABLE["permute"], TABLE["reshape"]


class LoopRecord(Protocol):
    """What the gradient asks of a loop; see loops.py."""

    recorder: Any
    inner: Any
    carried: list[Any]
    reverse: bool
    length: int
    results: list[tuple[Value, Any]]
    own: list[Value]
    marks: list[Any]
    places: dict[Any, Any]
    place_of: dict[Value, Any]
    count: int

    def look_through_tape(self) -> None:
        """Find what the results depend on, and where forward values are in the tape."""
        ...

    def stacked(self, value: Value, outs: Sequence[Any]) -> Any:
        """The values of all trips of something that the trip computes, as a Tensor."""
        ...


class LoopGradient:
    """The gradient of one loop, for given cotangents of its results.

    Args:
        loop: the loop.
        g: cotangents of its results, None where there is none.
        outs: its results.
        inputs: what it was given: carried, xs, and what it read from outside.
        needs: of which of these a cotangent is wanted.
        final: whether zeros in cotangents are final (see Primitive).
    """

    def __init__(
        self, loop: LoopRecord, g: Sequence[Any], outs: Sequence[Any], inputs: Sequence[Any],
        needs: Sequence[bool], final: bool,
    ):  # fmt: skip
        self.loop, self.g, self.outs, self.inputs = loop, g, outs, inputs
        self.inner, self.n = loop.inner, len(loop.carried)
        self.needs = needs
        self.seeds: dict[Value, tuple[str, int]] = {}  # what stands for cotangents of results
        wanted = [
            place
            for place, does in zip((*loop.marks, *loop.places), needs, strict=True)
            if place is not None and does
        ]
        wanted += [m for m in loop.marks[: self.n] if m is not None]
        with interpreting(self.inner):
            found = self._pulled(wanted, final)
            self.found: dict[Any, Value] = {p: self.inner.value_of(x) for p, x in found.items()}
        nodes = self.inner.graph.nodes
        loop.look_through_tape()
        self.forward = {v: n for n in nodes[: loop.count] for v in n.outputs}
        self.nodes = nodes[loop.count :]  # what the gradient does beside the forward trip
        if not STATE.recording:
            self._share()
        self.back = {v: n for n in self.nodes for v in n.outputs}
        self.outside = {inside: outside for outside, inside in self.inner.inside.items()}
        self.sums: list[Value] = []  # added up in the loop
        self.stacks: list[Value] = []  # of the gradient's own values, one y each
        self.read: dict[Value, Any] = {}  # forward values -> what they are in all trips
        self.results: dict[Value, Any] = {}  # of sums and stacks, when the loop is recorded

    def _share(self) -> None:
        """What the gradient would compute as the forward trip has is taken from there.

        Only where nothing is recorded: the value of the forward trip has its own gradient.
        """
        made: dict[tuple[Any, ...], tuple[Value, ...]] = {}
        for node in self.inner.graph.nodes[: self.loop.count]:
            made.setdefault((node.primitive, node.inputs, repr(node.params)), node.outputs)
        same: dict[Value, Value] = {}
        own: list[Node] = []
        for node in self.nodes:
            inputs = tuple([same.get(v, v) for v in node.inputs])
            known = made.get((node.primitive, inputs, repr(node.params)))
            if known is not None:
                same.update(zip(node.outputs, known, strict=True))
            else:
                own.append(replace(node, inputs=inputs))
        self.nodes = own
        self.found = {place: same.get(v, v) for place, v in self.found.items()}

    def _pulled(self, wanted: list[Any], final: bool) -> dict[Any, Any]:
        """Cotangents of one trip, from stand-ins for those of its results."""
        loop, n = self.loop, self.n
        active = {i for i in range(n) if self.g[i] is not None}
        while True:
            self.seeds = {}
            roots: list[tuple[Any, Any]] = []
            for i, (value, place) in enumerate(loop.results):
                given = i in active if i < n else i < len(self.g) and self.g[i] is not None
                if place is not None and given:
                    seed = from_value(self.inner.new_value(value.spec))
                    self.seeds[seed._value] = ("carried" if i < n else "y", i)
                    roots.append((place, seed))
            found = autograd.propagate(roots, wanted, keep=True, final=final)
            grown = active | {i for i in range(n) if loop.marks[i] in found}
            if grown == active:
                self.active = sorted(active)
                return found
            active = grown

    # --- what is needed of the forward trip ---

    def _decide(self, roots: Iterable[Value]) -> list[Node]:
        """Fill `read`; gives the operations of the gradient's trip, in order."""
        nodes = live(self.nodes, list(roots))
        made = {v for n in nodes for v in n.outputs}
        wanted = [*roots, *(v for n in nodes for v in n.inputs)]
        wanted = [v for v in dict.fromkeys(wanted) if v not in made and v not in self.seeds]
        wanted = [v for v in wanted if v not in self.outside]
        kept = dict.fromkeys(v for v in wanted if not self._is_cheap(v))  # in a fixed order
        cheap = {v: self._leaves(v, kept) for v in wanted if self._is_cheap(v)}
        spared: dict[Value, float] = {}  # bytes that need not be kept if a leaf is
        for v, leaves in cheap.items():
            times = 2 if self.forward[v].is_movement else 1  # to keep a part is to copy it
            for leaf in leaves:
                spared[leaf] = spared.get(leaf, 0) + times * at_bound(v.spec.nbytes) / len(leaves)
        for v, leaves in cheap.items():
            if all(x in self.loop.own or spared[x] >= at_bound(x.spec.nbytes) for x in leaves):
                kept.update(leaves)
            else:
                kept[v] = None
        order = self.inner.graph.nodes[: self.loop.count]
        again = live(order, [v for v in wanted if v not in kept], kept)
        for v in kept:
            if v not in self.read:
                self.read[v] = self.in_all_trips(v)
        return [*again, *nodes]

    def _is_cheap(self, v: Value) -> bool:
        node = self.forward.get(v)
        if node is None:
            return False
        row = node.primitive
        if STATE.recording and self._rule_of(v) not in (None, row):
            return False  # its gradient is not that of the row
        return row.op_class in (OpClass.MOVEMENT, OpClass.SOURCE) or (
            row.elementwise and not row.expensive
        )

    def _rule_of(self, v: Value) -> Any:
        """The row, or what else on the tape gives the gradient of a value of the forward trip."""
        place = self.loop.place_of.get(v)
        return (place.node if type(place) is Port else place).primitive if place else None

    def _leaves(self, v: Value, kept: Container[Value]) -> dict[Value, None]:
        """From what cheap operations make v that is not kept already."""
        found, seen, stack = dict[Value, None](), set[Value](), [v]
        while stack:
            x = stack.pop()
            if x in seen or x in kept or x in self.outside:
                continue
            seen.add(x)
            if self._is_cheap(x):
                stack.extend(self.forward[x].inputs)
            else:
                found[x] = None
        return found

    def in_all_trips(self, v: Value) -> Any:
        """A value of the forward trip, of all trips: (length, ...)."""
        loop = self.loop
        if v in self.outside:
            return broadcast_to(self._from_outside(v), (loop.length, *v.shape))
        if v not in loop.own:
            return loop.stacked(v, self.outs)
        i = loop.own.index(v)
        if i >= self.n:
            return self.inputs[i]
        after = loop.results[i][0]
        if after not in self.forward:  # handed on as it came
            return loop.stacked(v, self.outs)
        first, rest = self.inputs[i].reshape(1, *v.shape), loop.stacked(after, self.outs)
        if loop.length == 1:
            return first
        return concat([rest[1:], first], 0) if loop.reverse else concat([first, rest[:-1]], 0)

    def _from_outside(self, v: Value) -> Any:
        """The Tensor that a value of the code around is."""
        outside = self.outside[v]
        for x in self.inputs[len(self.loop.own) :]:
            if x._value is outside:
                return x
        return from_value(outside)

    # --- the loop ---

    def cotangents(self) -> tuple[Any, ...]:
        """Those of carried, xs and what was read from outside."""
        loop, n, own = self.loop, self.n, len(self.loop.own)
        places = list(loop.places)
        after = {i: self.found.get(loop.marks[i]) for i in self.active}
        xs = {i: v for i in range(n, own) if (v := self.found.get(loop.marks[i])) is not None}
        sums = {
            own + k: self._sum(self.found[place])
            for k, place in enumerate(places)
            if place in self.found
        }
        last, ys = self._recorded(after, list(xs.values()))
        out: list[Any] = [None] * len(self.inputs)
        for i, new in zip(self.active, last, strict=False):
            out[i] = new if self.needs[i] else None
        for i, y in zip(xs, ys, strict=False):
            out[i] = y
        for k, total in sums.items():
            out[k] = total()
        return tuple(out)

    def _recorded(self, after: dict[int, Value | None], xs: list[Value]) -> tuple[Any, Any]:
        """Record the loop: (carried cotangents, those of xs)."""
        loop = self.loop
        roots = [v for v in (*after.values(), *xs, *self.sums, *self.stacks) if v is not None]
        order = self._decide(roots)
        stacked = list(dict.fromkeys((*xs, *self.stacks)))
        seeds = [(v, self.g[i]) for v, (kind, i) in self.seeds.items() if kind == "y"]
        given = [*self.read.items(), *seeds]
        carried = {i: v for v, (kind, i) in self.seeds.items() if kind == "carried"}

        def trip(now: Tensors, parts: Tensors) -> tuple[list[Any], list[Any]]:
            env: dict[Value, Any] = dict(zip([v for v, _ in given], parts, strict=True))
            for i, x in zip(after, now, strict=False):
                if i in carried:
                    env[carried[i]] = x
            for node in order:
                self._replay(node, env)
            totals = now[len(after) :]
            new = [
                zeros(x.shape, dtype=x.dtype) if v is None else self._get(env, v)
                for v, x in zip(after.values(), now, strict=False)
            ]
            new += [t + self._get(env, v) for t, v in zip(totals, self.sums, strict=True)]
            return new, [self._get(env, v) for v in stacked]

        first = [self._start_of(i) for i in after]
        first += [zeros(v.shape, dtype=v.dtype) for v in self.sums]
        interpreter: Any = STATE.interpreter
        last, ys = interpreter.scan(
            trip, first, [x for _, x in given], loop.length, not loop.reverse
        )
        self.results.update(zip(self.sums, last[len(after) :], strict=True))
        in_all = dict(zip(stacked, ys, strict=True))
        self.results.update((v, in_all[v]) for v in self.stacks)
        return last[: len(after)], [in_all[v] for v in xs]

    def _start_of(self, i: int) -> Any:
        g, spec = self.g[i], self.loop.own[i].spec
        return zeros(spec.shape, dtype=spec.dtype) if g is None else g

    def _get(self, env: dict[Value, Any], v: Value) -> Any:
        return env[v] if v in env else self._from_outside(v)

    def _replay(self, node: Node, env: dict[Value, Any]) -> None:
        """Do one operation of the recorded trip on Tensors."""
        operands = [self._get(env, v) for v in node.inputs]
        if STATE.recording:
            tracked = self.inner.tracked[node]
            for k, (v, does) in enumerate(zip(node.inputs, tracked, strict=False)):
                old = v in self.outside or v in self.forward or v in self.loop.own
                again = node.outputs[0] in self.forward  # and was it recorded then?
                does = does and not (again and self._rule_of(node.outputs[0]) is None)
                if old and not does and operands[k]._node is not None:
                    operands[k] = operands[k].detach()
        out = replayed(node.primitive, operands, node.params)
        env.update(zip(node.outputs, out, strict=True))

    # --- sums over all trips; see Note [sums after the loop] ---

    def _sum(self, v: Value) -> Callable[[], Any]:
        """What gives the sum of a value over all trips, once the loop is recorded."""
        node = self.back.get(v)
        row = None if node is None else node.primitive
        if node is not None and row is not None:
            x = node.inputs[0] if node.inputs else v
            if node.is_movement or (row is _CAST and x.dtype.is_float):
                below = self._sum(x)
                return lambda: apply(row, (below(),), node.params)
            if row is _ADD and all(y.shape == v.shape for y in node.inputs):
                a, b = (self._sum(y) for y in node.inputs)
                return lambda: a() + b()
            if row is _SUM:
                stack = self._stack(x)
                axes = (0, *(a + 1 for a in node.reduced_axes))
                shape = v.shape
                return lambda: reshape(stack().sum(axes), shape)
            if row is _MATMUL and v.dtype.is_float:
                return self._product(*node.inputs)
        if v in self.forward or v in self.loop.own:
            stack = self._stack(v)
            return lambda: stack().sum(0)
        if v in self.outside:
            return lambda: self._from_outside(v) * self.loop.length
        if v not in self.sums:
            self.sums.append(v)
        return lambda: self.results[v]

    def _product(self, a: Value, b: Value) -> Callable[[], Any]:
        """The sum of products a b over all trips: one product, whose summed axis is (trip, k)."""
        left, right, length = self._stack(a), self._stack(b), self.loop.length
        batch = max(a.shape[:-2], b.shape[:-2], key=len)

        def product() -> Any:
            (m, k), n = a.shape[-2:], b.shape[-1]
            x = broadcast_to(_leading(left(), len(batch)), (length, *batch, m, k))
            y = broadcast_to(_leading(right(), len(batch)), (length, *batch, k, n))
            axes = tuple(range(1, len(batch) + 1))
            x = permute(x, (*axes, len(batch) + 1, 0, len(batch) + 2))
            y = permute(y, (*axes, 0, len(batch) + 1, len(batch) + 2))
            joint = reshape(x, (*batch, m, length * k)), reshape(y, (*batch, length * k, n))
            return apply(_MATMUL, joint, {})

        return product

    def _stack(self, v: Value) -> Callable[[], Any]:
        """What gives a value of all trips, once the loop is recorded."""
        node = self.back.get(v)
        if node is not None and node.primitive is _PERMUTE:
            below, axes = self._stack(node.inputs[0]), node.params["axes"]
            return lambda: permute(below(), (0, *(a + 1 for a in axes)))
        if node is not None and node.primitive is _RESHAPE:
            below = self._stack(node.inputs[0])
            return lambda: reshape(below(), (self.loop.length, *v.shape))
        if v in self.seeds and self.seeds[v][0] == "y":
            return lambda: self.g[self.seeds[v][1]]
        if node is None and v not in self.seeds:
            whole = self.in_all_trips(v)
            return lambda: whole
        if v not in self.stacks:
            self.stacks.append(v)
        return lambda: self.results[v]


def _leading(x: Any, batch: int) -> Any:
    """A stack of matrices with ones among its axes, so that it has `batch` between trip and row."""
    ones = (1,) * (batch + 3 - len(x.shape))
    return reshape(x, (x.shape[0], *ones, *x.shape[1:]))


def live(
    nodes: Sequence[Node], results: Sequence[Value], given: Iterable[Value] = ()
) -> list[Node]:
    """The nodes that the results need, in order; nothing is needed for what is given."""
    needed, known = set(results), set(given)
    kept: list[Node] = []
    for node in reversed(nodes):
        if any(v in needed and v not in known for v in node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    return kept[::-1]


def replayed(row: Primitive, operands: Sequence[Any], params: Params) -> tuple[Any, ...]:
    """A row on Tensors; a loop as a loop, so that its gradient is one, too."""
    if row is not _SCAN:
        out: Any = apply(row, operands, params)
        return out if out.__class__ is tuple else (out,)
    body, n, m = params["body"], params["carries"], params["stacked"]
    given = operands[n + m :]

    def trip(carried: Tensors, xs: Tensors) -> tuple[list[Any], list[Any]]:
        held = [*carried, *xs, *given]
        for line in body.lines:
            held += replayed(line.row, [held[i] for i in line.inputs], line.params)
        out = [held[i] for i in body.results]
        return out[:n], out[n:]

    interpreter: Any = STATE.interpreter
    last, ys = interpreter.scan(
        trip, operands[:n], operands[n : n + m], params["length"], params["reverse"]
    )
    return (*last, *ys)
