"""Random programs of primitives, each evaluated while it is drawn.

Small whole numbers stay exact, and there compiled and defined results must be equal to the bit;
elsewhere a bound says how far apart they may lie (error_bounds.py). `random_graphs.py` holds the
program while it is drawn, `random_attention.py` has the operations of attention.

`random_steps.py` draws the other half: programs over the public functions and layers, with their
gradients.
"""

from __future__ import annotations

from collections import Counter
from math import prod

import numpy as np

from tests.compiler.bounded import Bounded, difference, known
from tests.compiler.compiled import program_of, run
from tests.compiler.random_attention import attention, cached
from tests.compiler.random_graphs import Drawn, Entry, Writer
from tests.compiler.random_values import (
    FLOATS,
    LARGE,
    MOST,
    WHOLE,
    Refused,
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
from tinytorch.codegen.target import Target
from tinytorch.primitives import add, mul, tanh
from tinytorch.primitives.body import Body
from tinytorch.primitives.grouped import pack_groups
from tinytorch.primitives.primitive import Spec, store


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


def grouped(w: Writer) -> None:
    """Bytes times weights of few bits: small whole numbers, any there are, or only the ends."""
    bits, group, how = w.choose([4, 8]), w.choose([32, 64, 128]), w.choose(["whole", "any", "ends"])
    random = np.random.default_rng(len(w.drawn.arrays))

    def whole(shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
        if how == "ends":
            return random.choice([low, high], shape)
        return random.integers(*((-4, 5) if how == "whole" else (low, high + 1)), shape)

    found = [e for e in w.pool[::-1] if e.dtype is int8 and e.rank and e.size <= MOST]
    found = [e for e in found if e.shape[-1] < 300]
    if found and w.flag():
        x = w.choose(found)
    else:
        lead, k = w.choose([(1,), (1, 2), (3,), (), (9,)]), w.choose([32, 70, 64, 128, 1, 200, 257])
        if w.rarely(12):
            lead, k = w.choose([((0,), k), (lead, 0), ((8,), k)])
        x = w.given((*lead, k), int8, array=whole((*lead, k), -128, 127).astype(np.int8))
    n, k = w.choose([3, 1, 17, 33]), x.shape[-1]
    ends = (-8, 7) if bits == 4 else (-128, 127)
    stored, kind = pack_groups(whole((n, k), *ends), bits, group), uint8 if bits == 4 else int8
    if w.rarely(3):
        weight = w.given(stored.shape[::-1], kind, array=np.ascontiguousarray(stored.T))
        weight = w.apply("permute", weight, axes=(1, 0))
    else:
        weight = w.given(stored.shape, kind, state=w.flag(), array=stored)
    shape, dtype = (n, -(-k // group)), w.choose(FLOATS)
    small = numbers(len(w.drawn.arrays), shape, float64, "normal") / 64
    scale = w.given(shape, dtype, array=None if how == "whole" else store(small, dtype))
    out = w.apply("grouped_matmul", x, weight, scale, bits=bits, group=group)
    if w.flag():
        out = w.apply("add", out, w.given((n,), float32))
    w.asked.append(out)


def sparse(w: Writer) -> None:
    """Rows times a matrix of few numbers, whose columns come in any order, some of them twice."""
    x = w.entry(lambda e: e.is_float and e.rank > 0 and e.shape[-1] > 0)
    if x.rank != 2:
        x = w.apply("reshape", x, shape=(x.size // x.shape[-1], x.shape[-1]))
    random = np.random.default_rng(len(w.drawn.arrays))
    lengths = random.integers(0, w.choose([4, 1, 12, 40]), w.choose([3, 1, 17, 33]))
    count, starts = int(lengths.sum()), np.concatenate([[0], np.cumsum(lengths)])
    values = w.given((count,), x.dtype, state=w.flag())
    dtype = w.choose([int32, int64] + [uint8] * (x.shape[1] <= 256))
    columns = random.integers(0, x.shape[1], count).astype(dtype.storage)
    places = w.given((count,), dtype, state=w.flag(), array=columns)
    kind = w.choose([int32, int64])
    bounds = w.given(starts.shape, kind, array=starts.astype(kind.storage))
    out = w.apply("sparse_matmul", x, values, places, bounds)
    if w.flag():
        out = w.apply("add", out, w.given(lengths.shape, out.dtype))
    w.asked.append(out)


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
    function, convolution, looped, branched, grouped, cached, sparse,
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
