"""GPT: a stack of attention blocks that says which token comes next; GPT-2 and Llama are settings.

Knows its blocks and sizes; token ids go in, one number per word of the vocabulary comes out. With a
cache the tokens that went in before need not go in again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tinytorch.base.arguments import flag, number, one_of, whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn import functional as F
from tinytorch.nn.activation import GELU, SiLU
from tinytorch.nn.attention import MultiHeadAttention, TransformerBlock
from tinytorch.nn.cache import ModelCache
from tinytorch.nn.dropout import Dropout
from tinytorch.nn.embedding import Embedding, RotaryPositions
from tinytorch.nn.init import draws, normal
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module, ModuleList, Parameter
from tinytorch.nn.normalization import NORMS, norm_layer
from tinytorch.nn.quantized import rows_of
from tinytorch.tensor.creation import iota, zeros
from tinytorch.tensor.tensor import Tensor
from tinytorch.tensor.transforms import checkpoint

POSITIONS = ("learned", "rotary")
# Of the network for each token: its activation, and whether it is gated.
MLPS = {"gelu": ("none", False), "gelu_tanh": ("tanh", False), "swiglu": ("silu", True)}


SIZES = ("vocab", "layers", "heads", "size", "length")


def check_sizes(
    config: Any, names: tuple[str, ...] = SIZES, optional: tuple[str, ...] = ("hidden",)
) -> None:
    """The sizes of a transformer: whole numbers of at least 1, and heads that share the size.

    Args:
        config: has them as attributes, `heads` and `size` among them.
        names: of those that it must have.
        optional: of those that may be None.

    Raises:
        SettingError: a size outside its range; the message names it.
    """
    owner = type(config).__name__
    given = [name for name in optional if getattr(config, name) is not None]
    for name in (*names, *given):
        whole(owner, name, getattr(config, name), at_least=1)
    if config.size % config.heads:
        raise SettingError(
            f"{owner}: the heads do not share the size evenly",
            got=f"size={config.size}, heads={config.heads}",
            rule="size is a multiple of heads",
            fix=f"size={config.heads * max(1, config.size // config.heads)}",
        )


@dataclass(frozen=True)
class GPTConfig:
    """Sizes and parts of a GPT.

    Args:
        vocab: V, number of different tokens; at least 1.
        layers: L, number of blocks; at least 1.
        heads: A, attention heads; divides size.
        size: C, numbers per token; at least 1.
        length: greatest T; at least 1.
        dropout: probability of a zero after embedding, attention and MLP, in [0, 1); default 0.
        checkpoint: compute each block again in the backward pass, which needs the memory of one
            block in place of all; a step takes about a quarter longer. Default False.
        kv_heads: heads of keys and values, which divide heads; default None: as many.
        hidden: width of the network for each token; default None: 4 C, and of "swiglu", which has
            three matrices, 8 C / 3, rounded up to a multiple of 32.
        positions: "learned", a vector for each place added to the tokens, or "rotary", queries and
            keys turned by their place; default "learned".
        rotary_base: how long the longest rotary wave is, over 2 pi, in (0, inf); default 10000.
        rotary_factors: size / heads / 2 numbers > 0, how much longer each rotary wave is; default
            None: 1. `llama3_factors` gives those of Llama 3.1 and later, `yarn_factors` YaRN's.
        rotary_scale: of queries and keys that were turned, in (0, inf); default 1.
        norm: "layer" or "rms"; default "layer".
        norm_eps: what norms add before the root, in [0, inf); default 1e-5.
        mlp: the network for each token: "gelu", "gelu_tanh" (GPT-2's formula) or "swiglu"; default
            "gelu".
        bias: whether linear layers and layer norms have one; default True.
        tied: whether the head's matrix is that of the tokens; default False.

    Raises:
        SettingError: a setting outside its range; the message names it.

    Example:
        >>> llama = GPTConfig(512, 5, 8, 64, 512, kv_heads=4, positions="rotary", norm="rms",
        ...                   mlp="swiglu", bias=False)
        >>> llama.width
        192
    """

    vocab: int
    layers: int = 6
    heads: int = 6
    size: int = 384
    length: int = 256
    dropout: float = 0.0
    checkpoint: bool = False
    kv_heads: int | None = None
    hidden: int | None = None
    positions: str = "learned"
    rotary_base: float = 10000.0
    norm: str = "layer"
    norm_eps: float = 1e-5
    mlp: str = "gelu"
    bias: bool = True
    tied: bool = False
    rotary_factors: tuple[float, ...] | None = None
    rotary_scale: float = 1.0

    def __post_init__(self):
        owner = "GPTConfig"
        if self.rotary_factors is not None:
            # As a tuple, whatever it came as: settings are compared, and are keys.
            object.__setattr__(self, "rotary_factors", tuple(self.rotary_factors))
        check_sizes(self, optional=("kv_heads", "hidden"))
        number(owner, "dropout", self.dropout, "[0, 1)")
        number(owner, "rotary_base", self.rotary_base, "(0, inf)")
        number(owner, "rotary_scale", self.rotary_scale, "(0, inf)")
        number(owner, "norm_eps", self.norm_eps, "[0, inf)")
        for name in ("checkpoint", "bias", "tied"):
            flag(owner, name, getattr(self, name))
        one_of(owner, "positions", self.positions, POSITIONS)
        one_of(owner, "norm", self.norm, NORMS)
        one_of(owner, "mlp", self.mlp, tuple(MLPS))

    @property
    def width(self) -> int:
        """Hidden numbers of the network for each token: `hidden`, or its default."""
        if self.hidden is not None:
            return self.hidden
        return -(-8 * self.size // 96) * 32 if MLPS[self.mlp][1] else 4 * self.size


class GPT(Module):
    """Decoder-only transformer with norms before each part.

    Args:
        config: sizes and parts. The defaults are those of GPT-2, but for the head, which has
            weights of its own; positions "rotary", norm "rms", mlp "swiglu" and no bias are Llama.

    Shapes: token ids (B, T) in [0, vocab) with T <= length -> logits (B, T, vocab).

    Cost: about 2 operations per weight and token, and 4 T C per token and layer for attention.

    Source: Radford et al. 2019 (GPT-2); Touvron et al. 2023, https://arxiv.org/abs/2302.13971
    (Llama). Initial values as in GPT-2: normal with deviation 0.02, those of layers that write to
    the residual stream divided by sqrt(2 L).

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import GPT, GPTConfig
        >>> net = GPT(GPTConfig(vocab=65, layers=2, heads=2, size=16, length=32))
        >>> net(tt.zeros(3, 8, dtype="int64")).shape
        (3, 8, 65)
        >>> cache = net.new_cache(batch=3, length=32)
        >>> prompt = net(tt.zeros(3, 7, dtype="int64"), cache)
        >>> net(tt.zeros(3, 1, dtype="int64"), cache).shape        # the eighth token
        (3, 1, 65)
    """

    def __init__(self, config: GPTConfig):
        self.config = config
        learned = config.positions == "learned"
        self.tokens = Embedding(config.vocab, config.size)
        self.positions = Embedding(config.length, config.size) if learned else None
        self.dropout = Dropout(config.dropout)
        self.blocks = ModuleList(_block(config) for _ in range(config.layers))
        self.norm = norm_layer(config.norm, config.size, config.norm_eps, config.bias)
        self.head = Linear(config.size, config.vocab, bias=False)
        self.apply(small_weights)
        residual = 0.02 / (2 * config.layers) ** 0.5
        for block in self.blocks if draws() else ():
            for layer in (block.self_attn.out_proj, block.linear2):
                layer.weight = Parameter(normal(layer.weight.shape, residual))
        if config.tied:
            self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor, cache: ModelCache | None = None) -> Tensor:
        """Token ids (B, T) -> logits (B, T, vocab).

        Args:
            tokens: (B, T).
            cache: what `new_cache` gave: keys and values of the tokens before these, to which those
                of these are added. Places count on from there. No gradient goes into it.
        """
        return self.head(self.features(tokens, cache))

    def features(self, tokens: Tensor, cache: ModelCache | None = None) -> Tensor:
        """What the head sees: token ids (B, T) -> (B, T, C), after the last norm.

        Args:
            tokens: (B, T).
            cache: as in `forward`.
        """
        if len(tokens.shape) != 2 or tokens.shape[1] > self.config.length:
            raise ShapeError(
                "GPT: the tokens do not fit",
                got=f"tokens {tuple(tokens.shape)}",
                rule=f"(B, T) with T <= length = {self.config.length}",
                fix=f"tokens[:, -{self.config.length}:]",
            )
        held = caches_of(cache, self.config.layers)
        x = self.tokens(tokens)  # (B, T, C)
        if self.positions is not None:
            x = x + places(self.positions.weight, tokens.shape[1], held)
        x = self.dropout(x)
        for block, layer in zip(self.blocks, held, strict=True):
            if layer is None and self.config.checkpoint:
                x = checkpoint(block)(x)
            else:
                x = block(x, cache=layer)
        return self.norm(x)

    def new_cache(self, batch: int, length: int | None = None, **settings: Any) -> ModelCache:
        """An empty cache: one `KeyValueCache` a layer.

        Args:
            batch: B, sequences; at least 1.
            length: tokens there is room for, at least 1 and at most the model's; default the
                model's.
            settings: others of `KeyValueCache`: dtype="int8", window, pages.

        Raises:
            SettingError: more room than the model has places.
        """
        return new_caches(self.blocks, batch, length, self.config.length, **settings)


# --- a cache for each layer: what models with a decoder share ---


def new_caches(
    blocks: ModuleList, batch: int, length: int | None, most: int, **settings: Any
) -> ModelCache:
    """An empty cache for each block, with room for `length` tokens, by default for `most`."""
    room = whole("new_cache", "length", most if length is None else length, at_least=1)
    if room > most:
        raise SettingError(
            "new_cache: the model has not so many places",
            got=f"length={length}",
            rule=f"at most length = {most} of the model",
            fix=f"new_cache({batch}, {most})",
        )
    return ModelCache(block.new_cache(batch, room, **settings) for block in blocks)


def caches_of(cache: ModelCache | None, layers: int) -> list:
    """The cache of each layer, or None for each."""
    held = [None] * layers if cache is None else list(cache)
    if len(held) != layers:
        raise ShapeError(
            "the cache is that of another model",
            got=f"{len(held)} layers",
            rule=f"a cache for each of {layers} layers",
            fix="model.new_cache(batch, length)",
        )
    return held


def places(table: Tensor, t: int, held: list) -> Tensor:
    """The vectors of T places: (T, C), or (1, T, C) behind what the layers' caches hold."""
    if held[0] is None:
        return table[:t]
    return rows_of(table, iota((1, t), 1) + held[0].lengths.reshape(-1, 1))


def _block(config: GPTConfig) -> TransformerBlock:
    form, gated = MLPS[config.mlp]
    turned = None
    if config.positions == "rotary":
        turned = RotaryPositions(
            config.size // config.heads, config.rotary_base, factors=config.rotary_factors,
            scale=config.rotary_scale,
        )  # fmt: skip
    return TransformerBlock(
        config.size, config.heads, hidden=config.width, dropout=config.dropout, causal=True,
        activation=SiLU() if form == "silu" else GELU(form), gated=gated, bias=config.bias,
        norm=config.norm, norm_eps=config.norm_eps,
        attention={"kv_heads": config.kv_heads, "positions": turned},
    )  # fmt: skip


def small_weights(module: Module) -> None:
    """First values of a transformer: normal with deviation 0.02, biases 0; for `Module.apply`."""
    if not draws():
        return
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
