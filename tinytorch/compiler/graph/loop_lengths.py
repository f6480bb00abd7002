"""A loop along a length, or over values with lengths in them.

Knows bodies and the rewriter of lengths, never what an operation of a body does: the body is
rewritten by the same rules, as a program of its own that is told the lengths too. A loop of T trips
runs as many as T can be; from the trip on that is none, what is carried stays as it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tinytorch.base.dtypes import bool_, int64
from tinytorch.base.lengths import at_bound, is_symbolic
from tinytorch.compiler.graph.axes import Axes, plain_axis
from tinytorch.compiler.graph.graph import Node, Value, applied, body_of, graph_of_body
from tinytorch.compiler.graph.lengths import LengthRewriter
from tinytorch.primitives.primitive import TABLE, Spec


def loop(b: LengthRewriter, node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...]:
    """The loop of as many trips as there can be, its body told the lengths."""
    n, m, length = (node.params[key] for key in ("carries", "stacked", "length"))
    graph = graph_of_body(node.body, node.where)
    arguments = list(graph.arguments)
    told = {dim: Value(Spec((), int64)) for dim in b.lengths}
    inner = LengthRewriter(graph, told, b.rules)
    for i, v in enumerate(arguments):
        axes = b.axes_of(inputs[i])[1 if n <= i < n + m else 0 :]
        # what is alike everywhere in the first trip need not be in the next
        inner.note(v, tuple(replace(axis, is_free=False) for axis in axes))
        v.spec = Spec(at_bound(v.shape), v.dtype)
    inner.run()
    results, made = list(graph.results), list(inner.nodes)
    rows = [b.masked(x, (0,), 0) for x in inputs[n : n + m]]
    stacks = arguments[n : n + m]
    if is_symbolic(length):
        goes_on = Value(Spec((), bool_))
        stacks.append(goes_on)
        places = b.places((at_bound(length),), 0, int64)
        rows.append(b.add("less", places, b.scalar(length, int64)))
        for i in range(n):
            made.append(
                applied(TABLE["where"], (goes_on, results[i], arguments[i]), {}, node.where)
            )
            inner.note(made[-1].outputs[0], inner.axes_of(results[i]))
            results[i] = made[-1].outputs[0]
    body = body_of([*arguments[:n], *stacks, *arguments[n + m :], *told.values()], made, results)
    given = (*inputs[:n], *rows, *inputs[n + m :], *b.lengths.values())
    params: dict[str, Any] = {
        **node.params, "body": body, "stacked": len(rows), "length": at_bound(length),
    }  # fmt: skip
    b.nodes.append(applied(node.primitive, given, params, node.where, node.replay))
    for i, (v, result) in enumerate(zip(b.nodes[-1].outputs, results, strict=True)):
        axes: Axes = inner.axes_of(result)
        b.note(v, axes if i < n else (plain_axis(length), *axes))
    return b.nodes[-1].outputs
