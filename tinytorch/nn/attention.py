"""Attention: each token gathers what it needs from the tokens it may see, and the block around it.

In the order of the paper (Vaswani et al. 2017): the product of queries and keys as a function,
several heads with their weights, and the block that puts a small network for each token behind
them, each part beside a shortcut. What is kept of earlier tokens: nn/cache.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tinytorch.base.arguments import flag, number, whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn.activation import gelu
from tinytorch.nn.cache import KeyValueCache
from tinytorch.nn.dropout import Dropout, DropPath, dropout
from tinytorch.nn.init import uniform
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module, Parameter
from tinytorch.nn.normalization import norm_layer
from tinytorch.nn.quantized import linear, part_of
from tinytorch.tensor.contractions import attention, matmul, scale_of
from tinytorch.tensor.creation import iota, zeros
from tinytorch.tensor.elementwise import exp, logical_not, where
from tinytorch.tensor.reductions import all as every
from tinytorch.tensor.reductions import shift_of
from tinytorch.tensor.reductions import sum as total
from tinytorch.tensor.shaping import broadcast_to, pad, repeat_interleave, transpose
from tinytorch.tensor.tensor import Tensor

KeysValues = tuple[Tensor, Tensor]  # (B, kv_heads, S, D) each: what queries are compared with


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: Any = None,
    enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """softmax(query key^T * scale + mask) value, for each head.

    Without mask and dropout it is one primitive, which never holds T x S numbers when compiled.

    Args:
        query: (..., A, T, D); leading axes of the three broadcast.
        key: (..., A, S, D).
        value: (..., A, S, V).
        attn_mask: broadcasts to (..., A, T, S): bools (True takes part) or floats (added).
        dropout_p: probability of dropping a weight, in [0, 1]; applies whenever it is not 0.
        is_causal: query t sees keys s <= t + S - T.
        scale: default 1 / sqrt(D); a number or a 0-d Tensor. With D = 0 all keys are alike.
        enable_gqa: key and value may have fewer heads, each shared by so many queries' heads side
            by side (Ainslie et al. 2023, https://arxiv.org/abs/2305.13245).

    Returns:
        (..., A, T, V). A query that may see nothing gets zeros. What is_causal hides from a query,
        and keys that attn_mask hides from all of several queries, may be infinite or NaN: neither
        the query nor its gradient learns of them.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 1.

    Differs from PyTorch: with T != S and is_causal the last query sees all keys (as a cache of keys
    needs it), where PyTorch aligns the first query with the first key. is_causal and attn_mask may
    be given together.

    Example:
        >>> import tinytorch as tt
        >>> q, kv = tt.zeros(2, 4, 3, 8), tt.ones(2, 2, 5, 8)
        >>> scaled_dot_product_attention(q, kv, kv, enable_gqa=True).shape
        (2, 4, 3, 8)
    """
    if scale is None:
        scale = scale_of(query)
    if type(dropout_p) is not float:
        dropout_p = number("scaled_dot_product_attention", "dropout_p", dropout_p, "[0, 1]")
    if enable_gqa:
        key, value = _repeated_heads(query, key), _repeated_heads(query, value)
    if attn_mask is None and dropout_p == 0.0:
        lead = _leading_axes((query, key, value))
        q, k, v = _of_one_width(*(_four_axes(x, lead) for x in (query, key, value)))
        out = attention(q, k, v, causal=is_causal, scale=scale)
        width = value.shape[-1]
        out = out if q.shape[-1] == width else out[..., :width]
        return out.reshape(*lead, *q.shape[2:3], width)
    if attn_mask is not None and query.shape[-2] > 1:
        key, value = _zero_where_hidden(key, attn_mask), _zero_where_hidden(value, attn_mask)
    scores = matmul(query, transpose(key)) * scale  # (..., T, S)
    if is_causal:
        rows, columns = scores.shape[-2:]
        sees = iota((rows, columns), 1) <= iota((rows, columns), 0) + (columns - rows)
        scores = where(sees, scores, -math.inf)
    if attn_mask is not None and attn_mask.dtype.is_float:
        scores = scores + attn_mask.astype(scores.dtype)
    elif attn_mask is not None:
        scores = where(attn_mask, scores, -math.inf)
    return matmul(dropout(_safe_softmax(scores), dropout_p), value)


def _repeated_heads(query: Tensor, x: Tensor) -> Tensor:
    """Keys or values repeated for each of the heads that share them."""
    if len(query.shape) < 3 or len(x.shape) < 3 or query.shape[-3] == x.shape[-3]:
        return x
    heads, shared = query.shape[-3], x.shape[-3]
    if not shared or heads % shared:
        raise ShapeError(
            "scaled_dot_product_attention: the queries do not share the keys evenly",
            got=f"{heads} heads of queries, {shared} of keys and values",
            rule="the heads of the queries are a multiple of those of keys and values",
            fix="as many heads of keys as of queries, or one",
        )
    return repeat_interleave(x, heads // shared, len(x.shape) - 3)


def _leading_axes(parts: tuple[Tensor, ...]) -> tuple[int, ...]:
    """The leading axes (batch, heads) that queries, keys and values stretch to."""
    leads = [tuple(x.shape[:-2]) for x in parts]
    rank = max(len(lead) for lead in leads)
    sizes = zip(*((1,) * (rank - len(lead)) + lead for lead in leads), strict=True)
    several = [{n for n in axis if n != 1} for axis in sizes]
    if any(len(found) > 1 for found in several):
        raise ShapeError(
            "scaled_dot_product_attention: leading axes differ",
            got=", ".join(str(tuple(x.shape)) for x in parts),
            rule="query, key and value have the same batch and heads, or 1",
            fix="enable_gqa=True for fewer heads, or expand key and value to those of the query",
        )
    return tuple(found.pop() if found else 1 for found in several)


def _four_axes(x: Tensor, lead: tuple[int, ...]) -> Tensor:
    if tuple(x.shape[:-2]) != lead:
        x = broadcast_to(x, (*lead, *x.shape[-2:]))
    return (
        x
        if len(lead) == 2
        else x.reshape(math.prod(lead[:-1]), lead[-1] if lead else 1, *x.shape[-2:])
    )


def _of_one_width(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    """Zeros beside queries and keys, or values, until both are as wide: no score changes."""
    if q.shape[-1] == k.shape[-1] == v.shape[-1] > 0 or q.shape[-1] != k.shape[-1]:
        return q, k, v
    size = max(q.shape[-1], v.shape[-1], 1)
    return tuple([pad(x, (0,) * 4, (0, 0, 0, size - x.shape[-1])) for x in (q, k, v)])


def _zero_where_hidden(x: Tensor, mask: Tensor) -> Tensor:
    """Keys or values, 0 where the mask hides one from every query: it may be NaN."""
    hidden = mask == -math.inf if mask.dtype.is_float else logical_not(mask)
    if len(mask.shape) > 1:
        hidden = every(hidden, -2)
    return where(hidden.unsqueeze(-1), 0.0, x)


def _safe_softmax(scores: Tensor) -> Tensor:
    """Softmax over the last axis in which a row of -inf becomes zeros, not NaN."""
    largest = shift_of(scores, -1)
    powers = exp(scores - where(largest == -math.inf, 0.0, largest))
    mass = total(powers, -1, keepdim=True)
    return powers / where(mass == 0.0, 1.0, mass)


class Attention(Module):
    """Abstract: weights and arithmetic of attention with several heads."""

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
        """Linear layers for queries, keys and values of each head, and one behind all heads.

        Args:
            d_model: C, numbers per token; divisible by num_heads.
            num_heads: A; at least 1.
            causal: whether a token sees only itself and those before it; default False.
            bias: whether the linear layers have one; default True.
            dropout: probability of dropping a weight of the softmax in training, in [0, 1];
                default 0.
            kv_heads: heads of keys and values; default A. With fewer, so many queries share one
                (grouped queries; 1 is multi-query): num_heads is a multiple of it.
            kdim: numbers per token of the key; default C.
            vdim: numbers per token of the value; default C.
            positions: a module that turns q and k of (B, A, T, D), such as `RotaryPositions`.
        """
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

    @property
    def _width(self) -> int:
        """Numbers of all heads for a token: C, less where heads were removed."""
        return self.num_heads * self.head_size

    @property
    def _is_joint(self) -> bool:
        """Whether one matrix makes q, k and v."""
        return self.kdim == self.d_model == self.vdim

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
        if self._is_joint:
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
        self, query: Tensor, key: Tensor | KeysValues | None = None, value: Tensor | None = None,
        mask: Tensor | None = None, *, cache: KeyValueCache | None = None,
    ) -> Tensor:  # fmt: skip
        """(B, T, C) -> (B, T, C), as `MultiHeadAttention.forward`."""
        self._check("query", query, "d_model")
        b, t, _ = query.shape
        q, k, v = self._heads(query, key, value)  # (B, A, T, D), (B, kv_heads, S, D)
        if self.positions is not None:
            start = 0 if cache is None else cache.lengths
            q, k = self.positions(q, start=start), self.positions(k, start=start)
        if cache is not None:
            _refuse_mask(mask)
            y = cache.attend(q, k, v)
        else:
            if mask is not None and len(mask.shape) == 3:
                mask = mask.unsqueeze(1)  # (B, T, S): one for each sample, the same for its heads
            y = scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=self.causal, enable_gqa=True,
                dropout_p=self.dropout if self.training else 0.0,
            )  # fmt: skip
        return self.out_proj(y.permute(0, 2, 1, 3).reshape(b, t, self._width))

    def new_cache(self, batch: int, length: int, **settings: Any) -> KeyValueCache:
        """An empty cache for this layer.

        Args:
            batch: B, sequences.
            length: the most tokens it can hold.
            settings: others of `KeyValueCache`: dtype="int8", window, pages.
        """
        settings.setdefault("dtype", self.out_proj.weight.dtype)
        return KeyValueCache(batch, self.kv_heads, length, self.head_size, **settings)

    def keys_values(self, key: Tensor, value: Tensor | None = None) -> KeysValues:
        """What queries are compared with and what they gather: to be kept where keys do not change.

        `forward(query, kept)` then computes neither again.

        Args:
            key: (B, S, kdim).
            value: (B, S, vdim); default the key.

        Returns:
            keys and values, (B, kv_heads, S, D) each.

        Raises:
            SettingError: the layer has `positions`, which turn keys with the queries.
        """
        if self.positions is not None:
            raise SettingError(
                f"{type(self).__name__}: with positions keys are not kept so",
                got="a layer with positions",
                rule="keys that stay whatever is asked of them",
                fix="layer(query, key), or a cache",
            )
        value = key if value is None else value
        self._check("key", key, "kdim")
        self._check("value", value, "vdim")
        return self._projected("k", key), self._projected("v", value)

    def _heads(
        self, query: Tensor, key: Tensor | KeysValues | None, value: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        if key is None and self._is_joint:
            joint = self._split(linear(query, self.in_proj_weight, self.in_proj_bias))
            a, s = self.num_heads, self.kv_heads
            return joint[:, :a], joint[:, a : a + s], joint[:, a + s :]
        q = self._projected("q", query)
        if isinstance(key, tuple):
            return q, *self._kept(query, key, value)
        key = query if key is None else key
        value = key if value is None else value
        self._check("key", key, "kdim")
        self._check("value", value, "vdim")
        return q, self._projected("k", key), self._projected("v", value)

    def _projected(self, name: str, x: Tensor) -> Tensor:
        """Queries, keys or values: by the layer's weights for q, k or v."""
        c, shared = self._width, self.kv_heads * self.head_size
        first = {"q": 0, "k": c, "v": c + shared}[name]
        rows = slice(first, first + (c if name == "q" else shared))
        weight = (
            part_of(self.in_proj_weight, rows)
            if self._is_joint
            else getattr(self, f"{name}_proj_weight")
        )
        bias = None if self.in_proj_bias is None else self.in_proj_bias[rows]
        return self._split(linear(x, weight, bias))

    def _kept(self, query: Tensor, pair: KeysValues, value: Tensor | None) -> KeysValues:
        """Keys and values that `keys_values` gave."""
        shapes = [tuple(x.shape) for x in pair]
        lead = (query.shape[0], self.kv_heads)
        fits = len(shapes) == 2 and shapes[0] == shapes[1] and len(shapes[0]) == 4
        fits = fits and shapes[0][:2] == lead and shapes[0][3] == self.head_size
        if not fits or value is not None:
            raise ShapeError(
                f"{type(self).__name__}: these keys and values are not of this layer",
                got=f"{', '.join(map(str, shapes))} for queries of {tuple(query.shape)}",
                rule=f"two of (B, {lead[1]}, S, {self.head_size}), B = {lead[0]}, no value beside",
                fix="layer.keys_values(key) of the layer that is asked",
            )
        return pair

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, heads D) -> (B, heads, T, D)."""
        b, t, n = x.shape
        return x.reshape(b, t, n // self.head_size, self.head_size).permute(0, 2, 1, 3)

    def _check(self, name: str, x: Tensor, size: str) -> None:
        if len(x.shape) != 3 or x.shape[-1] != getattr(self, size):
            raise ShapeError(
                f"{type(self).__name__}: {name} has the wrong shape",
                got=f"{name} {tuple(x.shape)}",
                rule=f"(B, T, C) with C = {size} = {getattr(self, size)}",
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


def _refuse_mask(mask: Tensor | None) -> None:
    if mask is not None:
        raise SettingError(
            "MultiHeadAttention: with a cache there is no mask",
            got=f"mask {tuple(mask.shape)}",
            rule="each token sees itself and those of its sequence before it",
            fix="leave the mask out: sequences in a cache have lengths of their own, so none is "
            "padded",
        )


class MultiHeadAttention(Attention):
    """out_proj(softmax(q k^T / sqrt(D)) v), for A heads of size D = C / A.

        q = W_q query + b_q,  k = W_k key + b_k,  v = W_v value + b_v

    With the query alone it is self-attention; with a key (and a value, else the key again) it is
    cross-attention.

    Arguments: `help(nn.MultiHeadAttention.__init__)`.

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

    def forward(
        self, query: Tensor, key: Tensor | KeysValues | None = None, value: Tensor | None = None,
        mask: Tensor | None = None, *, cache: KeyValueCache | None = None,
    ) -> Tensor:  # fmt: skip
        """(B, T, C) -> (B, T, C).

        Args:
            query: (B, T, C).
            key: (B, S, kdim); default the query. Or what `keys_values` gave, without a value.
            value: (B, S, vdim); default the key.
            mask: (T, S), (B, T, S), or what broadcasts to (B, A, T, S): bools (True takes part) or
                floats (added to the scores). Padding of shape (B, S): mask[:, None, :].
            cache: keys and values of the tokens before these; those of these are added to it. It
                is causal, takes no mask, and no gradient goes through it.
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


class TransformerBlock(Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

        mlp(y) = W2 activation(W1 y)                    gated: W2 (activation(W1 y) * W3 y)

    The shortcuts carry the gradient past every part unchanged, so that it neither grows nor fades
    with depth; norms before the parts (norm_first) keep it so without a warm-up.

    Args:
        d_model: C, numbers per token.
        num_heads: A, attention heads; divides d_model; default 1.
        hidden: width of the network for each token; default 4 C.
        dropout: probability of a zero after each part in training, in [0, 1]; default 0.
        drop_path: probability that a sample skips a part in training, in [0, 1]; default 0.
        causal: whether a token sees only itself and those before it; default False.
        norm_first: norms before the parts; False: after each shortcut, as in the first paper.
        cross: attend to a memory too, between the two parts; default False.
        activation: of the hidden numbers; default gelu.
        attention: other settings of `MultiHeadAttention`: {"kv_heads": 2, "positions": ...}.
        bias: whether linear layers and layer norms have one; default True.
        norm: "layer" or "rms" (root mean square, without a shift); default "layer".
        norm_eps: what norms add before the root, in [0, inf); default 1e-5.
        gated: multiply the hidden numbers by those of a third matrix, linear3; default False. With
            activation silu this is SwiGLU.

    Shapes: (B, T, C) -> (B, T, C).

    Cost: 24 T C^2 + 4 T^2 C operations for each sequence; 12 C^2 weights; gated, of the same
    hidden, a half more for each token.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.1; norm_first: Xiong et
    al. 2020, https://arxiv.org/abs/2002.04745; gated: Shazeer 2020,
    https://arxiv.org/abs/2002.05202, the matrices named as in LLaMA's w1, w2, w3.

    Differs from PyTorch's TransformerEncoderLayer (with cross: TransformerDecoderLayer), whose
    weights it loads by name: batch first, norm_first, gelu and no dropout are the defaults.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.TransformerBlock(16, num_heads=4)(tt.zeros(2, 5, 16)).shape
        (2, 5, 16)
    """

    def __init__(
        self, d_model: int, num_heads: int = 1, *, hidden: int | None = None, dropout: float = 0.0,
        drop_path: float = 0.0, causal: bool = False, norm_first: bool = True, cross: bool = False,
        activation: Callable[[Tensor], Tensor] = gelu, attention: dict | None = None,
        bias: bool = True, norm: str = "layer", norm_eps: float = 1e-5, gated: bool = False,
    ):  # fmt: skip
        owner, settings = "TransformerBlock", {"bias": bias, **(attention or {})}
        self.d_model = whole(owner, "d_model", d_model, at_least=1)
        hidden = whole(owner, "hidden", 4 * d_model if hidden is None else hidden, at_least=1)
        dropout = number(owner, "dropout", dropout, "[0, 1]")
        self.norm_first = flag(owner, "norm_first", norm_first)
        self.activation = activation
        self.self_attn = MultiHeadAttention(d_model, num_heads, causal=causal, **settings)
        self.multihead_attn = (
            MultiHeadAttention(d_model, num_heads, bias=bias)
            if flag(owner, "cross", cross)
            else None
        )
        self.linear1, self.linear2 = Linear(d_model, hidden, bias), Linear(hidden, d_model, bias)
        self.linear3 = Linear(d_model, hidden, bias) if flag(owner, "gated", gated) else None
        self.norm1 = norm_layer(norm, d_model, norm_eps, bias)
        self.norm2 = norm_layer(norm, d_model, norm_eps, bias)
        self.norm3 = norm_layer(norm, d_model, norm_eps, bias) if cross else None
        self.dropout = Dropout(dropout)
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x: Tensor, memory: Tensor | KeysValues | None = None, mask: Tensor | None = None, *,
        memory_mask: Tensor | None = None, cache: KeyValueCache | None = None,
    ) -> Tensor:  # fmt: skip
        """(B, T, C) -> (B, T, C).

        Args:
            x: (B, T, C).
            memory: (B, S, C), what a block with `cross` attends to; or what `keys_values` of its
                `multihead_attn` gave of it.
            mask: who takes part, as in `MultiHeadAttention`.
            memory_mask: the same for the memory, (T, S) or (B, T, S).
            cache: of this block's self-attention, from `new_cache`.
        """
        x = self._beside(x, self.norm1, lambda y: self.self_attn(y, mask=mask, cache=cache))
        last = self.norm2
        if self.multihead_attn is not None and self.norm3 is not None:
            attend, last = self.multihead_attn, self.norm3
            x = self._beside(x, self.norm2, lambda y: attend(y, memory, mask=memory_mask))
        return self._beside(x, last, self._mlp)

    def _beside(self, x: Tensor, norm: Module, part: Callable[[Tensor], Tensor]) -> Tensor:
        """A part beside its shortcut, with its norm before or after."""
        if self.norm_first:
            return x + self.drop_path(self.dropout(part(norm(x))))
        return norm(x + self.drop_path(self.dropout(part(x))))

    def _mlp(self, x: Tensor) -> Tensor:
        hidden = self.activation(self.linear1(x))
        if self.linear3 is not None:
            hidden = hidden * self.linear3(x)
        return self.linear2(self.dropout(hidden))

    def new_cache(self, batch: int, length: int, **settings: Any) -> KeyValueCache:
        """An empty cache for the self-attention of this block; as the layer's."""
        return self.self_attn.new_cache(batch, length, **settings)

    def extra_repr(self) -> str:
        """Size, and where the norms are."""
        return f"{self.d_model}" + ("" if self.norm_first else ", norm_first=False")
