"""The gradient of a recorded body: what it does, and what it reads of the forward run.

Knows a recorded body, its tape and Tensors; never how often the body runs. It goes back through the
tape, which writes operations down behind those of the body; these are replayed on Tensors, where a
gradient is wanted.

Note [what the gradient reads]
    A value of the forward run that the gradient needs is one more result of it, unless a few cheap
    operations give it again from what is there: a function of analysis or a product is kept, a sum
    or a slice is not.
"""

# What a Tensor consists of is read and set here, as in tensor/.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from typing import Any

from tinytorch.base.lengths import at_bound
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.record.bodies import BodyRecording, live
from tinytorch.compiler.record.recorder import Params
from tinytorch.primitives import TABLE
from tinytorch.primitives.body import Body
from tinytorch.primitives.primitive import OpClass, Primitive
from tinytorch.tensor.autograd import Port
from tinytorch.tensor.creation import zeros
from tinytorch.tensor.dispatch import apply
from tinytorch.tensor.interpreter import STATE, interpreting
from tinytorch.tensor.memory import from_value

Tensors = Sequence[Any]
_SCAN, _COND = TABLE["scan"], TABLE["cond"]


class BodyGradient:
    """The gradient of one recorded body, for given cotangents of its results.

    Args:
        recording: the body.
        inputs: what it was given: Tensors for `own`, then for the places outside.
        needs: of which of these a cotangent is wanted.
        places: the places outside.

    Attributes:
        seeds: what stands for cotangents of results, and for which.
        found: place in the tape -> the cotangent that arrives there.
        forward, back: the node that makes each value, of the run and of its gradient.
        nodes: what the gradient does beside the forward run.
        outside: what stands for a value of the code around -> that.
        read: forward values -> the Tensor in which the gradient finds them.
    """

    def __init__(
        self, recording: BodyRecording, inputs: Sequence[Any], needs: Sequence[bool],
        places: Iterable[Any],
    ):  # fmt: skip
        self.recording, self.inputs, self.needs = recording, inputs, needs
        self.inner = recording.inner
        self.seeds: dict[Value, Any] = {}
        self.places = [*recording.marks, *places]
        self.read: dict[Value, Any] = {}

    def go_back(self, final: bool) -> None:
        """Write the gradient down.

        Args:
            final: whether zeros in cotangents are final (see Primitive).
        """
        wanted = [p for p, does in zip(self.places, self.needs, strict=True) if does]
        with interpreting(self.inner):
            pulled = self.pulled([p for p in wanted if p is not None], final)
            self.found: dict[Any, Value] = {p: self.inner.value_of(x) for p, x in pulled.items()}
        nodes, count = self.inner.graph.nodes, self.recording.count
        self.recording.look_through_tape()
        self.forward = {v: n for n in nodes[:count] for v in n.outputs}
        self.nodes = nodes[count:]
        if not STATE.recording:
            self._share()
        self.back = {v: n for n in self.nodes for v in n.outputs}
        self.outside = {inside: outside for outside, inside in self.inner.inside.items()}

    def pulled(self, wanted: list[Any], final: bool) -> dict[Any, Any]:
        """Cotangents at the wanted places, from stand-ins for those of the results."""
        raise NotImplementedError

    def taken(self, v: Value) -> Any:
        """The Tensor in which the gradient finds a value of the forward run."""
        raise NotImplementedError

    def _share(self) -> None:
        """What the gradient would compute as the forward run has is taken from there.

        Only where nothing is recorded: the value of the forward run has its own gradient.
        """
        made: dict[tuple[Any, ...], tuple[Value, ...]] = {}
        for node in self.inner.graph.nodes[: self.recording.count]:
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

    def decide(self, roots: Iterable[Value]) -> list[Node]:
        """Fill `read`; gives the operations of the gradient, in order."""
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
            if all(x in self.recording.own or spared[x] >= at_bound(x.spec.nbytes) for x in leaves):
                kept.update(leaves)
            else:
                kept[v] = None
        order = self.inner.graph.nodes[: self.recording.count]
        again = live(order, [v for v in wanted if v not in kept], kept)
        for v in kept:
            if v not in self.read:
                self.read[v] = self.taken(v)
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
        """The row, or what else on the tape gives the gradient of a value of the forward run."""
        place = self.recording.place_of.get(v)
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

    def from_outside(self, v: Value) -> Any:
        """The Tensor that a value of the code around is."""
        outside = self.outside[v]
        for x in self.inputs[len(self.recording.own) :]:
            if x._value is outside:
                return x
        return from_value(outside)

    def get(self, env: dict[Value, Any], v: Value) -> Any:
        """The Tensor of a value: computed so far, or of the code around."""
        return env[v] if v in env else self.from_outside(v)

    def replay(self, node: Node, env: dict[Value, Any]) -> None:
        """Do one operation of the recorded body on Tensors."""
        operands = [self.get(env, v) for v in node.inputs]
        if STATE.recording:
            tracked = self.inner.tracked[node]
            for k, (v, does) in enumerate(zip(node.inputs, tracked, strict=False)):
                old = v in self.outside or v in self.forward or v in self.recording.own
                again = node.outputs[0] in self.forward  # and was it recorded then?
                does = does and not (again and self._rule_of(node.outputs[0]) is None)
                if old and not does and operands[k]._node is not None:
                    operands[k] = operands[k].detach()
        out = replayed(node.primitive, operands, node.params)
        env.update(zip(node.outputs, out, strict=True))


def replayed(row: Primitive, operands: Sequence[Any], params: Params) -> tuple[Any, ...]:
    """A row on Tensors; a loop as a loop, a branch as one, so that its gradient is one, too."""
    if row is _SCAN:
        return _scan_again(operands, **params)
    if row is _COND:
        return _cond_again(*operands, **params)
    out: Any = apply(row, operands, params)
    return out if out.__class__ is tuple else (out,)


def _scan_again(
    operands: Sequence[Any], body: Body, carries: int, stacked: int, length: int, reverse: bool
) -> tuple[Any, ...]:
    n, m = carries, stacked
    given = operands[n + m :]

    def trip(carried: Tensors, xs: Tensors) -> tuple[list[Any], list[Any]]:
        out = _run_again(body, [*carried, *xs, *given])
        return out[:n], out[n:]

    interpreter: Any = STATE.interpreter
    last, ys = interpreter.scan(trip, operands[:n], operands[n : n + m], length, reverse)
    return (*last, *ys)


def _cond_again(
    predicate: Any, *given: Any, true: Body, false: Body, results: int
) -> tuple[Any, ...]:
    """What only one of the bodies gives is 0 in the other case."""

    def nothing(body: Body) -> list[Any]:
        return [zeros(s.shape, dtype=s.dtype) for s in body.outputs[results:]]

    def case() -> list[Any]:
        return [*_run_again(true, given), *nothing(false)]

    def other() -> list[Any]:
        out = _run_again(false, given)
        return [*out[:results], *nothing(true), *out[results:]]

    interpreter: Any = STATE.interpreter
    return tuple(interpreter.cond(predicate, case, other))


def _run_again(body: Body, given: Sequence[Any]) -> list[Any]:
    held = [*given]
    for line in body.lines:
        held += replayed(line.row, [held[i] for i in line.inputs], line.params)
    return [held[i] for i in body.results]
