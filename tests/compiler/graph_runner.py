"""Runs one primitive, or a small graph, as compiled for a target, and says what was a host call."""

import numpy as np

from tests.kernels.lowered_runner import skip_unless_runnable
from tinytorch.base.dtypes import OF_NUMPY, from_bfloat16
from tinytorch.codegen import engine
from tinytorch.compiler.graph.graph import Graph, Value
from tinytorch.compiler.pipeline import compile_graph
from tinytorch.compiler.run.program import Program
from tinytorch.primitives import TABLE
from tinytorch.primitives.primitive import Spec


class GraphRun:
    """A compiled graph: call it with arrays for the arguments, get arrays for the results."""

    def __init__(self, graph, target):
        self.graph, self.target = graph, target
        plan, kernels = compile_graph(graph, target)
        kernels = list({k.name: k for k in kernels}.values())
        self.host_calls = [t.symbol for t in plan.tasks if t.host is not None]
        objects = [engine.compile_text(engine.module_text(kernels), target)] if kernels else []
        self.program = Program(plan, objects, graph, target)

    def __call__(self, *arrays, threads=1):
        skip_unless_runnable(self.target)
        arrays = [np.ascontiguousarray(a).reshape(np.shape(a)) for a in arrays]
        results = [np.full(v.shape, 77, v.dtype.storage) for v in self.graph.results]
        runner = self.program.runner(threads)
        runner.run([a.ctypes.data for a in arrays], [r.ctypes.data for r in results])
        return results


def new_graph(*arrays, dtypes=None):
    """(graph, its arguments) for arrays like these."""
    graph = Graph()
    dtypes = dtypes or [OF_NUMPY[np.asarray(a).dtype] for a in arrays]
    graph.arguments = [Value(Spec(np.shape(a), d)) for a, d in zip(arrays, dtypes, strict=True)]
    return graph, graph.arguments


def assert_defined(
    name, arrays, params, target, dtypes=None, exact=True, rtol=0.0, channels_last=()
):
    """Compiled equals the definition, with 1, 2 and 3 threads the same bits, without a host call.

    Args:
        channels_last: numbers of the arguments that lie in memory with axis 1 innermost.
    """
    arrays = [np.asarray(a) for a in arrays]
    given = [np.moveaxis(a, 1, -1) if i in channels_last else a for i, a in enumerate(arrays)]
    graph, values = new_graph(*given, dtypes=dtypes)
    values = list(values)
    for i in channels_last:
        rank = arrays[i].ndim
        axes = (0, rank - 1, *range(1, rank - 1))
        (values[i],) = graph.add(TABLE["permute"], (values[i],), {"axes": axes})
    graph.results = list(graph.add(TABLE[name], tuple(values), params))
    expected = TABLE[name].evaluate(tuple(arrays), tuple(v.dtype for v in values), params)
    expected = expected if isinstance(expected, tuple) else (expected,)
    run = GraphRun(graph, target)
    assert not run.host_calls
    first = run(*given)
    for threads in (2, 3):
        for a, b in zip(first, run(*given, threads=threads), strict=True):
            assert a.tobytes() == b.tobytes()
    for got, want, v in zip(first, expected, graph.results, strict=True):
        assert got.shape == want.shape and got.dtype == want.dtype
        if v.dtype.name == "bfloat16":
            got, want = from_bfloat16(np.atleast_1d(got)), from_bfloat16(np.atleast_1d(want))
        if exact:
            np.testing.assert_array_equal(got, want)
        else:
            np.testing.assert_allclose(
                got, want, rtol=rtol, atol=rtol * np.abs(want).max(initial=0)
            )
    return first
