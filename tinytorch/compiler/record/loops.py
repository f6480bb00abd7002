"""Recording a loop: one trip is recorded, the loop is one operation, and so is its gradient.

Knows a recorded body (bodies.py), the tape and graphs. The function of a loop runs once, on
stand-ins for what a trip is given. The gradient goes back through the tape of that one trip, is
replayed as the trip of a loop that runs the other way, and is recorded as any loop is: so gradients
of any order are loops.
"""

# What a Tensor consists of is read and set here, as in tensor/.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.record.bodies import Tensors, on_tape
from tinytorch.compiler.record.loop_gradient import LoopGradient, LoopRecord
from tinytorch.compiler.record.recorder import Params
from tinytorch.primitives import TABLE
from tinytorch.primitives.primitive import Spec
from tinytorch.tensor.autograd import GradientRule, Port
from tinytorch.tensor.memory import from_value

Trip = Callable[[Tensors, Tensors], tuple[list[Any], list[Any]]]
_SCAN = TABLE["scan"]


class LoopRecording(LoopRecord, GradientRule):
    """A recorded loop; on the tape it stands for the gradient of all its trips.

    Args:
        recorder: what records the code around.
        trip: the user's function, on lists of Tensors.
        carried, xs: what the loop is given.
        written, order: Tensors that the trip assigns to; see BodyRecording.
        reverse, length: the order and number of trips.

    Attributes:
        carried: what is carried, `written` too.
        results: carried, ys, and what was stacked for gradients; see BodyRecording.
    """

    name = "scan"
    asks_needs = asks_final = True

    def __init__(
        self, recorder: Any, trip: Trip, carried: Tensors, xs: Tensors, written: Tensors,
        order: Any, reverse: bool, length: int,
    ):  # fmt: skip
        rows = [(x, Spec(x.shape[1:], x.dtype)) for x in xs]
        super().__init__(recorder, trip, carried, rows, written, order)
        self.carried, self.xs = [*carried, *written], list(xs)
        self.reverse, self.length = reverse, length
        self.node: Node = Node(_SCAN, (), {}, ())
        self.tape: Any = None

    @property
    def selects(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """All that it is given, if something in it selects (see Primitive)."""
        return tuple(range(len(self.own) + len(self.places))) if self.has_selection else ()

    # --- the node ---

    def add(self) -> list[Any]:
        """Add the node; gives what the loop gives, recorded by the tape."""
        recorder, n = self.recorder, len(self.carried)
        given = self.reads()
        params: Params = {
            "body": self.body(given), "carries": n, "stacked": len(self.xs), "length": self.length,
            "reverse": self.reverse,
        }  # fmt: skip
        own = (*self.carried, *self.xs)
        values = [*map(recorder.value_of, own), *given]
        self.node = recorder.add_whole(_SCAN, values, params, own)
        outs = [from_value(v) for v in self.node.outputs]
        self.tape = on_tape(self, own, self.places, outs, self._tracked())
        return outs

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
        node, given = self.node, self.reads()
        node.inputs = (*node.inputs[: len(self.own)], *given)
        node.params = {**node.params, "body": self.body(given)}
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
