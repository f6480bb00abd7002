"""Kernels of caches of keys and values: tokens are written into pages, and attention reads them.

Knows pointers, strides and pages; never tensors or graphs. Attention goes over blocks of places in
the order of positions, which are the same whatever else is in the batch, however many tokens come
at once and however large a page is: the sums of a query are the same to the last bit. Only blocks
that some query sees are visited, so a token costs what is filled, not what there is room for.

For each block and query: the logits (of as many keys as a vector has lanes, whose products are
added up across lanes together), their maximum, weights, and the weighted sum of the values' rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import gcd

from tinytorch.base.dtypes import DType, float32, float64
from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import (
    Kernel,
    Lowered,
    NeededRows,
    Operand,
    Pointers,
    Scratch,
    Shares,
    address,
    ceil_div,
    lane_width,
    lengths_of,
    named_kernel,
    round_up,
    store_at,
    where_needed,
)
from tinytorch.codegen.target import Target
from tinytorch.codegen.vector_math import muladd
from tinytorch.kernels.attention_spec import LOG2_E, LOWEST, exp2_nonpositive
from tinytorch.kernels.gather_scatter import wrapped
from tinytorch.kernels.packing import load_row_piece
from tinytorch.kernels.register_tile import sum_of_lanes, sums_of_lanes

KEYS = 32  # keys of a block, where a page has a multiple of them
ROWS = 16  # queries of a tile: those that see the same keys
COLUMNS = 8  # vectors of sums that are in registers at once


@dataclass(frozen=True)
class Pages:
    """A cache (P, G, N, D), and which of its pages the rows of a batch have.

    Args:
        pages, heads, places, size: P, G, N, D.
        columns: M, pages of a row.
        starts: strides over (B,): the position of a row's first new token.
        table: strides over (B, M).
    """

    pages: int
    heads: int
    places: int
    size: int
    columns: int
    starts: Operand
    table: Operand

    def start(self, f: Function, p: Pointers, b: Value) -> Value:
        """The position of the first new token of a row."""
        return f.load(address(f, p["starts"], self.starts, (b,)), "i64", stem="start")

    def find(self, f: Function, p: Pointers, b: Value, position: Value) -> tuple[Value, Value]:
        """(page, place in it) of a position; pages below 0 count from the end.

        Inside the cache whatever the table says.
        """
        room = f.index(self.columns * self.places)
        place = f.rem(position, room, "place", signed=False)
        n = f.index(self.places)
        column, place = f.div(place, n, signed=False), f.rem(place, n, signed=False)
        page = f.load(address(f, p["table"], self.table, (b, column)), "i64", stem="page")
        page = wrapped(f, page, self.table, self.pages)
        return f.minimum(page, f.index(self.pages - 1), signed=False), place


def put_tokens(
    target: Target, pages: Pages, sizes: tuple[int, int], new: Operand, counts: Operand,
    out: Operand,
) -> Kernel:  # fmt: skip
    """The first tokens of each row at their places; "new", "starts", "counts", "table", "out".

    Args:
        sizes: B, T.
        new: strides over (B, G, T, D); counts: over (B,); out: over (P, G, N, D).
    """
    (batch, time), size = sizes, pages.size
    together = new.strides[3] == out.strides[3] == 1
    n = lane_width(target, new.dtype.itemsize, size) if together else 1
    shares = Shares.of(pages.heads, batch * time * ceil_div(size, n) * 8)
    wide = vector(n, new.dtype.llvm)

    def body(f: Function, p: Pointers) -> None:
        with f.loop("b", 0, batch) as b:
            count = f.load(address(f, p["counts"], counts, (b.index,)), "i64", stem="count")
            start = pages.start(f, p, b.index)
            with f.loop("t", 0, f.minimum(count, f.index(time))) as t:
                page, place = pages.find(f, p, b.index, f.add(start, t.index))
                with shares.loop(f, "head") as g, f.loop("d", 0, size, n) as d:
                    mask = None
                    if size % n:
                        mask = f.mask_below(n, f.sub(f.index(size), d.index))
                    index = (b.index, g.index, t.index, d.index)
                    x = f.load(address(f, p["new"], new, index), wide, mask=mask)
                    to = address(f, p["out"], out, (page, g.index, place, d.index))
                    f.store(x, to, mask=mask)

    moved = 2 * batch * time * pages.heads * size * new.dtype.itemsize
    return named_kernel(
        "put_tokens", ("new", "starts", "counts", "table", "out"), body, tiles=shares.tiles,
        bytes=moved, label="put_tokens",
    )  # fmt: skip


@dataclass(frozen=True)
class CachedAttentionSpec:
    """Attention of q (B, A, T, D) to a cache -> out (B, A, T, D).

    Args:
        batch, heads, queries: B, A, T.
        pages: the cache.
        scale: factor of the logits.
        window: how many positions a query sees, itself among them; 0: all before it.
        q, keys, values, out: where each lies.
        scales: of keys and values of int8, strides over (P, G, N, 1).
        needed: which queries are, those of all heads one after the other; default all.
    """

    batch: int
    heads: int
    queries: int
    pages: Pages
    scale: float
    window: int
    q: Operand
    keys: Operand
    values: Operand
    out: Operand
    scales: tuple[Operand, ...] = ()
    needed: NeededRows = field(default=(), kw_only=True)

    @property
    def compute(self) -> DType:
        """The type of products, sums and statistics."""
        return float64 if self.q.dtype is float64 else float32


def lower_cached_attention(target: Target, spec: CachedAttentionSpec) -> Lowered:
    """The kernel of one attention to a cache.

    Returns:
        One step with buffers "q", "keys", "values", "starts", "table", "out", for int8
        "key_scales" and "value_scales".

    Cost: 4 D operations a (query, key) pair and one exponential.
    """
    return Lowered.of(_CachedAttention(target, spec).kernel())


class _CachedAttention:
    """Writes the kernel. A tile is up to ROWS queries that share a head of keys, of one sequence.

    Of a tile's queries r the heads that share keys are innermost: r = t * shared + head.
    """

    f: Function
    p: Pointers
    b: Value  # the sequence, the head of keys, and the position of the first new token
    g: Value
    start: Value

    def __init__(self, target: Target, spec: CachedAttentionSpec):
        self.spec, pages = spec, spec.pages
        self.block = gcd(KEYS, pages.places)
        self.n = target.lanes(spec.compute)  # lanes of a row of D
        self.lanes = min(self.n, self.block)  # keys side by side
        self.type = spec.compute.llvm
        self.wide, self.across = vector(self.n, self.type), vector(self.lanes, self.type)
        self.width = round_up(pages.size, self.n)
        self.shared = spec.heads // pages.heads
        self.rows = min(ROWS, spec.queries * self.shared)
        self.runs = ceil_div(spec.queries * self.shared, max(self.rows, 1))
        line = round_up(self.rows, self.n)
        sizes = {
            "query": self.rows * self.width, "sum": self.rows * self.width,
            "largest": line, "total": line, "logit": self.block,
        }  # fmt: skip
        self.scratch = Scratch(self.type, spec.compute.itemsize, self.n, sizes)

    def kernel(self) -> Kernel:
        """The whole kernel."""
        spec, pages = self.spec, self.spec.pages
        names = ("q", "keys", "values", "starts", "table", "out")
        scales = ("key_scales", "value_scales") if spec.scales else ()
        room = pages.columns * pages.places
        room = min(room, spec.window) if spec.window else room
        pairs = spec.batch * spec.heads * spec.queries * room
        moved = 2 * spec.batch * pages.heads * room * pages.size * spec.keys.dtype.itemsize
        return named_kernel(
            "cached_attention", (*names, *scales, *lengths_of(spec.needed)), self.tile,
            tiles=spec.batch * pages.heads * self.runs, scratch=self.scratch.bytes,
            flops=4 * pages.size * pairs, bytes=moved,
            label=f"cached_attention {spec.queries}x{room}x{pages.size}",
        )  # fmt: skip

    def tile(self, f: Function, p: Pointers) -> None:
        """One run of queries of one head of keys of one sequence."""
        self.f, self.p = f, p
        self.scratch.begin(f)
        pages, spec = self.spec.pages, self.spec
        head, run = f.div(f.tile, f.index(self.runs)), f.rem(f.tile, f.index(self.runs))
        self.b, self.g = f.div(head, f.index(pages.heads)), f.rem(head, f.index(pages.heads))
        self.start = pages.start(f, p, self.b)
        first = f.mul(run, f.index(self.rows), "first")
        count = f.sub(f.index(spec.queries * self.shared), first)
        count = f.minimum(count, f.index(self.rows))
        last = f.sub(f.add(first, count), f.index(1))
        self._begin_rows(first, count)
        low, _ = self._seen(first)
        _, high = self._seen(last)
        block = f.index(self.block)
        low = f.mul(f.div(low, block), block)
        with f.loop("s", low, high, self.block) as s:
            page, place = pages.find(f, p, self.b, s.index)
            with f.loop("r", 0, count) as r:
                row = f.add(first, r.index)
                begin, end = self._seen(row)
                met = f.compare("lt", s.index, end)
                met = f.op("and", met, f.compare("lt", begin, f.add(s.index, block)))
                with f.when(met), self._where_needed(row):
                    bounds = f.sub(begin, s.index), f.sub(end, s.index)
                    self._take_block(r.index, page, place, bounds)
        with f.loop("r", 0, count) as r, self._where_needed(f.add(first, r.index)):
            self._put_row(r.index, f.add(first, r.index))

    def _where_needed(self, row: Value):
        f, spec = self.f, self.spec
        a, t = self._place(row)
        flat = f.mul(f.add(f.mul(self.b, f.index(spec.heads)), a), f.index(spec.queries))
        return where_needed(f, self.p, spec.needed, f.add(flat, t), 1)

    def _place(self, row: Value) -> tuple[Value, Value]:
        """(head, time) of one of the queries that share a head of keys."""
        f, shared = self.f, self.f.index(self.shared)
        t = f.div(row, shared)
        own = f.sub(row, f.mul(t, shared))
        return f.add(f.mul(self.g, shared), own), t

    def _seen(self, row: Value) -> tuple[Value, Value]:
        """The positions [begin, end) that a query sees."""
        f = self.f
        end = f.add(f.add(self.start, self._place(row)[1]), f.index(1), "end")
        if not self.spec.window:
            return f.index(0), end
        return f.maximum(f.sub(end, f.index(self.spec.window)), f.index(0)), end

    def _at(self, name: str, row: Value, column: Value) -> Value:
        f = self.f
        return self.scratch.at(name, f.add(f.mul(row, f.index(self.width)), column))

    def _begin_rows(self, first: Value, count: Value) -> None:
        """The queries in units of log 2, and sums of nothing."""
        f, spec, scratch = self.f, self.spec, self.scratch
        factor, zero = f.const(self.wide, spec.scale * LOG2_E), f.const(self.wide, 0.0)
        with f.loop("r", 0, count) as r:
            a, t = self._place(f.add(first, r.index))
            for d in range(0, self.width, self.n):
                x = self._piece("q", spec.q, (self.b, a, t), d)
                f.store(f.mul(x, factor), self._at("query", r.index, f.index(d)))
                f.store(zero, self._at("sum", r.index, f.index(d)))
            f.store(f.const(self.type, LOWEST), scratch.at("largest", r.index))
            f.store(f.const(self.type, 0.0), scratch.at("total", r.index))

    def _piece(self, name: str, operand: Operand, index: Sequence[Value], d: int) -> Value:
        """A vector of a row of q, keys or values from a column on; 0 behind its end."""
        f = self.f
        at = address(f, self.p[name], operand, (*index, f.index(d)))
        kind, stride, count = operand.dtype.llvm, operand.strides[3], self.spec.pages.size - d
        return load_row_piece(f, at, kind, stride, self.n, count, self.type)

    def _take_block(self, r: Value, page: Value, place: Value, bounds: tuple[Value, Value]) -> None:
        """Take a block of keys into the maximum, total and weighted sum of a query.

        Args:
            place: of the block's first key in its page.
            bounds: the query sees its keys [begin, end), counted from the first.
        """
        f, scratch = self.f, self.scratch
        before = f.load(scratch.at("largest", r), self.type, stem="before")
        largest = f.splat(before, self.lanes)
        with f.loop("k", 0, self.block, self.lanes, carry=[largest]) as k:
            x = self._logits(r, page, f.add(place, k.index), k.index, bounds)
            f.store(x, scratch.at("logit", k.index))
            best = k.carried[0]
            k.next(f.select(f.compare("gt", x, best), x, best))
        now = self._largest_lane(k.results[0])
        f.store(now, scratch.at("largest", r))
        change = exp2_nonpositive(f, f.sub(before, now))
        with f.loop("w", 0, self.block, self.lanes, carry=[f.const(self.across, 0.0)]) as w:
            x = f.load(scratch.at("logit", w.index), self.across)
            weight = exp2_nonpositive(f, f.sub(x, f.splat(now, self.lanes)))
            hidden = f.compare("le", x, f.const(self.across, LOWEST))
            weight = f.select(hidden, f.const(self.across, 0.0), weight, "weight")
            f.store(self._scaled(1, weight, page, f.add(place, w.index)),
                    scratch.at("logit", w.index))  # fmt: skip
            w.next(f.add(w.carried[0], weight))
        total = f.load(scratch.at("total", r), self.type)
        more = sum_of_lanes(f, w.results[0]) if self.lanes > 1 else w.results[0]
        f.store(f.add(f.mul(total, change), more), scratch.at("total", r))
        self._add_values(r, page, place, bounds, change)

    def _logits(
        self, r: Value, page: Value, place: Value, first: Value, bounds: tuple[Value, Value]
    ) -> Value:
        """Of `lanes` keys from a place on, LOWEST for those that the query does not see."""
        f = self.f
        sums = [f.const(self.wide, 0.0)] * self.lanes
        for d in range(0, self.width, self.n):
            q = f.load(self._at("query", r, f.index(d)), self.wide, stem="q")
            for i in range(self.lanes):
                at = (page, self.g, f.add(place, f.index(i)))
                sums[i] = muladd(f, q, self._piece("keys", self.spec.keys, at, d), sums[i])
        if self.lanes > 1:
            x = sums_of_lanes(f, sums)
        else:
            x = sum_of_lanes(f, sums[0]) if self.n > 1 else sums[0]
        x = self._scaled(0, x, page, place)
        own = f.add(f.splat(first, self.lanes), f.step(self.lanes))
        begin, end = (f.splat(limit, self.lanes) for limit in bounds)
        seen = f.op("and", f.compare("ge", own, begin), f.compare("lt", own, end))
        return f.select(seen, x, f.const(self.across, LOWEST), "logit")

    def _scaled(self, which: int, x: Value, page: Value, place: Value) -> Value:
        """Times the scales of keys (0) or values (1) of int8; what was never written may be NaN."""
        f, scales = self.f, self.spec.scales
        if not scales:
            return x
        operand, name = scales[which], ("key_scales", "value_scales")[which]
        at = address(f, self.p[name], operand, (page, self.g, place, f.index(0)))
        by = load_row_piece(f, at, "float", operand.strides[2], self.lanes, self.lanes, self.type)
        return f.mul(x, by)

    def _largest_lane(self, x: Value) -> Value:
        f = self.f
        best = f.extract(x, 0) if self.lanes > 1 else x
        for lane in range(1, self.lanes):
            other = f.extract(x, lane)
            best = f.select(f.compare("gt", other, best), other, best)
        return best

    def _add_values(
        self, r: Value, page: Value, place: Value, bounds: tuple[Value, Value], change: Value
    ) -> None:
        """The weighted sum in the scale of the new maximum, and the seen keys' rows of values."""
        f = self.f
        begin = f.maximum(bounds[0], f.index(0))
        end = f.minimum(bounds[1], f.index(self.block))
        by = f.splat(change, self.n)
        columns = range(0, self.width, self.n)
        for part in (columns[i : i + COLUMNS] for i in range(0, len(columns), COLUMNS)):
            sums = [f.mul(f.load(self._at("sum", r, f.index(d)), self.wide), by) for d in part]
            with f.loop("v", begin, end, carry=sums) as k:
                weight = f.load(self.scratch.at("logit", k.index), self.type, stem="weight")
                weight, at = f.splat(weight, self.n), (page, self.g, f.add(place, k.index))
                k.next(*(
                    muladd(f, weight, self._piece("values", self.spec.values, at, d), c)
                    for d, c in zip(part, k.carried, strict=True)
                ))  # fmt: skip
            for d, x in zip(part, k.results, strict=True):
                f.store(x, self._at("sum", r, f.index(d)))

    def _put_row(self, r: Value, row: Value) -> None:
        """The mean of a query; 0 where it sees nothing."""
        f, spec = self.f, self.spec
        total = f.load(self.scratch.at("total", r), self.type)
        empty = f.compare("eq", total, f.const(self.type, 0.0))
        by = f.select(empty, total, f.div(f.const(self.type, 1.0), total))
        a, t = self._place(row)
        for d in range(0, self.width, self.n):
            x = f.load(self._at("sum", r, f.index(d)), self.wide)
            left = spec.pages.size - d
            mask = f.mask_below(self.n, f.index(left)) if left < self.n else None
            index = (self.b, a, t, f.index(d))
            store_at(f, f.mul(x, f.splat(by, self.n)), self.p["out"], spec.out, index, mask)
