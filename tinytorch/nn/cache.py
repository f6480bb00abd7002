"""Caches: the keys and values of earlier tokens, kept so that they are computed once.

Knows memory and positions, never layers. Each sequence of a batch has its own length. A cache is
written in place; in a compiled function one program serves every length, and a token costs what is
filled, not what there is room for.

    KeyValueCache   of one attention layer
    ModelCache      of all layers of a model, with one count of tokens
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import numpy as np

from tinytorch.base.arguments import whole
from tinytorch.base.dtypes import DType, as_dtype, float32, int8, int64
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn.module import Module, ModuleList
from tinytorch.tensor.caches import cached_attention, put_tokens
from tinytorch.tensor.contractions import scale_of
from tinytorch.tensor.creation import iota, zeros
from tinytorch.tensor.elementwise import round, where
from tinytorch.tensor.indexing import take
from tinytorch.tensor.interpreter import current, no_grad
from tinytorch.tensor.reductions import amax
from tinytorch.tensor.row_functions import abs as absolute
from tinytorch.tensor.tensor import Tensor

BLOCK = 32  # places that the kernel of attention goes through at a time
PIECE = 256  # tokens of a prompt that are read at once; a cache with a window takes no more


class KeyValueCache(Module):
    """Room for the keys and values of S tokens of each sequence, filled from the front.

    Args:
        batch: B, sequences; at least 1.
        heads: G, heads of the keys (`kv_heads` of the layer); at least 1.
        length: S, tokens there is room for; at least 1.
        head_size: D; at least 1.
        dtype: of keys and values; default float32. "int8": each row of D numbers is kept as bytes
            with one float32 scale, |x| at most scale * 127; the queries' type is any.
        window: a token sees so many, itself among them; then there need be room for those alone,
            older ones are overwritten, and there is no end. Default None: all tokens.
        page: N, places of a page, a multiple of 32, with `pages`: memory is given to sequences page
            by page, as `table` says. Default: one piece for each sequence.
        pages: P, pages in all.

    Shapes: keys and values (B, G, places, D), or (P, G, N, D) with pages; lengths (B,) int64, how
    many tokens each sequence has; table (B, M) int64, the pages of each sequence.

    Cost: 2 B G S D numbers. A new token reads those that are filled once, in place of 2 T C^2
    operations for each layer to compute the T keys and values before it again. int8: a quarter of
    the bytes, and an error of at most 1/254 of a row's largest number.

    Source: pages: Kwon et al. 2023, https://arxiv.org/abs/2309.06180.

    Example:
        >>> import tinytorch as tt
        >>> layer = tt.nn.MultiHeadAttention(8, 2, causal=True)
        >>> cache = layer.new_cache(batch=1, length=16)
        >>> for token in range(3):
        ...     y = layer(tt.ones(1, 1, 8), cache=cache)
        >>> y.shape, cache.lengths.tolist()
        ((1, 1, 8), [3])
    """

    keys: Tensor
    values: Tensor
    lengths: Tensor
    table: Tensor | None
    key_scales: Tensor | None
    value_scales: Tensor | None

    def __init__(
        self, batch: int, heads: int, length: int, head_size: int, dtype: DType | str = "float32",
        *, window: int | None = None, page: int | None = None, pages: int | None = None,
    ):  # fmt: skip
        given = (("batch", batch), ("heads", heads), ("length", length), ("head_size", head_size))
        sizes = [whole("KeyValueCache", name, size, at_least=1) for name, size in given]
        self.batch, self.heads, self.length, self.head_size = sizes
        self.window = None if window is None else whole("KeyValueCache", "window", window, 1)
        room = self.length if self.window is None else min(self.length, self.window) + PIECE - 1
        self.advances = True  # whether it counts the tokens it is given; one of a model's does
        self.is_paged = page is not None or pages is not None
        if self.is_paged:
            shape = self._pages(page, pages, room)
        else:
            shape = (self.batch, self.heads, -(-room // BLOCK) * BLOCK, self.head_size)
            self.table = None
        kind = as_dtype(dtype)
        self.register_buffer("keys", zeros(shape, dtype=kind))
        self.register_buffer("values", zeros(shape, dtype=kind))
        self.key_scales = self.value_scales = None
        if kind is int8:
            self.register_buffer("key_scales", zeros((*shape[:3], 1), dtype=float32))
            self.register_buffer("value_scales", zeros((*shape[:3], 1), dtype=float32))
        self.register_buffer("lengths", zeros((self.batch,), dtype=int64))

    def _pages(self, page: int | None, pages: int | None, room: int) -> tuple[int, int, int, int]:
        n = whole("KeyValueCache", "page", BLOCK if page is None else page, at_least=BLOCK)
        if n % BLOCK:
            raise SettingError(
                "KeyValueCache: the size of a page does not fit the kernel",
                got=f"page={page}",
                rule=f"a multiple of {BLOCK}",
                fix=f"page={-(-n // BLOCK) * BLOCK}",
            )
        each = -(-room // n)
        count = whole("KeyValueCache", "pages", self.batch * each if pages is None else pages, 1)
        self.register_buffer("table", zeros((self.batch, each), dtype=int64))
        return count, self.heads, n, self.head_size

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scale: float | None = None
    ) -> Tensor:
        """Add T tokens to each sequence, and give what they attend to in it.

        Args:
            query: (B, A, T, D), A a multiple of G.
            key: (B, G, T, D).
            value: (B, G, T, D).
            scale: of the logits; default 1 / sqrt(D).

        Returns:
            (B, A, T, D): each token attends to itself and those before it (in the window). The
            result of a sequence is the same, to the last bit, whatever the others are, and
            however many tokens come at once. No gradient goes through a cache.

        Raises:
            ShapeError: no room is left, or the keys are not those of this cache.
            IndexRangeError: no room is left (compiled).
        """
        b, g, d, t = self.batch, self.heads, self.head_size, key.shape[2] if key.shape[2:] else -1
        fits = len(query.shape) == 4 and query.shape[2] == t and query.shape[1] % g == 0
        if not fits or key.shape != (b, g, t, d) or value.shape != key.shape:
            raise ShapeError(
                "KeyValueCache: these keys and values do not fit into it",
                got=f"query {tuple(query.shape)}, key {tuple(key.shape)}, "
                f"value {tuple(value.shape)}",
                rule=f"query ({b}, A, T, {d}), key and value ({b}, {g}, T, {d}), A a multiple of "
                f"{g}",
                fix="layer.new_cache(batch, length) of the layer that uses it",
            )
        with no_grad():
            starts, table = self.lengths, self._pages_of_rows()
            for name, x in self._stored(key.detach(), value.detach()).items():
                self._put(name, x, starts, table)
            scales = [s for s in (self.key_scales, self.value_scales) if s is not None]
            out = cached_attention(
                query.detach(), self.keys, self.values, starts, table, *scales,
                scale=scale_of(query) if scale is None else scale, window=self.window or 0,
            )  # fmt: skip
            if self.advances:
                self.lengths.assign_(starts + t)
        return out

    def _pages_of_rows(self) -> Tensor:
        return iota((self.batch, 1), 0, dtype=int64) if self.table is None else self.table

    def _stored(self, key: Tensor, value: Tensor) -> dict[str, Tensor]:
        """New rows as they are kept, by the name of the buffer."""
        if self.key_scales is None:
            return {"keys": key, "values": value}
        keys, key_scales = _as_bytes(key)
        values, value_scales = _as_bytes(value)
        return {
            "keys": keys, "values": values, "key_scales": key_scales, "value_scales": value_scales
        }  # fmt: skip

    def _put(self, name: str, new: Tensor, starts: Tensor, table: Tensor) -> None:
        held, t = getattr(self, name), new.shape[2]
        if current() is not None:  # of a compiled program: it writes nothing else
            counts = zeros((self.batch,), dtype=int64) + t
            held.assign_(put_tokens(held, new, starts, counts, table, bound=self.bound))
            return
        n, columns = held.shape[2], table.shape[1]
        for b, start in enumerate(starts.tolist()):
            if self.bound and start + t > self.bound:
                raise ShapeError(
                    "KeyValueCache: no room is left",
                    got=f"{start} tokens in it and {t} new ones",
                    rule=f"at most {self.bound}",
                    fix="cache.clear(), or new_cache(..., length=...) with more room",
                )
            for at, count in _runs(start, t, n):
                page, place = int(table[b, at // n % columns].item()), at % n
                part = new[b, :, at - start : at - start + count]
                held[page, :, place : place + count] = part

    @property
    def bound(self) -> int:
        """Tokens there is room for; 0: with a window there is no end."""
        return self.length if self.window is None else 0

    def cut(self, lengths: int | Sequence[int]) -> None:
        """Forget what lies beyond so many tokens.

        Args:
            lengths: of every sequence, or of each; at most as many as it has.

        Raises:
            SettingError: more than there are, or with a window so few that what these would see
                has been overwritten.
        """
        now = np.array(self.lengths.tolist(), np.int64)
        given = np.broadcast_to(np.asarray(lengths, np.int64), now.shape)
        room = self.keys.shape[2] * (1 if self.table is None else self.table.shape[1])
        kept = np.maximum(given - (self.window or 0), 0) + room >= now  # not overwritten
        if (given < 0).any() or (given > now).any() or not (kept | (given == 0)).all():
            raise SettingError(
                "KeyValueCache: it cannot be cut there",
                got=f"lengths {given.tolist()} of a cache with {now.tolist()} tokens",
                rule="at most as many as there are, and with a window their past is still there",
                fix="cache.clear(), and give the tokens again",
            )
        self.lengths.assign_(Tensor(given.copy()))

    def share(self, batch: int = 1) -> KeyValueCache:
        """Another cache in the same pages, for other sequences: with lengths and table of its own.

        Args:
            batch: sequences; default 1.
        """
        if self.table is None:
            raise SettingError(
                "KeyValueCache: without pages there is nothing to share",
                got="share() of a cache without pages",
                rule="memory that a table gives to sequences, page by page",
                fix="new_cache(..., page=64)",
            )
        other = object.__new__(KeyValueCache)
        vars(other).update(vars(self))
        other.batch = whole("KeyValueCache", "batch", batch, at_least=1)
        other.table = zeros((batch, self.table.shape[1]), dtype=int64)
        other.lengths = zeros((batch,), dtype=int64)
        return other

    def reorder(self, rows: Sequence[int]) -> None:
        """Let sequence i go on from what sequence rows[i] has, as beams of a search do.

        Args:
            rows: one of the B sequences for each.

        Cost: all that is filled is copied.
        """
        if self.is_paged:
            raise SettingError(
                "KeyValueCache: pages are not copied",
                got="reorder() of a cache with pages",
                rule="each sequence has pages of its own",
                fix="a cache without pages",
            )
        order = np.asarray(rows, np.int64)
        most = min(max(self.lengths.tolist(), default=0), self.keys.shape[2])
        for name in ("keys", "values", "key_scales", "value_scales"):
            held = getattr(self, name)
            if held is not None:
                held[:, :, :most] = take(held[:, :, :most], Tensor(order), 0)
        if self.advances:
            self.lengths.assign_(take(self.lengths, Tensor(order), 0))

    def clear(self) -> None:
        """Forget everything; the room stays."""
        self.lengths.zero_()

    def extra_repr(self) -> str:
        """Sizes."""
        sizes = f"batch={self.batch}, heads={self.heads}, length={self.length}"
        more = "" if self.window is None else f", window={self.window}"
        return f"{sizes}, head_size={self.head_size}{more}"


def _runs(start: int, count: int, n: int) -> Iterator[tuple[int, int]]:
    """Positions from `start` on as (first, how many), none across the border of a page."""
    end = start + count
    while start < end:
        part = min(end, (start // n + 1) * n) - start
        yield start, part
        start += part


def _as_bytes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of D numbers as bytes in [-127, 127], and the scale of each, (..., 1)."""
    wide = x.astype(float32)
    largest = amax(absolute(wide), -1, keepdim=True)
    scales = largest / 127.0
    steps = round(wide / where(scales == 0.0, 1.0, scales))
    return steps.astype(int8), scales


class ModelCache(Module):
    """The caches of a model's layers, in the order in which these run, with one count of tokens.

    Args:
        layers: a KeyValueCache for each layer, of equal batch and length.

    Every layer reads how many tokens came before; the last one counts the new ones. So all layers
    have to run each time.

    Example:
        >>> import tinytorch as tt
        >>> block = tt.nn.TransformerBlock(8, 2, causal=True)
        >>> cache = ModelCache([block.new_cache(batch=2, length=16)])
        >>> y = block(tt.ones(2, 3, 8), cache=cache[0])
        >>> cache.lengths.tolist(), len(cache)
        ([3, 3], 1)
    """

    def __init__(self, layers: Iterable[KeyValueCache]):
        caches = list(layers)
        if not caches:
            raise SettingError(
                "ModelCache: there is no layer",
                got="layers=[]",
                rule="a KeyValueCache for each layer of a model",
                fix="model.new_cache(batch, length)",
            )
        for layer in caches:
            layer.advances = layer is caches[-1]
            layer.lengths = caches[0].lengths
            layer.table = caches[0].table
        self.layers = ModuleList(caches)

    @property
    def lengths(self) -> Tensor:
        """How many tokens each sequence has, (B,) int64."""
        return self[0].lengths

    @property
    def batch(self) -> int:
        """B, sequences."""
        return self[0].batch

    @property
    def length(self) -> int:
        """S, tokens there is room for."""
        return self[0].length

    def __getitem__(self, layer: int) -> KeyValueCache:
        """The cache of a layer."""
        return cast("KeyValueCache", self.layers[layer])

    def __iter__(self) -> Iterator[KeyValueCache]:
        """The cache of each layer."""
        return (self[i] for i in range(len(self)))

    def __len__(self) -> int:
        """How many layers there are."""
        return len(self.layers)

    def cut(self, lengths: int | Sequence[int]) -> None:
        """As `KeyValueCache.cut`, in all layers."""
        self[0].cut(lengths)

    def share(self, batch: int = 1) -> ModelCache:
        """As `KeyValueCache.share`, of all layers."""
        return ModelCache(layer.share(batch) for layer in self)

    def reorder(self, rows: Sequence[int]) -> None:
        """As `KeyValueCache.reorder`, in all layers."""
        for layer in self:
            layer.reorder(rows)

    def clear(self) -> None:
        """Forget everything; the room stays."""
        self.lengths.zero_()
