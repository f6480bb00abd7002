"""Encoder and decoder: one text is read whole, another is written token by token.

The decoder's blocks attend to what is written so far and to what the encoder made of the source.
Knows token ids and sizes, never languages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from tinytorch.base.arguments import flag, number
from tinytorch.base.errors import ShapeError
from tinytorch.models.gpt import caches_of, check_sizes, new_caches, places, small_weights
from tinytorch.nn.attention import KeysValues, MultiHeadAttention, TransformerBlock
from tinytorch.nn.cache import ModelCache
from tinytorch.nn.dropout import Dropout
from tinytorch.nn.embedding import Embedding
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module, ModuleList
from tinytorch.nn.normalization import LayerNorm
from tinytorch.tensor.tensor import Tensor


@dataclass(frozen=True)
class Seq2SeqConfig:
    """Sizes of an encoder-decoder.

    Args:
        vocab, layers, heads, size, length, hidden: as of a `GPTConfig`, of both texts; layers of
            the encoder, and as many of the decoder.
        dropout: probability of a zero after embedding and each part, in [0, 1); default 0.
        norm_first: norms before the parts; False: after each shortcut, as in the first paper;
            default True.

    Example:
        >>> Seq2SeqConfig(100, layers=2, heads=4, size=64).width
        256
    """

    vocab: int
    layers: int = 6
    heads: int = 8
    size: int = 512
    length: int = 512
    hidden: int | None = None
    dropout: float = 0.0
    norm_first: bool = True

    def __post_init__(self):
        owner = "Seq2SeqConfig"
        check_sizes(self)
        number(owner, "dropout", self.dropout, "[0, 1)")
        flag(owner, "norm_first", self.norm_first)

    @property
    def width(self) -> int:
        """Hidden numbers of the network for each token: `hidden`, or 4 C."""
        return 4 * self.size if self.hidden is None else self.hidden


class Seq2Seq(Module):
    """Transformer with an encoder for the source and a decoder for the target; one table of tokens.

    Args:
        config: sizes.

    Shapes: source (B, S) and target (B, T), token ids in [0, vocab) -> logits (B, T, vocab): of the
    token that follows each of the target's.

    Cost: about 2 operations per weight and token of the text that it is for.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; tied tables: section 3.4.

    Differs from the paper: learned positions, norms first and GELU are the defaults.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import Seq2Seq, Seq2SeqConfig
        >>> net = Seq2Seq(Seq2SeqConfig(65, layers=1, heads=2, size=16, length=32))
        >>> source, target = tt.zeros(3, 9, dtype="int64"), tt.zeros(3, 4, dtype="int64")
        >>> net(source, target).shape
        (3, 4, 65)
        >>> memory, cache = net.keys_values(net.encode(source)), net.new_cache(3, 32)
        >>> net.decode(target, memory, cache=cache).shape              # and so on, token by token
        (3, 4, 65)
    """

    def __init__(self, config: Seq2SeqConfig):
        self.config = config
        self.tokens = Embedding(config.vocab, config.size)
        self.source_positions = Embedding(config.length, config.size)
        self.target_positions = Embedding(config.length, config.size)
        self.dropout = Dropout(config.dropout)
        self.encoder = ModuleList(_block(config, False) for _ in range(config.layers))
        self.decoder = ModuleList(_block(config, True) for _ in range(config.layers))
        self.encoder_norm = LayerNorm(config.size) if config.norm_first else None
        self.decoder_norm = LayerNorm(config.size) if config.norm_first else None
        self.head = Linear(config.size, config.vocab, bias=False)
        self.apply(small_weights)
        self.head.weight = self.tokens.weight

    def forward(self, source: Tensor, target: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """Source (B, S), target (B, T) -> logits (B, T, vocab).

        Args:
            source: (B, S).
            target: (B, T), beginning with the token that says "begin".
            source_mask: (B, S), True for tokens, False for padding; default: all count.
        """
        return self.decode(target, self.encode(source, source_mask), source_mask)

    def encode(self, source: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """What the decoder attends to: source (B, S) -> memory (B, S, C).

        Args:
            source, source_mask: as in `forward`.
        """
        self._check("source", source)
        x = self.tokens(source) + self.source_positions.weight[: source.shape[1]]
        x = self.dropout(x)
        seen = _pairs(source_mask)
        for block in self.encoder:
            x = block(x, mask=seen)
        return x if self.encoder_norm is None else self.encoder_norm(x)

    def keys_values(self, memory: Tensor) -> list[KeysValues]:
        """The memory's keys and values in each block of the decoder: computed once for all steps.

        Args:
            memory: what `encode` gave, (B, S, C).

        Cost: 4 B S C^2 operations a block, which each call of `decode` takes if it is given the
        memory itself.
        """
        return [_crossing(block).keys_values(memory) for block in self.decoder]

    def decode(
        self, target: Tensor, memory: Tensor | Sequence[KeysValues],
        source_mask: Tensor | None = None, cache: ModelCache | None = None,
    ) -> Tensor:  # fmt: skip
        """Target (B, T), memory (B, S, C) -> logits (B, T, vocab).

        Args:
            target: (B, T).
            memory: what `encode` gave, or what `keys_values` made of it.
            source_mask: (B, S), as `encode` was given.
            cache: what `new_cache` gave: keys and values of the target's tokens before these.
        """
        self._check("target", target)
        held = caches_of(cache, self.config.layers)
        behind = places(self.target_positions.weight, target.shape[1], held)
        x = self.dropout(self.tokens(target) + behind)
        seen = _pairs(source_mask)
        for i, (block, layer) in enumerate(zip(self.decoder, held, strict=True)):
            own = memory if isinstance(memory, Tensor) else memory[i]
            x = block(x, own, memory_mask=seen, cache=layer)
        return self.head(x if self.decoder_norm is None else self.decoder_norm(x))

    def new_cache(self, batch: int, length: int | None = None, **settings: Any) -> ModelCache:
        """An empty cache for the decoder's own keys and values: one `KeyValueCache` a layer.

        Args:
            batch: B, sequences.
            length: tokens there is room for, at most the model's; default the model's.
            settings: others of `KeyValueCache`.
        """
        return new_caches(self.decoder, batch, length, self.config.length, **settings)

    def _check(self, name: str, tokens: Tensor) -> None:
        if len(tokens.shape) != 2 or tokens.shape[1] > self.config.length:
            raise ShapeError(
                f"Seq2Seq: the {name} does not fit",
                got=f"{name} {tuple(tokens.shape)}",
                rule=f"(B, T) with T <= length = {self.config.length}",
                fix=f"{name}[:, :{self.config.length}]",
            )


def _block(config: Seq2SeqConfig, decoder: bool) -> TransformerBlock:
    return TransformerBlock(
        config.size, config.heads, hidden=config.width, dropout=config.dropout, causal=decoder,
        cross=decoder, norm_first=config.norm_first,
    )  # fmt: skip


def _crossing(block: Module) -> MultiHeadAttention:
    """The attention of a decoder's block to the memory."""
    return cast("MultiHeadAttention", cast("TransformerBlock", block).multihead_attn)


def _pairs(mask: Tensor | None) -> Tensor | None:
    """(B, S) -> (B, 1, S): the same for every query."""
    return None if mask is None else mask.astype("bool").unsqueeze(1)
