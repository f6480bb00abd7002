"""Recording a body: what a function does once, on stand-ins, in a recorder of its own.

Knows Tensors, the tape and graphs; never what the user's function computes, or how often the body
will run. What the function reads from outside becomes an operand of the body. A Tensor from outside
that it assigns to is carried through: the body is given it and gives the new one.
"""

# What a Tensor consists of is read and set here, as in tensor/.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any

from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.bodies import body_of
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.record.recorder import Params, Recorder, is_number
from tinytorch.primitives.body import Body
from tinytorch.primitives.primitive import Primitive, Spec
from tinytorch.tensor import autograd
from tinytorch.tensor.autograd import GradientRule, Leaf, Port, TapeNode
from tinytorch.tensor.interpreter import STATE, interpreting, user_line
from tinytorch.tensor.memory import Buffer, from_handle, from_value

Tensors = Sequence[Any]
Run = Callable[[Tensors, Tensors], tuple[Sequence[Any], Sequence[Any]]]


class Carry(BaseException):  # no error: `except Exception` lets it pass
    """Raised where a body assigns to a Tensor from outside: that is carried through, too.

    Args:
        tensor: the Tensor; None where a user's function is called: then the order of such calls is.
    """

    def __init__(self, tensor: Any):
        super().__init__()
        self.tensor = tensor


class BodyRecorder(Recorder):
    """Records a body: what a function does of what is known around it.

    Args:
        outer: what records the code around.

    Attributes:
        inside: value of the code around -> what stands for it in the body.
        tracked: of each node, whether the operands were recorded by the tape.
        own: the Tensors that stand for what the body is given.
        calls: what stands for the order of calls of a user's functions, if there are such.
        over: whether the body has been recorded, and only its gradient is now.
    """

    def __init__(self, outer: Recorder):
        super().__init__()
        self.outer, self._start = outer, outer._start
        self.inside: dict[Value, Value] = {}
        self.tracked: dict[Node, tuple[bool, ...]] = {}
        self.own: dict[int, Any] = {}
        self.calls: Any = None
        self.over = False

    def stand_in(self, like: Any, spec: Spec) -> Any:
        """A Tensor for something that each run is given anew, with its own place in the tape."""
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
        """What stands for the numbers of a Tensor in the body."""
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
        """Whether the recorder around all bodies lets numbers be states."""
        outer = self.outer
        return outer.lifts if isinstance(outer, BodyRecorder) else outer.lift_numbers

    def add_whole(
        self, row: Primitive, inputs: Sequence[Value], params: Params, own: Tensors
    ) -> Node:
        """Add a loop or branch, and note what the tape knew of what it is given."""
        node = super().add_whole(row, inputs, params, own)
        self.tracked[node] = tuple([t._node is not None for t in own])
        return node  # what it reads from outside is as it was read

    def order(self) -> Any:
        """What the next call of a user's function waits for: it comes from outside."""
        if self.calls is None:
            self._carry(None)
        return from_value(self.after)

    def _carry(self, tensor: Any) -> None:
        """Record the body again, with something more that is carried through it."""
        if self.over:
            raise CompileError(
                "the gradient of a loop or branch writes to something, or calls your function",
                got=f"that happens backward, at {user_line()}",
                rule="what is done backward gives cotangents, and does nothing else",
                fix="do it in the function of the loop or branch, or after it",
            )
        raise Carry(tensor)

    def constant(self, buffer: Buffer) -> Any:
        """A constant of the program, an operand of the body."""
        return self.outer.constant(buffer)

    def stands(self, tensor: Any) -> None:
        """Nothing of a body is found in the user's objects afterwards."""

    def meet(self, tensor: Any) -> None:
        """Take a view of the body again; what is outside is met outside."""
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
        """`view` is taken again when it is read after its base was assigned to in the body."""
        super().shows(view, base, row, params)
        self.origins[id(view)].seen = self.value_of(base)

    def guarded_by(self, lock: Any) -> None:
        """The program takes this lock while it runs."""
        self.outer.guarded_by(lock)

    def assign(self, tensor: Any, new: Any) -> None:
        """From now on, in this body, `tensor` holds what `new` holds."""
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
                    "the function of a loop or branch writes to a tensor that has views",
                    got=f"an assignment to a tensor {tensor.shape} at {user_line()}",
                    rule="what it writes to is carried through whole; views would not see it",
                    fix="return the new tensor, and assign it after the loop or branch",
                )
            self._carry(tensor)
        super().assign(tensor, new)

    @contextmanager
    def carrying(self, tensors: Tensors) -> Generator[list[Any]]:
        """Tensors from outside stand for what the body is given, within the block."""
        stands = [self.stand_in(t, t.spec) for t in tensors]
        before = [(t, t._value, t._node) for t in tensors]
        journal, STATE.journal = STATE.journal, None  # it is told of the whole
        try:
            for tensor, stand in zip(tensors, stands, strict=True):
                tensor._value = stand._value
                if type(tensor._node) is Leaf:  # of it only the numbers change
                    stand._node = None
                else:
                    tensor._node = stand._node
            yield stands
        finally:
            STATE.journal = journal
            for tensor, value, node in before:
                tensor._value, tensor._node = value, node


@contextmanager
def _gradients_stay(recorder: Any) -> Generator[None]:
    """What a body leaves in `.grad` within the block is not to be found there afterwards.

    Raises:
        CompileError: it leaves something else there than it found.
    """
    while isinstance(recorder, BodyRecorder):
        recorder = recorder.outer
    before = {leaf: leaf.grad for leaf in recorder.leaves}
    try:
        yield
        leaves = recorder.leaves.items()
        other = [leaf for leaf, at in leaves if leaf.grad is not before.get(leaf, at)]
        if other:
            raise CompileError(
                "the function of a loop or branch leaves another .grad than it found",
                got=f"{len(other)} gradients that are new or gone",
                rule="whether there is a gradient is the same after each trip and in both cases",
                fix="backward(), the optimizer's step and zero_grad() all in it, or all outside;"
                " or tt.grad, which gives gradients",
            )
    finally:
        for leaf, at in recorder.leaves.items():
            leaf.grad = before.get(leaf, at)


class BodyRecording:
    """A recorded body, and where its tape leads.

    Args:
        recorder: what records the code around.
        run: the function, on lists of Tensors: (carried, others) -> (carried anew, the rest).
        carried: Tensors that the body is given and gives anew.
        others: of what else it is given.
        written: Tensors from outside that the function assigns to; carried behind the others.
        order: one of these that says the order of calls of a user's functions, or None.

    Attributes:
        inner: what recorded the body.
        own: what stands for what it is given; marks: their places in the tape.
        results: (value in the body, its place in the tape): carried, written, the rest, and what
            gradients read besides.
        count: how many nodes the function itself has recorded.
        places: (place in the tape, what was read there) of what is read from outside.
        place_of: where the values of the body are in the tape.
        reached: by each result: marks and places outside.
        has_selection: whether the tape goes through a row that selects.
    """

    def __init__(
        self, recorder: Any, run: Run, carried: Tensors, others: Sequence[tuple[Any, Spec]],
        written: Tensors, order: Any,
    ):  # fmt: skip
        self.recorder = recorder
        self.inner: BodyRecorder = recorder.for_body()
        inner, self.start = self.inner, autograd.next_sequence()
        stay = _gradients_stay(recorder)
        with stay, inner.carrying(written) as last, interpreting(inner):
            first = [inner.stand_in(c, c.spec) for c in carried]
            parts = [inner.stand_in(x, spec) for x, spec in others]
            if order is not None:
                inner.calls, inner.after = order, order._value
            after, rest = run(first, parts)
            if order is not None:
                order._value = inner.after
            self.results: list[tuple[Value, Any]] = [
                *(_result(inner, t) for t in after),
                *((inner.value_of(t), None) if type(t._node) is Leaf else _result(inner, t)
                  for t in written),
                *(_result(inner, t) for t in rest),
            ]  # fmt: skip
        inner.over = True
        self.own = [t._value for t in (*first, *last, *parts)]
        self.marks = [t._node for t in (*first, *last, *parts)]
        self.count = len(inner.graph.nodes)
        self.places: dict[Any, Any] = {}
        self.look_through_tape()

    def _nodes(self) -> list[Node]:
        return live(self.inner.graph.nodes[: self.count], [v for v, _ in self.results])

    def reads(self) -> list[Value]:
        """Values of the code around that the results need."""
        read = {v for n in self._nodes() for v in n.inputs} | {v for v, _ in self.results}
        return [outside for outside, inside in self.inner.inside.items() if inside in read]

    def body(self, given: Sequence[Value]) -> Body:
        """What makes the results of what stands for `own` and of values of the code around."""
        inside = [self.inner.inside.get(v) or Value(v.spec) for v in given]
        return body_of([*self.own, *inside], self._nodes(), [v for v, _ in self.results])

    def look_through_tape(self) -> None:
        """Find what the results depend on, and where forward values are in the tape."""
        self.place_of: dict[Value, Any] = dict(zip(self.own, self.marks, strict=True))
        self.reached: list[set[Any]] = []
        outside: dict[Value, Any] = {v: value for value, v in self.inner.inside.items()}
        selects = False
        for value, place in self.results:
            found, seen, stack = set[Any](), set[Any](), [(place, outside.get(value))]
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
                elif node not in seen and type(node) is TapeNode and autograd.goes_back(node):
                    seen.add(node)
                    several = type(node.output) is tuple
                    for i, made in enumerate(node.outputs):
                        self.place_of.setdefault(made, Port(node, i) if several else node)
                    selects = selects or bool(node.primitive is not None and node.primitive.selects)
                    stack.extend(zip(node.parents, node.inputs, strict=True))
            self.reached.append(found)
        self.has_selection = selects


def on_tape(
    rule: GradientRule, given: Sequence[Any], places: dict[Any, Any], outs: Sequence[Any],
    tracked: Sequence[bool],
) -> Any:  # fmt: skip
    """Put a loop or a branch on the tape as one node; gives that, None if no result depends on it.

    Args:
        rule: its gradient.
        given, places: what it is given, and what is read from outside besides.
        outs, tracked: its results, and whether each depends on what is recorded around.
    """
    if not (STATE.recording and any(tracked)):
        return None
    read = [from_handle(handle, place) for place, handle in places.items()]
    autograd.record(rule, [*given, *read], {}, tuple(outs))
    tape = next(t._node.node for t in outs if t._node is not None)
    for out, does in zip(outs, tracked, strict=True):
        if not does:
            out._node = None
    return tape


def _result(inner: BodyRecorder, tensor: Any) -> tuple[Value, Any]:
    return inner.value_of(tensor), tensor._node if tensor.dtype.is_float else None


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
