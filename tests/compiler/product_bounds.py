"""How far right answers lie apart where sums of products are made: the rules of error_bounds.py.

Matrix products, convolutions and their gradients, products with weights in groups, attention and
its gradient, attention to a cache. A rule takes a node and its inputs, and gives its outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod

import numpy as np

from tests.compiler.bounded import (
    EPS,
    FUNCTION_UNITS,
    TINY,
    Bounded,
    accumulator,
    rounded,
    summed,
    whole_numbers,
)
from tinytorch.base.dtypes import DType, bfloat16, float32, float64
from tinytorch.compiler.graph.graph import Node
from tinytorch.primitives.grouped import unpack_groups

Rule = Callable[[Node, Sequence[Bounded]], Bounded | list[Bounded]]


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
    out = summed(of(a.value, b.value), error, of(left, right), terms, dtype, whole_numbers(a, b))
    if node.inputs[0].dtype is not dtype and out.error is not None:
        out.error = out.error + terms * TINY[wide]
    if name != "matmul" and not all(np.isfinite(x.value).all() for x in inputs):
        # whether a weight meets the zeros of the padding is not defined, and 0 times inf is NaN
        out.error = np.full(out.value.shape, np.inf)
    return out


def _grouped_product(node: Node, inputs: Sequence[Bounded]) -> Bounded:
    """Linear in the scales: a group's sum of whole numbers is exact, times 1 it is as defined."""
    x, weight, scale = inputs
    bits, group = node.params["bits"], node.params["group"]
    (n, groups), k, size = scale.value.shape, x.value.shape[-1], group * bits // 8
    one = np.ones((n, 1), np.float32)
    value, sizes, error = (np.zeros(node.outputs[0].shape) for _ in range(3))
    for g in range(groups):
        part = x.value[..., g * group : (g + 1) * group]
        stored = weight.value[:, g * size : (g + 1) * size]
        whole = node.primitive.numpy(part, stored, one, bits=bits, group=group).astype(np.float64)
        numbers = np.abs(unpack_groups(stored, bits).astype(np.float64))[:, : part.shape[-1]]
        value += whole * scale.value[:, g]
        sizes += (np.abs(part.astype(np.float64)) @ numbers.T) * np.abs(scale.value[:, g])
        error += np.abs(whole) * scale.errors[:, g]
    error = np.where(x.errors.any(-1)[..., None] | weight.errors.any(-1), np.inf, error)
    terms = k + 2  # scales may be multiplied with each weight
    known = error if error.any() else None
    return summed(value, known, sizes, terms, float32, whole_numbers(scale))


def _sparse_product(node: Node, inputs: Sequence[Bounded]) -> Bounded:
    """Linear in the numbers and in x, of which a row reads what its columns say."""
    x, values, columns, starts = inputs
    dtype = node.outputs[0].dtype

    def of(left, right):
        return node.primitive.numpy(left, right, columns.value, starts.value)

    left, right = np.abs(x.value), np.abs(values.value)
    error = None
    if x.error is not None or values.error is not None:
        error = of(x.errors, right) + of(left, values.errors) + of(x.errors, values.errors)
    terms = values.value.size
    whole = whole_numbers(x, values)
    return summed(of(x.value, values.value), error, of(left, right), terms, dtype, whole)


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


def _mean_off(
    scores: np.ndarray, error: np.ndarray, v: Bounded, wide: DType, units: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How far softmax(scores) v may lie off, the scores' own bound, and the logarithm of their sum.

    A change of the scores by at most E changes a weight by a factor within exp(+-2 E).

    Args:
        units: of EPS, further roundings of each weight.
    """
    eps, s = EPS[wide], scores.shape[-1]
    most = scores.max(-1, keepdims=True, initial=-np.inf)
    safe = np.where(most == -np.inf, 0.0, most)
    weights = np.exp(scores - safe)
    total = weights.sum(-1, keepdims=True)
    p = weights / np.where(total == 0, 1, total)
    worst = error.max(-1, keepdims=True, initial=0)
    reach = np.abs(np.where(np.isfinite(scores), scores, 0)).max(-1, keepdims=True, initial=0)
    worst = worst + eps * (2 * reach + s + 4 * FUNCTION_UNITS)
    factor = np.expm1(2 * worst)
    off = (factor + (s + units) * eps) * (p @ np.abs(v.value))
    off = off + (1 + factor) * (p @ v.errors) + s * TINY[wide]
    return off, worst[..., 0], (safe + np.log(total))[..., 0]


def _attention(node: Node, inputs: Sequence[Bounded]) -> list[Bounded]:
    q, k, v = inputs
    dtype, wide = (o.dtype for o in node.outputs)
    eps = EPS[wide]
    causal, scale = node.params["causal"], node.params["scale"]
    scores, error, _ = _scores(q, k, causal, scale, eps)
    units = _weights_off(node.inputs[0].dtype) / eps
    off, worst, lse = _mean_off(scores, error, v, wide, units)
    none = np.where(np.isinf(lse), 0.0, worst + 4 * eps * np.abs(lse))
    value, lse = node.primitive.numpy(q.value, k.value, v.value, causal=causal, scale=scale)
    return [rounded(value, off, dtype, exactly=False), Bounded(lse, none)]


def _cached_attention(node: Node, inputs: Sequence[Bounded]) -> Bounded:
    """As attention, each query by itself, over the positions that it sees."""
    q, keys, values, starts, table, *scales = inputs
    dtype, scale = node.outputs[0].dtype, node.params["scale"]
    wide = accumulator(dtype)
    value = node.primitive.numpy(*(x.value for x in inputs), **node.params)
    if starts.errors.any() or table.errors.any():
        return Bounded(value, np.full(value.shape, np.inf))
    keys, values = (_scaled(x, scales[i : i + 1], wide) for i, x in enumerate((keys, values)))
    b, a, t, d = value.shape
    shared = keys.value.shape[1]
    off = np.zeros((b, shared, a // shared, t, d))
    of_head = Bounded(q.value.reshape(off.shape), q.errors.reshape(off.shape))
    for i, j, held in _seen(node, starts.value, table.value):
        one = _part(of_head, (i, slice(None), slice(None), j))  # (G, R, D)
        k, v = (_part(x, held, turned=True) for x in (keys, values))  # (G, S, D)
        scores, error, _ = _scores(one, k, False, scale, EPS[wide])
        # each key may bring a new maximum, which multiplies what was added up before
        again = scores.shape[-1] * FUNCTION_UNITS / 2
        off[i, :, :, j] = _mean_off(scores, error, v, wide, again)[0]
    return rounded(value, off.reshape(value.shape), dtype, exactly=False)


def _scaled(x: Bounded, scales: Sequence[Bounded], wide: DType) -> Bounded:
    """Keys or values as numbers: those of int8 times their scale."""
    if not scales:
        return Bounded(x.value, x.errors)
    (by,), whole = scales, x.value.astype(np.float64)
    error = np.abs(whole) * by.errors + np.where(x.errors > 0, np.inf, 0.0)
    return rounded(whole * by.value, error, wide)


def _part(x: Bounded, at: tuple, turned: bool = False) -> Bounded:
    value, error = x.value[at], x.errors[at]
    return Bounded(value.swapaxes(0, 1), error.swapaxes(0, 1)) if turned else Bounded(value, error)


def _seen(node: Node, starts: np.ndarray, table: np.ndarray) -> Iterator[tuple[int, int, tuple]]:
    """For each query of each row: (row, query, where the cache holds what it sees)."""
    b, _, t, _ = node.inputs[0].shape
    n, window = node.inputs[1].shape[2], node.params["window"]
    for i, j in np.ndindex(b, t):
        end = int(starts[i]) + j + 1
        begin = max(0, end - window) if window else 0
        places = np.arange(begin, max(begin, end)) % (n * table.shape[1])
        yield i, j, (table[i, places // n], slice(None), places % n)


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
    outputs: list[Bounded] = []
    for value, (_, own), spec in zip(defined, made, node.outputs, strict=True):
        own = own + (t + s) * TINY[wide]
        outputs.append(rounded(value, own, spec.dtype, exactly=False))
    return outputs


PRODUCTS: dict[str, Rule] = {
    **dict.fromkeys(
        ("matmul", "convolution", "convolution_input_gradient", "convolution_weight_gradient"),
        _product,
    ),
    "grouped_matmul": _grouped_product,
    "sparse_matmul": _sparse_product,
    "attention": _attention,
    "cached_attention": _cached_attention,
    "attention_gradient": _attention_gradient,
}
