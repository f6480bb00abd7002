"""GPT: a stack of attention blocks that says which token comes next.

Knows its blocks and sizes; token ids go in, one number per word of the vocabulary comes out.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinytorch.base.arguments import flag, number, whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn import functional as F
from tinytorch.nn.attention import MultiHeadAttention, TransformerBlock
from tinytorch.nn.dropout import Dropout
from tinytorch.nn.embedding import Embedding
from tinytorch.nn.init import normal
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module, ModuleList, Parameter
from tinytorch.nn.normalization import LayerNorm
from tinytorch.tensor.creation import zeros
from tinytorch.tensor.tensor import Tensor
from tinytorch.tensor.transforms import checkpoint


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of a GPT.

    Args:
        vocab: V, number of different tokens; at least 1.
        layers: L, number of blocks; at least 1.
        heads: A, attention heads; divides size.
        size: C, numbers per token; at least 1.
        length: greatest T; at least 1.
        dropout: probability of a zero after embedding, attention and MLP, in [0, 1); default 0.
        checkpoint: compute each block again in the backward pass, which needs the memory of one
            block in place of all; a step takes about a quarter longer. Default False.
    """

    vocab: int
    layers: int = 6
    heads: int = 6
    size: int = 384
    length: int = 256
    dropout: float = 0.0
    checkpoint: bool = False

    def __post_init__(self):
        for name in ("vocab", "layers", "heads", "size", "length"):
            whole("GPTConfig", name, getattr(self, name), at_least=1)
        number("GPTConfig", "dropout", self.dropout, "[0, 1)")
        flag("GPTConfig", "checkpoint", self.checkpoint)
        if self.size % self.heads:
            raise SettingError(
                "GPTConfig: the heads do not share the size evenly",
                got=f"size={self.size}, heads={self.heads}",
                rule="size is a multiple of heads",
                fix=f"size={self.heads * max(1, self.size // self.heads)}",
            )


class GPT(Module):
    """Decoder-only transformer with norms before each part and learned positions.

    Args:
        config: sizes.

    Shapes: token ids (B, T) in [0, vocab) with T <= length -> logits (B, T, vocab).

    Cost: about 2 operations per weight and token, and 4 T C per token and layer for attention.

    Source: Radford et al. 2019 (GPT-2); initial values as there: normal with deviation 0.02, those
    of layers that write to the residual stream divided by sqrt(2 L).

    Differs from GPT-2: the head has weights of its own and no bias.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import GPT, GPTConfig
        >>> net = GPT(GPTConfig(vocab=65, layers=2, heads=2, size=16, length=32))
        >>> net(tt.zeros(3, 8, dtype="int64")).shape
        (3, 8, 65)
    """

    def __init__(self, config: GPTConfig):
        self.config = config
        self.tokens = Embedding(config.vocab, config.size)
        self.positions = Embedding(config.length, config.size)
        self.dropout = Dropout(config.dropout)
        self.blocks = ModuleList(
            TransformerBlock(config.size, config.heads, causal=True, dropout=config.dropout)
            for _ in range(config.layers)
        )
        self.norm = LayerNorm(config.size)
        self.head = Linear(config.size, config.vocab, bias=False)
        self.apply(_initialise)
        residual = 0.02 / (2 * config.layers) ** 0.5
        for block in self.blocks:
            for layer in (block.self_attn.out_proj, block.linear2):
                layer.weight = Parameter(normal(layer.weight.shape, residual))

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids (B, T) -> logits (B, T, vocab)."""
        if len(tokens.shape) != 2 or tokens.shape[1] > self.config.length:
            raise ShapeError(
                "GPT: the tokens do not fit",
                got=f"tokens {tuple(tokens.shape)}",
                rule=f"(B, T) with T <= length = {self.config.length}",
                fix=f"tokens[:, -{self.config.length}:]",
            )
        x = self.dropout(
            self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        )  # (B, T, C)
        for block in self.blocks:
            x = checkpoint(block)(x) if self.config.checkpoint else block(x)
        return self.head(self.norm(x))


def _initialise(module: Module) -> None:
    if isinstance(module, (Linear, Embedding)):
        module.weight = Parameter(normal(module.weight.shape, 0.02))
    if isinstance(module, MultiHeadAttention):
        module.in_proj_weight = Parameter(normal(module.in_proj_weight.shape, 0.02))
    if isinstance(module, Linear) and module.bias is not None:
        module.bias = Parameter(zeros(module.bias.shape))


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy over all positions.

    Args:
        logits: (B, T, V).
        targets: integers (B, T), the token that follows each position.

    Returns:
        0-d; log(V) for a model that knows nothing, 0 for one that is certain and right.
    """
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))
