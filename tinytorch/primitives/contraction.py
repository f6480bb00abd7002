"""Contractions: matmul, sums of products over one common axis; attention, two of them in one.

Knows matrices in the last two axes and batches before them. float16 and bfloat16 are multiplied and
added up in float32. `dtype` asks for another type of output: float32 for products of bfloat16,
int32 for products of bytes (then a may be uint8 and b int8), whose sums their own type cannot hold.

# Note [the type of a contraction's gradients]
In mixed precision the operands are bfloat16 and the output float32. The cotangent g is then rounded
to bfloat16 to be an input like the others, and the gradients come out in g's own float32: they are
sums, and sums are not rounded. Without `dtype` everything has one type and this says nothing.

Sources: attention is Vaswani et al. 2017 (https://arxiv.org/abs/1706.03762), equation 1; its
gradient from the log-sum-exp Dao et al. 2022 (https://arxiv.org/abs/2205.14135), algorithm 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch.base.dtypes import DType, as_dtype, bfloat16, float32, float64, int32, int64
from tinytorch.base.errors import DTypeError, ShapeError
from tinytorch.primitives.creation import full_like, iota, made_like
from tinytorch.primitives.elementwise import (
    BOTH,
    Needs,
    add,
    cast,
    cast_like,
    less_equal,
    mul,
    neg,
    sub,
    where,
)
from tinytorch.primitives.ieee import ieee, ieee_steps
from tinytorch.primitives.movement import (
    accumulator,
    broadcast_to,
    fold_to,
    reshape,
    sum_,
    swap_last,
)
from tinytorch.primitives.primitive import (
    Array,
    Cotangents,
    ErrorSample,
    OpClass,
    Operand,
    Primitive,
    Sample,
    Spec,
    dtype_of,
    flags,
    numbers,
    refused,
    sample,
    strided,
)
from tinytorch.primitives.shapes import (
    FLOAT,
    NUMBER,
    broadcast_shapes,
    check_kind,
    check_rank,
    check_same_dtype,
)
from tinytorch.primitives.transcendental import exp


def output_dtype(name: str, operand: Spec, dtype: DType | None) -> DType:
    """The type of a contraction's output: that of its operands, or `dtype` of the same kind."""
    out = operand.dtype if dtype is None else as_dtype(dtype)
    if out.is_float != operand.dtype.is_float or out.kind == "b":
        raise DTypeError(
            f"{name}: dtype does not fit the operands",
            got=f"operands of dtype {operand.dtype.name}, dtype={out.name}",
            rule="floats give floats, integers give integers",
            fix=f"leave dtype out, or cast the operands to {out.name} first",
        )
    return out


def working_type(x: Array, dtype: DType | None) -> np.dtype[Any]:
    """The NumPy type in which a contraction of x is added up."""
    own = accumulator(x.dtype)
    if x.dtype.kind == "f" or dtype is None:
        return own
    return as_dtype(dtype).compute  # integers wrap modulo the output's width


def result_type(x: Array, dtype: DType | None) -> np.dtype[Any]:
    """The NumPy type of what a contraction of x returns."""
    return x.dtype if dtype is None else as_dtype(dtype).compute


def cotangent_for(g: Operand, operand: Operand) -> tuple[Operand, DType | None]:
    """g in the operand's type, and the `dtype` to ask its contractions for: see the Note."""
    return cast_like(g, operand), (None if dtype_of(g) is dtype_of(operand) else dtype_of(g))


def _product(a: Spec, b: Spec, *, dtype: DType | None = None) -> Spec:
    check_kind("matmul", "a", a, NUMBER)
    if dtype is None or a.dtype.is_float or b.dtype.is_float:
        check_same_dtype("matmul", ("a", "b"), (a, b))
    for argument, x in (("a", a), ("b", b)):
        if len(x.shape) < 2:
            raise ShapeError(
                f"matmul: {argument} is not a matrix",
                got=f"{argument} {x.shape}",
                rule="at least two axes: rows and columns",
                fix=f"{argument}.reshape(1, -1) for a row, {argument}.reshape(-1, 1) for a column",
            )
    if a.shape[-1] != b.shape[-2]:
        raise ShapeError(
            "matmul: the inner sizes differ",
            got=f"a {a.shape}, b {b.shape}",
            rule=f"last axis of a = second last axis of b, here {a.shape[-1]} and {b.shape[-2]}",
            fix="transpose one of them, or check which axis holds the features",
        )
    batch = broadcast_shapes("matmul", ("a (batch)", "b (batch)"), (a.shape[:-2], b.shape[:-2]))
    return Spec((*batch, a.shape[-2], b.shape[-1]), output_dtype("matmul", a, dtype))


_product_of = ieee(np.matmul)
_ONE_PRODUCT = 255 * 255  # of two bytes, at most


def _matmul(a: Array, b: Array, *, dtype: DType | None = None) -> Array:
    if dtype is None and a.dtype.char in "fd":  # the common case by the shortest way: 3 us less
        if b.ndim > 2 or a.ndim == 2:
            return _product_of(a, b)
        rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
        return _product_of(rows, b).reshape(*a.shape[:-1], b.shape[-1])
    return _wide_matmul(a, b, dtype)


@ieee_steps
def _wide_matmul(a: Array, b: Array, dtype: DType | None) -> Array:
    working, result = working_type(a, dtype), result_type(a, dtype)
    if dtype is not None and a.dtype.kind in "iu" and a.itemsize == b.itemsize == 1:
        # exact in floats, whose product NumPy hands to a library: 40 times as fast as integers
        few = a.shape[-1] * _ONE_PRODUCT <= 2**24
        working = np.dtype(np.float32 if few else np.float64)
    a, b = a.astype(working, copy=False), b.astype(working, copy=False)
    if b.ndim == 2 and a.ndim > 2:  # one product of all rows instead of one for each batch
        rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
        out = np.matmul(rows, b).reshape(*a.shape[:-1], b.shape[-1])
    else:
        out = np.matmul(a, b)
    if working.kind == "f" and result.kind != "f":
        out = out.astype(np.int64)  # then it wraps as integers do
    return out.astype(result, copy=False)


def _matmul_vjp(
    g: Operand, out: Operand, a: Operand, b: Operand,
    *, dtype: DType | None = None, needs: Needs = BOTH,
) -> Cotangents:  # fmt: skip
    g, wanted = cotangent_for(g, a)
    g_a = None
    if needs[0]:
        g_a = fold_to(matmul(g, swap_last(b), dtype=wanted), tuple(a.shape))
    if not needs[1]:
        return g_a, None
    if len(b.shape) == 2 and len(a.shape) > 2:  # one product over all batches, no sum afterwards
        a, g = (reshape(x, shape=(_rows(x), x.shape[-1])) for x in (a, g))
    if len(b.shape) == 2 and len(a.shape) == 2 and _lies_by_columns(b):
        # b is the transpose of what is in memory, and so is its gradient: optimizers go through
        # both together, three times as fast as when one of them lies across.
        return g_a, swap_last(matmul(swap_last(g), a, dtype=wanted))
    return g_a, fold_to(matmul(swap_last(a), g, dtype=wanted), tuple(b.shape))


def _lies_by_columns(x: Operand) -> bool:
    """Whether the elements of a matrix in memory go down its columns (False in a capture)."""
    array: Any = getattr(getattr(x, "_buffer", None), "array", x)
    if not isinstance(array, np.ndarray):
        return False
    return array.flags.f_contiguous and not array.flags.c_contiguous


def _rows(x: Operand) -> int:
    return math.prod(tuple(x.shape)[:-1])


def _matmul_flops(ins: Sequence[Spec], outs: Sequence[Spec], **params: Any) -> int:
    return 2 * outs[0].size * ins[0].shape[-1]


matmul = Primitive(
    "matmul", _product, _matmul, vjp=_matmul_vjp, flops=_matmul_flops,
    op_class=OpClass.CONTRACTION,
    samples=lambda: [
        sample(numbers(1, 1), numbers(1, 1, seed=1)),
        sample(numbers(3, 5), numbers(5, 2, seed=1)),
        sample(strided(7, 3), strided(3, 4, seed=1)),
        sample(numbers(2, 3, 4), numbers(4, 5, seed=1)),
        sample(numbers(2, 1, 3, 4), numbers(5, 4, 2, seed=1)),
        sample(numbers(3, 4), numbers(2, 4, 2, seed=1)),
        sample(numbers(3, 0), numbers(0, 2)),
        sample(numbers(0, 3), numbers(3, 2)),
        sample(numbers(2, 0, 3), numbers(3, 2)),
        sample(numbers(0, 2, 3), numbers(3, 2)),
        sample(numbers(3, 4, dtype="float32"), numbers(4, 2, dtype="float32"), dtype=bfloat16),
        sample(numbers(3, 4, dtype="float16"), numbers(4, 2, dtype="float16"), dtype=float32),
        sample(
            numbers(2, 3, low=-99, high=99, dtype="int8"),
            numbers(3, 2, low=-99, high=99, dtype="int8"),
        ),
        sample(
            numbers(9, 70, low=0, high=255, dtype="uint8"),
            numbers(70, 5, low=-128, high=127, dtype="int8"),
            dtype=int32,
        ),
    ],
    error_samples=lambda: [
        refused(ValueError, "inner sizes", numbers(3, 5), numbers(4, 2)),
        refused(ValueError, "not a matrix", numbers(3), numbers(3, 2)),
        refused(ValueError, "do not fit together", numbers(2, 3, 4), numbers(3, 4, 5)),
        refused(TypeError, "different number", numbers(2, 2), numbers(2, 2, dtype="float32")),
        refused(
            TypeError, "different number", numbers(2, 2, dtype="int8", high=9),
            numbers(2, 2, dtype="uint8", high=9),
        ),
        refused(TypeError, "does not fit the operands", *((numbers(2, 2),) * 2), dtype="int32"),
        refused(TypeError, "does not take", *((flags(2, 2),) * 2)),
    ],
    doc="a @ b over the last two axes; batch axes broadcast.",
)  # fmt: skip
# --- attention: out = softmax(scale * q k^T) v for each head, and its gradient ---
# Queries (B, A, T, D), keys and values (B, A, S, D). What is kept for the gradient is the row's
# log-sum-exp, (B, A, T), never the T x S probabilities. With `causal`, query t sees the keys
# s <= t + S - T; a query that sees none gives 0, with log-sum-exp -inf. What a query does not see
# does not reach it, nor its gradient, were it infinite or NaN.

_LETTERS = "(B, A, T, D): batch, heads, time, head size"


def _check_heads(name: str, q: Spec, k: Spec, v: Spec) -> None:
    check_kind(name, "q", q, FLOAT)
    check_same_dtype(name, "qkv", (q, k, v))
    for argument, x in zip("qkv", (q, k, v), strict=True):
        check_rank(name, argument, x, 4, _LETTERS)
    if k.shape != v.shape or q.shape[:2] != k.shape[:2] or q.shape[3] != k.shape[3]:
        raise ShapeError(
            f"{name}: q, k and v do not fit together",
            got=f"q {q.shape}, k {k.shape}, v {v.shape}",
            rule="q (B, A, T, D), k and v (B, A, S, D)",
            fix="split features into heads: reshape to (B, T, A, D), then permute to (B, A, T, D)",
        )


def _sum_dtype(x: DType) -> DType:
    return float64 if x is float64 else float32


def _attended(
    q: Spec, k: Spec, v: Spec, *, causal: bool, scale: float, dtype: DType | None = None
) -> tuple[Spec, Spec]:
    _check_heads("attention", q, k, v)
    out = Spec(q.shape, output_dtype("attention", q, dtype))
    return out, Spec(q.shape[:3], _sum_dtype(q.dtype))


def _gradients(
    g: Spec, q: Spec, k: Spec, v: Spec, out: Spec, lse: Spec,
    *, causal: bool, scale: float, dtype: DType | None = None,
) -> tuple[Spec, ...]:  # fmt: skip
    name = "attention_gradient"
    _check_heads(name, q, k, v)
    check_same_dtype(name, "qg", (q, g))
    check_kind(name, "out", out, FLOAT)
    if g.shape != q.shape or out.shape != q.shape or lse != Spec(q.shape[:3], _sum_dtype(q.dtype)):
        raise ShapeError(
            f"{name}: g, out and lse do not belong to this attention",
            got=f"q {q.shape}, g {g.shape}, out {out.shape}, lse {lse.dtype.name}{lse.shape}",
            rule="g and out have q's shape, lse is (B, A, T), float32 (float64 for float64)",
            fix="give the out and lse that attention returned for these q, k, v",
        )
    given = output_dtype(name, q, dtype)
    return tuple(Spec(x.shape, given) for x in (q, k, v))


def _hidden(t: int, s: int) -> Array:
    """Which keys (columns) each query (row) does not see under `causal`."""
    return np.arange(s) > np.arange(t)[:, None] + (s - t)


def _scores(q: Array, k: Array, hidden: Array | None, scale: float) -> Array:
    """scale * q k^T of one head, -inf where a query does not see a key."""
    scores = np.matmul(q, k.T)
    scores *= scores.dtype.type(scale)
    if hidden is not None:
        np.copyto(scores, -np.inf, where=hidden)
    return scores


@ieee_steps
def _attention(
    q: Array, k: Array, v: Array, *, causal: bool, scale: float, dtype: DType | None = None
) -> tuple[Array, Array]:
    """Head by head, so that the T x S weights stay in the cache."""
    working, result = working_type(q, dtype), result_type(q, dtype)
    out, lse = np.empty(q.shape, result), np.empty(q.shape[:3], working)
    q, k, v = (x.astype(working, copy=False) for x in (q, k, v))
    hidden = _hidden(q.shape[2], k.shape[2]) if causal else None
    for head in np.ndindex(q.shape[:2]):
        weights = _scores(q[head], k[head], hidden, scale)
        largest = weights.max(axis=-1, keepdims=True, initial=-np.inf)
        largest[largest == -np.inf] = 0  # a query that sees nothing
        np.exp(np.subtract(weights, largest, out=weights), out=weights)
        total = weights.sum(axis=-1, keepdims=True)
        lse[head] = (largest + np.log(total))[:, 0]
        total[total == 0] = 1
        out[head] = _weighted(weights, v[head], hidden) / total
    return out, lse


def _weighted(factors: Array, rows: Array, hidden: Array | None) -> Array:
    """factors @ rows over the keys that each query sees; one it does not see may be NaN."""
    if hidden is None or np.isfinite(rows).all():
        return np.matmul(factors, rows)
    seen = (~hidden).sum(axis=1)  # the first so many
    return np.stack([np.matmul(factors[t, :n], rows[:n]) for t, n in enumerate(seen)])


@ieee_steps
def _gradient(
    g: Array, q: Array, k: Array, v: Array, out: Array, lse: Array,
    *, causal: bool, scale: float, dtype: DType | None = None,
) -> tuple[Array, Array, Array]:  # fmt: skip
    working, result = working_type(q, dtype), result_type(q, dtype)
    g_q, g_k, g_v = (np.empty(x.shape, result) for x in (q, k, v))
    g, q, k, v, out = (x.astype(working, copy=False) for x in (g, q, k, v, out))
    hidden = _hidden(q.shape[2], k.shape[2]) if causal else None
    safe = np.where(lse == -np.inf, working.type(0), lse)[..., None]
    delta = (g * out).sum(axis=-1, keepdims=True)
    for head in np.ndindex(q.shape[:2]):
        weights = _scores(q[head], k[head], hidden, scale)
        np.exp(np.subtract(weights, safe[head], out=weights), out=weights)
        if hidden is not None:  # of a query whose logits are NaN too
            np.copyto(weights, 0, where=hidden)
        g_v[head] = np.matmul(weights.T, g[head])
        g_scores = np.matmul(g[head], v[head].T)
        g_scores -= delta[head]
        g_scores *= weights
        g_scores *= working.type(scale)
        if hidden is not None:
            np.copyto(g_scores, 0, where=hidden)
        g_q[head] = _weighted(g_scores, k[head], hidden)
        g_k[head] = np.matmul(g_scores.T, q[head])
    return g_q, g_k, g_v


def _column(x: Operand) -> Operand:
    """(B, A, T) as (B, A, T, 1)."""
    return reshape(x, shape=(*x.shape, 1))


def _weights(q: Operand, k: Operand, lse: Operand, causal: bool, scale: float) -> Operand:
    """The probabilities P = exp(scale * q k^T - lse), in primitives: T x S of them."""
    t, s = q.shape[2], k.shape[2]
    scores = mul(matmul(q, swap_last(k)), full_like(q, scale))
    shifted = sub(scores, _column(lse))
    if causal:
        rows = made_like(q, iota, shape=(t, s), axis=0, dtype=int64)
        columns = made_like(q, iota, shape=(t, s), axis=1, dtype=int64)
        seen = less_equal(columns, add(rows, full_like(q, s - t, dtype=int64)))
        shifted = where(seen, shifted, full_like(q, float("-inf")))
    return exp(shifted)


def _attention_vjp(
    g: Cotangents, out: tuple[Operand, Operand], q: Operand, k: Operand, v: Operand,
    *, causal: bool, scale: float, dtype: DType | None = None,
) -> Cotangents:  # fmt: skip
    g_out, g_lse = g
    (y, lse), g_q, g_k, g_v = out, None, None, None
    if g_out is not None:
        g_out, wanted = cotangent_for(g_out, q)
        g_q, g_k, g_v = attention_gradient(
            g_out, q, k, v, y, lse, causal=causal, scale=scale, dtype=wanted
        )
    if g_lse is not None:  # lse's own gradient is P: g_scores = g_lse * P
        kind = dtype_of(g[0]) if g_out is not None else dtype_of(q)
        wide_q, wide_k = (_to(x, dtype_of(lse)) for x in (q, k))
        g_scores = mul(_weights(wide_q, wide_k, lse, causal, scale), _column(g_lse))
        g_scores = mul(g_scores, full_like(g_scores, scale))
        more_q = _to(matmul(g_scores, wide_k), kind)
        more_k = _to(matmul(swap_last(g_scores), wide_q), kind)
        g_q = more_q if g_q is None else add(g_q, more_q)
        g_k = more_k if g_k is None else add(g_k, more_k)
    return g_q, g_k, g_v


def _to(x: Operand, dtype: DType) -> Operand:
    return x if dtype_of(x) is dtype else cast(x, dtype=dtype)


def _gradient_vjp(
    cotangents: Cotangents, grads: tuple[Operand, ...], g: Operand, q: Operand, k: Operand,
    v: Operand, out: Operand, lse: Operand,
    *, causal: bool, scale: float, dtype: DType | None = None,
) -> Cotangents:  # fmt: skip
    """The gradient of the gradient, in compositions (T x S in memory).

    With P = exp(S - lse), S = scale q k^T, dP = g v^T and delta the row sums of g * out,
    the outputs are dS = P * (dP - delta), g_q = scale dS k, g_k = scale dS^T q, g_v = P^T g.
    """
    wide = dtype_of(lse)
    kinds = [dtype_of(x) for x in (g, q, k, v, out, lse)]
    g, q, k, v, out = (_to(x, wide) for x in (g, q, k, v, out))
    c_q, c_k, c_v = (None if c is None else _to(c, wide) for c in cotangents)
    factor = full_like(q, scale)
    p = _weights(q, k, lse, causal, scale)
    delta = _column(sum_(mul(g, out), axes=(3,), keepdims=False))
    slope = sub(matmul(g, swap_last(v)), delta)  # dP - delta
    total = _Sums()
    c_p = None
    if c_q is not None or c_k is not None:
        d_s = mul(mul(p, slope), factor)
        c_ds = _Sums()
        if c_q is not None:
            c_ds.add("s", matmul(c_q, swap_last(k)))
            total.add("k", matmul(swap_last(d_s), c_q))
        if c_k is not None:
            c_ds.add("s", matmul(q, swap_last(c_k)))
            total.add("q", matmul(d_s, c_k))
        c_ds = mul(c_ds["s"], factor)
        c_p, c_dp = mul(c_ds, slope), mul(c_ds, p)
        c_delta = neg(_column(sum_(c_dp, axes=(3,), keepdims=False)))
        total.add(
            "g", add(matmul(c_dp, v), mul(out, broadcast_to(c_delta, shape=tuple(out.shape))))
        )
        total.add("v", matmul(swap_last(c_dp), g))
        total.add("out", mul(g, broadcast_to(c_delta, shape=tuple(g.shape))))
    if c_v is not None:
        total.add("g", matmul(p, c_v))
        through_v = matmul(g, swap_last(c_v))
        c_p = through_v if c_p is None else add(c_p, through_v)
    if c_p is not None:
        c_s = mul(c_p, p)
        total.add("lse", neg(sum_(c_s, axes=(3,), keepdims=False)))
        c_s = mul(c_s, factor)
        total.add("q", matmul(c_s, k))
        total.add("k", matmul(swap_last(c_s), q))
    sums = (total[name] for name in ("g", "q", "k", "v", "out", "lse"))
    return tuple(None if x is None else _to(x, kind) for x, kind in zip(sums, kinds, strict=True))


class _Sums:
    """Cotangents by name; a name never added to is None."""

    def __init__(self) -> None:
        self.terms: dict[str, Operand] = {}

    def add(self, name: str, term: Operand) -> None:
        have = self.terms.get(name)
        self.terms[name] = term if have is None else add(have, term)

    def __getitem__(self, name: str) -> Operand | None:
        return self.terms.get(name)


def _heads(b: int, a: int, t: int, s: int, d: int) -> tuple[Array, Array, Array]:
    return numbers(b, a, t, d), numbers(b, a, s, d, seed=1), numbers(b, a, s, d, seed=2)


def _options(causal: bool = False, scale: float = 0.5) -> dict[str, Any]:
    return {"causal": causal, "scale": scale}


_SIZES = ((1, 1, 1, 1, 1), (2, 3, 5, 5, 2), (1, 2, 3, 7, 4), (1, 1, 5, 3, 2), (0, 1, 2, 2, 3),
          (1, 2, 0, 3, 2), (1, 1, 3, 0, 2))  # fmt: skip


def _samples() -> list[Sample]:
    made = [
        sample(*_heads(*size), **_options(causal)) for size in _SIZES for causal in (False, True)
    ]
    crooked = (strided(1, 2, 3, 4), strided(1, 2, 3, 4, seed=1), strided(1, 2, 3, 4, seed=2))
    return [*made, sample(*crooked, **_options(scale=30.0))]


def _gradient_samples() -> list[Sample]:
    made: list[Sample] = []
    for s in _samples()[:-1]:
        out, lse = _attention(*s.inputs, **s.params)
        made.append(sample(numbers(*out.shape, seed=3), *s.inputs, out, lse, **s.params))
    return made


def _errors() -> list[ErrorSample]:
    q, k, v = _heads(1, 2, 3, 4, 2)
    return [
        refused(ValueError, "do not fit together", q, k, v[:, :, :2], **_options()),
        refused(ValueError, "do not fit together", q[:, :, :, :1], k, v, **_options()),
        refused(ValueError, "wrong number of axes", q[0], k, v, **_options()),
        refused(TypeError, "different number types", q, k.astype("float32"), v, **_options()),
        refused(
            TypeError, "does not take", *tuple(x.astype("int32") for x in (q, k, v)), **_options()
        ),
    ]


def _gradient_errors() -> list[ErrorSample]:
    s = _gradient_samples()[2]
    g, q, k, v, out, lse = s.inputs
    return [
        refused(ValueError, "do not belong", g, q, k, v, out, lse[0], **s.params),
        refused(ValueError, "do not belong", g[:1], q, k, v, out, lse, **s.params),
    ]


def _pairs(q: Spec, k: Spec, causal: bool) -> int:
    """Query-key pairs, times the head size."""
    b, a, t, d = q.shape
    s = k.shape[2]
    seen = sum(min(max(i + s - t + 1, 0), s) for i in range(t)) if causal else t * s
    return b * a * seen * d


def _attention_flops(
    ins: Sequence[Spec], outs: Sequence[Spec], *, causal: bool, **params: Any
) -> int:
    return 4 * _pairs(ins[0], ins[1], causal)


def _gradient_flops(
    ins: Sequence[Spec], outs: Sequence[Spec], *, causal: bool, **params: Any
) -> int:
    return 10 * _pairs(ins[1], ins[2], causal)


attention = Primitive(
    "attention", _attended, _attention, vjp=_attention_vjp, flops=_attention_flops,
    samples=_samples, error_samples=_errors, op_class=OpClass.CONTRACTION,
    doc="(out, lse): softmax(scale * q k^T) v, and log(sum(exp(scale * q k^T))) of each row.",
)  # fmt: skip
attention_gradient = Primitive(
    "attention_gradient", _gradients, _gradient, vjp=_gradient_vjp, flops=_gradient_flops,
    samples=_gradient_samples, error_samples=_gradient_errors, op_class=OpClass.CONTRACTION,
    doc="(g_q, g_k, g_v) of attention for the cotangent g of its output.",
)  # fmt: skip
