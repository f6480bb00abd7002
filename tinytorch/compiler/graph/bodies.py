"""The body of a loop or a branch as a graph, and back.

Knows lines over numbered values and nodes over values; never which loop or branch has it.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinytorch.compiler.graph.graph import Graph, Node, Value
from tinytorch.primitives.body import Body, Line


def graph_of_body(body: Body, where: str = "") -> Graph:
    """A program that does what a body does.

    Args:
        where: the user's line.
    """
    graph = Graph(arguments=[Value(spec) for spec in body.inputs])
    values = list(graph.arguments)
    for line in body.lines:
        inputs = tuple(values[i] for i in line.inputs)
        values += graph.add(line.row, inputs, line.params, where)
    graph.results = [values[i] for i in body.results]
    return graph


def body_of(arguments: Sequence[Value], nodes: Sequence[Node], results: Sequence[Value]) -> Body:
    """What nodes compute of the arguments, as a body."""
    number = {v: i for i, v in enumerate(arguments)}
    lines: list[Line] = []
    for node in nodes:
        lines.append(Line(node.primitive, tuple(number[v] for v in node.inputs), node.params))
        number.update({v: len(number) + i for i, v in enumerate(node.outputs)})
    specs = tuple(v.spec for v in arguments)
    return Body(specs, tuple(lines), tuple(number[v] for v in results))
