"""Random programs of primitives, with a bound on how far two right answers can lie apart.

Numbers begin as small integers. While they stay integers below 2^20 every order of summation gives
the same float, so compiled and defined results must be equal to the bit, and comparisons, floors,
casts to integers and argument choices are safe. After a function like exp a value is `inexact`: a
bound on its error is carried along, and such values only meet operations that are smooth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np
from hypothesis import strategies as st

from tinytorch.base.dtypes import (
    DType,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    from_bfloat16,
    int8,
    int32,
    int64,
    uint8,
)
from tinytorch.compiler.graph import Graph, Value
from tinytorch.primitives import TABLE
from tinytorch.primitives.primitive import Spec, store

EXACT = 2.0**20  # integers up to here: sums of 16 of them are still exact in float32
SIZES = (1, 2, 3, 5, 7, 8, 16, 17, 31, 33, 64, 0)
MOST = 6000  # elements of an ordinary value
LARGE = ((70001,), (257, 512), (1024, 96), (3, 40000), (9, 64, 130), (40000, 3))
FLOATS = (float32, float32, float32, float64, bfloat16, float16)
WHOLE = (int32, int64, uint8, int8)
EPS = {float64: 2.0**-52, float32: 2.0**-23, float16: 2.0**-10, bfloat16: 2.0**-7}
# Vector functions are within 4 units in the last place (tests/codegen/test_vector_math.py), NumPy's
# within 4 too; a chain rounds once more.
FUNCTION_UNITS = 8


@dataclass(eq=False)
class Entry:
    """A value of the program being drawn.

    Args:
        value: in the graph.
        size: bound on its absolute numbers.
        error: bound on |compiled - defined|; 0 means equal to the bit.
    """

    value: Value
    size: float
    error: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> DType:
        return self.value.dtype

    @property
    def exact(self) -> bool:
        return self.error == 0.0

    @property
    def is_float(self) -> bool:
        return self.dtype.is_float


class Drawn:
    """A program, its inputs, and for each of its values the bound on the error."""

    def __init__(self):
        self.graph = Graph()
        self.arrays: dict[Value, np.ndarray] = {}
        self.entries: dict[Value, Entry] = {}

    def __repr__(self) -> str:
        return f"\n{self.graph}\n"


class Refused(Exception):
    """This operation does not fit what there is."""


class Writer:
    """Draws one program."""

    def __init__(self, draw: Callable):
        self.draw = draw
        self.drawn = Drawn()
        self.graph = self.drawn.graph
        self.pool: list[Entry] = []

    # drawing

    def choose(self, options):
        """One of the options; shrinks to the first."""
        options = list(options)
        if not options:
            raise Refused
        return options[self.draw(st.integers(0, len(options) - 1))]

    def flag(self) -> bool:
        return self.draw(st.booleans())

    def entry(self, fits: Callable[[Entry], bool]) -> Entry:
        """A value that fits; the newest is the simplest choice."""
        return self.choose([e for e in reversed(self.pool) if fits(e)])

    # building

    def given(self, shape: tuple[int, ...], dtype: DType, state: bool = False) -> Entry:
        """A new argument or state of small integers (quarters would do; integers shrink nicer)."""
        value = Value(Spec(shape, dtype))
        (self.graph.states if state else self.graph.arguments).append(value)
        random = np.random.default_rng(len(self.drawn.arrays))
        low = 0 if dtype in (bool_, uint8) else -4
        high = 2 if dtype is bool_ else 5
        self.drawn.arrays[value] = store(random.integers(low, high, shape), dtype)
        entry = Entry(value, 1 if dtype is bool_ else 4)
        self.pool.append(entry)
        return entry

    def constant(self, number, dtype: DType, shape=()) -> Entry:
        value = Value(Spec(shape, dtype))
        self.graph.constants[value] = store(np.full(shape, number), dtype)
        return Entry(value, abs(float(number)))

    def apply(self, name: str, *inputs: Entry, size: float, error: float = 0.0, **params) -> Entry:
        """Append a node. The bounds are for exact arithmetic: rounding is added."""
        (value,) = self.graph.add(TABLE[name], tuple(e.value for e in inputs), params)
        return self.keep(value, size, error)

    def keep(self, value: Value, size: float, error: float) -> Entry:
        if value.dtype.is_float:
            if error:
                error += 2 * EPS[value.dtype] * size
            if not np.isfinite(size) or size > EXACT or error > 0.25 * max(size, 1):
                raise Refused
            if value.dtype is float16 and size > 2**15:
                raise Refused
        if value.spec.size > 300_000:
            raise Refused
        entry = Entry(value, size, error)
        self.pool.append(entry)
        return entry

    def finish(self) -> Drawn:
        graph = self.graph
        used = {v for n in graph.nodes for v in n.inputs}
        for e in self.pool:
            self.drawn.entries[e.value] = e
        for state in list(graph.states):
            self._update(state)
        count = self.draw(st.integers(1, 4))
        fresh = [e for e in self.pool if e.value not in used] or self.pool
        graph.results = [fresh[-1].value]
        for _ in range(count - 1):
            graph.results.append(self.choose(self.pool[::-1]).value)
        return self.drawn

    def _update(self, state: Value) -> None:
        fits = [e for e in self.pool[::-1] if e.value.spec == state.spec]
        if self.draw(st.integers(0, 4)):
            self.graph.updates.append((state, self.choose(fits).value))


def broadcastable(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    try:
        return prod(np.broadcast_shapes(a, b)) <= max(MOST, prod(a), prod(b))
    except ValueError:
        return False


# Operations. Each takes the Writer, chooses its operands and appends nodes, or raises Refused.


def unary(w: Writer) -> None:
    x = w.entry(lambda e: True)
    names = []
    if x.dtype is bool_:
        names = ["logical_not"]
    elif x.is_float:
        names = ["neg", "abs"]
    else:
        names = ["neg", "abs", "bitwise_not", "sign"] if x.dtype.kind == "i" else ["bitwise_not"]
    if x.exact and x.is_float:
        names += ["sign", "floor", "ceil", "round", "isnan", "logical_not"]
    name = w.choose(names)
    boolean = name in ("isnan", "logical_not")
    wraps = not x.is_float and x.dtype is not bool_
    size = 1 if boolean or name == "sign" else (2.0**63 if wraps else x.size)
    w.apply(name, x, size=size, error=x.error)


def function(w: Writer) -> None:
    """Smooth functions at safe places; log, sqrt, rsqrt of |x| + 1."""
    x = w.entry(lambda e: e.is_float)
    name = w.choose(["exp", "tanh", "sin", "cos", "erf", "sqrt", "log", "rsqrt", "reciprocal"])
    units = FUNCTION_UNITS * EPS[x.dtype]
    if name == "exp":
        if x.size > 9:
            x = w.apply("tanh", x, size=1, error=x.error + units)
        top = float(np.exp(x.size))
        w.apply(name, x, size=top, error=top * (np.expm1(x.error) + units))
        return
    if name in ("sqrt", "log", "rsqrt", "reciprocal"):
        x = w.apply("abs", x, size=x.size, error=x.error)
        x = w.apply("add", x, w.constant(1, x.dtype), size=x.size + 1, error=x.error)
    if name in ("sin", "cos") and x.size > 2**12:
        raise Refused
    size = {"sqrt": x.size**0.5, "log": np.log(max(x.size, 2))}.get(name, 1.0)
    w.apply(name, x, size=float(size) + units, error=1.2 * x.error + units * max(1, size))


def cast(w: Writer) -> None:
    x = w.entry(lambda e: True)
    every = (float32, float64, bfloat16, float16, int32, int64, uint8, int8, bool_)
    to = w.choose([d for d in every if d is not x.dtype])
    if not x.exact and not to.is_float:
        raise Refused
    if to.is_float and x.size > EXACT:
        raise Refused
    w.apply("cast", x, dtype=to, size=min(x.size, 1) if to is bool_ else x.size, error=x.error)


def partner(w: Writer, x: Entry) -> Entry:
    """Another operand: of the pool, a constant, or a new argument of a shape that broadcasts."""
    how = w.draw(st.integers(0, 5))
    if how == 5:
        return w.constant(w.choose([1, 0, 2, 3]), x.dtype)
    if how == 4:
        shape = tuple(n if w.flag() else 1 for n in x.shape)
        return w.given(shape[w.draw(st.integers(0, len(shape))) :], x.dtype)
    fits = [e for e in reversed(w.pool) if e.dtype is x.dtype and broadcastable(e.shape, x.shape)]
    return w.choose(fits)


def binary(w: Writer) -> None:
    x = w.entry(lambda e: True)
    y = partner(w, x)
    if w.flag():
        x, y = y, x
    exact = x.exact and y.exact
    if x.is_float:
        names = ["add", "mul", "sub", "maximum", "minimum", "div"]
        if exact:
            names += ["less", "equal", "greater_equal", "not_equal"]
    elif x.dtype is bool_:
        names = ["logical_and", "logical_or", "bitwise_xor", "bitwise_or"]
    else:
        names = ["add", "mul", "sub", "maximum", "less", "equal", "bitwise_and", "floor_div",
                 "remainder", "shift_left", "shift_right", "minimum"]  # fmt: skip
    name = w.choose(names)
    if not x.is_float:
        w.apply(name, x, y, size=2.0**63)
    elif name in ("add", "sub"):
        w.apply(name, x, y, size=x.size + y.size, error=x.error + y.error)
    elif name == "mul":
        error = x.size * y.error + y.size * x.error + x.error * y.error
        w.apply(name, x, y, size=x.size * y.size, error=error)
    elif name == "div":  # by |y| + 1
        y = w.apply("abs", y, size=y.size, error=y.error)
        y = w.apply("add", y, w.constant(1, y.dtype), size=y.size + 1, error=y.error)
        error = 1.2 * (x.error + x.size * y.error) + 4 * EPS[x.dtype] * x.size
        w.apply(name, x, y, size=x.size, error=error or EPS[x.dtype])
    else:
        boolean = name in ("less", "equal", "greater_equal", "not_equal")
        size = 1 if boolean else max(x.size, y.size)
        w.apply(name, x, y, size=size, error=0.0 if boolean else max(x.error, y.error))


def where(w: Writer) -> None:
    x = w.entry(lambda e: e.dtype is not bool_)
    y = partner(w, x)
    shape = np.broadcast_shapes(x.shape, y.shape)
    fits = [e for e in w.pool[::-1] if e.dtype is bool_ and broadcastable(e.shape, shape)]
    c = w.choose(fits) if fits and w.flag() else w.given(shape, bool_)
    w.apply("where", c, x, y, size=max(x.size, y.size), error=max(x.error, y.error))


def some_axes(w: Writer, rank: int) -> tuple[int, ...]:
    axes = tuple(d for d in range(rank) if w.flag())
    return axes or (w.draw(st.integers(0, rank - 1)),)


def reduction(w: Writer) -> None:
    x = w.entry(lambda e: len(e.shape) > 0)
    axes = some_axes(w, len(x.shape))
    n = prod(x.shape[a] for a in axes)
    names = ["any", "all"] if x.dtype is bool_ else ["sum"]
    if n and x.dtype is not bool_:
        names += ["max", "min"]
    name = w.choose(names)
    size, error = x.size, x.error
    if name == "sum" and x.is_float:
        size, error = x.size * max(n, 1), x.error * max(n, 1)
        if error:  # of any order of n additions: (n - 1) eps sum |x|; narrow floats add in float32
            error += n * EPS[float64 if x.dtype is float64 else float32] * size
    elif name == "sum":
        size = 2.0**63
    w.apply(name, x, axes=axes, keepdims=w.flag(), size=size, error=error)


def reshape(w: Writer) -> None:
    x = w.entry(lambda e: True)
    n = prod(x.shape)
    shapes = [(n,), (1, n), (n, 1)] + [
        (d, n // d) for d in (2, 3, 4, 5, 7, 8, 16, 31) if n and n % d == 0
    ]
    if len(x.shape) > 1:
        shapes += [(*x.shape[:-2], x.shape[-2] * x.shape[-1]), (*x.shape, 1), (1, *x.shape)]
    shapes += [(d, n // d // e, e) for d in (2, 3) for e in (4, 5) if n and n % (d * e) == 0]
    shapes += [tuple(s for s in x.shape if s != 1)]
    w.apply("reshape", x, shape=w.choose(shapes), size=x.size, error=x.error)


def permute(w: Writer) -> None:
    x = w.entry(lambda e: len(e.shape) > 1)
    axes = tuple(w.draw(st.permutations(range(len(x.shape)))))
    w.apply("permute", x, axes=axes, size=x.size, error=x.error)


def broadcast_to(w: Writer) -> None:
    x = w.entry(lambda e: prod(e.shape) <= MOST)
    shape = tuple(w.choose([3, 8, 1]) if n == 1 else n for n in x.shape)
    if w.flag():
        shape = (w.choose([2, 1, 5]), *shape)
    w.apply("broadcast_to", x, shape=shape, size=x.size, error=x.error)


def slice_(w: Writer) -> None:
    x = w.entry(lambda e: len(e.shape) > 0)
    start, stop, step = [], [], []
    for n in x.shape:
        how = w.draw(st.integers(0, 4)) if n else 0
        a = w.draw(st.integers(0, n // 2)) if how else 0
        b = w.draw(st.integers(n // 2, n)) if how else n
        by = (1, 1, 2, 3, -1)[how]
        if how == 4:
            a, b = n - 1 - a, w.choose([-1, 0])
        start.append(a)
        stop.append(b)
        step.append(by)
    p = {"start": tuple(start), "stop": tuple(stop), "step": tuple(step)}
    w.apply("slice", x, **p, size=x.size, error=x.error)


def flip(w: Writer) -> None:
    x = w.entry(lambda e: len(e.shape) > 0)
    w.apply("flip", x, axes=some_axes(w, len(x.shape)), size=x.size, error=x.error)


def pad(w: Writer) -> None:
    x = w.entry(lambda e: 0 < len(e.shape) and e.dtype is not bool_)
    before = tuple(w.draw(st.integers(0, 2)) for _ in x.shape)
    after = tuple(w.draw(st.integers(0, 2)) for _ in x.shape)
    value = w.choose([0.0, 1.0]) if x.is_float else w.choose([0, 1])
    size = max(x.size, 1)
    w.apply("pad", x, before=before, after=after, value=value, size=size, error=x.error)


def concatenate(w: Writer) -> None:
    x = w.entry(lambda e: len(e.shape) > 0)
    axis = w.draw(st.integers(0, len(x.shape) - 1))
    rest = x.shape[:axis] + x.shape[axis + 1 :]
    fits = [
        e for e in w.pool[::-1]
        if e.dtype is x.dtype and len(e.shape) == len(x.shape)
        and e.shape[:axis] + e.shape[axis + 1 :] == rest
    ]  # fmt: skip
    parts = [x, *(w.choose(fits) for _ in range(w.draw(st.integers(1, 2))))]
    size, error = max(p.size for p in parts), max(p.error for p in parts)
    w.apply("concatenate", *parts, axis=axis, size=size, error=error)


def matmul(w: Writer) -> None:
    a = w.entry(lambda e: e.is_float and len(e.shape) >= 2 and prod(e.shape) <= 10 * MOST)
    k = a.shape[-1]
    fits = [
        e for e in w.pool[::-1]
        if e.dtype is a.dtype and len(e.shape) >= 2 and e.shape[-2] == k
        and broadcastable((*a.shape[:-2], 1, 1), (*e.shape[:-2], 1, 1))
    ]  # fmt: skip
    if fits and w.flag():
        b = w.choose(fits)
    elif w.flag():  # transposed: (n, k) seen as (k, n)
        b = w.given((w.choose([3, 1, 16, 33]), k), a.dtype)
        b = w.apply("permute", b, axes=(1, 0), size=b.size)
    else:
        batch = a.shape[:-2] if w.flag() else ()
        b = w.given((*batch, k, w.choose([3, 1, 16, 33])), a.dtype)
    size = a.size * b.size * max(k, 1)
    error = k * (a.size * b.error + b.size * a.error + a.error * b.error)
    if error:
        error += k * EPS[float64 if a.dtype is float64 else float32] * size
    params = {"dtype": float32} if a.dtype in (bfloat16, float16) and w.flag() else {}
    w.apply("matmul", a, b, **params, size=size, error=error)


def take(w: Writer) -> None:
    x = w.entry(lambda e: len(e.shape) > 0 and 0 not in e.shape)
    axis = w.draw(st.integers(0, len(x.shape) - 1))
    shape = w.choose([(4,), (1,), (2, 3), ()])
    value = Value(Spec(shape, w.choose([int64, int32])))
    w.graph.arguments.append(value)
    n = x.shape[axis]
    random = np.random.default_rng(len(w.drawn.arrays))
    w.drawn.arrays[value] = random.integers(-n, n, shape).astype(value.dtype.storage)
    # not of the pool: after arithmetic an index could lie outside
    w.apply("take", x, Entry(value, n), axis=axis, size=x.size, error=x.error)


def choose_place(w: Writer) -> None:
    x = w.entry(lambda e: len(e.shape) > 0 and e.exact and e.dtype is not bool_)
    axis = w.draw(st.integers(0, len(x.shape) - 1))
    if not x.shape[axis]:
        raise Refused
    w.apply(w.choose(["argmax", "argmin"]), x, axis=axis, size=x.shape[axis])


def iota(w: Writer) -> None:
    x = w.entry(lambda e: len(e.shape) > 0 and e.dtype is not bool_ and max(e.shape) < 100)
    axis = w.draw(st.integers(0, len(x.shape) - 1))
    w.apply("iota", shape=x.shape, axis=axis, dtype=x.dtype, size=max(x.shape))


def given(w: Writer) -> None:
    w.given(draw_shape(w), w.choose((*FLOATS, *WHOLE, bool_)), state=w.flag())


def twin(w: Writer) -> None:
    """A state like a value there is: something to swap with or to be assigned."""
    x = w.entry(lambda e: True)
    w.given(x.shape, x.dtype, state=True)


OPERATIONS = (
    binary, unary, reduction, function, binary, permute, reshape, broadcast_to, where, matmul, cast,
    slice_, flip, pad, concatenate, take, choose_place, iota, given, twin, reduction, binary,
)  # fmt: skip


def draw_shape(w: Writer) -> tuple[int, ...]:
    if w.draw(st.integers(0, 19)) == 19:
        return w.choose(LARGE)
    shape: tuple[int, ...] = ()
    for _ in range(w.draw(st.integers(0, 3))):
        n = w.choose(SIZES)
        shape = (*shape, n) if prod(shape) * n <= MOST else shape
    return shape


@st.composite
def programs(draw, longest: int = 12) -> Drawn:
    """A program of up to `longest` operations, its inputs and its error bounds."""
    w = Writer(draw)
    w.given(draw_shape(w), w.choose((*FLOATS, int32, bool_)), state=w.flag())
    for _ in range(draw(st.integers(1, longest))):
        operation = w.choose(OPERATIONS)
        kept = len(w.graph.nodes)
        try:
            operation(w)
        except Refused:
            if len(w.graph.nodes) > kept and not _in_pool(w):
                w.graph.nodes.pop()
    return w.finish()


def _in_pool(w: Writer) -> bool:
    """Whether the last node's value is one that a program may use."""
    known = {e.value for e in w.pool}
    return all(v in known for v in w.graph.nodes[-1].outputs)


def differences(drawn: Drawn, results, states, wanted_results, wanted_states) -> list[str]:
    """A line for each result or new state that is not as defined."""
    graph, out = drawn.graph, []
    pairs = [
        (f"result {i}", v, r, wanted)
        for i, (v, r, wanted) in enumerate(zip(graph.results, results, wanted_results, strict=True))
    ]
    news = dict(graph.updates)
    for old in graph.states:
        wanted = wanted_states[old] if old in news else drawn.arrays[old]
        pairs.append((f"state {graph.states.index(old)}", news.get(old, old), states[old], wanted))
    for what, v, found, wanted in pairs:
        line = _difference(drawn.entries[v], found, wanted)
        if line:
            out.append(f"{what}: {line}")
    return out


def _difference(entry: Entry, found: np.ndarray, wanted: np.ndarray) -> str | None:
    if entry.dtype is bfloat16:
        found, wanted = from_bfloat16(np.atleast_1d(found)), from_bfloat16(np.atleast_1d(wanted))
        found, wanted = found.reshape(entry.shape), wanted.reshape(entry.shape)
    if found.shape != wanted.shape:
        return f"shape {found.shape}, defined {wanted.shape}"
    if entry.exact:
        if np.array_equal(found, wanted):
            return None
        bad = found != wanted
    else:
        apart = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
        bad = ~(apart <= entry.error)
        if not bad.any():
            return None
    at = tuple(int(i[0]) for i in np.nonzero(bad)) if found.shape else ()
    said = f"{found[at]}, defined {wanted[at]} +- {entry.error:.1g}"
    return f"{bad.sum()} of {bad.size} wrong, first at {at}: {said}"
