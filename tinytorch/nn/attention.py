"""Multi-head attention: each token gathers what it needs from the tokens it may see.

Knows heads and their weights; the arithmetic is `functional.scaled_dot_product_attention`.
"""

from __future__ import annotations

from tinytorch.base.checks import flag, whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn import functional as F
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module
from tinytorch.tensor.tensor import Tensor


class MultiHeadAttention(Module):
    """out(softmax(q k^T / sqrt(D)) v), with q, k and v linear in x, for A heads of size D = C / A.

    Args:
        size: C, numbers per token; divisible by heads.
        heads: A; at least 1.
        causal: whether a token sees only itself and those before it; default False.
        bias: whether the linear layers have one.

    Shapes: (B, T, C) -> (B, T, C); qkv.weight (3 C, C), rows of q first, then k, then v.

    Cost: 8 T C^2 + 4 T^2 C operations per sequence.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.2.

    Differs from PyTorch's MultiheadAttention: self-attention only, batch first, gives one Tensor.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.MultiHeadAttention(16, 4, causal=True)(tt.zeros(2, 5, 16)).shape
        (2, 5, 16)
    """

    def __init__(self, size: int, heads: int, causal: bool = False, bias: bool = True):
        self.size = whole("MultiHeadAttention", "size", size, at_least=1)
        self.heads = whole("MultiHeadAttention", "heads", heads, at_least=1)
        self.causal = flag("MultiHeadAttention", "causal", causal)
        if size % heads:
            raise SettingError(
                "MultiHeadAttention: the heads do not share the size evenly",
                got=f"size={size}, heads={heads}",
                rule="size is a multiple of heads",
                fix=f"size={heads * max(1, size // heads)}",
            )
        self.qkv = Linear(size, 3 * size, bias=bias)
        self.out = Linear(size, size, bias=bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C); `mask` as in `scaled_dot_product_attention`."""
        if len(x.shape) != 3 or x.shape[-1] != self.size:
            raise ShapeError(
                "MultiHeadAttention: input has the wrong shape",
                got=f"x {tuple(x.shape)}",
                rule=f"(B, T, C) with C = size = {self.size}",
                fix="x.unsqueeze(0) for a single sequence",
            )
        b, t, c = x.shape
        parts = self.qkv(x).reshape(b, t, 3, self.heads, c // self.heads)
        q, k, v = (parts[:, :, i].permute(0, 2, 1, 3) for i in range(3))  # (B, A, T, D)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=self.causal)
        return self.out(y.permute(0, 2, 1, 3).reshape(b, t, c))

    def extra_repr(self) -> str:
        """Sizes, and whether it is causal."""
        return f"{self.size}, heads={self.heads}" + (", causal=True" if self.causal else "")
