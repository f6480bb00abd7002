"""A loop along a length, and loops and branches over values with lengths in them.

Knows bodies and the rewriter of lengths, never what an operation of a body does: the body is
rewritten by the same rules, as a program of its own that is told the lengths too. A loop of T trips
runs as many as T can be; from the trip on that is none, what is carried stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from tinytorch.base.dtypes import bool_, int64
from tinytorch.base.lengths import at_bound, is_symbolic
from tinytorch.compiler.graph.axes import Axes, plain_axis
from tinytorch.compiler.graph.bodies import body_of, graph_of_body
from tinytorch.compiler.graph.graph import Node, Value, applied
from tinytorch.compiler.graph.lengths import LengthRewriter
from tinytorch.primitives.body import Body
from tinytorch.primitives.primitive import TABLE, Spec


def loop(b: LengthRewriter, node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...]:
    """The loop of as many trips as there can be, its body told the lengths."""
    n, m, length = (node.params[key] for key in ("carries", "stacked", "length"))
    given = [b.axes_of(v)[1 if n <= i < n + m else 0 :] for i, v in enumerate(inputs)]
    inner = _rewritten(b, node, node.body, given)
    arguments, told = inner.graph.arguments, inner.lengths
    results, made = list(inner.graph.results), list(inner.nodes)
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


def branch(b: LengthRewriter, node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...]:
    """Both cases, told the lengths."""
    predicate, *operands = inputs
    given = [b.axes_of(v) for v in operands]
    cases = [_rewritten(b, node, body, given) for body in node.bodies]
    bodies = [
        body_of([*x.graph.arguments, *x.lengths.values()], x.nodes, x.graph.results) for x in cases
    ]
    results = node.params["results"]
    params: dict[str, Any] = {"true": bodies[0], "false": bodies[1], "results": results}
    every = (predicate, *operands, *b.lengths.values())
    b.nodes.append(applied(node.primitive, every, params, node.where, node.replay))
    one, other = ([x.axes_of(v) for v in x.graph.results] for x in cases)
    for mine, its in zip(one[:results], other[:results], strict=True):
        if [axis.parts for axis in mine] != [axis.parts for axis in its]:
            b.refuse("both cases lay a length out in one way")
    outputs = b.nodes[-1].outputs
    for v, axes in zip(outputs, (*one, *other[results:]), strict=True):
        b.note(v, _fixed(axes))
    return outputs


def _rewritten(b: LengthRewriter, node: Node, body: Body, given: Iterable[Axes]) -> LengthRewriter:
    """A body for the greatest lengths.

    Args:
        given: the axes of what it is given.
    """
    graph = graph_of_body(body, node.where)
    inner = LengthRewriter(graph, {dim: Value(Spec((), int64)) for dim in b.lengths}, b.rules)
    for v, axes in zip(graph.arguments, given, strict=True):
        inner.note(v, _fixed(axes))
        v.spec = Spec(at_bound(v.shape), v.dtype)
    inner.run()
    return inner


def _fixed(axes: Axes) -> Axes:
    """What is alike everywhere in the first trip, or in one case, need not be in the others."""
    return tuple(replace(axis, is_free=False) for axis in axes)
