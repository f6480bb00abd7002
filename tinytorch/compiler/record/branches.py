"""Recording a branch: both functions are recorded, the branch is one operation, and so is its
gradient.

Knows recorded bodies (bodies.py), the tape and graphs. What both functions read from outside are
the operands of the branch. The gradient goes back through the tapes of both; what these write down
are the two cases of another branch on the same predicate, recorded as any branch is: so gradients
of any order are branches. What a gradient reads of the forward run is one more result of its case;
in the other case it is not computed, and nobody reads it.
"""

# What a Tensor consists of is read and set here, as in tensor/.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.record.bodies import BodyRecording, Run, Tensors, on_tape
from tinytorch.compiler.record.body_gradient import BodyGradient
from tinytorch.compiler.record.recorder import Params
from tinytorch.primitives import TABLE
from tinytorch.tensor import autograd
from tinytorch.tensor.autograd import GradientRule, Port
from tinytorch.tensor.creation import zeros
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.memory import from_value

Case = Callable[[], Sequence[Any]]
_COND = TABLE["cond"]


class BranchRecording(GradientRule):
    """A recorded branch; on the tape it stands for the gradient of the case that is taken.

    Args:
        recorder: what records the code around.
        predicate: a bool Tensor of shape ().
        cases: the user's functions: what is done where it holds, and where it does not.
        written, order: Tensors that one of them assigns to; see BodyRecording.

    Attributes:
        results: how many both give: what is written first.
        tapes: for each output on the tape its place among the results of both cases, None in the
            one that does not give it.
    """

    name = "cond"
    asks_needs = asks_final = True

    def __init__(
        self, recorder: Any, predicate: Any, cases: Sequence[Case], written: Tensors, order: Any
    ):
        self.recorder, self.predicate, self.written = recorder, predicate, list(written)
        self.cases = [
            BodyRecording(recorder, _run_of(case), (), (), written, order) for case in cases
        ]
        self.results = len(self.cases[0].results)
        self.tapes: list[tuple[int | None, int | None]] = [(i, i) for i in range(self.results)]
        self.places: dict[Any, Any] = {}
        for case in self.cases:
            self.places.update(case.places)
        # what the case that is not taken would have read has a gradient that is zero for good
        self.selects = tuple(range(len(self.written) + len(self.places)))
        self.node: Node = Node(_COND, (), {}, ())
        self.tape: Any = None

    def _described(self) -> tuple[list[Value], Params]:
        """(what the bodies are given, the parameters of the node)."""
        reads = [v for case in self.cases for v in case.reads()]
        given = list(dict.fromkeys(reads))
        true, false = (case.body(given) for case in self.cases)
        return given, {"true": true, "false": false, "results": self.results}

    def add(self) -> list[Any]:
        """Add the node; gives what the branch gives, recorded by the tape."""
        if not self.results:
            return []
        own = (self.predicate, *self.written)
        given, params = self._described()
        values = [*map(self.recorder.value_of, own), *given]
        self.node = self.recorder.add_whole(_COND, values, params, own)
        outs = [from_value(v) for v in self.node.outputs]
        self.tape = on_tape(self, self.written, self.places, outs, self._tracked())
        return outs

    def _tracked(self) -> list[bool]:
        """Of each result, whether it depends on what is recorded around the branch."""
        found = [False] * self.results
        for case in self.cases:
            pairs = zip(case.marks, self.written, strict=True)
            wanted = {m for m, t in pairs if t._node is not None} | set(self.places)
            found = [does or bool(r & wanted) for does, r in zip(found, case.reached, strict=True)]
        return found

    def kept(self, number: int, value: Value) -> Any:
        """A value that one of the cases computes, as a Tensor: a result, or one more."""
        case = self.cases[number]
        for i, (made, _) in enumerate(case.results):
            if made is value:
                return self._result(number, i)
        case.results.append((value, case.place_of.get(value)))
        new, node = Value(value.spec), self.node
        self.recorder._made.add(new)
        given, params = self._described()
        node.inputs = (*node.inputs[: 1 + len(self.written)], *given)
        node.params = params
        at = len(node.outputs) if number else len(case.results) - 1
        node.outputs = (*node.outputs[:at], new, *node.outputs[at:])
        self.tape.output = (*self.tape.output, new)
        i = len(case.results) - 1
        self.tapes.append((i, None) if number == 0 else (None, i))
        return self._result(number, i)

    def _result(self, number: int, i: int) -> Any:
        """Result i of a case."""
        at = next(k for k, places in enumerate(self.tapes) if places[number] == i)
        place = None if self.cases[number].results[i][1] is None else Port(self.tape, at)
        return from_value(self.tape.output[at], place)

    # --- the gradient ---

    def vjp(
        self, g: Any, out: Any, *inputs: Any, needs: tuple[bool, ...], final: bool = False
    ) -> tuple[Any, ...]:
        """A branch on the same predicate: the gradient of the case that was taken, or zeros."""
        gradients = [_CaseGradient(self, i, g, inputs, needs, final) for i in range(2)]
        wanted = [k for k, does in enumerate(needs) if does and any(x.has(k) for x in gradients)]
        true, false = (gradient.case(wanted) for gradient in gradients)
        interpreter: Any = STATE.interpreter
        found = dict(zip(wanted, interpreter.cond(self.predicate, true, false), strict=True))
        return tuple([found.get(k) for k in range(len(inputs))])


def _run_of(case: Case) -> Run:
    """A function of nothing as the function of a body."""

    def run(carried: Tensors, others: Tensors) -> tuple[Tensors, Tensors]:
        return (), case()

    return run


class _CaseGradient(BodyGradient):
    """The gradient of one case.

    Args:
        branch, number: of which branch, and of which of its cases.
        g: cotangents of the outputs on the tape, None where there is none.
        inputs: what was written, and what was read from outside.
        needs: of which of these a cotangent is wanted.
        final: whether zeros in cotangents are final (see Primitive).
    """

    def __init__(
        self, branch: BranchRecording, number: int, g: Sequence[Any], inputs: Sequence[Any],
        needs: Sequence[bool], final: bool,
    ):  # fmt: skip
        case = branch.cases[number]
        super().__init__(case, inputs, needs, branch.places)
        self.branch, self.number = branch, number
        self.g = {places[number]: x for places, x in zip(branch.tapes, g, strict=False)}
        self.go_back(final or case.has_selection)

    def pulled(self, wanted: list[Any], final: bool) -> dict[Any, Any]:
        """Cotangents at the wanted places, from stand-ins for those of the results."""
        roots: list[tuple[Any, Any]] = []
        for i, (value, place) in enumerate(self.recording.results):
            g = self.g.get(i)
            if place is not None and g is not None:
                seed = from_value(self.inner.new_value(value.spec))
                self.seeds[seed._value] = g
                roots.append((place, seed))
        return autograd.propagate(roots, wanted, keep=True, final=final)

    def taken(self, v: Value) -> Any:
        """What was written, as it came; or one more result of the case."""
        own = self.recording.own
        return self.inputs[own.index(v)] if v in own else self.branch.kept(self.number, v)

    def has(self, k: int) -> bool:
        """Whether a cotangent arrives at input k."""
        return self.places[k] in self.found

    def case(self, wanted: Iterable[int]) -> Case:
        """The case of the gradient, which gives cotangents of the wanted inputs."""
        cotangents = [(k, self.found.get(self.places[k])) for k in wanted]
        order = self.decide([v for _, v in cotangents if v is not None])

        def run() -> list[Any]:
            env: dict[Value, Any] = {**self.seeds, **self.read}
            for node in order:
                self.replay(node, env)
            return [
                zeros(self.inputs[k].shape, dtype=self.inputs[k].dtype)
                if v is None
                else self.get(env, v)
                for k, v in cotangents
            ]

        return run
