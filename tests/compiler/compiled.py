"""Runs graphs natively, through the passes, the memory plan and the thread team, for tests.

No cache and no Tensors: what is tested is the code that the passes write. Memory around every
argument, state and result is filled with a pattern that must still be there afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tinytorch.codegen import engine
from tinytorch.codegen.target import Target, runnable_names
from tinytorch.compiler.graph.graph import Graph, Value
from tinytorch.compiler.pipeline import compile_graph
from tinytorch.compiler.run.program import Program
from tinytorch.primitives import TABLE
from tinytorch.primitives.primitive import Spec, dtype_of

GUARD, FILL = 64, 0xA5  # bytes on both sides; a float32 of this pattern is -2.87e-16


def targets() -> list[Target]:
    """All targets this machine can run, the widest first."""
    return [Target.named(name) for name in runnable_names()]


def graph_of(name: str, arrays: Sequence[np.ndarray], params: Mapping) -> Graph:
    """A program of one primitive."""
    graph = Graph(arguments=[Value(Spec(a.shape, dtype_of(a))) for a in arrays])
    graph.results = list(graph.add(TABLE[name], tuple(graph.arguments), dict(params)))
    return graph


def program_of(graph: Graph, target: Target) -> Program:
    """The graph as machine code."""
    plan, kernels = compile_graph(graph, target)
    return Program(plan, [engine.compile_text(engine.module_text(kernels), target)], graph, target)


class Guarded:
    """An array between two guards."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype):
        self.nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        raw = np.full(self.nbytes + 2 * GUARD + 64, FILL, np.uint8)
        self.raw, self.start = raw, GUARD + -(raw.ctypes.data + GUARD) % 64
        self.array = raw[self.start : self.start + self.nbytes].view(dtype).reshape(shape)
        self.address = raw.ctypes.data + self.start

    def check(self, what: str) -> None:
        """Raise if a byte beside the array was written."""
        outside = [self.raw[: self.start], self.raw[self.start + self.nbytes :]]
        assert all((part == FILL).all() for part in outside), f"{what}: written out of bounds"


def run(
    program: Program, graph: Graph, arrays: Mapping[Value, np.ndarray], threads: int = 1, calls=1
) -> tuple[list[np.ndarray], dict[Value, np.ndarray]]:
    """(results, new arrays of the states) after some calls; the arrays given stay as they are."""
    given = {}
    for v in (*graph.arguments, *graph.states):
        given[v] = Guarded(v.shape, v.dtype.storage)
        given[v].array[...] = arrays[v]
    results = [Guarded(v.shape, v.dtype.storage) for v in graph.results]
    runner = program.runner(threads)
    runner.bind_states([given[v].address for v in graph.states])
    for _ in range(calls):
        runner.run([given[v].address for v in graph.arguments], [r.address for r in results])
    for v, memory in given.items():
        memory.check(f"input {v!r}")
        if v in graph.arguments:
            np.testing.assert_array_equal(memory.array, arrays[v], "an argument was written")
    for memory in results:
        memory.check("a result")
    shared = program.same
    return (
        [results[shared[i]].array for i in range(len(results))],
        {v: given[v].array for v in graph.states},
    )
