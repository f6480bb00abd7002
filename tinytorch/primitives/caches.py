"""Rows of caches of keys and values: writing tokens into one, and attention that reads it.

Knows pages. A cache holds the keys (or values) of G heads in P pages of N places, (P, G, N, D). The
sequence in row b of a batch has M pages, table[b], below 0 counted from the end; position s of it
lies at place s mod (M N), that is at place s mod N of page table[b, s // N]. Where M N is less than
a sequence is long, its oldest tokens are overwritten (a ring): so is a cache for a sliding window.
A cache without pages is one page for each row.

What has not been written is never read, were it infinite or NaN, and no row reads what another row
has: the sums of a row are those that it would have alone.
Sources: pages, Kwon et al. 2023 (https://arxiv.org/abs/2309.06180); grouped queries, Ainslie et al.
2023 (https://arxiv.org/abs/2305.13245); windows, Beltagy et al. 2020
(https://arxiv.org/abs/2004.05150).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch.base.dtypes import float32, int8, int64
from tinytorch.base.errors import IndexRangeError, ShapeError
from tinytorch.base.lengths import bound_of
from tinytorch.primitives.contraction import working_type
from tinytorch.primitives.ieee import ieee_steps
from tinytorch.primitives.indexing import checked
from tinytorch.primitives.primitive import (
    NOT_DIFFERENTIABLE,
    Array,
    ErrorSample,
    OpClass,
    Primitive,
    Sample,
    Spec,
    no_flops,
    numbers,
    refused,
    sample,
    strided,
)
from tinytorch.primitives.shapes import FLOAT, check_kind, check_rank, check_same_dtype

_PAGES = "(P, G, N, D): pages, heads, places, head size"
_NEW = "(B, G, T, D): batch, heads, time, head size"


def _check_places(name: str, cache: Spec, batch: int, starts: Spec, table: Spec) -> None:
    """`starts` and `table` are those of the rows of a batch, and every page has a place."""
    if starts != Spec((batch,), int64) or table.dtype is not int64 or len(table.shape) != 2:
        raise ShapeError(
            f"{name}: starts and table do not say where the rows lie",
            got=f"starts {starts.dtype.name}{starts.shape}, table {table.dtype.name}{table.shape}",
            rule=f"int64, starts ({batch},), table ({batch}, M): a page for each N positions",
            fix="starts=zeros(B), table=arange(B).reshape(B, 1) for one page a row",
        )
    if table.shape[0] != batch or not table.shape[1] or not cache.shape[2]:
        raise ShapeError(
            f"{name}: the pages do not fit the rows",
            got=f"cache {cache.shape}, table {table.shape}, {batch} rows",
            rule="a line of the table for each row, with a page at least; a place at least a page",
            fix="table of shape (B, M), M >= 1",
        )


def _put(x: Spec, new: Spec, starts: Spec, counts: Spec, table: Spec, *, bound: int) -> Spec:
    name = "put_tokens"
    check_same_dtype(name, ("x", "new"), (x, new))
    check_rank(name, "x", x, 4, _PAGES)
    check_rank(name, "new", new, 4, _NEW)
    _check_places(name, x, new.shape[0], starts, table)
    if x.shape[1] != new.shape[1] or x.shape[3] != new.shape[3] or counts != starts:
        raise ShapeError(
            f"{name}: the new tokens do not fit the cache",
            got=f"x {x.shape}, new {new.shape}, counts {counts.dtype.name}{counts.shape}",
            rule="the same heads and head size; counts int64 (B,)",
            fix="make the cache with the heads of the keys",
        )
    return x


def _put_tokens(
    x: Array, new: Array, starts: Array, counts: Array, table: Array, *, bound: int
) -> Array:
    out, n = x.copy(), x.shape[2]
    pages = checked("put_tokens", table, x.shape[0])
    taken = [min(int(count), new.shape[2]) for count in counts]
    for start, count in zip(starts, taken, strict=True):
        if start < 0 or (bound and count > 0 and start + count > bound):
            raise IndexRangeError(
                "put_tokens: tokens lie outside the cache",
                got=f"positions {int(start)} to {int(start) + count - 1}",
                rule=f"from 0 to {bound - 1}" if bound else "from 0 on",
                fix="a longer cache, or clear it",
            )
    for b, (start, count) in enumerate(zip(starts, taken, strict=True)):
        places = (start + np.arange(max(count, 0))) % (table.shape[1] * n)
        out[pages[b, places // n], :, places % n] = new[b, :, : len(places)].swapaxes(0, 1)
    return out


def _attended(
    q: Spec, keys: Spec, values: Spec, starts: Spec, table: Spec, *scales: Spec, scale: float,
    window: int,
) -> Spec:  # fmt: skip
    name = "cached_attention"
    check_kind(name, "q", q, FLOAT)
    check_rank(name, "q", q, 4, "(B, A, T, D): batch, heads, time, head size")
    for argument, x in (("keys", keys), ("values", values)):
        check_rank(name, argument, x, 4, _PAGES)
        if x.dtype is not int8:
            check_same_dtype(name, ("q", argument), (q, x))
    _check_places(name, keys, q.shape[0], starts, table)
    heads, shared = q.shape[1], keys.shape[1]
    if keys != values or q.shape[3] != keys.shape[3] or not shared or heads % shared:
        raise ShapeError(
            f"{name}: q, keys and values do not fit together",
            got=f"q {q.shape}, keys {keys.shape}, values {values.shape}",
            rule="q (B, A, T, D), keys and values (P, G, N, D) with A a multiple of G",
            fix="make the cache with the heads and the head size of the keys",
        )
    wanted = (Spec((*keys.shape[:3], 1), float32),) * 2 if keys.dtype is int8 else ()
    if scales != wanted:
        raise ShapeError(
            f"{name}: keys and values of int8 have a scale for each row, others none",
            got=f"keys of {keys.dtype.name}, scales {', '.join(str(s.shape) for s in scales)}",
            rule=f"two of float32 {(*keys.shape[:3], 1)} for int8, else none",
            fix="give key_scales and value_scales with int8 alone",
        )
    room = table.shape[1] * keys.shape[2]
    if window and room < window + bound_of(q.shape[2]) - 1:
        raise ShapeError(
            f"{name}: the cache forgets what is in the window",
            got=f"{room} places, window={window}, {q.shape[2]} queries",
            rule="places for the window and the queries: at least window + T - 1",
            fix="fewer queries at a time, or a cache with more room",
        )
    return q


@ieee_steps
def _cached_attention(
    q: Array, keys: Array, values: Array, starts: Array, table: Array, *scales: Array,
    scale: float, window: int,
) -> Array:  # fmt: skip
    """Row by row, over the tokens that its queries see."""
    working, (n, room) = working_type(q, None), (keys.shape[2], table.shape[1] * keys.shape[2])
    b, a, t, d = q.shape
    shared = keys.shape[1]
    pages = checked("cached_attention", table, keys.shape[0])
    out = np.zeros((b, shared, a // shared, t, d), working)
    grouped = q.astype(working, copy=False).reshape(out.shape)
    for i in range(b):
        start = int(starts[i])
        first = max(0, start - window + 1) if window else 0
        held = _places(pages[i], range(first, start + t), room, n)
        k, v = (x[held].swapaxes(0, 1).astype(working) for x in (keys, values))  # (G, S, D)
        if scales:
            k, v = (x * s[held].swapaxes(0, 1) for x, s in zip((k, v), scales, strict=True))
        for j in range(t):
            low = max(0, start + j - window + 1) - first if window else 0
            seen = slice(low, max(low, start + j + 1 - first))
            scores = np.einsum("grd,gsd->grs", grouped[i, :, :, j], k[:, seen])
            scores *= working.type(scale)
            largest = scores.max(-1, keepdims=True, initial=-np.inf)
            largest[largest == -np.inf] = 0
            weights = np.exp(scores - largest)
            total = weights.sum(-1, keepdims=True)
            total[total == 0] = 1
            out[i, :, :, j] = np.einsum("grs,gsd->grd", weights, v[:, seen]) / total
    return np.asarray(out.reshape(q.shape), q.dtype)


def _places(pages: Array, positions: range, room: int, n: int) -> tuple[Any, ...]:
    """What takes positions of the sequence with these pages from a cache: (S, G, D)."""
    places = np.fromiter(positions, np.int64, len(positions)) % room
    return pages[places // n], slice(None), places % n


def _flops(ins: Sequence[Spec], outs: Sequence[Spec], *, window: int, **params: Any) -> int:
    """As many as a full cache asks for."""
    room = ins[4].shape[1] * ins[1].shape[2]
    return 4 * ins[0].size * (min(window, room) if window else room)


# --- samples

_BATCH = {"b": 2, "g": 2, "t": 3, "n": 4, "d": 5}
_TABLE = np.array([[3, 1], [0, 4]])
_FROM_END = np.array([[-2, 1], [0, -1]])  # the same pages, counted from the end


def _filled(p: int, g: int, n: int, d: int, seed: int = 0) -> Array:
    return numbers(p, g, n, d, seed=seed)


def _put_samples() -> list[Sample]:
    x, new = _filled(5, 2, 4, 5), numbers(2, 2, 3, 5, seed=1)
    starts, counts = np.array([3, 0]), np.array([3, 2])
    whole = np.arange(3).reshape(3, 1)
    return [
        sample(x, new, starts, counts, _TABLE, bound=8),
        sample(x, new, np.array([6, 17]), counts, _FROM_END, bound=0),
        sample(
            _filled(3, 1, 40, 16), strided(3, 1, 1, 16, seed=1), np.array([39, 7, 0]),
            np.ones(3, int), whole, bound=40,
        ),
        sample(x, new[:, :, :0], starts, np.zeros(2, int), _TABLE, bound=8),
        sample(
            numbers(2, 1, 3, 1, low=-99, high=99, dtype="int8"),
            numbers(1, 1, 2, 1, low=-99, high=99, seed=2, dtype="int8"), np.array([1]),
            np.array([9]), np.array([[1]]), bound=3,
        ),
    ]  # fmt: skip


def _put_errors() -> list[ErrorSample]:
    x, new = _filled(5, 2, 4, 5), numbers(2, 2, 3, 5, seed=1)
    starts, counts = np.array([3, 0]), np.array([3, 2])
    far, low = np.array([6, 0]), np.array([-1, 0])
    return [
        refused(IndexError, "outside the cache", x, new, far, counts, _TABLE, bound=8),
        refused(IndexError, "outside the cache", x, new, low, counts, _TABLE, bound=0),
        refused(IndexError, "outside its axis", x, new, starts, counts, _TABLE + 1, bound=8),
        refused(ValueError, "do not fit the cache", x, new[:, :1], starts, counts, _TABLE, bound=8),
        refused(ValueError, "where the rows lie", x, new, starts[:1], counts, _TABLE, bound=8),
        refused(ValueError, "do not fit the rows", x, new, starts, counts, _TABLE[:, :0], bound=8),
        refused(
            TypeError, "different number types", x, new.astype("float32"), starts, counts, _TABLE,
            bound=8,
        ),
    ]  # fmt: skip


def _attention_samples() -> list[Sample]:
    keys, values = _filled(5, 2, 4, 5, seed=1), _filled(5, 2, 4, 5, seed=2)
    starts = np.array([4, 0])
    whole = np.arange(3).reshape(3, 1)
    long = [_filled(3, 1, 96, 24, seed=i) for i in (1, 2)]
    bytes_ = [numbers(3, 1, 64, 9, low=-127, high=127, seed=i).astype(np.int8) for i in (1, 2)]
    scales = [numbers(3, 1, 64, 1, low=0.01, high=0.02, seed=i).astype("float32") for i in (3, 4)]
    places = np.array([90, 0, 33])
    return [
        sample(numbers(2, 4, 3, 5), keys, values, starts, _TABLE, scale=0.5, window=0),
        sample(numbers(2, 2, 1, 5), keys, values, np.array([7, 3]), _FROM_END, scale=9.0, window=0),
        sample(numbers(2, 2, 2, 5), keys, values, np.array([91, 2]), _TABLE, scale=0.5, window=6),
        sample(numbers(3, 3, 6, 24), *long, places, whole, scale=0.2, window=0),
        sample(strided(3, 1, 5, 24), *long, places * 5, whole, scale=0.2, window=40),
        sample(
            numbers(3, 2, 3, 9), *bytes_, np.array([50, 31, 0]), whole, *scales, scale=0.3, window=0
        ),
        sample(numbers(2, 2, 0, 5), keys, values, starts, _TABLE, scale=0.5, window=0),
    ]


def _attention_errors() -> list[ErrorSample]:
    q, keys, values = numbers(2, 4, 3, 5), _filled(5, 2, 4, 5), _filled(5, 2, 4, 5)
    starts = np.array([4, 0])
    options: dict[str, Any] = {"scale": 0.5, "window": 0}
    narrow = [x.astype(np.int8) for x in (keys, values)]
    return [
        refused(
            ValueError, "do not fit together", q[:, :3], keys, values, starts, _TABLE, **options
        ),
        refused(ValueError, "do not fit together", q, keys, values[:4], starts, _TABLE, **options),
        refused(ValueError, "a scale for each row", q, *narrow, starts, _TABLE, **options),
        refused(ValueError, "where the rows lie", q, keys, values, starts[:1], _TABLE, **options),
        refused(IndexError, "outside its axis", q, keys, values, starts, _TABLE + 1, **options),
        refused(
            ValueError, "forgets what is in the window", q, keys, values, starts, _TABLE, scale=0.5,
            window=7,
        ),
        refused(TypeError, "does not take", q.astype(int), keys, values, starts, _TABLE, **options),
    ]  # fmt: skip


put_tokens = Primitive(
    "put_tokens", _put, _put_tokens, vjp=NOT_DIFFERENTIABLE, flops=no_flops,
    op_class=OpClass.UPDATE, samples=_put_samples, error_samples=_put_errors,
    doc="x with the first counts[b] tokens of each row of new at its positions from starts[b] on; "
    "they are below bound, or with bound = 0 the oldest are overwritten.",
)  # fmt: skip
cached_attention = Primitive(
    "cached_attention", _attended, _cached_attention, vjp=NOT_DIFFERENTIABLE, flops=_flops,
    op_class=OpClass.CONTRACTION, samples=_attention_samples, error_samples=_attention_errors,
    doc="softmax(scale * q k^T) v, query t of row b over the positions up to starts[b] + t of its "
    "pages, with a window only over the last so many.",
)  # fmt: skip
