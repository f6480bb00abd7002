"""Operations of random programs: attention, its gradient, caches of keys and values.

Knows how keys and values lie, in heads and in pages; never how a graph is drawn. Places of a cache
that no query sees hold NaN half the time: a number that is read from there is not to be missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tests.compiler.bounded import widened
from tests.compiler.random_graphs import Entry, Writer
from tests.compiler.random_values import FLOATS, MOST, WHOLE, Refused, numbers
from tinytorch.base.dtypes import DType, float32, int8, int64
from tinytorch.primitives.primitive import store


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
    """Queries, keys or values of some numbers."""
    kind = w.choose(["whole", "normal"])
    return _laid(w, numbers(len(w.drawn.arrays), shape, dtype, kind), dtype)


def _laid(w: Writer, array: np.ndarray, dtype: DType, state: bool = False) -> Entry:
    """An input: half the time as a layer makes it, heads beside features."""
    if w.flag():
        return w.given(array.shape, dtype, state, array)
    array = np.ascontiguousarray(array.swapaxes(1, 2))
    return w.apply("permute", w.given(array.shape, dtype, state, array), axes=(0, 2, 1, 3))


# caches


@dataclass
class Rows:
    """The sequences of a batch, each in pages of its own, and where their new tokens are.

    Args:
        cache: P, G, N, D.
        time: T, how many tokens come.
        bound: positions are below it; 0: the oldest tokens are overwritten.
        window: how many positions a query sees; 0: all.
        starts: positions of the first new tokens.
        table: pages of each row.
    """

    cache: tuple[int, int, int, int]
    time: int
    bound: int
    window: int
    starts: Entry
    table: Entry

    @property
    def new(self) -> tuple[int, int, int, int]:
        """B, G, T, D."""
        return (self.starts.size, self.cache[1], self.time, self.cache[3])

    def seen(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pages and places that the queries of each row see."""
        n = self.cache[2]
        for start, pages in zip(self.starts.bounded.value, self.table.bounded.value, strict=True):
            first = max(0, start - self.window + 1) if self.window else 0
            places = np.arange(first, start + self.time) % (n * pages.size)
            yield pages[places // n], places % n


def _rows(w: Writer, read: bool) -> Rows:
    """Rows, some at their beginning, some full; with a window or a ring they may be further.

    Args:
        read: what a query sees must be there.
    """
    b, g, d = w.choose([1, 2, 3]), w.choose([1, 2]), w.choose([4, 1, 8, 16, 17])
    n, columns = w.choose([4, 32, 1, 3, 16, 40, 64]), w.choose([1, 2, 3])
    room, ring, window = n * columns, w.flag(), 0
    t = w.choose([t for t in (1, 2, 3, 8, 20) if t <= room or (ring and not read)])
    if w.rarely(12):
        b, t = w.choose([(0, t), (b, 0)])
    if ring and read:
        window = w.number(1, room - max(t, 1) + 1)
    pages = max(1, b * columns + w.number(0, 2))
    if pages * g * n * d > 2 * MOST:
        raise Refused
    random = np.random.default_rng(len(w.drawn.arrays))
    last = 3 * room if ring else room - t
    starts = random.choice([0, last, *random.integers(0, last + 1, 4)], b)
    starts = w.given((b,), int64, array=starts)
    if columns == 1 and w.flag():
        table = w.apply("iota", shape=(b, 1), axis=0, dtype=int64)
    else:
        table = random.permutation(pages)[: b * columns].reshape(b, columns)
        if w.rarely(3):  # from the end
            table = np.where(random.integers(0, 2, table.shape), table, table - pages)
        table = w.given((b, columns), int64, array=table)
    return Rows((pages, g, n, d), t, 0 if ring else room, window, starts, table)


def _cache(w: Writer, rows: Rows, dtype: DType, size: int) -> Entry:
    """Keys, values or their scales (P, G, N, size)."""
    shape = (*rows.cache[:3], size)
    kind = w.choose(["whole", "normal"])
    array = numbers(len(w.drawn.arrays), shape, dtype, kind)
    if dtype.is_float and w.flag():
        hidden = np.ones((shape[0], shape[2]), bool)
        for at in rows.seen():
            hidden[at] = False
        array = np.where(hidden[:, None, :, None], np.nan, widened(array, dtype))
        array = store(array, dtype)
    return _laid(w, array, dtype, state=w.flag())


def _put(w: Writer, rows: Rows, caches: list[Entry]) -> list[Entry]:
    """Some or all of the new tokens of each row in each cache."""
    b, g, t, _ = rows.new
    counts = np.full(b, t)
    if w.flag():
        counts = np.random.default_rng(len(w.drawn.arrays)).integers(-1, t + 3, b)
    counts = w.given((b,), int64, array=counts)
    written = []
    for x in caches:
        shape = (b, g, t, x.shape[3])
        if x.dtype is int8 and w.rarely(3):  # as activations are rounded
            many = w.apply("mul", _head(w, shape, float32), w.constant(9.7, float32))
            new = w.apply("cast", w.apply("round", many), dtype=int8)
        else:
            new = _head(w, shape, x.dtype)
        places = rows.starts, counts, rows.table
        written.append(w.apply("put_tokens", x, new, *places, bound=rows.bound))
    return written


def cached(w: Writer) -> None:
    """Attention to caches, or once in three times tokens written into a cache of any numbers."""
    if not w.rarely(3):
        _attended(w)
        return
    rows = _rows(w, read=False)
    w.asked += _put(w, rows, [_cache(w, rows, w.choose((*FLOATS, *WHOLE)), rows.cache[3])])


def _attended(w: Writer) -> None:
    """Attention to caches, often with new tokens in them; some are of int8 with scales."""
    rows = _rows(w, read=True)
    b, g, t, d = rows.new
    dtype = w.choose(FLOATS)
    kinds = [(dtype, d)] * 2
    if w.rarely(3):
        kinds = [(int8, d)] * 2 + [(float32, 1)] * 2
    caches = [_cache(w, rows, kind, size) for kind, size in kinds]
    if w.rarely(3):
        caches = _put(w, rows, caches)
    q = _head(w, (b, g * w.choose([1, 2, 3]), t, d), dtype)
    if w.rarely(3):
        q = w.apply("neg", q)
    keys, values, *scales = caches
    out = w.apply(
        "cached_attention", q, keys, values, rows.starts, rows.table, *scales,
        scale=w.choose([0.5, 1.0, 0.1, 2.0]), window=rows.window,
    )  # fmt: skip
    w.asked.append(out)
