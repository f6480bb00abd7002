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
from dataclasses import dataclass
from math import prod

import numpy as np

from tinytorch.base.dtypes import DType, bfloat16, float16, float32, float64, from_bfloat16
from tinytorch.compiler.graph.bodies import graph_of_body
from tinytorch.compiler.graph.graph import Graph, Node, Value
from tinytorch.primitives.pooling import output_size
from tinytorch.primitives.primitive import Spec, store

# The distance of neighbours at 1. For float64 twice that: the reference is float64 itself.
EPS = {float64: 2.0**-51, float32: 2.0**-23, float16: 2.0**-10, bfloat16: 2.0**-7}
# The smallest normal number: below it a result may be rounded to a multiple of less, or to 0.
TINY = {float64: 2.0**-1022, float32: 2.0**-126, float16: 2.0**-14, bfloat16: 2.0**-126}
UNITS = 2  # roundings of half an EPS in one step: a rewrite may need two steps for it
# Vector functions are within 4 units in the last place (tests/codegen/test_vector_math.py), NumPy's
# within 4 too; a chain rounds once more.
FUNCTION_UNITS = 8
FUNCTIONS = {
    "exp", "log", "sqrt", "rsqrt", "sin", "cos", "tanh", "erf", "gelu", "gelu_slope", "pow", "div",
    "reciprocal",
}  # fmt: skip
MOVEMENT = {"reshape", "permute", "broadcast_to", "slice", "flip", "concatenate"}
SINGLE = {"add", "sub", "mul", "cast"}  # one rounding, the same everywhere
INDEXED = {  # where the index is among the inputs
    "take": 1, "take_along": 1, "scatter_add": 1, "scatter_along": 1, "slice_update": 2,
    "put_rows": 2, "max_pool2d_gradient": 1, "max_pool2d_take": 1,
}  # fmt: skip


@dataclass(eq=False)
class Bounded:
    """An array and how far another right answer may lie from it.

    Args:
        value: float64 for floats, as stored for other types.
        error: of each element, or None where all are exact; infinite where nothing is known.
    """

    value: np.ndarray
    error: np.ndarray | None = None

    @property
    def errors(self) -> np.ndarray:
        """The bounds, as an array in any case."""
        return np.zeros(self.value.shape) if self.error is None else self.error


def given(array: np.ndarray, dtype: DType) -> Bounded:
    """A stored array, taken as exact."""
    return Bounded(widened(array, dtype))


def widened(array: np.ndarray, dtype: DType) -> np.ndarray:
    """The stored numbers in float64; other types as they are."""
    if dtype is bfloat16:
        array = from_bfloat16(np.atleast_1d(array)).reshape(np.shape(array))
    return np.array(array, np.float64 if dtype.is_float else None, order="C")


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
        return [_tidy(o, s, unknown) for o, s in zip(outputs, specs, strict=True)]


def difference(found: np.ndarray, dtype: DType, wanted: Bounded) -> str | None:
    """What is wrong with a stored array, in one line; None if every element is within its bound."""
    found = widened(found, dtype)
    if found.shape != wanted.value.shape:
        return f"shape {found.shape}, defined {wanted.value.shape}"
    with np.errstate(all="ignore"):
        same = found == wanted.value
        if dtype.is_float:
            same |= np.isnan(found) & np.isnan(wanted.value)
        if wanted.error is not None:
            apart = np.abs(found.astype(np.float64) - wanted.value.astype(np.float64))
            same |= (apart <= wanted.error) | np.isinf(wanted.error)
    if same.all():
        return None
    at = tuple(int(i[0]) for i in np.nonzero(~same)) if found.shape else ()
    within = wanted.errors[at]
    said = f"{found[at]}, defined {wanted.value[at]} +- {within:.1g}"
    return f"{(~same).sum()} of {same.size} wrong, first at {at}: {said}"


def known(wanted: Bounded) -> float:
    """The share of elements whose bound says something: within half of the largest element."""
    if wanted.error is None or not wanted.value.size:
        return 1.0
    size = np.abs(np.where(np.isfinite(wanted.value), wanted.value, 0)).max(initial=0)
    return float((wanted.error <= 0.5 * size + 1e-6).mean())


# rounding


def _tidy(out: Bounded, spec: Spec, unknown: bool) -> Bounded:
    """NaN among the bounds: exact where the number itself is not finite, else unknown."""
    value = np.asarray(out.value)
    if not spec.dtype.is_float and value.dtype != spec.dtype.storage:
        value = value.astype(spec.dtype.storage)
    error = out.error
    if error is not None:
        error = np.broadcast_to(error, value.shape)
        finite = np.isfinite(value)
        error = np.where(np.isnan(error), np.where(finite | unknown, np.inf, 0.0), error)
        if not error.any():
            error = None
    if spec.dtype.is_float:
        top = float(_largest(spec.dtype))
        beyond = np.abs(value) + (0.0 if error is None else error) > top
        beyond &= np.isfinite(value)
        if beyond.any():  # one computation may overflow where another does not
            error = np.where(beyond, np.inf, 0.0 if error is None else error)
    return Bounded(np.ascontiguousarray(value).reshape(spec.shape), error)


def _largest(dtype: DType) -> float:
    if dtype is bfloat16:
        return 2.0**127
    return np.finfo(dtype.storage).max


def _rounded(
    value: np.ndarray, error, dtype: DType, *, units: float = UNITS, single: bool = False,
    exactly: np.ndarray | bool = True,
) -> Bounded:  # fmt: skip
    """A result with the rounding of its own type added.

    Args:
        error: of the exact result, from the inputs; None if they are exact.
        single: one rounding to nearest of exact inputs is the same everywhere (narrow types).
        exactly: where a result that needs no rounding is surely made without one.
    """
    value = np.asarray(value, np.float64)
    if dtype is float64:
        scaled = value * 1024.0  # multiples of 1 / 1024 below 2^40: no accident
        fits = (scaled == np.rint(scaled)) & (np.abs(value) < 2.0**40)
    else:
        nearest = widened(store(value.astype(dtype.compute), dtype), dtype)
        if single and error is None and dtype is not float32:
            return Bounded(nearest)
        fits = nearest == value
    fits = (fits | ~np.isfinite(value)) & exactly
    if error is not None:
        fits &= error == 0
    elif fits.all():
        return Bounded(value)
    own = np.where(fits, 0.0, units * EPS[dtype] * np.abs(value) + TINY[dtype])
    return Bounded(value, own if error is None else own + error)


def _accumulator(dtype: DType) -> DType:
    return float64 if dtype is float64 else float32


def _whole_numbers(*xs: Bounded) -> bool:
    return all(x.error is None and bool((x.value == np.rint(x.value)).all()) for x in xs)


def _summed(value, error, sizes, terms: float, dtype: DType, whole: bool) -> Bounded:
    """A sum of `terms` products whose absolute values add up to `sizes`."""
    wide = _accumulator(dtype)
    if whole and not np.any(sizes >= (2.0**52 if wide is float64 else 2.0**24)):
        return _rounded(value, error, dtype, single=True)  # every partial sum is exact
    own = terms * (EPS[wide] * sizes + TINY[wide])
    own = np.where(np.isfinite(sizes) & (sizes > _largest(wide)), np.inf, own)
    return _rounded(value, own if error is None else own + error, dtype, exactly=False)


# rules: (node, inputs) -> Bounded or a list of them


def _whole(node: Node, inputs: Sequence[Bounded]) -> list[Bounded]:
    """Integers and bools: the definition itself. One undecided input leaves all undecided."""
    primitive = node.primitive
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
        return _rounded(np.asarray(x.value, np.float64), error, dtype, single=True, units=units)
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
    return _rounded(
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
    return _summed(
        add(x.value), error, add(np.abs(x.value)), n, node.outputs[0].dtype, _whole_numbers(x)
    )


def _cumsum(node: Node, inputs: Sequence[Bounded]) -> Bounded:
    (x,), axis = inputs, node.params["axis"]
    error = None if x.error is None else np.cumsum(x.error, axis)
    return _summed(
        np.cumsum(x.value, axis), error, np.cumsum(np.abs(x.value), axis),
        x.value.shape[axis], node.outputs[0].dtype, _whole_numbers(x),
    )  # fmt: skip


def _prod(node: Node, inputs: Sequence[Bounded]) -> Bounded:
    (x,), params = inputs, node.params
    n = prod(node.inputs[0].shape[a] for a in params["axes"])
    of = node.primitive.numpy
    sizes = of(np.abs(x.value), **params)
    error = None if x.error is None else of(np.abs(x.value) + x.error, **params) - sizes
    dtype = node.outputs[0].dtype
    out = _summed(of(x.value, **params), error, sizes, n, dtype, _whole_numbers(x))
    # some order of the factors may pass the ends of the type on its way
    wide = _accumulator(dtype)
    large = of(np.maximum(np.abs(x.value), 1), **params)
    small = of(np.where(x.value == 0, 1, np.minimum(np.abs(x.value), 1)), **params)
    passes = (large > _largest(wide)) | (small < TINY[wide])
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


def _product(node: Node, inputs: Sequence[Bounded]) -> Bounded:
    """What is linear in each of two inputs: matrix products, convolutions and their gradients."""
    a, b = inputs
    name, dtype = node.primitive.name, node.outputs[0].dtype
    params = {k: p for k, p in node.params.items() if k != "dtype"}

    def of(x, y):
        return node.primitive.numpy(x, y, **params)

    left, right = np.abs(a.value), np.abs(b.value)
    error = None
    if a.error is not None or b.error is not None:
        error = of(a.errors, right) + of(left, b.errors) + of(a.errors, b.errors)
    given_to, shape = node.inputs[0].shape, node.inputs[1].shape
    terms = {
        "matmul": lambda: given_to[-1],
        "convolution": lambda: prod(shape[1:]),
        "convolution_input_gradient": lambda: shape[0] * shape[2] * shape[3],
        "convolution_weight_gradient": lambda: prod(given_to[:1] + given_to[2:]),
    }[name]()
    wide = dtype if dtype is float64 else float32
    out = _summed(of(a.value, b.value), error, of(left, right), terms, dtype, _whole_numbers(a, b))
    if node.inputs[0].dtype is not dtype and out.error is not None:
        out.error = out.error + terms * TINY[wide]
    if name != "matmul" and not all(np.isfinite(x.value).all() for x in inputs):
        # whether a weight meets the zeros of the padding is not defined, and 0 times inf is NaN
        out.error = np.full(out.value.shape, np.inf)
    return out


def _indexed(node: Node, inputs: Sequence[Bounded]) -> Bounded:
    """Gathers move elements, scatters add some of them up."""
    name, dtype = node.primitive.name, node.outputs[0].dtype
    at = INDEXED[name]
    index, others = inputs[at], [x for i, x in enumerate(inputs) if i != at]

    def of(*xs):
        full = list(xs)
        full.insert(at, index.value)
        return node.primitive.numpy(*full, **node.params)

    value = of(*(x.value for x in others))
    error = None
    if any(x.error is not None for x in others):
        error = of(*(x.errors for x in others))
    if index.error is not None and index.error.any():
        return Bounded(value, np.full(np.shape(value), np.inf))
    if name in ("scatter_add", "scatter_along", "max_pool2d_gradient") and dtype.is_float:
        terms = of(np.ones(others[0].value.shape))
        sizes = of(np.abs(others[0].value))
        return _summed(value, error, sizes, terms, dtype, _whole_numbers(*others))
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


def _heads(x: np.ndarray) -> np.ndarray:
    return np.swapaxes(x, -1, -2)


def _scores(q: Bounded, k: Bounded, causal: bool, scale: float, eps: float):
    """scale q k^T, its bounds, and which keys a query sees."""
    scores = scale * (q.value @ _heads(k.value))
    sizes = abs(scale) * (np.abs(q.value) @ _heads(np.abs(k.value)))
    error = (q.value.shape[-1] + FUNCTION_UNITS) * eps * sizes
    error += abs(scale) * (
        q.errors @ _heads(np.abs(k.value)) + (np.abs(q.value) + q.errors) @ _heads(k.errors)
    )
    t, s = scores.shape[-2:]
    seen = np.ones((t, s), bool)
    if causal:
        seen = np.arange(s) <= np.arange(t)[:, None] + (s - t)
    return np.where(seen, scores, -np.inf), np.where(seen, error, 0.0), seen


def _weights_off(dtype: DType) -> float:
    """The units of a processor multiply bfloat16, so the weights of bfloat16 are rounded to it."""
    return EPS[bfloat16] / 2 if dtype is bfloat16 else 0.0


def _attention(node: Node, inputs: Sequence[Bounded]) -> list[Bounded]:
    """A change of the scores by at most E changes a weight by a factor within exp(+-2 E)."""
    q, k, v = inputs
    dtype, wide = (o.dtype for o in node.outputs)
    eps = EPS[wide]
    causal, scale = node.params["causal"], node.params["scale"]
    scores, error, _ = _scores(q, k, causal, scale, eps)
    s = scores.shape[-1]
    largest = scores.max(-1, keepdims=True, initial=-np.inf)
    safe = np.where(largest == -np.inf, 0.0, largest)
    weights = np.exp(scores - safe)
    total = weights.sum(-1, keepdims=True)
    lse = (safe + np.log(total))[..., 0]
    p = weights / np.where(total == 0, 1, total)
    worst = error.max(-1, keepdims=True, initial=0)
    reach = np.abs(np.where(np.isfinite(scores), scores, 0)).max(-1, keepdims=True, initial=0)
    worst = worst + eps * (2 * reach + s + 4 * FUNCTION_UNITS)
    mixed = p @ np.abs(v.value)
    factor = np.expm1(2 * worst)
    own = (factor + s * eps + _weights_off(node.inputs[0].dtype)) * mixed
    own = own + (1 + factor) * (p @ v.errors) + s * TINY[wide]
    none = np.where(np.isinf(lse), 0.0, worst[..., 0] + 4 * eps * np.abs(lse))
    value, lse = node.primitive.numpy(q.value, k.value, v.value, causal=causal, scale=scale)
    return [_rounded(value, own, dtype, exactly=False), Bounded(lse, none)]


def _attention_gradient(node: Node, inputs: Sequence[Bounded]) -> list[Bounded]:
    g, q, k, v, out, lse = inputs
    wide = node.inputs[5].dtype
    dtype = node.outputs[0].dtype
    eps = EPS[wide]
    causal, scale = node.params["causal"], node.params["scale"]
    scores, error, _ = _scores(q, k, causal, scale, eps)
    (t, s), d = scores.shape[-2:], q.value.shape[-1]
    unseen = np.isinf(lse.value)
    lifted = np.where(unseen, 0.0, lse.value)[..., None]
    p = np.exp(scores - lifted)
    finite = np.where(np.isfinite(scores), scores, 0)
    off = error + lse.errors[..., None] + eps * (np.abs(finite) + np.abs(lifted) + 16)
    factor = np.expm1(off)

    def product(a, ea, b, eb, terms):
        sizes = np.abs(a) @ np.abs(b)
        return a @ b, ea @ np.abs(b) + (np.abs(a) + ea) @ eb + terms * eps * sizes

    dp, e_dp = product(g.value, g.errors, _heads(v.value), _heads(v.errors), d)
    delta = (g.value * out.value).sum(-1, keepdims=True)
    e_delta = np.abs(g.value) * out.errors + g.errors * (np.abs(out.value) + out.errors)
    e_delta = (e_delta + d * eps * np.abs(g.value * out.value)).sum(-1, keepdims=True)
    e_delta = e_delta + EPS[dtype] * (np.abs(g.value * out.value)).sum(-1, keepdims=True)
    slope = dp - delta
    e_slope = e_dp + e_delta + eps * (np.abs(dp) + np.abs(delta))
    ds = p * slope * scale
    e_ds = p * ((1 + factor) * e_slope + factor * np.abs(slope)) * abs(scale)
    e_ds = e_ds + (4 * eps + _weights_off(node.inputs[1].dtype)) * np.abs(ds)
    e_p = p * (factor + _weights_off(node.inputs[1].dtype))
    made = [
        product(ds, e_ds, k.value, k.errors, s),
        product(_heads(ds), _heads(e_ds), q.value, q.errors, t),
        product(_heads(p), _heads(e_p), g.value, g.errors, t),
    ]
    defined = node.primitive.numpy(*(x.value for x in inputs), causal=causal, scale=scale)
    rounded = []
    for value, (_, own), spec in zip(defined, made, node.outputs, strict=True):
        own = own + (t + s) * TINY[wide]
        rounded.append(_rounded(value, own, spec.dtype, exactly=False))
    return rounded


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


RULES: dict[str, Callable[[Node, Sequence[Bounded]], Bounded | list[Bounded]]] = {
    **dict.fromkeys(MOVEMENT, _moved),
    **dict.fromkeys(INDEXED, _indexed),
    **dict.fromkeys(("full", "iota"), _made),
    **dict.fromkeys(("max", "min"), _extreme),
    **dict.fromkeys(("argmax", "argmin"), _place),
    **dict.fromkeys(
        ("matmul", "convolution", "convolution_input_gradient", "convolution_weight_gradient"),
        _product,
    ),
    "pad": _padded,
    "cast": _cast,
    "sum": _sum,
    "cumsum": _cumsum,
    "prod": _prod,
    "sort": _sort,
    "host_call": _host_call,
    "argsort": _argsort,
    "max_pool2d": _pooled,
    "attention": _attention,
    "attention_gradient": _attention_gradient,
    "random_bits": _bits,
    "scan": _looped,
    "cond": _branched,
}
