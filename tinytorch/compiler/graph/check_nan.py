"""`compile(..., check_nan=True)`: a recorded program that says where its first NaN arose.

Knows graphs and a host call, never kernels. Of an array of floats the largest absolute value is
kept: NaN wins, so one number tells NaN from infinity from finite ones. Before a state is written
one host call looks at those of the results and the new states. If one of them is not finite, the
call is made again, by a program that keeps these numbers of everything it computes. It goes back
from there to the operations whose operands were better than what they gave, and names the first of
those. What is NaN on the way and does not matter in the end (a masked score, a slope that `where`
does not take) is no error; neither is an infinity that was given to the program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf, isfinite, isnan
from typing import Any

import numpy as np

from tinytorch.base.dtypes import bfloat16, float64, from_bfloat16
from tinytorch.base.errors import NonFiniteError
from tinytorch.compiler.graph.graph import Graph, Node, Value, applied
from tinytorch.primitives.host import ORDER, HostFunction
from tinytorch.primitives.primitive import TABLE

Found = Callable[[np.ndarray], None]  # raises if the peaks it is given say so


def check_nan(graph: Graph, everything: bool) -> Graph:
    """The recorded program with checks, in the place of `graph`.

    Args:
        everything: look at all that it computes, and say what made the first NaN; else at the
            results and the new states alone, and say that one is not finite.

    Raises:
        NonFiniteError: (when it runs) as above, everything: and it did not come from an infinity
            that was given. No state has changed.

    Cost: what is looked at is read once more, where it is made if that can be; new states have
    memory of their own and are copied at the end.
    """
    nodes: list[Node] = []
    looked: dict[Value, int] = {}  # value -> number of its peak

    def look(v: Value, where: str) -> None:
        if v.dtype.is_float and v.spec.size and v not in looked:
            looked[v] = len(looked)
            parts.append(_peak(nodes, v, where))

    parts: list[Value] = []
    for v in (*graph.arguments, *graph.states) if everything else ():
        look(v, "")
    for node in graph.nodes:
        nodes.append(node)
        if everything and not (node.is_movement or node.is_source):
            for v in node.certain:
                look(v, node.where)
    for v in () if everything else dict.fromkeys(graph.outputs):
        look(v, "")
    if not parts:
        return graph
    joined = _made(nodes, "concatenate", *parts, axis=0) if len(parts) > 1 else parts[0]
    after = _made(nodes, "full", shape=(), value=False, dtype=ORDER.dtype)
    function = HostFunction(_finder(graph, looked) if everything else _only_look, "check_nan")
    _made(nodes, "host_call", after, joined, function=function, results=())
    return replace(graph, nodes=nodes, results=[*graph.results, *nodes[-1].outputs])


def _only_look(peaks: np.ndarray) -> None:
    if not np.isfinite(peaks).all():
        raise NonFiniteError(
            "a compiled function computed NaN or infinity",
            got=f"{(~np.isfinite(peaks)).sum()} of {peaks.size} results and new states",
            rule="check_nan=True: results and new states are numbers; no state has changed",
            fix="call it again: the operation is found then",
        )


def _made(nodes: list[Node], name: str, *inputs: Value, where: str = "", **params: Any) -> Value:
    nodes.append(applied(TABLE[name], inputs, params, where))
    return nodes[-1].outputs[0]


def _peak(nodes: list[Node], v: Value, where: str) -> Value:
    """The largest absolute value, as one float64."""
    size = _made(nodes, "abs", v, where=where)
    axes = tuple(range(len(v.shape)))
    if axes:
        size = _made(nodes, "max", size, where=where, axes=axes, keepdims=False)
    size = _made(nodes, "cast", size, where=where, dtype=float64)
    return _made(nodes, "reshape", size, where=where, shape=(1,))


def _finder(graph: Graph, looked: Mapping[Value, int]) -> Found:
    """What is called with the peaks, in the order of `looked`."""
    producer = graph.producers()
    names = {v: f"argument {i}" for i, v in enumerate(graph.arguments)}
    names.update({v: f"state {i}" for i, v in enumerate(graph.states)})
    constants = {v: _peak_of(v, a) for v, a in graph.constants.items() if v.dtype.is_float}
    place = {v: i for i, n in enumerate(graph.nodes) for v in n.outputs}

    def below(v: Value) -> Value:
        """The value whose numbers v has."""
        while (node := producer.get(v)) is not None and node.is_movement:
            if node.inputs[1:]:
                return v
            v = node.inputs[0]
        return v

    def peak_of(v: Value, peaks: np.ndarray) -> float:
        v = below(v)
        if v in looked:
            return float(peaks[looked[v]])
        node = producer.get(v)
        if node is not None and node.is_movement:
            return worst([peak_of(x, peaks) for x in node.inputs])
        known = node.constant if node is not None else constants.get(v)
        return abs(float(known or 0.0)) if v.dtype.is_float else 0.0

    ends = list(dict.fromkeys(v for v in graph.outputs if v.dtype.is_float))

    def find(peaks: np.ndarray) -> None:
        if np.isfinite(peaks).all():
            return
        stack = [v for v in ends if not isfinite(peak_of(v, peaks))]
        seen: set[Value] = set()
        guilty: list[Value] = []
        while stack:
            v = below(stack.pop())
            if v in seen:
                continue
            seen.add(v)
            node = producer.get(v)
            inputs = node.inputs if node is not None else ()
            bad = [x for x in inputs if not isfinite(peak_of(x, peaks))]
            stack += bad
            peak, before = peak_of(v, peaks), worst([peak_of(x, peaks) for x in bad])
            if isnan(peak) and not isnan(before) or isfinite(before) and node is not None:
                guilty.append(v)
        if guilty:
            first = min(guilty, key=lambda v: place.get(v, -1))
            node = producer.get(first)
            inputs = () if node is None else node.inputs
            told = [f"{v.dtype.name}{v.shape} up to {peak_of(v, peaks):g}" for v in inputs
                    if v.dtype.is_float]  # fmt: skip
            raise _error(first, node, names.get(first, ""), peak_of(first, peaks), told)

    return find


def worst(peaks: Sequence[float]) -> float:
    """NaN if one is, else the largest; 0 of none."""
    return next((p for p in peaks if isnan(p)), max(peaks, default=0.0))


def _peak_of(v: Value, array: np.ndarray) -> float:
    wide = from_bfloat16(np.atleast_1d(array)) if v.dtype is bfloat16 else array
    return float(np.abs(wide).max(initial=0.0))


def _error(
    v: Value, node: Node | None, name: str, peak: float, operands: Sequence[str]
) -> NonFiniteError:
    kind = "infinity" if peak == inf else "NaN"
    if node is None:
        return NonFiniteError(
            f"a compiled function was given {kind}",
            got=f"{kind} in {name}, {v.dtype.name}{v.shape}",
            rule="check_nan=True: results and new states are numbers; no state has changed",
            fix="look at what is given to it: np.isnan(x).any()",
        )
    backward = f", in the gradient of {node.gradient_of}" if node.gradient_of else ""
    return NonFiniteError(
        f"a compiled function computed {kind}: {node.primitive.name} at {node.where}{backward}",
        got=f"{kind} in {v.dtype.name}{v.shape}, of {'; '.join(operands) or 'no floats'}",
        rule="check_nan=True: results and new states are numbers; no state has changed",
        fix="tt.debug.print the operands before that line; keep logarithms, roots and divisors from"
        " 0, exponents small, or the learning rate lower",
    )
