"""Recording a loop: one trip is recorded, the loop is one operation, and so is its gradient.

Knows Tensors, the tape and graphs; never what the user's function computes. The function of a loop
runs once, on stand-ins for what a trip is given, in a recorder of its own; what it reads from
outside becomes an operand of the loop. The gradient goes back through the tape of that one trip,
is replayed as the trip of a loop that runs the other way, and is recorded as any loop is: so
gradients of any order are loops.
"""

# What a Tensor consists of is read and set here, as in tensor/.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Node, Value, body_of
from tinytorch.compiler.record.loop_gradient import LoopGradient, live
from tinytorch.compiler.record.recorder import Params, Recorder, is_number
from tinytorch.primitives import TABLE
from tinytorch.primitives.loop import Body
from tinytorch.primitives.primitive import Primitive, Spec
from tinytorch.tensor import autograd
from tinytorch.tensor.assignment import assign_
from tinytorch.tensor.autograd import GradientRule, Port, TapeNode
from tinytorch.tensor.interpreter import STATE, interpreting, user_line
from tinytorch.tensor.memory import Buffer, from_handle, from_value

Tensors = Sequence[Any]
Trip = Callable[[Tensors, Tensors], tuple[list[Any], list[Any]]]
_SCAN = TABLE["scan"]


class _Carry(BaseException):  # no error: `except Exception` lets it pass
    """Raised where a trip assigns to a Tensor from outside: that is carried along, too.

    Args:
        tensor: the Tensor; None where a user's function is called: then the order of such calls is.
    """

    def __init__(self, tensor: Any):
        super().__init__()
        self.tensor = tensor


class LoopRecorder(Recorder):
    """A recorder to which a loop is one operation."""

    def scan(
        self, trip: Trip, carried: Tensors, xs: Tensors, length: int, reverse: bool
    ) -> tuple[Tensors, Tensors]:
        """Record one trip, and add the node of the loop."""
        written: list[Any] = []
        order: Any = None
        while True:
            try:
                loop = _LoopRecording(
                    self, trip, [*carried, *written], list(xs), written, order, reverse, length
                )
                break
            except _Carry as found:
                written.append(self.order() if found.tensor is None else found.tensor)
                order = written[-1] if found.tensor is None else order
        outs = loop.add()
        for tensor, new in zip(written, outs[len(carried) :], strict=False):
            if tensor is order:
                self.after = self.value_of(new)
            else:
                assign_(tensor, new)
        return outs[: len(carried)], outs[len(carried) + len(written) :]


class TripRecorder(LoopRecorder):
    """Records one trip of a loop.

    Args:
        outer: what records the code around the loop.

    Attributes:
        inside: value of the code around -> what stands for it in the trip.
        tracked: of each node, whether the operands were recorded by the tape.
        own: the Tensors that stand for what the trip is given.
        calls: what stands for the order of calls of a user's functions, if there are such.
        over: whether the trip has been recorded, and only its gradient is now.
    """

    def __init__(self, outer: LoopRecorder):
        super().__init__()
        self.outer, self._start = outer, outer._start
        self.inside: dict[Value, Value] = {}
        self.tracked: dict[Node, tuple[bool, ...]] = {}
        self.own: dict[int, Any] = {}
        self.calls: Any = None
        self.over = False

    def stand_in(self, like: Any, spec: Spec) -> Any:
        """A Tensor for something that each trip is given anew, with its own place in the tape."""
        value = self.new_value(spec)
        strides = self.outer.strides.of.get(self.outer.value_of(like))
        if strides is not None:
            self.strides.of[value] = strides[-len(spec.shape) :] if spec.shape else ()
        tensor = from_value(value)
        if STATE.recording and spec.dtype.is_float:
            tensor._node = autograd.identity(None, value)
        self.own[id(tensor)] = tensor
        return tensor

    def _is_inside(self, tensor: Any) -> bool:
        return tensor._value is not None and tensor._value in self._made

    def value_of(self, tensor: Any) -> Value:
        """What stands for the numbers of a Tensor in the trip."""
        if self._is_inside(tensor):
            if id(tensor) in self.origins:
                self._take_again(tensor)
            return tensor._value
        value = self.outer.value_of(tensor)
        found = self.inside.get(value)
        if found is None:
            found = self.inside[value] = self.new_value(value.spec)
            if value in self.outer.strides.of:
                self.strides.of[found] = self.outer.strides.of[value]
        return found

    def apply(self, primitive: Primitive, operands: tuple[Any, ...], params: Params) -> Any:
        """Add one node; numbers that are states stand outside."""
        if self.lifts and is_number(primitive, params):
            return self.outer.apply(primitive, operands, params)
        out = super().apply(primitive, operands, params)
        self.tracked[self.graph.nodes[-1]] = tuple([t._node is not None for t in operands])
        return out

    @property
    def lifts(self) -> bool:
        """Whether the recorder around all loops lets numbers be states."""
        outer = self.outer
        return outer.lifts if isinstance(outer, TripRecorder) else outer.lift_numbers

    def order(self) -> Any:
        """What the next call of a user's function waits for: it comes from trip to trip."""
        if self.calls is None:
            self._carry(None)
        return from_value(self.after)

    def _carry(self, tensor: Any) -> None:
        """Record the trip again, with something more that is carried."""
        if self.over:
            raise CompileError(
                "the gradient of a loop writes to something, or calls a function of yours",
                got=f"that happens backward, at {user_line()}",
                rule="what a trip does backward gives cotangents, and does nothing else",
                fix="do it in the function of the loop, or after the loop",
            )
        raise _Carry(tensor)

    def constant(self, buffer: Buffer) -> Any:
        """A constant of the program, an operand of the loop."""
        return self.outer.constant(buffer)

    def stands(self, tensor: Any) -> None:
        """Nothing of a trip is found in the user's objects afterwards."""

    def meet(self, tensor: Any) -> None:
        """Take a view of the trip again; what is outside is met outside."""
        if self._is_inside(tensor):
            super().meet(tensor)
        else:
            self.outer.meet(tensor)

    def taken_from(self, tensor: Any) -> tuple[Any, Any, Params, bool] | None:
        """(base, row, params, whether the tape recorded it) of a view."""
        if self._is_inside(tensor) or id(tensor) in self.origins:
            return super().taken_from(tensor)
        return self.outer.taken_from(tensor)

    def shows(self, view: Any, base: Any, row: Any, params: Params) -> None:
        """`view` is taken again when it is read after its base was assigned to in the trip."""
        super().shows(view, base, row, params)
        self.origins[id(view)].seen = self.value_of(base)

    def guarded_by(self, lock: Any) -> None:
        """The program takes this lock while it runs."""
        self.outer.guarded_by(lock)

    def assign(self, tensor: Any, new: Any) -> None:
        """From now on, in this trip, `tensor` holds what `new` holds."""
        if id(tensor) in self.own:
            raise CompileError(
                "the function of a loop writes to what it is given",
                got=f"an assignment to a carried tensor, or to a part of xs, at {user_line()}",
                rule="what a trip is given belongs to the code around, or to the trip before",
                fix="make a new tensor, and return it as the carry",
            )
        if not self._is_inside(tensor) and id(tensor) not in self.origins:
            shared = any(o.base is tensor for o in self.outer.origins.values())
            buffer = tensor._buffer
            if shared or (buffer is not None and buffer.family is not None):
                raise CompileError(
                    "the function of a loop writes to a tensor that has views",
                    got=f"an assignment to a tensor {tensor.shape} at {user_line()}",
                    rule="what a loop writes to it carries along whole; views would not see it",
                    fix="carry the tensor, and assign the last carry after the loop",
                )
            self._carry(tensor)
        super().assign(tensor, new)

    @contextmanager
    def carrying(self, tensors: Tensors) -> Generator[list[Any]]:
        """Tensors from outside stand for what a trip is given, within the block."""
        stands = [self.stand_in(t, t.spec) for t in tensors]
        before = [(t, t._value, t._node) for t in tensors]
        journal, STATE.journal = STATE.journal, None  # it is told of the loop as a whole
        try:
            for tensor, stand in zip(tensors, stands, strict=True):
                tensor._value, tensor._node = stand._value, stand._node
            yield stands
        finally:
            STATE.journal = journal
            for tensor, value, node in before:
                tensor._value, tensor._node = value, node


class _LoopRecording(GradientRule):
    """A recorded loop; on the tape it stands for the gradient of all its trips.

    Args:
        recorder: what records the code around.
        trip: the user's function, on lists of Tensors.
        carried, xs: what the loop is given.
        written: the last of the carried: Tensors that the function assigns to.
        order: one of these that says the order of calls of a user's functions, or None.
        reverse, length: the order and number of trips.

    Attributes:
        inner: what recorded the trip.
        given, own: values of carried and xs; what stands for them in the trip.
        results: (value in the trip, its place in the tape) of carried, of y, of what was stacked
            for gradients.
        places: (place in the tape, what was read there) of what the trip reads from outside.
    """

    name = "scan"
    asks_needs = asks_final = True

    def __init__(
        self, recorder: LoopRecorder, trip: Trip, carried: list[Any], xs: list[Any],
        written: list[Any], order: Any, reverse: bool, length: int,
    ):  # fmt: skip
        self.recorder, self.carried, self.xs = recorder, carried, xs
        self.reverse, self.length = reverse, length
        self.inner = inner = TripRecorder(recorder)
        start = autograd.next_sequence()
        with inner.carrying(written) as last, interpreting(inner):
            first = [inner.stand_in(c, c.spec) for c in carried[: len(carried) - len(written)]]
            parts = [inner.stand_in(x, Spec(x.shape[1:], x.dtype)) for x in xs]
            if order is not None:
                inner.calls, inner.after = order, order._value
            after, ys = trip(first, parts)
            if order is not None:
                order._value = inner.after
            self.results: list[tuple[Value, Any]] = [
                (inner.value_of(t), t._node if t.dtype.is_float else None)
                for t in (*after, *written, *ys)
            ]
        inner.over = True
        self.given = [recorder.value_of(t) for t in (*carried, *xs)]
        self.own = [t._value for t in (*first, *last, *parts)]
        self.marks = [t._node for t in (*first, *last, *parts)]
        self.count = len(inner.graph.nodes)
        self.start, self.y_count = start, len(ys)
        self.node: Node = Node(_SCAN, (), {}, ())
        self.tape: Any = None
        self.places: dict[Any, Any] = {}
        self.look_through_tape()

    # --- the node ---

    def body(self) -> tuple[tuple[Value, ...], Body]:
        """(what the loop is given, the trip that makes its results of it)."""
        results = [v for v, _ in self.results]
        nodes = live(self.inner.graph.nodes[: self.count], results)
        read = {v for n in nodes for v in n.inputs} | set(results)
        given = {inside: outside for outside, inside in self.inner.inside.items() if inside in read}
        return (*self.given, *given.values()), body_of([*self.own, *given], nodes, results)

    def add(self) -> list[Any]:
        """Add the node; gives what the loop gives, recorded by the tape."""
        recorder, n = self.recorder, len(self.carried)
        inputs, body = self.body()
        params: Params = {
            "body": body, "carries": n, "stacked": len(self.xs), "length": self.length,
            "reverse": self.reverse,
        }  # fmt: skip
        values = recorder.graph.add(_SCAN, inputs, params, user_line(), recorder._replay)
        self.node = recorder.graph.nodes[-1]
        recorder._made.update(values)
        if isinstance(recorder, TripRecorder):  # what it reads from outside is as it was read
            given = (*self.carried, *self.xs)
            recorder.tracked[self.node] = tuple(t._node is not None for t in given)
        outs = [from_value(v) for v in values]
        tracked = self._tracked()
        if STATE.recording and any(tracked):
            read = [from_handle(handle, place) for place, handle in self.places.items()]
            autograd.record(self, [*self.carried, *self.xs, *read], {}, tuple(outs))
            self.tape = next(t._node.node for t in outs if t._node is not None)
            for out, does in zip(outs, tracked, strict=True):
                if not does:
                    out._node = None
        return outs

    def look_through_tape(self) -> None:
        """Find what the results depend on, and where forward values are in the tape."""
        self.place_of: dict[Value, Any] = dict(zip(self.own, self.marks, strict=True))
        self.reached: list[set[Any]] = []  # by each result: marks and places outside
        selects = False
        for _, place in self.results:
            found, seen, stack = set[Any](), set[Any](), [(place, None)]
            while stack:
                place, handle = stack.pop()
                if place is None:
                    continue
                node = place.node if type(place) is Port else place
                if autograd.sequence_of(place) < self.start:
                    self.places.setdefault(place, handle)
                    found.add(place)
                elif place in self.marks:
                    found.add(place)
                elif node not in seen and type(node) is TapeNode:
                    seen.add(node)
                    several = type(node.output) is tuple
                    for i, made in enumerate(node.outputs):
                        self.place_of.setdefault(made, Port(node, i) if several else node)
                    selects = selects or bool(node.primitive is not None and node.primitive.selects)
                    stack.extend(zip(node.parents, node.inputs, strict=True))
            self.reached.append(found)
        self.has_selection = selects
        self.selects = tuple(range(len(self.own) + len(self.places))) if selects else ()

    def _tracked(self) -> list[bool]:
        """Of each result, whether it depends on what is recorded around the loop."""
        n = len(self.carried)
        given = [t._node is not None for t in (*self.carried, *self.xs)]
        while True:
            live_marks = {m for m, does in zip(self.marks, given, strict=True) if does} - {None}
            wanted = live_marks | set(self.places)
            found = [bool(reached & wanted) for reached in self.reached]
            grown = [a or b for a, b in zip(given[:n], found[:n], strict=True)]
            if grown == given[:n]:
                return found
            given[:n] = grown

    def stacked(self, value: Value, outs: Sequence[Any]) -> Any:
        """The values of all trips of something that the trip computes, as a Tensor.

        It is a y, or becomes one.
        """
        for i, (made, _) in enumerate(self.results):
            if made is value and i >= len(self.carried):
                return outs[i] if i < len(outs) else self._extra(i)
        self.results.append((value, self.place_of.get(value)))
        new = Value(Spec((self.length, *value.shape), value.dtype))
        self.recorder._made.add(new)
        inputs, body = self.body()
        node = self.node
        node.inputs, node.params = inputs, {**node.params, "body": body}
        node.outputs = (*node.outputs, new)
        self.tape.output = (*self.tape.output, new)
        return self._extra(len(self.results) - 1)

    def _extra(self, i: int) -> Any:
        place = None if self.results[i][1] is None else Port(self.tape, i)
        return from_value(self.node.outputs[i], place)

    # --- the gradient ---

    def vjp(
        self, g: Any, out: Any, *inputs: Any, needs: tuple[bool, ...], final: bool = False
    ) -> tuple[Any, ...]:
        """A loop the other way, and what is summed after it."""
        return LoopGradient(self, g, out, inputs, needs, final or self.has_selection).cotangents()
