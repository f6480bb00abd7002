"""The gradient of a recorded loop: a loop the other way, and what is summed after it.

Knows the gradient of its one recorded trip (body_gradient.py); never how a loop is recorded. What
that gradient does is the trip of a loop that runs the other way. What it reads of the forward trip
is stacked by the forward loop (one more y); the carried values of all trips are the stack of what
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

from collections.abc import Callable, Sequence
from typing import Any

from tinytorch.compiler.graph.graph import Value
from tinytorch.compiler.record.bodies import BodyRecording, Tensors
from tinytorch.compiler.record.body_gradient import BodyGradient
from tinytorch.primitives import TABLE
from tinytorch.tensor import autograd
from tinytorch.tensor.creation import zeros
from tinytorch.tensor.dispatch import apply
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.memory import from_value
from tinytorch.tensor.shaping import broadcast_to, concat, permute, reshape

_MATMUL, _SUM, _ADD, _CAST = (TABLE[n] for n in ("matmul", "sum", "add", "cast"))
_PERMUTE, _RESHAPE = TABLE["permute"], TABLE["reshape"]


class LoopRecord(BodyRecording):
    """What the gradient asks of a loop; see loops.py."""

    carried: list[Any]
    reverse: bool
    length: int

    def stacked(self, value: Value, outs: Sequence[Any]) -> Any:
        """The values of all trips of something that the trip computes, as a Tensor."""
        raise NotImplementedError


class LoopGradient(BodyGradient):
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
        super().__init__(loop, inputs, needs, loop.places)
        self.loop, self.g, self.outs = loop, g, outs
        self.n = len(loop.carried)
        self.sums: list[Value] = []  # added up in the loop
        self.stacks: list[Value] = []  # of the gradient's own values, one y each
        self.results: dict[Value, Any] = {}  # of sums and stacks, when the loop is recorded
        self.go_back(final)

    def pulled(self, wanted: list[Any], final: bool) -> dict[Any, Any]:
        """Cotangents of one trip, from stand-ins for those of its results."""
        loop, n = self.loop, self.n
        wanted = [*wanted, *(m for m in loop.marks[:n] if m is not None)]
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

    def taken(self, v: Value) -> Any:
        """A value of the forward trip, of all trips: (length, ...)."""
        loop = self.loop
        if v in self.outside:
            return broadcast_to(self.from_outside(v), (loop.length, *v.shape))
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
        order = self.decide(roots)
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
                self.replay(node, env)
            totals = now[len(after) :]
            new = [
                zeros(x.shape, dtype=x.dtype) if v is None else self.get(env, v)
                for v, x in zip(after.values(), now, strict=False)
            ]
            new += [t + self.get(env, v) for t, v in zip(totals, self.sums, strict=True)]
            return new, [self.get(env, v) for v in stacked]

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
            return lambda: self.from_outside(v) * self.loop.length
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
            whole = self.taken(v)
            return lambda: whole
        if v not in self.stacks:
            self.stacks.append(v)
        return lambda: self.results[v]


def _leading(x: Any, batch: int) -> Any:
    """A stack of matrices with ones among its axes, so that it has `batch` between trip and row."""
    ones = (1,) * (batch + 3 - len(x.shape))
    return reshape(x, (x.shape[0], *ones, *x.shape[1:]))
