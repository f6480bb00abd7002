"""The captured program: a list of primitives over values, in the order they were called.

Knows primitives and Specs, never Tensors or machine code. `str(graph)` prints it as a Python
function over the primitives, `graph.source()` as a module that can be run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tinytorch.base.dtypes import DType
from tinytorch.base.errors import CompileError
from tinytorch.base.lengths import Dim
from tinytorch.codegen.target import Target
from tinytorch.compiler.graph.axes import Axes, Axis
from tinytorch.primitives.body import Body, params_written
from tinytorch.primitives.primitive import OpClass, Primitive, Spec

# Rows of these classes look at places that are known at run time only, or run the code of a user.
_MAY_FAIL = (
    OpClass.LOOKUP, OpClass.GATHER, OpClass.SCATTER, OpClass.UPDATE, OpClass.WINDOW,
    OpClass.OPAQUE,
)  # fmt: skip
WRITTEN_OUT = 16  # elements of a constant that is printed as a list

# What a program may compute again in place of keeping it; see plan/recompute.py.
RECOMPUTE = ("cheap", "none", "elementwise")


@dataclass(eq=False)
class Value:
    """One array of the program, known by shape and dtype only."""

    spec: Spec
    name: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self.spec.shape

    @property
    def dtype(self) -> DType:
        """Number type."""
        return self.spec.dtype

    def __repr__(self) -> str:
        return f"{self.name or 'value'}: {self.dtype.name}{list(self.shape)}"


@dataclass(eq=False)
class Node:
    """One application of a primitive.

    Args:
        primitive: the row of the table.
        inputs: values it reads.
        params: its static parameters.
        outputs: values it makes.
        where: "file.py:12" of the user's line, for errors and `explain()`.
        replay: 0 of what is computed the first time; else the number of the replay that computes
            it again, so that what the first time gave need not be kept. Nodes of different replays
            are never one node, and never in one kernel unless they lie there in this order anyway.
        gradient_of: where a rule of backward() made it: "exp at file.py:10", the operation.
        ends: of a contraction, the valid places of the axis that it sums over (plan/ends.py); what
            its operands have beyond counts as 0, and may be NaN.
    """

    primitive: Primitive
    inputs: tuple[Value, ...]
    params: dict[str, Any]
    outputs: tuple[Value, ...]
    where: str = ""
    replay: int = 0
    gradient_of: str = ""
    ends: Axis | None = None

    @cached_property
    def is_movement(self) -> bool:
        """It gives the same numbers at other places."""
        return self.primitive.op_class is OpClass.MOVEMENT

    @cached_property
    def is_source(self) -> bool:
        """It reads nothing."""
        return self.primitive.op_class is OpClass.SOURCE

    @property
    def is_position(self) -> bool:
        """It reads nothing and counts along an axis."""
        return self.is_source and self.constant is None

    @cached_property
    def is_reduction(self) -> bool:
        """It is a sum, product, maximum, ... over axes."""
        return self.primitive.op_class is OpClass.REDUCTION

    @cached_property
    def is_lookup(self) -> bool:
        """It reads whole rows at data-dependent places."""
        return self.primitive.op_class is OpClass.LOOKUP

    @property
    def is_update(self) -> bool:
        """It copies its first input and writes a part: of a state, only that part is written."""
        return self.primitive.op_class is OpClass.UPDATE

    @cached_property
    def may_fail_inside(self) -> bool:
        """It has a body in which indices are checked, or the code of a user is called."""
        return any(row.op_class in _MAY_FAIL for body in self.bodies for row in body.rows)

    @cached_property
    def is_loop(self) -> bool:
        """It runs a body again and again."""
        return self.primitive.op_class is OpClass.LOOP

    @property
    def body(self) -> Body:
        """What a loop runs."""
        return self.params["body"]

    @cached_property
    def is_branch(self) -> bool:
        """It runs one of two bodies."""
        return self.primitive.op_class is OpClass.BRANCH

    @property
    def certain(self) -> tuple[Value, ...]:
        """The outputs that are made in every run: of a branch those that both cases give."""
        return self.outputs[: self.params["results"]] if self.is_branch else self.outputs

    @property
    def bodies(self) -> tuple[Body, ...]:
        """What a loop runs, the two cases of a branch; of other rows there are none."""
        return tuple(p for p in self.params.values() if isinstance(p, Body))

    @property
    def reduced_axes(self) -> frozenset[int]:
        """The axes of the input a reduction runs over, as non-negative numbers."""
        rank = len(self.inputs[0].shape)
        axes: Sequence[int] | None = self.params.get("axes")
        return frozenset(range(rank) if axes is None else (a % rank for a in axes))

    @property
    def constant(self) -> float | None:
        """The number that a source gives everywhere; None where it is none, or counts."""
        return self.params.get("value") if self.is_source else None


def applied(
    primitive: Primitive,
    inputs: tuple[Value, ...],
    params: dict[str, Any],
    where: str = "",
    replay: int = 0,
) -> Node:
    """A node whose outputs are what the shape rule of its primitive says."""
    outputs = tuple(Value(s) for s in inferred(primitive, inputs, params))
    return Node(primitive, inputs, params, outputs, where, replay)


def inferred(
    primitive: Primitive, inputs: Sequence[Value], params: dict[str, Any]
) -> tuple[Spec, ...]:
    """The Spec of each output, by the shape rule of the primitive."""
    specs: Spec | tuple[Spec, ...] = primitive.infer(*(v.spec for v in inputs), **params)
    return specs if isinstance(specs, tuple) else (specs,)


def evaluated(
    primitive: Primitive,
    inputs: Sequence[Value],
    params: dict[str, Any],
    held: Mapping[Value, np.ndarray],
) -> tuple[np.ndarray, ...]:
    """What the definition of a primitive makes of the stored arrays that are held."""
    arrays, dtypes = tuple(held[v] for v in inputs), tuple(v.dtype for v in inputs)
    out: np.ndarray | tuple[np.ndarray, ...] = primitive.evaluate(arrays, dtypes, params)
    return out if isinstance(out, tuple) else (out,)


@dataclass(eq=False)
class Graph:
    """A program.

    Args:
        arguments: values given anew at each call.
        states: values that live in the user's Tensors between calls: weights, optimizer state.
        constants: values fixed at capture, with their arrays (in storage form).
        nodes: in an order in which every value is made before it is read.
        results: values returned to the caller in fresh memory.
        updates: (state, new value) pairs: after the call the state's memory holds the new value.
        ragged: the axes of arguments and results of which only a part is valid (axes.py).
        recompute: which values the passes may compute again in place of keeping them, one of
            `RECOMPUTE`.
        frozen: states that stay as they are from call to call, or nearly always: what depends on
            them alone is computed once for their numbers. None of them is updated.
        lengths: for each dim the argument that says how long it is.
        fixed: arguments that have the same numbers in many runs: of a loop's body, what all trips
            read alike.
    """

    arguments: list[Value] = field(default_factory=list[Value])
    states: list[Value] = field(default_factory=list[Value])
    constants: dict[Value, np.ndarray] = field(default_factory=dict[Value, np.ndarray])
    nodes: list[Node] = field(default_factory=list[Node])
    results: list[Value] = field(default_factory=list[Value])
    updates: list[tuple[Value, Value]] = field(default_factory=list[tuple[Value, Value]])
    ragged: dict[Value, Axes] = field(default_factory=dict[Value, Axes])
    recompute: str = RECOMPUTE[0]
    frozen: list[Value] = field(default_factory=list[Value])
    lengths: dict[Dim, Value] = field(default_factory=dict[Dim, Value])
    fixed: list[Value] = field(default_factory=list[Value])

    @property
    def outputs(self) -> list[Value]:
        """Everything that must exist when the program ends: results, then new states."""
        return [*self.results, *(new for _, new in self.updates)]

    def add(
        self,
        primitive: Primitive,
        inputs: tuple[Value, ...],
        params: dict[str, Any],
        where: str = "",
        replay: int = 0,
    ) -> tuple[Value, ...]:
        """Append one application; its shape rule says what the outputs are."""
        self.nodes.append(applied(primitive, inputs, params, where, replay))
        return self.nodes[-1].outputs

    def producers(self) -> dict[Value, Node]:
        """The node that makes each value that is made."""
        return {v: n for n in self.nodes for v in n.outputs}

    def users(self) -> dict[Value, list[Node]]:
        """For each value the nodes that read it."""
        out: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for v in dict.fromkeys(node.inputs):
                out.setdefault(v, []).append(node)
        return out

    def name_values(self) -> None:
        """A unique name for every value: a0 argument, s0 state, c0 constant, v0 all others."""
        for letter, values in (
            ("a", self.arguments),
            ("s", self.states),
            ("c", list(self.constants)),
        ):
            for i, v in enumerate(values):
                v.name = f"{letter}{i}"
        i = 0
        for node in self.nodes:
            for v in node.outputs:
                v.name = f"v{i}"
                i += 1

    def __str__(self) -> str:
        self.name_values()
        given = ", ".join(f'{v.name}: "{_text(v.spec)}"' for v in (*self.arguments, *self.states))
        lines = [f"def program({given}):"]
        if self.recompute != RECOMPUTE[0]:
            lines.append(f"    # recompute: {self.recompute}")
        if self.frozen:
            lines.append("    # frozen: " + ", ".join(v.name for v in self.frozen))
        for v, array in self.constants.items():
            lines.append(f"    {v.name} = {_array_text(v.name, array)}  # {_text(v.spec)}")
        for node in self.nodes:
            left = ", ".join(v.name for v in node.outputs)
            before, params = params_written(node.params, f"body_{node.outputs[0].name}")
            lines.extend("    " + line for line in before)
            right = ", ".join([*(v.name for v in node.inputs), *params])
            shapes = ", ".join(_text(v.spec) for v in node.outputs)
            shapes += f", replay {node.replay}" if node.replay else ""
            shapes += f", ends at {node.ends}" if node.ends else ""
            lines.append(f"    {left} = {node.primitive.name}({right})  # {shapes}")
        kept = self._views_of_updated()
        lines.extend(f"    {name} = np.array({v.name})  # kept" for v, name in kept.items())
        lines.extend(f"    {old.name}[...] = {kept.get(v, v.name)}" for old, v in self.updates)
        lines.extend(
            f"    # {v.name}: valid are {', '.join(map(str, axes))}"
            for v, axes in self.ragged.items()
        )
        given_back = ", ".join(kept.get(v, v.name) for v in self.results)
        return "\n".join([*lines, "    return " + (given_back or "None")])

    def _views_of_updated(self) -> dict[Value, str]:
        """Outputs that show the old numbers of an updated state, with a name for a copy of each."""
        updated = {old for old, new in self.updates if new is not old}
        producer, found = self.producers(), dict[Value, str]()
        for v in self.outputs:
            base = v
            while (node := producer.get(base)) is not None and node.is_movement:
                base = node.inputs[0]
            if base in updated:
                found.setdefault(v, f"k{len(found)}")
        return found

    def source(self, constants: str = "") -> str:
        """A Python module whose function `program` does what the graph says, by NumPy.

        Args:
            constants: an .npz file with the arrays too long to be written out, which
                `np.savez(constants, **graph.long_constants())` makes.

        The function takes stored arrays (bfloat16 as uint16), overwrites those of the states that
        are updated, and returns the results.
        """
        rows = dict.fromkeys(node.primitive for node in self.nodes)
        bodies = [body for node in self.nodes for body in node.bodies]
        for body in bodies:
            rows.update(dict.fromkeys(body.rows))
        lines = ["from math import inf, nan", "", "import numpy as np", "", "import tinytorch"]
        lines += ["from tinytorch.primitives.body import Body, in_bodies"] if bodies else []
        lines += ["from tinytorch.primitives.primitive import TABLE, Spec", ""]
        for row in rows:
            source = bodies and row.op_class is OpClass.SOURCE
            call = f'in_bodies(TABLE["{row.name}"])' if source else f'TABLE["{row.name}"]'
            lines.append(f"{row.name} = {call}")
        if self.long_constants():
            lines.append(f"constants = np.load({constants!r})")
        return "\n".join([*lines, "", "", str(self), ""])

    def long_constants(self) -> dict[str, np.ndarray]:
        """The constants that the text does not write out, by name."""
        self.name_values()
        return {v.name: a for v, a in self.constants.items() if a.size > WRITTEN_OUT}


def _text(spec: Spec) -> str:
    return f"{spec.dtype.name}{list(spec.shape)}"


def _array_text(name: str, array: np.ndarray) -> str:
    if array.size > WRITTEN_OUT:
        return f'constants["{name}"]'
    return f'np.array({array.tolist()!r}, "{array.dtype.name}").reshape({array.shape})'


@dataclass(frozen=True, eq=False)
class Captured:
    """A program as it was recorded, and the machine to write code for.

    Args:
        graph: the program.
        target: the machine.
        lower: gives the tasks (plan/stages.py) of a body in it, as a graph, and of the
            number of checks that come before.
        checks: how many checks of indices come before those of this program, if it is such a body.
    """

    graph: Graph
    target: Target
    lower: Callable[[Graph, int], Any] | None = None
    checks: int = 0

    def __str__(self) -> str:
        return str(self.graph)


def check_captured(captured: Captured) -> None:
    """See `verify`."""
    verify(captured.graph, "capture")


def verify(graph: Graph, after: str) -> Graph:
    """Check what every pass must leave true; returns the graph. `after` names the pass."""

    def refuse(problem: str, got: object) -> None:
        raise CompileError.own_fault(
            f"the compiler pass {after!r} made an invalid program: {problem}",
            got=got,
            rule="every value is made once, before it is read, with the Spec its primitive infers",
        )

    made = {*graph.arguments, *graph.states, *graph.constants}
    for v, array in graph.constants.items():
        if array.shape != v.shape or array.dtype != v.dtype.storage:
            refuse("a constant differs from its Spec", v)
    for node in graph.nodes:
        for v in node.inputs:
            if v not in made:
                refuse("a value is read before it is made", f"{v!r} in {node.primitive.name}")
        specs = inferred(node.primitive, node.inputs, node.params)
        if tuple(v.spec for v in node.outputs) != specs:
            refuse(
                "an output differs from the shape rule", f"{node.outputs} of {node.primitive.name}"
            )
        for v in node.outputs:
            if v in made:
                refuse("a value is made twice", v)
            made.add(v)
    for v in graph.outputs:
        if v not in made:
            refuse("an output is never made", v)
    states = set(graph.states)
    for v in graph.frozen:
        if v not in states or any(v is old for old, _ in graph.updates):
            refuse("what is frozen is no state, or is updated", v)
    for old, new in graph.updates:
        if old not in states or old.spec != new.spec:
            refuse("an update does not fit its state", f"{old!r} from {new!r}")
    return graph


# What a graph means: the slow definition that compiled programs are compared with.


def run_reference(graph: Graph, arrays: Mapping[Value, np.ndarray]) -> dict[Value, np.ndarray]:
    """Every value of the graph, as stored arrays (bfloat16 as uint16).

    Args:
        graph: the program.
        arrays: an array for each argument and each state; they are read, never written.

    Returns:
        a dict from Value to array: arguments, states, constants and everything the nodes make.
        New states are found under the second value of each pair in `graph.updates`.
    """
    held: dict[Value, np.ndarray] = {**graph.constants}
    for value in (*graph.arguments, *graph.states):
        held[value] = np.asarray(arrays[value])
    for node in graph.nodes:
        out = evaluated(node.primitive, node.inputs, node.params, held)
        held.update(zip(node.outputs, out, strict=True))
    return held


def step_reference(
    graph: Graph, arrays: Mapping[Value, np.ndarray]
) -> tuple[list[np.ndarray], dict[Value, np.ndarray]]:
    """One call of the program: the results, and the new array of each updated state."""
    held = run_reference(graph, arrays)
    return [held[v] for v in graph.results], {old: held[new] for old, new in graph.updates}
