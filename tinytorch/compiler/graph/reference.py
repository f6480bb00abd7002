"""What a graph means: its nodes one after the other, each by its primitive's NumPy definition.

Knows graphs and arrays, never kernels. It is the slow definition that compiled programs are
compared with.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinytorch.compiler.graph.graph import Graph, Value


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
        inputs = tuple(held[v] for v in node.inputs)
        out = node.primitive.evaluate(inputs, tuple(v.dtype for v in node.inputs), node.params)
        out = out if isinstance(out, tuple) else (out,)
        held.update(zip(node.outputs, out, strict=True))
    return held


def step_reference(
    graph: Graph, arrays: Mapping[Value, np.ndarray]
) -> tuple[list[np.ndarray], dict[Value, np.ndarray]]:
    """One call of the program: the results, and the new array of each updated state."""
    held = run_reference(graph, arrays)
    return [held[v] for v in graph.results], {old: held[new] for old, new in graph.updates}
