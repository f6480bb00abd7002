"""Context: a model, and what it has read so far; tokens go in, logits of the next one come out.

Knows a model by four things: `features(tokens, cache)`, `head(features)`, `new_cache(batch)` and
`config` with `vocab` and `length`. Five compiled programs serve every length: a token at a time,
pieces of up to 16, 64 and 256 tokens, and a few tokens with the logits of each. Knows token ids,
never how they are chosen.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import Any, Protocol

import numpy as np

from tinytorch.base.arguments import whole
from tinytorch.base.dtypes import float32
from tinytorch.base.errors import SettingError
from tinytorch.base.lengths import Dim
from tinytorch.compiler.compile import compile
from tinytorch.nn.cache import PIECE, ModelCache
from tinytorch.nn.module import Module
from tinytorch.nn.module import evaluating as tree_evaluating
from tinytorch.tensor.creation import from_numpy
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.memory import Watched, watch
from tinytorch.tensor.tensor import Tensor

Array = np.ndarray[Any, np.dtype[Any]]

AHEAD = 32  # tokens whose logits are asked for at once
# Tokens of the pieces in which a prompt is read, a program for each: a program of any length takes
# the time of its greatest one, 33 ms of 256 tokens and 4 ms of 16 (10.8 M weights of 8 bits).
PIECES = (16, 64, PIECE)


class LanguageModel(Protocol):
    """What generation asks of a model; `models.GPT` is one. A Module."""

    config: Any  # with vocab: V, and length: the most tokens

    def features(self, tokens: Tensor, cache: ModelCache | None = None) -> Tensor:
        """Token ids (B, T) behind those of the cache -> (B, T, C), what the head sees."""
        ...

    def head(self, features: Tensor) -> Tensor:
        """(..., C) -> logits (..., V)."""
        ...

    def new_cache(self, batch: int, length: int | None = None, **settings: Any) -> ModelCache:
        """An empty cache."""
        ...


class Context:
    """A model with a cache, and the tokens that are in it.

    Kept between calls, what two prompts have in common at their beginning is not computed again:
    `generate(model, prompt, context=context)`.

    Args:
        model: a `LanguageModel`, such as `models.GPT`.
        length: tokens there is room for; default the model's length.
        batch: sequences of equal length side by side; default 1.
        settings: others of the cache: dtype="int8", window.

    Cost: the cache's memory. Programs are compiled at the first use of each: five for all lengths.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import GPT, GPTConfig
        >>> context = Context(GPT(GPTConfig(vocab=9, layers=1, heads=2, size=8, length=16)))
        >>> logits = context.read([1, 2, 3])
        >>> logits.shape, context.tokens
        ((9,), [1, 2, 3])
        >>> context.keep([1, 2, 7, 8])      # two tokens are there already
        2
    """

    def __init__(self, model: Any, length: int | None = None, *, batch: int = 1, **settings: Any):
        self.model: Module = model
        self.batch = whole("Context", "batch", batch, at_least=1)
        self.vocab = int(model.config.vocab)
        self.cache: ModelCache = model.new_cache(self.batch, length, **settings)
        self.length = self.cache.length
        self.tokens: list[int] = []  # of the first sequence
        self._weights = Weights(self.model)
        self._one = np.zeros((1, 1), np.int64)
        self._token = from_numpy(self._one)  # shows what is written there
        few = {"tokens": (None, Dim("A", max=min(AHEAD, self.length)))}
        self._next = compile(of_last(model, self.cache))
        self._pieces = {
            most: of_pieces(model, self.cache, most)
            for most in sorted({min(most, self.length) for most in PIECES})
        }
        self._every = compile(_of_every(model, self.cache), dynamic_shapes=few)

    @property
    def compilations(self) -> int:
        """How many programs were recorded so far."""
        programs = (self._next, self._every, *self._pieces.values())
        return sum(program.captures for program in programs)

    @property
    def room(self) -> int:
        """Tokens that still fit."""
        return self.length - len(self.tokens)

    def keep(self, tokens: Sequence[int]) -> int:
        """Forget what does not begin as these tokens do; gives how many of them are there.

        The last of the tokens is never among them: its logits are wanted. Everything is forgotten
        if the model's weights have changed since the first of them was read (see `Weights`).
        """
        if self.tokens and self._weights.have_changed():
            self.cut(0)
        return self.follow(tokens)

    def follow(self, tokens: Sequence[int]) -> int:
        """As `keep`, where nobody has changed a weight since."""
        common, most = 0, min(len(self.tokens), len(tokens) - 1)
        while common < most and self.tokens[common] == tokens[common]:
            common += 1
        self.cut(common)
        return len(self.tokens)

    def cut(self, length: int) -> None:
        """Forget all but the first `length` tokens; all, if a window has lost what they saw."""
        lengths = np.full(self.batch, length, np.int64)
        del self.tokens[length:]
        try:
            if self.cache.lengths.tolist() != lengths.tolist():
                self.cache.cut(lengths.tolist())
        except SettingError:
            self.cache.clear()
            self.tokens.clear()

    def read(self, tokens: Sequence[int] | Array) -> Array:
        """Add tokens; gives the logits of the one behind them, (V,), of a batch (B, V).

        Args:
            tokens: at least one; of a batch (B, T).

        Raises:
            SettingError: they do not fit.
        """
        is_one = isinstance(tokens, (list, tuple)) and len(tokens) == 1 == self.batch
        if is_one and self.tokens and not self.model.training:
            return self._read_one(int(tokens[0]))
        given = self._checked(tokens)
        logits: Any = None
        first = 0
        with no_grad(), evaluating(self.model):
            for count, most in pieces_of(given.shape[1], tuple(self._pieces)):
                program = self._next if count == 1 else self._pieces[most]
                logits = program(Tensor(given[:, first : first + count]))
                first += count
        self.tokens += given[0].tolist()
        out = logits.numpy()
        return out[0] if self.batch == 1 else out

    def _read_one(self, token: int) -> Array:
        """`read` by its shortest way, which saves 15 us a token."""
        if not self.room:
            self._checked([token])
        self._one[0, 0] = token
        with no_grad():
            logits = self._next(self._token)
        self.tokens.append(token)
        return logits._buffer.array[0]  # float32, of nobody else: `numpy()` would say it is written

    def read_each(self, tokens: Sequence[int]) -> Array:
        """Add up to 32 tokens; gives the logits behind each of them, (T, V)."""
        given = self._checked(tokens)
        with no_grad(), evaluating(self.model):
            logits = self._every(Tensor(given))
        self.tokens += given[0].tolist()
        return logits.numpy()[0]

    def _checked(self, tokens: Sequence[int] | Array) -> Array:
        given = np.ascontiguousarray(tokens, np.int64).reshape(self.batch, -1)
        if not 0 < given.shape[1] <= self.room:
            raise SettingError(
                "the tokens do not fit the context",
                got=f"{len(self.tokens)} tokens in it and {given.shape[1]} new ones",
                rule=f"at least one new token, and at most {self.length} in all",
                fix="a shorter prompt, or a model with a longer context",
            )
        if not self.tokens:
            self._weights.note()
        return given


class Weights:
    """Whether a model's weights are what they were.

    Writes are seen as they are where a program is compiled with `freeze` (tensor/memory.py, Note
    [who sees a write]): eager and compiled ones, by whichever view, and other Tensors in the place
    of these. What NumPy writes to an array that it has kept is seen where it is the first or the
    last number of a weight.

    Args:
        model: a Module.
    """

    def __init__(self, model: Module):
        self.model = model
        self._watched: list[Watched] = []  # kept, so that writes are counted
        self._seen: list[tuple[Any, ...]] = []

    def note(self) -> None:
        """What they are now is what they are compared with."""
        arrays = self._arrays()
        self._watched = [watch(a) for a in arrays]
        self._seen = self._look(arrays)

    def have_changed(self) -> bool:
        """Whether they are others than at `note`. Cost: about 1 us for each array of any size."""
        arrays = self._arrays()
        return len(arrays) != len(self._watched) or self._look(arrays) != self._seen

    def _arrays(self) -> list[Array]:
        return [t._buffer.array for t in self.model.state_dict().values() if t.size]

    def _look(self, arrays: list[Array]) -> list[tuple[Any, ...]]:
        pairs = zip(arrays, self._watched, strict=True)
        return [
            (a.__array_interface__["data"][0], w.count, a.flat[0], a.flat[-1]) for a, w in pairs
        ]


def pieces_of(count: int, sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Cut a prompt into pieces, none of which fills less than half of the size it is read with.

    But for the last one, where it is smaller than the smallest size.

    Args:
        count: tokens.
        sizes: of pieces, the smallest first; at least one.

    Returns:
        (tokens, size) of each.

    Example:
        >>> list(pieces_of(300, (16, 64, 256))), list(pieces_of(90, (16, 64, 256)))
        ([(256, 256), (44, 64)], [(64, 64), (16, 16), (10, 16)])
    """
    while count:
        above = min((s for s in sizes if s >= count), default=sizes[-1])
        below = max((s for s in sizes if s < count), default=sizes[0])
        size = above if above <= 2 * count else below
        part = min(count, size)
        yield part, size
        count -= part


def of_last(model: Any, cache: ModelCache) -> Callable[[Tensor], Tensor]:
    """A function to compile: tokens (B, T) -> the logits behind the last ones, float32 (B, V)."""

    def read(tokens: Tensor) -> Tensor:
        return model.head(model.features(tokens, cache)[:, -1]).astype(float32)

    return read


def of_pieces(model: Any, cache: ModelCache, most: int = PIECE) -> Any:
    """A compiled function as `of_last`, for pieces of a prompt, of any length up to `most` tokens.

    However a prompt is cut into pieces for it, what it leaves in the cache and its last logits are
    the same to the last bit: rows of products do not depend on each other, and attention reads what
    is filled in the order of positions. Its products take the time of `most` rows.
    """
    dim = Dim("T", max=min(most, PIECE, cache.length))
    return compile(of_last(model, cache), dynamic_shapes={"tokens": (None, dim)})


def _of_every(model: Any, cache: ModelCache) -> Callable[[Tensor], Tensor]:
    def read(tokens: Tensor) -> Tensor:
        return model.head(model.features(tokens, cache)).astype(float32)

    return read


def evaluating(model: Module) -> AbstractContextManager[None]:
    """The model in evaluation within, and as it was behind; where it evaluates, at no cost."""
    return tree_evaluating(model) if model.training else nullcontext()


def checked_prompt(owner: str, prompt: Any, vocab: int) -> list[int]:
    """The ids of a prompt.

    Raises:
        SettingError: none, or one that is not in the vocabulary.
    """
    ids = np.asarray(prompt)
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or not len(ids):
        raise SettingError(
            f"{owner}: the prompt is no sequence of token ids",
            got=f"{type(prompt).__name__} of shape {ids.shape}, {ids.dtype}",
            rule="at least one whole number, in one line",
            fix="tokenizer.encode(text); for an empty text begin with a start token",
        )
    outside = ids[(ids < 0) | (ids >= vocab)]
    if len(outside):
        raise SettingError(
            f"{owner}: a token of the prompt is not in the model's vocabulary",
            got=f"id {int(outside[0])}",
            rule=f"0 <= id < {vocab}",
            fix="the tokenizer that the model was trained with",
        )
    return [int(i) for i in ids]


IDLE = 4  # contexts of a model that are kept for later: each has memory of its own


class _Idle:
    """Contexts of a model that nobody uses: their programs need not be recorded again.

    It lies in the model, so that both go together; copies of the model begin without. The newest
    are last.
    """

    def __init__(self):
        self.contexts: list[Context] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> _Idle:
        return _Idle()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Idle, ()


_lock = Lock()


def borrow(model: Any, length: int | None = None, batch: int = 1) -> Context:
    """An empty context of a model, used before if there is one.

    Args:
        model: a `LanguageModel`.
        length: tokens it has room for at least; default the model's length.
        batch: sequences side by side.
    """
    with _lock:
        idle = vars(model).get("_idle_contexts")
        if idle is None:
            object.__setattr__(model, "_idle_contexts", idle := _Idle())
        for i, context in reversed(list(enumerate(idle.contexts))):
            if context.batch == batch and (length is None or context.length >= length):
                return idle.contexts.pop(i)
    return Context(model, batch=batch)


def give_back(context: Context) -> None:
    """Keep a context for the next who borrows one; those that waited longest go."""
    context.cut(0)
    with _lock:
        contexts = vars(context.model)["_idle_contexts"].contexts
        contexts.append(context)
        del contexts[:-IDLE]
