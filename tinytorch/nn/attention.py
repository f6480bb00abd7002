"""Multi-head attention: each token gathers what it needs from the tokens it may see.

Knows heads and their weights; the arithmetic is `functional.scaled_dot_product_attention`.
"""

from __future__ import annotations

from tinytorch.base.checks import flag, number, whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn import functional as F
from tinytorch.nn.initialisation import uniform
from tinytorch.nn.key_value_cache import KeyValueCache
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module, Parameter
from tinytorch.tensor.creation import zeros
from tinytorch.tensor.tensor import Tensor


class Attention(Module):
    """Abstract: weights and arithmetic of `MultiHeadAttention`, which explains the settings.

    Args:
        d_model: C, numbers per token.
        num_heads: A.
        causal, bias, dropout, kv_heads, kdim, vdim, positions: as there.
    """

    # Names of files written before the weights had PyTorch's names.
    former_names = {
        "qkv.weight": "in_proj_weight", "qkv.bias": "in_proj_bias",
        "out.weight": "out_proj.weight", "out.bias": "out_proj.bias",
    }  # fmt: skip

    def __init__(
        self, d_model: int, num_heads: int, *, causal: bool = False, bias: bool = True,
        dropout: float = 0.0, kv_heads: int | None = None, kdim: int | None = None,
        vdim: int | None = None, positions: Module | None = None,
    ):  # fmt: skip
        owner = type(self).__name__
        self.d_model = whole(owner, "d_model", d_model, at_least=1)
        self.num_heads = whole(owner, "num_heads", num_heads, at_least=1)
        self.kv_heads = whole(owner, "kv_heads", num_heads if kv_heads is None else kv_heads, 1)
        self.causal = flag(owner, "causal", causal)
        self.dropout = number(owner, "dropout", dropout, "[0, 1]")
        self.kdim = whole(owner, "kdim", d_model if kdim is None else kdim, at_least=1)
        self.vdim = whole(owner, "vdim", d_model if vdim is None else vdim, at_least=1)
        self._check_heads(owner)
        self.head_size = d_model // num_heads
        self.positions = positions
        self._make_weights(flag(owner, "bias", bias))

    def _check_heads(self, owner: str) -> None:
        c, heads, shared = self.d_model, self.num_heads, self.kv_heads
        if c % heads:
            raise SettingError(
                f"{owner}: the heads do not share the size evenly",
                got=f"d_model={c}, num_heads={heads}",
                rule="d_model is a multiple of num_heads",
                fix=f"d_model={heads * max(1, c // heads)}",
            )
        if heads % shared:
            near = next(n for n in range(min(heads, shared), 0, -1) if heads % n == 0)
            raise SettingError(
                f"{owner}: the queries do not share the keys evenly",
                got=f"num_heads={heads}, kv_heads={shared}",
                rule="num_heads is a multiple of kv_heads",
                fix=f"kv_heads={near}",
            )

    def _make_weights(self, bias: bool) -> None:
        c, shared = self.d_model, self.kv_heads * self.head_size
        rows = {"q": (c, c), "k": (shared, self.kdim), "v": (shared, self.vdim)}
        if self.kdim == c == self.vdim:
            # Glorot's bound sqrt(6 / (inputs + outputs)) for the matrix (3 C, C).
            self.in_proj_weight = Parameter(uniform((c + 2 * shared, c), (6.0 / (4 * c)) ** 0.5))
        else:
            for name, shape in rows.items():
                weight = Parameter(uniform(shape, (6.0 / sum(shape)) ** 0.5))
                setattr(self, f"{name}_proj_weight", weight)
        self.in_proj_bias = Parameter(zeros((c + 2 * shared,))) if bias else None
        self.out_proj = Linear(c, c, bias=bias)
        if bias:
            self.out_proj.bias = Parameter(zeros((c,)))

    def attend(
        self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None,
        mask: Tensor | None = None, *, cache: KeyValueCache | None = None,
    ) -> Tensor:  # fmt: skip
        """(B, T, C) -> (B, T, C), as `MultiHeadAttention.forward`."""
        owner = type(self).__name__
        self._check(owner, "query", query, self.d_model)
        if key is not None:
            self._check(owner, "key", key, self.kdim)
            self._check(owner, "value", key if value is None else value, self.vdim)
        b, t, c = query.shape
        q, k, v = self._heads(query, key, value)  # (B, A, T, D), (B, kv_heads, S, D)
        if self.positions is not None:
            start = 0 if cache is None else cache.length.clone()
            q, k = self.positions(q, start=start), self.positions(k, start=start)
        causal = self.causal
        if cache is not None:
            k, v, seen = cache.append(k, v)
            causal = True
            if seen is not None:
                mask, causal = _both(seen, mask), False
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=_for_heads(mask), is_causal=causal, enable_gqa=True,
            dropout_p=self.dropout if self.training else 0.0,
        )  # fmt: skip
        return self.out_proj(y.permute(0, 2, 1, 3).reshape(b, t, c))

    def new_cache(self, batch: int, length: int) -> KeyValueCache:
        """An empty cache for this layer.

        Args:
            batch: B, sequences.
            length: the most tokens it can hold.
        """
        dtype = self.out_proj.weight.dtype
        return KeyValueCache(batch, self.kv_heads, length, self.head_size, dtype)

    def _heads(self, query: Tensor, key: Tensor | None, value: Tensor | None):
        c, shared = self.d_model, self.kv_heads * self.head_size
        if key is None and self.kdim == c == self.vdim:
            joint = self._split(F.linear(query, self.in_proj_weight, self.in_proj_bias))
            a, s = self.num_heads, self.kv_heads
            return joint[:, :a], joint[:, a : a + s], joint[:, a + s :]
        key = query if key is None else key
        inputs = (query, key, key if value is None else value)
        ends = (0, c, c + shared, c + 2 * shared)
        parts = []
        for i, (name, x) in enumerate(zip("qkv", inputs, strict=True)):
            rows = slice(ends[i], ends[i + 1])
            joint = self.kdim == c == self.vdim
            weight = self.in_proj_weight[rows] if joint else getattr(self, f"{name}_proj_weight")
            bias = None if self.in_proj_bias is None else self.in_proj_bias[rows]
            parts.append(self._split(F.linear(x, weight, bias)))
        return parts

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, heads D) -> (B, heads, T, D)."""
        b, t, n = x.shape
        return x.reshape(b, t, n // self.head_size, self.head_size).permute(0, 2, 1, 3)

    def _check(self, owner: str, name: str, x: Tensor, size: int) -> None:
        if len(x.shape) != 3 or x.shape[-1] != size:
            what = {"query": "d_model", "key": "kdim", "value": "vdim"}[name]
            raise ShapeError(
                f"{owner}: {name} has the wrong shape",
                got=f"{name} {tuple(x.shape)}",
                rule=f"(B, T, C) with C = {what} = {size}",
                fix="x.unsqueeze(0) for a single sequence",
            )

    def extra_repr(self) -> str:
        """Sizes, and the settings that are not the default."""
        given = {
            "causal": self.causal, "dropout": self.dropout,
            "kv_heads": self.kv_heads if self.kv_heads != self.num_heads else 0,
        }  # fmt: skip
        named = [f"{name}={value}" for name, value in given.items() if value]
        return ", ".join([str(self.d_model), f"num_heads={self.num_heads}", *named])


class MultiHeadAttention(Attention):
    """out_proj(softmax(q k^T / sqrt(D)) v), for A heads of size D = C / A.

        q = W_q query + b_q,  k = W_k key + b_k,  v = W_v value + b_v

    With the query alone it is self-attention; with a key (and a value, else the key again) it is
    cross-attention.

    Args:
        d_model: C, numbers per token; divisible by num_heads.
        num_heads: A; at least 1.
        causal: whether a token sees only itself and those before it; default False.
        bias: whether the linear layers have one; default True.
        dropout: probability of dropping a weight of the softmax in training, in [0, 1]; default 0.
        kv_heads: heads of keys and values; default A. With fewer, so many queries share one
            (grouped queries; 1 is multi-query): num_heads is a multiple of it.
        kdim: numbers per token of the key; default C.
        vdim: numbers per token of the value; default C.
        positions: a module that turns q and k of (B, A, T, D), such as `RotaryPositions`.

    Shapes: query (B, T, C), key (B, S, kdim), value (B, S, vdim) -> (B, T, C). in_proj_weight
    (C + 2 D kv_heads, C) holds the rows of q, then k, then v, in_proj_bias as many; with another
    kdim or vdim there are q_proj_weight, k_proj_weight, v_proj_weight in its place.
    out_proj.weight (C, C).

    Cost: 8 T C^2 + 4 T^2 C operations for each sequence of self-attention; half the second with
    causal. Compiled without mask and dropout, never T x S numbers in memory.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.2; grouped queries:
    Ainslie et al. 2023, https://arxiv.org/abs/2305.13245. Initial values as in PyTorch: q, k, v
    after Glorot, Bengio 2010 (of the three together), biases 0.

    Differs from PyTorch's MultiheadAttention (whose weights it loads by name): batch first, gives
    one Tensor, and a mask says who takes part, as in scaled_dot_product_attention.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.MultiHeadAttention(16, 4, causal=True)(tt.zeros(2, 5, 16)).shape
        (2, 5, 16)
        >>> cross = tt.nn.MultiHeadAttention(16, 4, kv_heads=2)
        >>> cross(tt.zeros(2, 5, 16), tt.zeros(2, 9, 16)).shape
        (2, 5, 16)
    """

    def __init__(
        self, d_model: int, num_heads: int, *, causal: bool = False, bias: bool = True,
        dropout: float = 0.0, kv_heads: int | None = None, kdim: int | None = None,
        vdim: int | None = None, positions: Module | None = None,
    ):  # fmt: skip
        super().__init__(
            d_model, num_heads, causal=causal, bias=bias, dropout=dropout, kv_heads=kv_heads,
            kdim=kdim, vdim=vdim, positions=positions,
        )  # fmt: skip

    def forward(
        self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None,
        mask: Tensor | None = None, *, cache: KeyValueCache | None = None,
    ) -> Tensor:  # fmt: skip
        """(B, T, C) -> (B, T, C).

        Args:
            query: (B, T, C).
            key: (B, S, kdim); default the query.
            value: (B, S, vdim); default the key.
            mask: (T, S), (B, T, S), or what broadcasts to (B, A, T, S): bools (True takes part) or
                floats (added to the scores). Padding of shape (B, S): mask[:, None, :].
            cache: keys and values of the tokens before these; those of these are added to it. No
                gradient goes into what is cached.
        """
        return self.attend(query, key, value, mask, cache=cache)


class SelfAttention(Attention):
    """Attention of a sequence to itself, with one head unless asked for more.

    Args:
        d_model: C, numbers per token.
        num_heads: A; default 1.
        settings: the others of `MultiHeadAttention`.

    Shapes: (B, T, C) -> (B, T, C), and (N, C) -> (N, C): a batch of sequences of one token each, so
    that samples never attend to each other.

    Example:
        >>> import tinytorch as tt
        >>> layer = tt.nn.SelfAttention(d_model=16)
        >>> layer(tt.zeros(2, 5, 16)).shape, layer(tt.zeros(64, 16)).shape
        ((2, 5, 16), (64, 16))
    """

    def __init__(self, d_model: int, num_heads: int = 1, **settings):
        super().__init__(d_model, num_heads, **settings)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, *, cache: KeyValueCache | None = None
    ) -> Tensor:
        """The same shape; `mask` and `cache` as in `MultiHeadAttention`."""
        if len(x.shape) == 2:
            return self.attend(x.unsqueeze(1), mask=mask, cache=cache).squeeze(1)
        return self.attend(x, mask=mask, cache=cache)


def _for_heads(mask: Tensor | None) -> Tensor | None:
    """A mask of one for each sample, (B, T, S), with an axis for the heads."""
    return mask.unsqueeze(1) if mask is not None and len(mask.shape) == 3 else mask


def _both(seen: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return seen
    raise SettingError(
        "MultiHeadAttention: a compiled function with a cache takes no mask",
        got=f"mask {tuple(mask.shape)}",
        rule="the cache's own mask hides what has not been filled",
        fix="leave the mask out, or call it eagerly",
    )
