"""Random programs of primitives, each evaluated while it is drawn.

A value of the program is an Entry: what the definition makes of it in float64, with a bound for
every element (error_bounds.py). Small whole numbers stay exact, and there compiled and defined
results must be equal to the bit; elsewhere the bound says how far apart they may lie. An operation
whose result could not be held to anything (an overflow, an error as large as the number) is not
taken, so every element that is compared means something.

`random_steps.py` draws the other half: programs over the public functions and layers, with their
gradients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from tests.compiler.compiled import program_of, run
from tests.compiler.error_bounds import Bounded, difference, given, known, step_bounded
from tests.compiler.random_values import (
    FLOATS,
    KINDS,
    LARGE,
    MOST,
    WHOLE,
    Chooser,
    Refused,
    indices,
    numbers,
)
from tinytorch.base.dtypes import (
    DType,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int8,
    int32,
    int64,
    uint8,
    uint32,
)
from tinytorch.base.errors import TinyTorchError
from tinytorch.codegen.target import Target
from tinytorch.compiler.graph.graph import Graph, Value
from tinytorch.primitives import TABLE, add, mul, tanh
from tinytorch.primitives.body import Body
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
    """Draws one program."""

    def __init__(self, seed: object = 0, replayed: Sequence[int] | None = None):
        super().__init__(seed, replayed)
        self.drawn = Drawn()
        self.graph = self.drawn.graph
        self.pool: list[Entry] = []

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


def broadcastable(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    try:
        return prod(np.broadcast_shapes(a, b)) <= max(MOST, prod(a), prod(b))
    except ValueError:
        return False


# Operations. Each takes the Writer, chooses its operands and appends nodes, or raises Refused.


def unary(w: Writer) -> None:
    x = w.entry()
    names = ["logical_not"]
    if x.is_float:
        names = ["neg", "abs", "sign", "floor", "ceil", "round", "isnan", "isinf", "isfinite",
                 "signbit"]  # fmt: skip
    elif x.dtype is not bool_:
        names = ["neg", "abs", "bitwise_not", "sign"] if x.dtype.kind == "i" else ["bitwise_not"]
    w.apply(w.choose(names), x)


def function(w: Writer) -> None:
    """Smooth functions, mostly at safe places; log, sqrt, rsqrt of |x| + 1."""
    x = w.entry(lambda e: e.is_float)
    name = w.choose(
        ["exp", "tanh", "sin", "cos", "erf", "sqrt", "log", "rsqrt", "reciprocal", "pow"]
    )
    if name in ("sqrt", "log", "rsqrt", "reciprocal", "pow") and not w.rarely(8):
        x = w.apply("add", w.apply("abs", x), w.constant(1, x.dtype))
    if name == "pow":
        w.apply("pow", x, w.constant(w.choose([2, 1, 3, 0.5, -1, 0]), x.dtype))
        return
    w.apply(name, x)


def cast(w: Writer) -> None:
    x = w.entry()
    every = (float32, float64, bfloat16, float16, int32, int64, uint8, int8, bool_)
    w.apply("cast", x, dtype=w.choose([d for d in every if d is not x.dtype]))


def partner(w: Writer, x: Entry) -> Entry:
    """Another operand: of the pool, a constant, or a new argument of a shape that broadcasts."""
    how = w.number(0, 5)
    if how == 5:
        return w.constant(w.choose([1, 0, 2, 3]), x.dtype)
    if how == 4:
        shape = tuple(n if w.flag() else 1 for n in x.shape)
        return w.given(shape[w.number(0, len(shape)) :], x.dtype)
    return w.entry(lambda e: e.dtype is x.dtype and broadcastable(e.shape, x.shape))


def binary(w: Writer) -> None:
    x = w.entry()
    y = partner(w, x)
    if w.flag():
        x, y = y, x
    names = ["add", "mul", "sub", "maximum", "minimum", "div", "less", "equal", "greater_equal",
             "not_equal", "less_equal", "greater", "floor_div", "remainder", "absorb"]  # fmt: skip
    if x.dtype is bool_:
        names = ["logical_and", "logical_or", "bitwise_xor", "bitwise_or", "bitwise_and"]
    elif not x.is_float:
        names = [n for n in names if n not in ("div", "absorb")]
        names += ["bitwise_and", "bitwise_or", "bitwise_xor", "shift_left", "shift_right"]
    name = w.choose(names)
    if name == "div" and not w.rarely(8):
        y = w.apply("add", w.apply("abs", y), w.constant(1, y.dtype))
    w.apply(name, x, y)


def where(w: Writer) -> None:
    x = w.entry(lambda e: e.dtype is not bool_)
    y = partner(w, x)
    shape = np.broadcast_shapes(x.shape, y.shape)
    fits = [e for e in w.pool[::-1] if e.dtype is bool_ and broadcastable(e.shape, shape)]
    c = w.choose(fits) if fits and w.flag() else w.given(shape, bool_)
    w.apply("where", c, x, y)


def reduction(w: Writer) -> None:
    x = w.entry(lambda e: e.rank > 0)
    names = ["any", "all"] if x.dtype is bool_ else ["sum", "max", "min", "sum", "prod"]
    w.apply(w.choose(names), x, axes=w.axes(x.rank), keepdims=w.flag())


def outer(w: Writer) -> None:
    """A column and a row of one number type: what is summed later along either axis."""
    x = w.entry(lambda e: e.is_float and 0 < e.rank and e.size <= 100)
    n = w.choose([5, 1, 16, 17, 33, 64])
    column = w.apply("reshape", x, shape=(x.size, 1))
    w.apply(w.choose(["add", "mul", "sub"]), column, w.given((1, n), x.dtype))


def normalized(w: Writer) -> None:
    """Softmax, a sum of exponentials or deviations from a mean, along any of the axes."""
    x = w.entry(lambda e: e.is_float and e.rank > 0 and e.size > 0)
    axes = w.axes(x.rank)
    how = w.number(0, 2)
    if how < 2:
        kept = w.apply("max", x, axes=axes, keepdims=True)
        powers = w.apply("exp", w.apply("sub", x, kept))
        total = w.apply("sum", powers, axes=axes, keepdims=True)
        w.apply("div", powers, total) if how else w.apply("log", total)
        return
    n = prod(x.shape[a] for a in axes)
    total = w.apply("sum", x, axes=axes, keepdims=True)
    mean = w.apply("mul", total, w.constant(1 / n, x.dtype))
    away = w.apply("sub", x, mean)
    square = w.apply("sum", w.apply("mul", away, away), axes=axes, keepdims=True)
    w.apply("mul", away, w.apply("rsqrt", w.apply("add", square, w.constant(1, x.dtype))))


def reshape(w: Writer) -> None:
    x = w.entry()
    n = x.size
    shapes = [(n,), (1, n), (n, 1)] + [
        (d, n // d) for d in (2, 3, 4, 5, 7, 8, 16, 31) if n and n % d == 0
    ]
    if x.rank > 1:
        shapes += [(*x.shape[:-2], x.shape[-2] * x.shape[-1]), (*x.shape, 1), (1, *x.shape)]
    shapes += [(d, n // d // e, e) for d in (2, 3) for e in (4, 5) if n and n % (d * e) == 0]
    shapes += [tuple(s for s in x.shape if s != 1)]
    w.apply("reshape", x, shape=w.choose(shapes))


def permute(w: Writer) -> None:
    x = w.entry(lambda e: e.rank > 1)
    w.apply("permute", x, axes=w.order(x.rank))


def broadcast_to(w: Writer) -> None:
    x = w.entry(lambda e: e.size <= MOST)
    shape = tuple(w.choose([3, 8, 1]) if n == 1 else n for n in x.shape)
    if w.flag():
        shape = (w.choose([2, 1, 5]), *shape)
    w.apply("broadcast_to", x, shape=shape)


def slice_(w: Writer) -> None:
    x = w.entry(lambda e: e.rank > 0)
    start, stop, step = [], [], []
    for n in x.shape:
        how = w.number(0, 4) if n else 0
        a = w.number(0, n // 2) if how else 0
        b = w.number(n // 2, n) if how else n
        by = (1, 1, 2, 3, -1)[how]
        if how == 4:
            a, b = n - 1 - a, w.choose([-1, 0])
        start.append(a)
        stop.append(b)
        step.append(by)
    w.apply("slice", x, start=tuple(start), stop=tuple(stop), step=tuple(step))


def flip(w: Writer) -> None:
    x = w.entry(lambda e: e.rank > 0)
    w.apply("flip", x, axes=w.axes(x.rank))


def pad(w: Writer) -> None:
    x = w.entry(lambda e: 0 < e.rank and e.dtype is not bool_)
    before = tuple(w.number(0, 2) for _ in x.shape)
    after = tuple(w.number(0, 2) for _ in x.shape)
    value = w.choose([0.0, 1.0, float("-inf")] if x.is_float else [0, 1])
    w.apply("pad", x, before=before, after=after, value=value)


def concatenate(w: Writer) -> None:
    x = w.entry(lambda e: e.rank > 0)
    axis = w.number(0, x.rank - 1)
    rest = x.shape[:axis] + x.shape[axis + 1 :]
    fits = [
        e for e in w.pool[::-1]
        if e.dtype is x.dtype and e.rank == x.rank and e.shape[:axis] + e.shape[axis + 1 :] == rest
    ]  # fmt: skip
    w.apply("concatenate", x, *(w.choose(fits) for _ in range(w.number(1, 2))), axis=axis)


def matmul(w: Writer) -> None:
    a = w.entry(lambda e: e.dtype is not bool_ and e.rank >= 2 and e.size <= 10 * MOST)
    k = a.shape[-1]
    fits = [
        e for e in w.pool[::-1]
        if e.dtype is a.dtype and e.rank >= 2 and e.shape[-2] == k
        and broadcastable((*a.shape[:-2], 1, 1), (*e.shape[:-2], 1, 1))
    ]  # fmt: skip
    if fits and w.flag():
        b = w.choose(fits)
    elif w.flag():  # transposed: (n, k) seen as (k, n)
        b = w.apply("permute", w.given((w.choose([3, 1, 16, 33]), k), a.dtype), axes=(1, 0))
    else:
        batch = a.shape[:-2] if w.flag() else ()
        b = w.given((*batch, k, w.choose([3, 1, 16, 33])), a.dtype)
    params = {"dtype": float32} if a.dtype in (bfloat16, float16) and w.flag() else {}
    w.apply("matmul", a, b, **params)


# indices


def take(w: Writer) -> None:
    x = w.entry(lambda e: e.rank > 0)
    axis = w.number(0, x.rank - 1)
    index = w.index(w.choose([(4,), (1,), (2, 3), (), (33,), (0,)]), x.shape[axis])
    w.apply("take", x, index, axis=axis)


def along(w: Writer) -> None:
    x = w.entry(lambda e: e.rank > 0)
    axis = w.number(0, x.rank - 1)
    n = w.choose([x.shape[axis], 1, 3])
    index = w.index((*x.shape[:axis], n, *x.shape[axis + 1 :]), x.shape[axis])
    w.apply("take_along", x, index, axis=axis)


def scatter(w: Writer) -> None:
    """Rows or elements of g added where an index says; many say the same."""
    g = w.entry(lambda e: e.rank > 0 and e.dtype is not bool_)
    axis, size = w.number(0, g.rank - 1), w.choose([3, 1, 8, 33])
    if w.flag():
        index = w.index(g.shape, size)
        w.apply("scatter_along", g, index, axis=axis, size=size)
    else:
        end = w.number(axis + 1, g.rank)
        w.apply("scatter_add", g, w.index(g.shape[axis:end], size), axis=axis, size=size)


def write(w: Writer) -> None:
    """Part of x replaced by something made of x itself, which an assignment does."""
    x = w.entry(lambda e: e.rank > 0 and e.dtype is not bool_ and e.size > 0)
    n = x.shape[0]
    y = w.apply("add", x, w.apply("sum", x, axes=(0,), keepdims=True)) if w.flag() else x
    if w.flag():  # rows
        index = w.index((w.choose([1, 3, n]),), n)
        w.apply("put_rows", x, w.apply("take", w.apply("neg", y), index, axis=0), index)
        return
    least = tuple(w.number(0, m) for m in x.shape)
    part = w.apply("slice", y, start=least, stop=x.shape, step=(1,) * x.rank)
    at = np.array([w.number(0, a) for a in least], np.int64)
    start = w.given((x.rank,), int64, array=at)
    w.apply("slice_update", x, w.apply("neg", part), start)


# orders


def order(w: Writer) -> None:
    x = w.entry(lambda e: e.rank > 0 and e.dtype is not bool_)
    name = w.choose(["sort", "argsort", "cumsum", "argmax", "argmin"])
    w.apply(name, x, axis=w.number(0, x.rank - 1))


def place_of(w: Writer) -> None:
    """searchsorted: for each needle, how many numbers of a sorted row lie before it."""
    x = w.entry(lambda e: e.rank == 1 and e.dtype is not bool_ and e.size <= 64)
    row = w.apply("sort", x, axis=0) if w.flag() else x
    needles = w.given((w.choose([3, 1, 17]), 1), x.dtype)
    before = w.apply(w.choose(["less", "less_equal"]), row, needles)
    w.apply("sum", w.apply("cast", before, dtype=int64), axes=(1,), keepdims=w.flag())


def iota(w: Writer) -> None:
    x = w.entry(lambda e: e.rank > 0 and e.dtype is not bool_ and max(e.shape) < 100)
    w.apply("iota", shape=x.shape, axis=w.number(0, x.rank - 1), dtype=x.dtype)


def random_bits(w: Writer) -> None:
    state = np.array([w.number(0, 9), 1, 2**32 - 2, 0], np.uint32)
    values = w.apply_all(
        "random_bits", w.given((4,), uint32, state=True, array=state), shape=w.shape()
    )
    bits = w.apply("shift_right", values[0], w.constant(8, uint32))
    w.apply("cast", bits, dtype=w.choose([float32, float64]))


def looped(w: Writer) -> None:
    """A loop along the first axis: sums, what is bent and stacked, values that change places."""
    x = w.entry(lambda e: e.is_float and e.rank > 0 and max(e.shape) < 100)
    row = Spec(x.shape[1:], x.dtype)
    first = w.given(row.shape, x.dtype, state=w.flag())

    def added(c, v):
        now = add(c, v)
        return now, now

    def bent(c, v):
        return tanh(add(c, v)), mul(c, v)

    def passed_on(c, v):
        return v, c

    body = Body.of(row, row)(w.choose([added, bent, passed_on]))
    w.apply_all(
        "scan", first, x, body=body, carries=1, stacked=1, length=x.shape[0], reverse=w.flag()
    )


def branched(w: Writer) -> None:
    """One of two bodies, as a comparison of what there is says; what is not taken may be wild."""
    x = w.entry(lambda e: e.is_float and e.size <= MOST)
    y = w.entry(lambda e: e.dtype is x.dtype and e.shape == x.shape)
    spec = Spec(x.shape, x.dtype)
    flags = [e for e in w.pool[::-1] if e.dtype is bool_ and e.shape == ()]
    if flags and w.flag():
        flag = w.choose(flags)
    else:
        total = w.apply("sum", x, axes=tuple(range(x.rank)), keepdims=False)
        flag = w.apply(w.choose(["less", "greater_equal"]), total, w.constant(1, x.dtype))

    def joined(a, b):
        return add(a, b), mul(a, a)

    def turned(a, b):
        return b, a

    def twice(a, b):
        total = add(tanh(a), b)
        return total, total

    def more(a, b):
        return mul(a, b), a, add(a, b)

    bodies = [Body.of(spec, spec)(w.choose([joined, turned, twice, more])) for _ in range(2)]
    outs = w.apply_all("cond", flag, x, y, true=bodies[0], false=bodies[1], results=2)
    for entry in outs[2:]:  # of these only one case says anything
        w.pool.remove(entry)


# images


def image(w: Writer, dtype: DType | None = None) -> Entry:
    """(N, C, H, W): of the pool, of another shape in the pool, or new; half the time crosswise."""
    how = w.number(0, 3)
    if how == 0:
        return w.entry(lambda e: e.is_float and e.rank == 4 and dtype in (None, e.dtype))
    if how == 1:
        x = w.entry(lambda e: e.is_float and 0 < e.size <= MOST and dtype in (None, e.dtype))
        shapes = [
            (n, c, x.size // n // c // h, h)
            for n in (2, 1) for c in (3, 1, 4, 8) for h in (1, 2, 5)
            if x.size % (n * c * h) == 0
        ]  # fmt: skip
        x = w.apply("reshape", x, shape=w.choose(shapes))
    else:
        shape = (
            w.choose([1, 2, 0, 3]),
            w.choose([1, 3, 4, 8, 16]),
            w.choose([1, 5, 8, 13]),
            w.choose([1, 5, 7, 8]),
        )
        x = w.given(shape, dtype or w.choose(FLOATS))
    return w.apply("permute", x, axes=w.choose([(0, 3, 1, 2), (0, 2, 3, 1), (0, 1, 3, 2)])) if (
        w.flag()
    ) else x  # fmt: skip


def window(w: Writer) -> dict:
    return {
        "stride": (w.choose([1, 1, 2, 3]), w.choose([1, 1, 2])),
        "padding": tuple((w.number(0, 2), w.number(0, 2)) for _ in range(2)),
        "dilation": (w.choose([1, 1, 2]), w.choose([1, 1, 2])),
    }


def convolution(w: Writer) -> None:
    """A convolution, and often one of its gradients."""
    x = image(w)
    groups = w.choose([g for g in (1, 1, 2, x.shape[1]) if g and x.shape[1] % g == 0])
    shape = (
        groups * w.choose([1, 2, 4, 8, 17]),
        x.shape[1] // groups,
        w.choose([3, 1, 2]),
        w.choose([3, 1, 2, 5]),
    )
    filters = w.given(shape, x.dtype)
    params = {**window(w), "groups": groups}
    if x.dtype in (bfloat16, float16) and w.flag():
        params["dtype"] = float32
    out = w.apply("convolution", x, filters, **params)
    how = w.number(0, 3)
    if how and out.dtype is x.dtype:
        g = out if how == 3 else w.given(out.shape, out.dtype)
        if how == 1:
            w.apply("convolution_input_gradient", g, filters, input_shape=x.shape, **params)
        else:
            w.apply("convolution_weight_gradient", g, x, weight_shape=shape, **params)


def pooling(w: Writer) -> None:
    x = image(w)
    kernel = (w.choose([2, 1, 3]), w.choose([2, 1, 3]))
    params = {
        "kernel": kernel,
        "stride": (w.choose([2, 1, 3]), w.choose([2, 1, 3])),
        "padding": tuple((w.number(0, k - 1), w.number(0, k - 1)) for k in kernel),
    }
    out, index = w.apply_all("max_pool2d", x, **params)
    if w.flag():
        g = w.given(out.shape, out.dtype)
        w.apply("max_pool2d_gradient", g, index, input_shape=x.shape)
    else:
        w.apply("max_pool2d_take", x, index)


def attention(w: Writer) -> None:
    """Attention, and half the time its gradient; no keys and no queries among the sizes."""
    b, a = w.choose([1, 2, 0]), w.choose([1, 3])
    t, s = w.choose([1, 5, 8, 33, 64, 0]), w.choose([1, 5, 8, 33, 70, 0])
    d, dtype = w.choose([1, 4, 8, 16, 17]), w.choose(FLOATS)
    near = [e for e in w.pool[::-1] if e.is_float and e.rank == 4 and 0 < e.shape[3] <= 64]
    if near and w.flag():
        q = w.choose(near)
        (b, a, t, d), dtype = q.shape, q.dtype
    else:
        q = _head(w, (b, a, t, d), dtype)
    k, v = _head(w, (b, a, s, d), dtype), _head(w, (b, a, s, d), dtype)
    params = {"causal": w.flag(), "scale": w.choose([0.5, 1.0, 0.1, 2.0])}
    out, lse = w.apply_all("attention", q, k, v, **params)
    if w.flag():
        g = w.given(q.shape, dtype)
        w.apply_all("attention_gradient", g, q, k, v, out, lse, **params)


def _head(w: Writer, shape: tuple[int, ...], dtype: DType) -> Entry:
    """Queries, keys or values: half the time as a layer makes them, heads beside features."""
    array = numbers(len(w.drawn.arrays), shape, dtype, w.choose(["whole", "normal"]))
    if w.flag():
        return w.given(shape, dtype, array=array)
    b, a, t, d = shape
    x = w.given((b, t, a, d), dtype, array=array.reshape(b, t, a, d))
    return w.apply("permute", x, axes=(0, 2, 1, 3))


def given_(w: Writer) -> None:
    shape = w.choose(LARGE) if w.rarely(20) else w.shape()
    w.given(shape, w.choose((*FLOATS, *WHOLE, bool_)), state=w.flag())


def twin(w: Writer) -> None:
    """A state like a value there is: something to swap with or to be assigned."""
    x = w.entry()
    w.given(x.shape, x.dtype, state=True)


OPERATIONS = (
    binary, unary, reduction, function, binary, permute, reshape, broadcast_to, where, matmul, cast,
    slice_, flip, pad, concatenate, take, order, iota, given_, twin, reduction, binary, outer,
    normalized, along, scatter, write, place_of, random_bits, convolution, pooling, attention,
    function, convolution, looped, branched,
)  # fmt: skip


def program(w: Writer, longest: int = 12) -> Drawn:
    """A program of up to `longest` operations, its inputs and its error bounds."""
    shape = w.choose(LARGE) if w.rarely(20) else w.shape()
    w.given(shape, w.choose((*FLOATS, int32, bool_)), state=w.flag())
    for _ in range(w.number(1, longest)):
        operation = w.choose(OPERATIONS)
        try:
            operation(w)
        except Refused:
            continue
    return w.finish()


# checking


class Checked:
    """What a comparison saw.

    Args:
        wrong: a line for each array that is not as defined.
        arrays: how many were compared.
        blind: how many of those had bounds that said nothing.
        operations: what the programs were made of.
    """

    def __init__(self):
        self.wrong: list[str] = []
        self.arrays = self.blind = 0
        self.operations: Counter[str] = Counter()

    def compare(self, what: str, found: np.ndarray, dtype: DType, wanted: Bounded) -> None:
        """One array, as stored, beside what it is defined to be."""
        self.arrays += 1
        self.blind += known(wanted) < 0.5
        line = difference(found, dtype, wanted)
        if line:
            self.wrong.append(f"{what}: {line}")


def check(drawn: Drawn, target: str, threads: int) -> Checked:
    """One call of the compiled program: its results, and every state afterwards."""
    graph, seen = drawn.graph, Checked()
    seen.operations.update(n.primitive.name for n in graph.nodes)
    results, states = run(program_of(graph, Target.named(target)), graph, drawn.arrays, threads)
    for i, (v, found) in enumerate(zip(graph.results, results, strict=True)):
        seen.compare(f"result {i}", found, v.dtype, drawn.bounds[v])
    news = dict(graph.updates)
    for i, old in enumerate(graph.states):
        new = news.get(old, old)
        seen.compare(f"state {i}", states[old], new.dtype, drawn.bounds[new])
    return seen
