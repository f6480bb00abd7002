"""BERT: every token sees all others, and says what stands where something was hidden.

The encoder gives numbers for each token; behind it stand the guess of hidden tokens (masked LM), a
class for the whole text, or its mean as one vector. Knows token ids, never texts.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinytorch.base.arguments import number, one_of, whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.models.gpt import SIZES, check_sizes, small_weights
from tinytorch.nn import functional as F
from tinytorch.nn.activation import GELU
from tinytorch.nn.attention import TransformerBlock
from tinytorch.nn.dropout import Dropout
from tinytorch.nn.embedding import Embedding
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module, ModuleList, Parameter
from tinytorch.nn.normalization import LayerNorm
from tinytorch.tensor.creation import zeros
from tinytorch.tensor.elementwise import sqrt, tanh, where
from tinytorch.tensor.random import rand, randint
from tinytorch.tensor.tensor import Tensor

IGNORED = -100  # a label that does not count, as in PyTorch and transformers
MLPS = {"gelu": "none", "gelu_tanh": "tanh"}


@dataclass(frozen=True)
class BERTConfig:
    """Sizes of a BERT; the defaults are those of BERT-base.

    Args:
        vocab, layers, heads, size, length, hidden: as of a `GPTConfig`.
        segments: kinds of text that are told apart (question and answer), at least 1; default 2.
        dropout: probability of a zero after embedding and each part, in [0, 1); default 0.1.
        attention_dropout: of the weights of attention, in [0, 1); default 0, with which scores are
            never in memory.
        norm_eps: what norms add before the root, in [0, inf); default 1e-12.
        mlp: "gelu" or "gelu_tanh"; default "gelu".

    Source: Devlin et al. 2018, https://arxiv.org/abs/1810.04805, section 3.

    Differs from the paper: no dropout of attention weights unless asked for.

    Example:
        >>> BERTConfig(100, layers=2, heads=4, size=64).width
        256
    """

    vocab: int = 30522
    layers: int = 12
    heads: int = 12
    size: int = 768
    length: int = 512
    hidden: int | None = None
    segments: int = 2
    dropout: float = 0.1
    attention_dropout: float = 0.0
    norm_eps: float = 1e-12
    mlp: str = "gelu"

    def __post_init__(self):
        owner = "BERTConfig"
        check_sizes(self, (*SIZES, "segments"))
        number(owner, "dropout", self.dropout, "[0, 1)")
        number(owner, "attention_dropout", self.attention_dropout, "[0, 1)")
        number(owner, "norm_eps", self.norm_eps, "[0, inf)")
        one_of(owner, "mlp", self.mlp, tuple(MLPS))

    @property
    def width(self) -> int:
        """Hidden numbers of the network for each token: `hidden`, or 4 C."""
        return 4 * self.size if self.hidden is None else self.hidden


class BERT(Module):
    """Encoder: tokens, places and segments added up, then blocks with norms after each part.

    Args:
        config: sizes.
        pooler: whether there is a layer for the whole text (`pooled`); default True.

    Shapes: token ids (B, T) in [0, vocab) with T <= length -> (B, T, C).

    Cost: about 2 operations per weight and token, and 4 T C per token and layer for attention.

    Source: Devlin et al. 2018, https://arxiv.org/abs/1810.04805. First weights as there, normal
    with deviation 0.02.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import BERT, BERTConfig
        >>> net = BERT(BERTConfig(65, layers=2, heads=2, size=16, length=32))
        >>> tokens = tt.zeros(3, 8, dtype="int64")
        >>> net(tokens).shape, net.embed(tokens).shape
        ((3, 8, 16), (3, 16))
    """

    def __init__(self, config: BERTConfig, pooler: bool = True):
        self.config = config
        self.tokens = Embedding(config.vocab, config.size)
        self.positions = Embedding(config.length, config.size)
        self.segments = Embedding(config.segments, config.size)
        self.norm = LayerNorm(config.size, config.norm_eps)
        self.dropout = Dropout(config.dropout)
        self.blocks = ModuleList(
            TransformerBlock(
                config.size, config.heads, hidden=config.width, dropout=config.dropout,
                norm_first=False, activation=GELU(MLPS[config.mlp]), norm_eps=config.norm_eps,
                attention={"dropout": config.attention_dropout},
            )
            for _ in range(config.layers)
        )  # fmt: skip
        self.pooler = Linear(config.size, config.size) if pooler else None
        self.apply(small_weights)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, segments: Tensor | None = None
    ) -> Tensor:
        """Token ids (B, T) -> (B, T, C).

        Args:
            tokens: (B, T).
            mask: (B, T), True for tokens, False for padding, which nobody sees; default: all count.
            segments: (B, T) in [0, segments), the text that each token belongs to; default 0.
        """
        if len(tokens.shape) != 2 or tokens.shape[1] > self.config.length:
            raise ShapeError(
                "BERT: the tokens do not fit",
                got=f"tokens {tuple(tokens.shape)}",
                rule=f"(B, T) with T <= length = {self.config.length}",
                fix=f"tokens[:, :{self.config.length}]",
            )
        for name, given in (("mask", mask), ("segments", segments)):
            if given is not None and given.shape != tokens.shape:
                raise ShapeError(
                    f"BERT: the {name} is not shaped like the tokens",
                    got=f"{name} {tuple(given.shape)}, tokens {tuple(tokens.shape)}",
                    rule="(B, T), a value for each token",
                    fix=f"leave {name} out, or tokens.shape",
                )
        of_segment = self.segments.weight[0] if segments is None else self.segments(segments)
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]] + of_segment
        x = self.dropout(self.norm(x))  # (B, T, C)
        seen = None if mask is None else mask.astype("bool").unsqueeze(1)  # (B, 1, T)
        for block in self.blocks:
            x = block(x, mask=seen)
        return x

    def pooled(self, features: Tensor) -> Tensor:
        """One vector a text: tanh(pooler(first token)), (B, T, C) -> (B, C).

        Args:
            features: what `forward` gave; the first token is the one that stands for the text.

        Raises:
            SettingError: this BERT was made without a pooler.
        """
        if self.pooler is None:
            raise SettingError(
                "BERT: there is no pooler",
                got="BERT(config, pooler=False)",
                rule="pooled() needs its weights",
                fix="BERT(config), or embed(tokens), the mean of the tokens",
            )
        return tanh(self.pooler(features[:, 0]))

    def embed(
        self, tokens: Tensor, mask: Tensor | None = None, segments: Tensor | None = None
    ) -> Tensor:
        """A vector of length 1 for each text: the mean of its tokens. (B, T) -> (B, C).

        The product of two is the cosine of their angle, near 1 for texts that are alike.

        Args:
            tokens, mask, segments: as in `forward`; padding does not count.

        Source: Reimers, Gurevych 2019, https://arxiv.org/abs/1908.10084, section 3.
        """
        features = self(tokens, mask, segments)
        if mask is None:
            mean = features.mean(1)
        else:
            counts = mask.astype(features.dtype).unsqueeze(-1)  # (B, T, 1)
            # A text of padding alone has the vector 0.
            mean = where(counts == 0.0, 0.0, features).sum(1) / counts.sum(1).clip(min=1.0)
        size = sqrt((mean * mean).sum(-1, keepdim=True))
        return mean / where(size == 0.0, 1.0, size)


class BERTMaskedLM(Module):
    """BERT with a guess for each place: logits over the vocabulary.

    The guess is a small network and the table of tokens once more, with a bias.

    Args:
        config: sizes.

    Shapes: token ids (B, T) -> logits (B, T, vocab).

    Source: Devlin et al. 2018, https://arxiv.org/abs/1810.04805, task 1 of section 3.1.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import BERTConfig, BERTMaskedLM, mask_tokens, masked_lm_loss
        >>> _ = tt.manual_seed(0)
        >>> net = BERTMaskedLM(BERTConfig(66, layers=1, heads=2, size=16, length=32))
        >>> inputs, targets = mask_tokens(tt.zeros(4, 32, dtype="int64"), 66, mask_token=65)
        >>> logits = net(inputs)
        >>> logits.shape, masked_lm_loss(logits, targets).shape
        ((4, 32, 66), ())
    """

    def __init__(self, config: BERTConfig):
        self.config = config
        self.bert = BERT(config, pooler=False)
        self.transform = Linear(config.size, config.size)
        self.activation = GELU(MLPS[config.mlp])
        self.norm = LayerNorm(config.size, config.norm_eps)
        self.head = Linear(config.size, config.vocab)
        small_weights(self.transform)
        self.head.weight = self.bert.tokens.weight
        self.head.bias = Parameter(zeros(config.vocab))

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, segments: Tensor | None = None
    ) -> Tensor:
        """Token ids (B, T) -> logits (B, T, vocab); arguments as in `BERT.forward`."""
        return self.head(self.features(tokens, mask, segments))

    def features(
        self, tokens: Tensor, mask: Tensor | None = None, segments: Tensor | None = None
    ) -> Tensor:
        """What the head sees, (B, T, C); arguments as in `BERT.forward`."""
        x = self.bert(tokens, mask, segments)
        return self.norm(self.activation(self.transform(x)))


class BERTClassifier(Module):
    """BERT with a class for the whole text.

    Args:
        config: sizes.
        classes: K, at least 1; default 2.

    Shapes: token ids (B, T) -> logits (B, K).

    Source: Devlin et al. 2018, https://arxiv.org/abs/1810.04805, section 4.1.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import BERTClassifier, BERTConfig
        >>> net = BERTClassifier(BERTConfig(65, layers=1, heads=2, size=16, length=32), classes=3)
        >>> net(tt.zeros(4, 8, dtype="int64")).shape
        (4, 3)
    """

    def __init__(self, config: BERTConfig, classes: int = 2):
        self.config = config
        self.bert = BERT(config)
        self.dropout = Dropout(config.dropout)
        self.classifier = Linear(config.size, whole("BERTClassifier", "classes", classes, 1))
        small_weights(self.classifier)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, segments: Tensor | None = None
    ) -> Tensor:
        """Token ids (B, T) -> logits (B, K); arguments as in `BERT.forward`."""
        x = self.bert.pooled(self.bert(tokens, mask, segments))
        return self.classifier(self.dropout(x))


def mask_tokens(
    tokens: Tensor, vocab: int, mask_token: int, share: float = 0.15, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Hide some tokens, to be guessed: of those chosen 80 % become the mask, 10 % any token.

    The last 10 % stay as they are, so that the network cannot trust what it sees either.

    Args:
        tokens: integers (B, T).
        vocab: V: the tokens that may take another's place are drawn from [0, V).
        mask_token: the id that says "hidden", in [0, V).
        share: of the tokens that are chosen, in [0, 1]; default 0.15.
        mask: (B, T), True for tokens that may be chosen (no padding, no marks); default: all.

    Returns:
        what the network is given (B, T), and the tokens it shall guess (B, T), -100 where nothing
        was chosen.

    Source: Devlin et al. 2018, https://arxiv.org/abs/1810.04805, task 1 of section 3.1.

    Example:
        >>> import tinytorch as tt
        >>> inputs, targets = mask_tokens(tt.ones(1, 3, dtype="int64"), 8, mask_token=7, share=0.0)
        >>> inputs.tolist(), targets.tolist()
        ([[1, 1, 1]], [[-100, -100, -100]])
    """
    owner = "mask_tokens"
    whole(owner, "vocab", vocab, at_least=1)
    if not 0 <= whole(owner, "mask_token", mask_token, at_least=0) < vocab:
        raise SettingError(
            "mask_tokens: the mask is not in the vocabulary",
            got=f"mask_token={mask_token}",
            rule=f"0 <= mask_token < vocab = {vocab}",
            fix="BERTConfig(vocab=...) with a place for it",
        )
    shape = tuple(tokens.shape)
    chosen = rand(*shape) < number(owner, "share", share, "[0, 1]")
    if mask is not None:
        chosen = chosen & mask.astype("bool")
    fate = rand(*shape)
    other = randint(0, vocab, shape)
    shown = where(fate < 0.8, mask_token, where(fate < 0.9, other, tokens))
    inputs = where(chosen, shown, tokens)
    return inputs.astype(tokens.dtype), where(chosen, tokens, IGNORED)


def masked_lm_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of the hidden tokens.

    Args:
        logits: (B, T, V).
        targets: integers (B, T), -100 where nothing was hidden, as `mask_tokens` gives them.

    Returns:
        0-d; log(V) for a model that knows nothing.
    """
    flat = logits.reshape(-1, logits.shape[-1])
    return F.cross_entropy(flat, targets.reshape(-1), ignore_index=IGNORED)
