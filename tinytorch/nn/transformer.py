"""TransformerBlock: attention, then a small network for each token, each beside a shortcut.

Knows how the parts are joined; what they compute is in their own files.
"""

from __future__ import annotations

from collections.abc import Callable

from tinytorch.base.checks import flag, number, whole
from tinytorch.nn import functional as F
from tinytorch.nn.attention import MultiHeadAttention
from tinytorch.nn.dropout import Dropout, DropPath
from tinytorch.nn.key_value_cache import KeyValueCache
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module
from tinytorch.nn.normalization import LayerNorm
from tinytorch.tensor.tensor import Tensor


class TransformerBlock(Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

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

    Shapes: (B, T, C) -> (B, T, C).

    Cost: 24 T C^2 + 4 T^2 C operations for each sequence; 12 C^2 weights.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.1; norm_first: Xiong et
    al. 2020, https://arxiv.org/abs/2002.04745.

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
        activation: Callable[[Tensor], Tensor] = F.gelu, attention: dict | None = None,
    ):  # fmt: skip
        owner, settings = "TransformerBlock", attention or {}
        self.d_model = whole(owner, "d_model", d_model, at_least=1)
        hidden = whole(owner, "hidden", 4 * d_model if hidden is None else hidden, at_least=1)
        dropout = number(owner, "dropout", dropout, "[0, 1]")
        self.norm_first = flag(owner, "norm_first", norm_first)
        self.activation = activation
        self.self_attn = MultiHeadAttention(d_model, num_heads, causal=causal, **settings)
        self.multihead_attn = (
            MultiHeadAttention(d_model, num_heads) if flag(owner, "cross", cross) else None
        )
        self.linear1, self.linear2 = Linear(d_model, hidden), Linear(hidden, d_model)
        self.norm1, self.norm2 = LayerNorm(d_model), LayerNorm(d_model)
        self.norm3 = LayerNorm(d_model) if cross else None
        self.dropout = Dropout(dropout)
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x: Tensor, memory: Tensor | None = None, mask: Tensor | None = None, *,
        memory_mask: Tensor | None = None, cache: KeyValueCache | None = None,
    ) -> Tensor:  # fmt: skip
        """(B, T, C) -> (B, T, C).

        Args:
            x: (B, T, C).
            memory: (B, S, C), what a block with `cross` attends to.
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

    def _beside(self, x: Tensor, norm: LayerNorm, part: Callable[[Tensor], Tensor]) -> Tensor:
        """A part beside its shortcut, with its norm before or after."""
        if self.norm_first:
            return x + self.drop_path(self.dropout(part(norm(x))))
        return norm(x + self.drop_path(self.dropout(part(x))))

    def _mlp(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))

    def new_cache(self, batch: int, length: int) -> KeyValueCache:
        """An empty cache for the self-attention of this block."""
        return self.self_attn.new_cache(batch, length)

    def extra_repr(self) -> str:
        """Size, and where the norms are."""
        return f"{self.d_model}" + ("" if self.norm_first else ", norm_first=False")
