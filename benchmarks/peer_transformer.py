"""A transformer block in PyTorch, with our names of weights.

Knows one block; the cases build their models of it. PyTorch is imported by the caller's process
only, so it is imported inside.
"""

from __future__ import annotations


def block(width: int, heads: int, causal: bool):
    """x + attention(norm(x)), then x + mlp(norm(x)), as `tinytorch.nn.TransformerBlock`.

    Args:
        width: C, features of a token.
        heads: divides the width.
        causal: whether a token sees only those before it.
    """
    from torch import nn
    from torch.nn import functional as F

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            joint = nn.Linear(width, 3 * width)
            self.in_proj_weight, self.in_proj_bias = joint.weight, joint.bias
            self.out_proj = nn.Linear(width, width)

        def forward(self, x):
            B, T, _ = x.shape
            joint = F.linear(x, self.in_proj_weight, self.in_proj_bias)
            q, k, v = joint.view(B, T, 3, heads, -1).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
            return self.out_proj(y.transpose(1, 2).reshape(B, T, width))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.self_attn = nn.LayerNorm(width), Attention()
            self.norm2 = nn.LayerNorm(width)
            self.linear1, self.linear2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            x = x + self.self_attn(self.norm1(x))
            return x + self.linear2(F.gelu(self.linear1(self.norm2(x))))

    return Block()
