"""Graphs of primitives drawn at random, each node evaluated when it is appended.

A value of the program is an Entry: what the definition makes of it in float64, with a bound for
every element (error_bounds.py). An operation whose result could not be held to anything (an
overflow, an error as large as the number) is not taken, so every element that is compared means
something. Knows the table of primitives, never what any of them does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from tests.compiler.bounded import Bounded, given, known
from tests.compiler.error_bounds import step_bounded
from tests.compiler.random_values import KINDS, Chooser, Refused, indices, numbers
from tinytorch.base.dtypes import DType, int32, int64
from tinytorch.base.errors import TinyTorchError
from tinytorch.compiler.graph.graph import Graph, Value
from tinytorch.primitives import TABLE
from tinytorch.primitives.primitive import Spec, store

HIGHEST = 2.0**20  # of a float; squares of its sums are still far from the largest float32
COARSE = 0.05  # an error this large beside the number tells nothing


@dataclass(eq=False)
class Entry:
    """A value of the program being drawn.

    Args:
        value: in the graph.
        bounded: its numbers, and how far right answers may lie apart.
    """

    value: Value
    bounded: Bounded

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> DType:
        return self.value.dtype

    @property
    def is_float(self) -> bool:
        return self.dtype.is_float

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)


class Drawn:
    """A program, its inputs, and the bounds of each of its values."""

    def __init__(self):
        self.graph = Graph()
        self.arrays: dict[Value, np.ndarray] = {}
        self.bounds: dict[Value, Bounded] = {}

    def __repr__(self) -> str:
        """The graph without what nobody reads."""
        graph = Graph(self.graph.arguments, self.graph.states, self.graph.constants)
        graph.results, graph.updates = self.graph.results, self.graph.updates
        live = set(graph.outputs)
        for node in reversed(self.graph.nodes):
            if live & set(node.outputs):
                graph.nodes.insert(0, node)
                live |= set(node.inputs)
        graph.arguments = [v for v in graph.arguments if v in live]
        return str(graph)


class Writer(Chooser):
    """Draws one program.

    Attributes:
        pool: the values that there are.
        asked: those that the program returns in any case; of the others a few are chosen.
    """

    def __init__(self, seed: object = 0, replayed: Sequence[int] | None = None):
        super().__init__(seed, replayed)
        self.drawn = Drawn()
        self.graph = self.drawn.graph
        self.pool: list[Entry] = []
        self.asked: list[Entry] = []

    def entry(self, fits: Callable[[Entry], bool] = lambda e: True) -> Entry:
        """A value that fits; the newest is the simplest choice."""
        return self.choose([e for e in reversed(self.pool) if fits(e)])

    def given(self, shape: tuple[int, ...], dtype: DType, state: bool = False, array=None) -> Entry:
        """A new argument or state, of small whole numbers unless the array is given."""
        value = Value(Spec(tuple(shape), dtype))
        (self.graph.states if state else self.graph.arguments).append(value)
        if array is None:
            kind = self.choose(KINDS) if dtype.is_float else "whole"
            array = numbers(len(self.drawn.arrays), shape, dtype, kind)
        self.drawn.arrays[value] = array
        return self._keep(value, given(array, dtype))

    def index(self, shape: tuple[int, ...], size: int) -> Entry:
        """Positions of an axis of `size`: of the pool where there are such, else an argument."""
        if not size and prod(shape):
            raise Refused

        def fits(e: Entry) -> bool:
            if e.shape != shape or e.dtype not in (int32, int64) or e.bounded.error is not None:
                return False
            return not e.size or -size <= e.bounded.value.min() <= e.bounded.value.max() < size

        found = [e for e in self.pool[::-1] if fits(e)]
        if found and self.flag():
            return self.choose(found)
        dtype = self.choose([int64, int32])
        array = indices(len(self.drawn.arrays), shape, max(size, 1), dtype)
        return self.given(shape, dtype, array=array)

    def constant(self, number, dtype: DType, shape=()) -> Entry:
        value = Value(Spec(shape, dtype))
        array = store(np.full(shape, number), dtype)
        self.graph.constants[value] = array
        return Entry(value, given(array, dtype))

    def apply(self, name: str, *inputs: Entry, **params) -> Entry:
        """Append a node; the first of its outputs."""
        return self.apply_all(name, *inputs, **params)[0]

    def apply_all(self, name: str, *inputs: Entry, **params) -> list[Entry]:
        """Append a node, unless its shapes do not fit or its numbers say nothing."""
        try:
            self.graph.add(TABLE[name], tuple(e.value for e in inputs), params)
        except TinyTorchError as error:
            raise Refused from error
        node = self.graph.nodes[-1]
        if sum(v.spec.size for v in node.outputs) > 300_000:
            self.graph.nodes.pop()
            raise Refused
        outputs = step_bounded(node, [e.bounded for e in inputs])
        if not all(map(_tells, outputs)):
            self.graph.nodes.pop()
            raise Refused
        return [self._keep(v, b) for v, b in zip(node.outputs, outputs, strict=True)]

    def _keep(self, value: Value, bounded: Bounded) -> Entry:
        entry = Entry(value, bounded)
        self.pool.append(entry)
        self.drawn.bounds[value] = bounded
        return entry

    def finish(self) -> Drawn:
        """The program, with what it returns and what it leaves in its states."""
        graph = self.graph
        used = {v for n in graph.nodes for v in n.inputs}
        for state in list(graph.states):
            fits = [e for e in self.pool[::-1] if e.value.spec == state.spec]
            if not self.rarely(5):
                graph.updates.append((state, self.choose(fits).value))
        count = self.number(1, 4)
        fresh = [e for e in self.pool if e.value not in used] or self.pool
        graph.results = [fresh[-1].value]
        graph.results += [e.value for e in self.asked if e is not fresh[-1]]
        for _ in range(count - 1):
            graph.results.append(self.choose(self.pool[::-1]).value)
        return self.drawn


def _tells(bounded: Bounded) -> bool:
    """Whether comparing with these numbers means something."""
    value, error = bounded.value, bounded.error
    if value.dtype.kind != "f" or not value.size:
        return known(bounded) > 0.5
    finite = np.isfinite(value)
    size = np.abs(value, where=finite, out=np.zeros(value.shape)).max()
    if size > HIGHEST or not finite.any():
        return False
    return error is None or not (error > COARSE * max(size, 1e-3)).mean() > 0.5
