"""KeyValueCache: what attention computed for the tokens so far, so that a new one costs one row.

Knows keys, values and how many there are; who attends is `MultiHeadAttention`'s.
"""

from __future__ import annotations

from tinytorch.base.checks import whole
from tinytorch.base.dtypes import DType, int64
from tinytorch.base.errors import ShapeError
from tinytorch.nn.module import Module
from tinytorch.tensor.creation import iota, zeros
from tinytorch.tensor.indexing import slice_update
from tinytorch.tensor.interpreter import current
from tinytorch.tensor.modes import no_grad
from tinytorch.tensor.shaping import concat
from tinytorch.tensor.tensor import Tensor


class KeyValueCache(Module):
    """Room for the keys and values of S tokens, filled from the front.

    In eager code what has been filled is handed out; in a compiled function, where sizes are fixed,
    all of it is, with a mask that hides the rest, so one program serves every length.

    Args:
        batch: B, sequences; at least 1.
        heads: A, heads of the keys (`kv_heads` of the layer); at least 1.
        length: S, tokens there is room for; at least 1.
        head_size: D; at least 1.
        dtype: of keys and values; default float32.

    Shapes: keys and values (B, A, S, D); length 0-d int64, how many tokens are in it.

    Cost: 2 B A S D numbers. A new token reads them once, in place of 2 T C^2 operations for each
    layer to compute the T keys and values before it again.

    Example:
        >>> import tinytorch as tt
        >>> layer = tt.nn.MultiHeadAttention(8, 2, causal=True)
        >>> cache = layer.new_cache(batch=1, length=16)
        >>> for token in range(3):
        ...     y = layer(tt.ones(1, 1, 8), cache=cache)
        >>> y.shape, cache.length.item()
        ((1, 1, 8), 3)
    """

    keys: Tensor
    values: Tensor
    length: Tensor

    def __init__(
        self, batch: int, heads: int, length: int, head_size: int, dtype: DType | str = "float32"
    ):
        given = (("batch", batch), ("heads", heads), ("length", length), ("head_size", head_size))
        shape = tuple(whole("KeyValueCache", name, size, at_least=1) for name, size in given)
        self.register_buffer("keys", zeros(shape, dtype=dtype))
        self.register_buffer("values", zeros(shape, dtype=dtype))
        self.register_buffer("length", zeros((), dtype=int64))

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Add the keys and values of T tokens.

        Args:
            key: (B, A, T, D).
            value: (B, A, T, D).

        Returns:
            keys and values of all tokens so far (eager), or of all S places with a mask (T, S) of
            those that the T tokens may see, each itself and what came before (compiled).

        Raises:
            ShapeError: no room is left, or the keys are not those of this cache.
        """
        b, a, room, d = self.keys.shape
        t = key.shape[2] if len(key.shape) == 4 else -1
        if key.shape != (b, a, t, d) or value.shape != key.shape or t > room:
            raise ShapeError(
                "KeyValueCache: these keys and values do not fit into it",
                got=f"key {tuple(key.shape)}, value {tuple(value.shape)}",
                rule=f"both ({b}, {a}, T, {d}) with T <= {room}",
                fix="layer.new_cache(batch, length) of the layer that uses it",
            )
        with no_grad():
            return self._append(key, value, t) if current() is None else self._write(key, value, t)

    def _append(self, key: Tensor, value: Tensor, t: int) -> tuple[Tensor, Tensor, None]:
        n, room = int(self.length.item()), self.keys.shape[2]
        if n + t > room:
            raise ShapeError(
                "KeyValueCache: no room is left",
                got=f"{n} tokens in it and {t} new ones",
                rule=f"at most {room}",
                fix="cache.clear(), or new_cache(..., length=...) with more room",
            )
        self.keys[:, :, n : n + t] = key
        self.values[:, :, n : n + t] = value
        self.length.assign_(self.length + t)
        return self.keys[:, :, : n + t], self.values[:, :, : n + t], None

    def _write(self, key: Tensor, value: Tensor, t: int) -> tuple[Tensor, Tensor, Tensor]:
        start = self.length
        none = zeros((2,), dtype=int64)
        place = concat([none, start.reshape(1), none[:1]])
        for held, new in ((self.keys, key), (self.values, value)):
            held.assign_(slice_update(held, new.detach(), place))
        room = self.keys.shape[2]
        sees = iota((t, room), 1) <= iota((t, room), 0) + start
        self.length.assign_(start + t)
        return self.keys, self.values, sees

    def clear(self) -> None:
        """Forget everything; the room stays."""
        self.length.zero_()

    def extra_repr(self) -> str:
        """Sizes."""
        return "batch={}, heads={}, length={}, head_size={}".format(*self.keys.shape)
