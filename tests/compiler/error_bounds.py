"""How far right answers can lie apart: a running error analysis of every primitive.

A program is evaluated in float64 by the NumPy definition of each of its nodes, and beside every
element goes a bound on what a computation in the program's own number types may make of it, in any
order of summation. Source: Wilkinson's running error analysis, in Higham, "Accuracy and Stability
of Numerical Algorithms" (2002), section 3.3: each step adds its rounding, |error| <= u |result|,
to what the errors of its inputs become. Functions are evaluated at the ends of the interval that
an input may lie in, sums and products by their absolute values. A comparison that the errors could
turn is undecided (its bound is infinite), and so is whatever depends on it; an element whose
inputs were exact and whose result needs no rounding is exact: there the bit must agree.

Knows graphs and arrays, never how programs are drawn or run.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np

from tests.compiler.bounded import (
    EPS,
    FUNCTION_UNITS,
    TINY,
    UNITS,
    Bounded,
    accumulator,
    given,
    largest,
    rounded,
    summed,
    tidy,
    whole_numbers,
    widened,
)
from tests.compiler.product_bounds import PRODUCTS, Rule
from tinytorch.base.dtypes import bfloat16, float32, float64
from tinytorch.compiler.graph.bodies import graph_of_body
from tinytorch.compiler.graph.graph import Graph, Node, Value
from tinytorch.primitives.pooling import output_size
from tinytorch.primitives.primitive import store

FUNCTIONS = {
    "exp", "log", "sqrt", "rsqrt", "sin", "cos", "tanh", "erf", "gelu", "gelu_slope", "pow", "div",
    "reciprocal",
}  # fmt: skip
MOVEMENT = {"reshape", "permute", "broadcast_to", "slice", "flip", "concatenate"}
SINGLE = {"add", "sub", "mul", "cast"}  # one rounding, the same everywhere
MOVING = {  # elements to and from places: where what says the places is among the inputs
    "take": {1}, "take_along": {1}, "slice_update": {2}, "put_rows": {2}, "max_pool2d_take": {1},
    "put_tokens": {2, 3, 4},
}  # fmt: skip
ADDING = {"scatter_add": {1}, "scatter_along": {1}, "max_pool2d_gradient": {1}}
INDEXED = {**MOVING, **ADDING}


def run_bounded(graph: Graph, arrays: Mapping[Value, Bounded]) -> dict[Value, Bounded]:
    """Every value of a graph with its bounds, from those of its arguments and states."""
    held = {v: given(a, v.dtype) for v, a in graph.constants.items()}
    held.update(arrays)
    for node in graph.nodes:
        outputs = step_bounded(node, [held[v] for v in node.inputs])
        held.update(zip(node.outputs, outputs, strict=True))
    return held


def step_bounded(node: Node, inputs: Sequence[Bounded]) -> list[Bounded]:
    """The outputs of one node."""
    specs = [v.spec for v in node.outputs]
    kinds = tuple(v.dtype for v in node.inputs)
    with np.errstate(all="ignore"):
        if not any(s.dtype.is_float for s in specs) and not any(d.is_float for d in kinds):
            return _whole(node, inputs)
        rule = RULES.get(node.primitive.name)
        if rule is None and node.primitive.elementwise:
            rule = _elementwise
        if rule is None:
            raise KeyError(f"no rule for the error of {node.primitive.name}")
        outputs = rule(node, inputs)
        outputs = [outputs] if isinstance(outputs, Bounded) else outputs
        unknown = any(x.error is not None and np.isinf(x.error).any() for x in inputs)
        return [tidy(o, s, unknown) for o, s in zip(outputs, specs, strict=True)]


# rules: (node, inputs) -> Bounded or a list of them


def _whole(node: Node, inputs: Sequence[Bounded]) -> list[Bounded]:
    """Integers and bools: the definition itself. Where elements are not moved, one that is
    undecided leaves all undecided."""
    primitive = node.primitive
    if primitive.name in MOVING:
        return [_indexed(node, inputs)]
    out = primitive.evaluate(
        tuple(x.value for x in inputs), tuple(v.dtype for v in node.inputs), node.params
    )
    out = out if isinstance(out, tuple) else (out,)
    made = [Bounded(np.asarray(o)) for o in out]
    if all(x.error is None for x in inputs):
        return made
    if primitive.name in MOVEMENT:
        made[0].error = np.asarray(primitive.numpy(*(x.errors for x in inputs), **node.params))
        return made
    for m in made:
        error = sum(x.errors for x in inputs) if primitive.elementwise else np.inf
        m.error = np.broadcast_to(error, m.value.shape)
    return made


def _moved(node: Node, inputs: Sequence[Bounded]) -> Bounded:
    move = node.primitive.numpy
    value = move(*(x.value for x in inputs), **node.params)
    if all(x.error is None for x in inputs):
        return Bounded(value)
    return Bounded(value, move(*(x.errors for x in inputs), **node.params))


def _padded(node: Node, inputs: Sequence[Bounded]) -> Bounded:
    (x,), pad = inputs, node.primitive.numpy
    params = node.params
    filled = dict(params)
    if node.outputs[0].dtype.is_float:  # the number as it is stored
        number = store(np.asarray(params.get("value", 0.0)), node.outputs[0].dtype)
        filled["value"] = float(widened(number, node.outputs[0].dtype))
    value = pad(x.value, **filled)
    error = None if x.error is None else pad(x.error, **{**params, "value": 0.0})
    return Bounded(value, error)


def _made(node: Node, inputs: Sequence[Bounded]) -> Bounded:
    dtype = node.outputs[0].dtype
    return Bounded(widened(node.primitive.evaluate((), (), node.params), dtype))


def _cast(node: Node, inputs: Sequence[Bounded]) -> Bounded:
    (x,), dtype = inputs, node.outputs[0].dtype
    if dtype.is_float:
        error = x.error
        if dtype in (float32, float64) and node.inputs[0].dtype.is_float and error is None:
            return Bounded(widened(store(x.value, dtype), dtype))
        units = 2.0 if dtype is bfloat16 else 1.0  # bfloat16 goes through float32
        return rounded(np.asarray(x.value, np.float64), error, dtype, single=True, units=units)
    return _undecided_at_0(
        inputs, _corners(node, inputs, lambda a: node.primitive.numpy(a, **node.params))
    )


def _undecided_at_0(inputs: Sequence[Bounded], out: Bounded) -> Bounded:
    """Whether a number is 0 is undecided where its interval holds 0: corners may lie around it."""
    if out.value.dtype == bool:
        for x in inputs:
            held = (np.abs(x.value) <= x.errors) & (x.errors > 0)
            out.error = np.where(np.broadcast_to(held, out.value.shape), np.inf, out.errors)
    return out


def _elementwise(node: Node, inputs: Sequence[Bounded]) -> Bounded:
    name = node.primitive.name
    out = _corners(node, inputs, lambda *a: node.primitive.numpy(*a, **node.params))
    dtype = node.outputs[0].dtype
    if name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
        a, b = inputs
        if out.error is not None and a is not b:  # corners may jump over equality
            near = ~(np.abs(a.value - b.value) > a.errors + b.errors)  # true for inf - inf
            near &= (a.errors + b.errors) > 0
            out.error = np.where(near, np.inf, 0.0)
        return out
    if name.startswith("logical_"):
        return _undecided_at_0(inputs, out)
    if name == "signbit":  # the sign of a NaN that was computed is not promised
        out.error = np.where(np.isnan(inputs[0].value), np.inf, out.errors)
        return out
    if name in ("remainder", "floor_div") and out.error is not None and dtype.is_float:
        out.error = np.where(_steps(node, inputs), np.inf, out.error)
    if not dtype.is_float or name in ("where", "neg", "abs", "maximum", "minimum", "absorb"):
        return out
    below = inputs[1 if name == "div" else 0]
    if name in ("div", "reciprocal", "pow") and below.error is not None:
        pole = (np.abs(below.value) <= below.error) & (below.error > 0)  # between the corners
        own = np.where(np.broadcast_to(pole, out.value.shape), np.inf, 0.0)
        out.error = own if out.error is None else np.maximum(own, out.error)
    units = UNITS if name not in FUNCTIONS else FUNCTION_UNITS
    if name == "pow":  # exp(b log a): an error of the logarithm counts b times
        log = np.log(np.maximum(np.abs(inputs[0].value), 1e-300))
        units = FUNCTION_UNITS * (1 + np.abs(inputs[1].value * log))
    if name in ("sin", "cos"):  # the argument is reduced in the type's own precision
        units = FUNCTION_UNITS
        own = EPS[dtype] * FUNCTION_UNITS * np.ones_like(out.value)
        out.error = own if out.error is None else out.error + own
    if name in ("gelu", "gelu_slope"):  # of P(normal number < x), which is rounded as 1 is
        sizes = np.abs(inputs[0].value) if name == "gelu" else np.ones_like(out.value)
        eps = min(EPS[dtype], EPS[float32])  # narrower types are computed in float32
        out.error = out.errors + np.where(np.isfinite(sizes), eps * FUNCTION_UNITS * sizes, 0.0)
    return rounded(
        out.value, out.error, dtype, units=units, single=name in SINGLE,
        exactly=name not in FUNCTIONS,
    )  # fmt: skip


def _steps(node: Node, inputs: Sequence[Bounded]) -> np.ndarray:
    """Whether the errors reach over a step of the quotient: then the corners say nothing."""
    x, y = inputs
    least = np.abs(y.value) - y.errors
    quotients = [
        np.floor((x.value + s * x.errors) / (y.value + t * y.errors))
        for s in (-1, 0, 1)
        for t in (-1, 0, 1)
    ]
    return (least <= 0) | np.any([q != quotients[0] for q in quotients], axis=0)


def _corners(node: Node, inputs: Sequence[Bounded], function: Callable) -> Bounded:
    """The function in the middle, and how far it gets at the ends of its inputs' intervals."""
    values = [x.value for x in inputs]
    middle = np.asarray(function(*values))
    if all(x.error is None for x in inputs):
        return Bounded(middle)
    ends, unknown = [], np.zeros(middle.shape, bool)
    once = list({id(x): x for x in inputs}.values())  # x - x is 0, however far off x is
    kinds = {id(x): v for v, x in zip(node.inputs, inputs, strict=True)}
    which = [once.index(x) for x in inputs]
    for x in once:
        v = kinds[id(x)]
        if x.error is None:
            ends.append((x.value,))
        elif v.dtype.is_float:
            ends.append((x.value - x.error, x.value + x.error))
        elif v.dtype.kind == "b":
            ends.append((x.value, x.value ^ (x.error > 0)))
        else:
            ends.append((x.value,))
            unknown |= np.broadcast_to(x.error > 0, middle.shape)
    if node.outputs[0].dtype.is_float:
        error = np.zeros(middle.shape)
        for corner in itertools.product(*ends):
            there = np.asarray(function(*(corner[i] for i in which)), np.float64)
            same = (there == middle) | (np.isnan(there) & np.isnan(middle))
            error = np.fmax(error, np.where(same, 0.0, np.abs(there - middle)))
            error = np.where(np.isnan(there) & ~np.isnan(middle), np.inf, error)
    else:
        turned = np.zeros(middle.shape, bool)
        for corner in itertools.product(*ends):
            turned |= np.asarray(function(*(corner[i] for i in which))) != middle
        error = np.where(turned, np.inf, 0.0)
    error = np.where(unknown, np.inf, error)
    return Bounded(middle, error)


def _sum(node: Node, inputs: Sequence[Bounded]) -> Bounded:
    (x,), params = inputs, node.params
    n = prod(node.inputs[0].shape[a] for a in params["axes"])

    def add(a):
        return node.primitive.numpy(a, **params)

    error = None if x.error is None else add(x.error)
    return summed(
        add(x.value), error, add(np.abs(x.value)), n, node.outputs[0].dtype, whole_numbers(x)
    )


def _cumsum(node: Node, inputs: Sequence[Bounded]) -> Bounded:
    (x,), axis = inputs, node.params["axis"]
    error = None if x.error is None else np.cumsum(x.error, axis)
    return summed(
        np.cumsum(x.value, axis), error, np.cumsum(np.abs(x.value), axis),
        x.value.shape[axis], node.outputs[0].dtype, whole_numbers(x),
    )  # fmt: skip


def _prod(node: Node, inputs: Sequence[Bounded]) -> Bounded:
    (x,), params = inputs, node.params
    n = prod(node.inputs[0].shape[a] for a in params["axes"])
    of = node.primitive.numpy
    sizes = of(np.abs(x.value), **params)
    error = None if x.error is None else of(np.abs(x.value) + x.error, **params) - sizes
    dtype = node.outputs[0].dtype
    out = summed(of(x.value, **params), error, sizes, n, dtype, whole_numbers(x))
    # some order of the factors may pass the ends of the type on its way
    wide = accumulator(dtype)
    large = of(np.maximum(np.abs(x.value), 1), **params)
    small = of(np.where(x.value == 0, 1, np.minimum(np.abs(x.value), 1)), **params)
    passes = (large > largest(wide)) | (small < TINY[wide])
    if np.any(passes):
        out.error = np.where(passes, np.inf, out.errors)
    return out


def _extreme(node: Node, inputs: Sequence[Bounded]) -> Bounded:
    """max and min move by no more than their inputs."""
    (x,), params = inputs, node.params
    value = node.primitive.numpy(x.value, **params)
    if x.error is None:
        return Bounded(value)
    error = np.max(x.error, axis=params["axes"], keepdims=params["keepdims"])
    return Bounded(value, error)


def _place(node: Node, inputs: Sequence[Bounded]) -> Bounded:
    """argmax and argmin are decided where no other element can reach the best."""
    (x,), axis = inputs, node.params["axis"]
    value = node.primitive.numpy(x.value, axis=axis)
    if x.error is None:
        return Bounded(value)
    sign = 1 if node.primitive.name == "argmax" else -1
    high, low = sign * x.value + x.error, sign * x.value - x.error
    at = np.expand_dims(value, axis)
    reach = (high >= np.take_along_axis(low, at, axis)).sum(axis)
    unsure = np.isinf(x.error).any(axis) | np.isnan(x.value).any(axis)
    return Bounded(value, np.where((reach > 1) | unsure, np.inf, 0.0))


def _sort(node: Node, inputs: Sequence[Bounded]) -> Bounded:
    (x,), axis = inputs, node.params["axis"]
    value = np.sort(x.value, axis, kind="stable")
    if x.error is None:
        return Bounded(value)
    worst = x.error.max(axis=axis, keepdims=True, initial=0)
    return Bounded(value, np.broadcast_to(worst, value.shape).copy())


def _host_call(node: Node, inputs: Sequence[Bounded]) -> list[Bounded]:
    """Programs that are drawn call abs alone: a change of x changes |x| by no more."""
    after, x = inputs
    assert node.params["function"].function is abs
    return [Bounded(np.abs(x.value), x.error), after]


def _argsort(node: Node, inputs: Sequence[Bounded]) -> Bounded:
    (x,), axis = inputs, node.params["axis"]
    order = np.argsort(x.value, axis, kind="stable")
    if x.error is None:
        return Bounded(order)
    worst = x.error.max(axis=axis, keepdims=True, initial=0)
    gaps = np.diff(np.take_along_axis(x.value, order, axis), axis=axis)
    close = ~(gaps > 2 * worst)
    unsure = np.zeros(order.shape, bool)
    head, tail = [slice(None)] * order.ndim, [slice(None)] * order.ndim
    head[axis], tail[axis] = slice(None, -1), slice(1, None)
    unsure[tuple(head)] |= close
    unsure[tuple(tail)] |= close
    return Bounded(order, np.where(unsure & (worst > 0), np.inf, 0.0))


def _indexed(node: Node, inputs: Sequence[Bounded]) -> Bounded:
    """Gathers move elements, scatters add some of them up."""
    name, dtype = node.primitive.name, node.outputs[0].dtype
    places = INDEXED[name]
    others = [x for i, x in enumerate(inputs) if i not in places]

    def of(*xs):
        rest = iter(xs)
        full = [x.value if i in places else next(rest) for i, x in enumerate(inputs)]
        return node.primitive.numpy(*full, **node.params)

    value = of(*(x.value for x in others))
    error = None
    if any(x.error is not None for x in others):
        error = of(*(x.errors for x in others))
    if any(inputs[i].errors.any() for i in places):
        return Bounded(value, np.full(np.shape(value), np.inf))
    if name in ADDING and dtype.is_float:
        terms = of(np.ones(others[0].value.shape))
        sizes = of(np.abs(others[0].value))
        return summed(value, error, sizes, terms, dtype, whole_numbers(*others))
    return Bounded(value, error)


def _pooled(node: Node, inputs: Sequence[Bounded]) -> list[Bounded]:
    (x,), params = inputs, node.params
    best, index = node.primitive.numpy(x.value, **params)
    if x.error is None:
        return [Bounded(best), Bounded(index)]
    worst = node.primitive.numpy(x.error, **params)[0]
    low = best - worst
    reach = np.zeros(best.shape, int)
    (oh, ow) = best.shape[2:]
    (sh, sw), padding = params["stride"], params["padding"]
    around = [(0, 0), (0, 0), *padding]
    high = np.pad(x.value + x.error, around, constant_values=-np.inf)
    for i in range(params["kernel"][0]):
        for j in range(params["kernel"][1]):
            part = high[:, :, i : i + sh * (oh - 1) + 1 : sh, j : j + sw * (ow - 1) + 1 : sw]
            reach += part >= low
    assert oh == output_size(x.value.shape[2], params["kernel"][0], sh, padding[0])
    return [Bounded(best, worst), Bounded(index, np.where(reach > 1, np.inf, 0.0))]


def _bits(node: Node, inputs: Sequence[Bounded]) -> list[Bounded]:
    return _whole(node, inputs)


def _looped(node: Node, inputs: Sequence[Bounded]) -> list[Bounded]:
    """Trip after trip, each line of the body by the rule of its row."""
    graph, params = graph_of_body(node.body), node.params
    n, m, length = params["carries"], params["stacked"], params["length"]
    carried, xs, rest = list(inputs[:n]), inputs[n : n + m], inputs[n + m :]
    rows: list[list[Bounded]] = []
    for t in reversed(range(length)) if params["reverse"] else range(length):
        parts = [Bounded(x.value[t], None if x.error is None else x.errors[t]) for x in xs]
        held = run_bounded(
            graph, dict(zip(graph.arguments, [*carried, *parts, *rest], strict=True))
        )
        out = [held[v] for v in graph.results]
        carried = out[:n]
        rows.append(out[n:])
    if params["reverse"]:
        rows.reverse()
    made = list(carried)
    for i, v in enumerate(node.outputs[n:]):
        each = [row[i] for row in rows]
        value = np.array([x.value for x in each]).reshape(v.shape)
        exact = all(x.error is None for x in each)
        error = None if exact else np.array([x.errors for x in each]).reshape(v.shape)
        made.append(Bounded(value, error))
    return made


def _branched(node: Node, inputs: Sequence[Bounded]) -> list[Bounded]:
    """The case that is taken, each line of its body by the rule of its row."""
    predicate, *given = inputs
    true, false = node.bodies
    n = node.params["results"]
    taken, other = (true, false) if predicate.value else (false, true)
    graph = graph_of_body(taken)
    held = run_bounded(graph, dict(zip(graph.arguments, given, strict=True)))
    out = [held[v] for v in graph.results]
    if predicate.errors.any():  # either may be
        out = [Bounded(x.value, np.full(x.value.shape, np.inf)) for x in out]
    nothing = [Bounded(np.zeros(s.shape), None) for s in other.outputs[n:]]
    return [*out[:n], *((out[n:] + nothing) if taken is true else (nothing + out[n:]))]


RULES: dict[str, Rule] = {
    **PRODUCTS,
    **dict.fromkeys(MOVEMENT, _moved),
    **dict.fromkeys(INDEXED, _indexed),
    **dict.fromkeys(("full", "iota"), _made),
    **dict.fromkeys(("max", "min"), _extreme),
    **dict.fromkeys(("argmax", "argmin"), _place),
    "pad": _padded,
    "cast": _cast,
    "sum": _sum,
    "cumsum": _cumsum,
    "prod": _prod,
    "sort": _sort,
    "host_call": _host_call,
    "argsort": _argsort,
    "max_pool2d": _pooled,
    "random_bits": _bits,
    "scan": _looped,
    "cond": _branched,
}
