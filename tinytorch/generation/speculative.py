"""Speculative decoding: tokens are guessed cheaply, and read by the model several at a time.

The model reads a guess of k tokens in little more than the time of one, since its weights are read
once, and says of each how probable it is. A guessed token x is kept with probability
min(1, p(x) / q(x)), where p is what the model would draw from and q what x was drawn from; else one
is drawn from max(p - q, 0) in its place. The answer then has the distribution of the model alone,
whatever the guesses are.

Source: Leviathan, Kalman, Matias 2023, https://arxiv.org/abs/2211.17192, algorithm 1; guesses from
the text itself: Saxena 2023, prompt lookup decoding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from tinytorch.base.arguments import whole
from tinytorch.base.errors import SettingError
from tinytorch.generation.context import AHEAD, Context
from tinytorch.generation.sampling import Sampler, Sampling, Token, drawn, log_probability

Array = np.ndarray[Any, np.dtype[Any]]
Allowed = Callable[[Sequence[int]], "Array | None"]  # of an answer so far; None: all


class Draft(Protocol):
    """Guesses what comes next."""

    def guess(self, tokens: Sequence[int], count: int) -> tuple[list[int], list[Array] | None]:
        """Up to `count` tokens that may follow, and what each was drawn from.

        Args:
            tokens: all so far, prompt and answer.
            count: at least 1.

        Returns:
            the tokens, and for each the probabilities (V,) that it was drawn with; None: each was
            certain.
        """
        ...


class NGramDraft:
    """Guesses what followed the last n tokens when they came before, in prompt or answer.

    Args:
        n: tokens that must be the same, at least 1; where they never came, fewer are looked for.

    Cost: no model; good where answers repeat their prompts, as in editing and summaries.

    Example:
        >>> NGramDraft(2).guess([5, 6, 7, 8, 5, 6], 3)
        ([7, 8, 5], None)
        >>> NGramDraft(2).guess([1, 2, 3], 3)
        ([], None)
    """

    def __init__(self, n: int = 3):
        self.n = whole("NGramDraft", "n", n, at_least=1)

    def guess(self, tokens: Sequence[int], count: int) -> tuple[list[int], None]:
        """As `Draft.guess`."""
        line = np.asarray(tokens, np.int64)
        for n in range(min(self.n, len(line) - 1), 0, -1):
            windows = np.lib.stride_tricks.sliding_window_view(line[:-1], n)
            places = np.flatnonzero((windows == line[-n:]).all(1))
            if len(places):
                first = int(places[-1]) + n
                return line[first : first + count].tolist(), None
        return [], None


class ModelDraft:
    """Guesses by a smaller model with the same vocabulary.

    Args:
        model: a `LanguageModel`.
        temperature: what its own tokens are drawn with; 0: its most probable ones. Default 1.
        seed: of its random numbers; default None: from `tt.manual_seed`'s generator.

    Cost: a step of the small model for each token; worth it where its step takes a tenth of the
    large one's or less, and most of its guesses are kept.
    """

    def __init__(self, model: Any, temperature: float = 1.0, seed: int | None = None):
        self.context = Context(model)
        self.sampler = Sampler(Sampling(temperature, seed=seed))

    def guess(self, tokens: Sequence[int], count: int) -> tuple[list[int], list[Array]]:
        """As `Draft.guess`; none where its context is full."""
        guesses: list[int] = []
        chances: list[Array] = []
        if len(tokens) > self.context.length:
            return guesses, chances
        new = list(tokens[self.context.follow(tokens) :])
        while len(guesses) < count and len(new) <= self.context.room:
            logits = self.context.read(new)
            chances.append(self.sampler.probabilities(logits))
            guesses.append(drawn(chances[-1], self.sampler.unit()))
            new = guesses[-1:]
        return guesses, chances


def draft_of(draft: Any, vocab: int) -> Draft:
    """A draft: itself, one of a model, or of n-grams for an int or "ngrams".

    Raises:
        SettingError: none of these, or a model with another vocabulary.
    """
    if isinstance(draft, str) and draft == "ngrams":
        return NGramDraft()
    if isinstance(draft, int) and not isinstance(draft, bool):
        return NGramDraft(draft)
    made: Any = ModelDraft(draft) if hasattr(draft, "new_cache") else draft
    if not hasattr(made, "guess"):
        raise SettingError(
            "generate: the draft guesses nothing",
            got=f"draft={type(draft).__name__}",
            rule='a smaller model, "ngrams", or an object with guess(tokens, count)',
            fix='draft="ngrams"',
        )
    own = made.context.vocab if isinstance(made, ModelDraft) else vocab
    if own != vocab:
        raise SettingError(
            "generate: the draft has another vocabulary",
            got=f"{own} tokens",
            rule=f"as many as the model: {vocab}",
            fix="a draft that was trained with the same tokenizer",
        )
    return made


def speculated(
    context: Context, new: list[int], sampler: Sampler, draft: Draft, ahead: int, allowed: Allowed
) -> Iterator[Token]:
    """The tokens that follow what is in a context and the new ones, without end.

    Args:
        new: tokens that are not read yet; at least one.
        ahead: guesses at a time.
        allowed: says which tokens may follow an answer.
    """
    answer: list[int] = []
    if len(new) > 1:
        context.read(new[:-1])
    last = new[-1]
    while True:
        tokens = [*context.tokens, last]
        most = min(ahead, AHEAD - 1, context.room - 1)
        guesses, chances = draft.guess(tokens, most) if most > 0 else ([], None)
        logits = context.read_each([last, *guesses]) if guesses else context.read([last])[None]
        for i, row in enumerate(logits):
            guess = guesses[i] if i < len(guesses) else None
            chance = chances[i] if chances is not None and guess is not None else None
            token = _chosen(row, allowed(answer), sampler, guess, chance)
            answer.append(token)
            if token != guess:
                context.cut(len(tokens) + i)
            yield token
            last = int(token)
            if token != guess:
                break


def _chosen(
    logits: Array, allowed: Array | None, sampler: Sampler, guess: int | None, chance: Array | None
) -> Token:
    """A token drawn as the model alone would draw it: the guess, or another."""
    if guess is None:
        return sampler(logits, allowed)
    p = sampler.probabilities(logits, allowed)
    q = 1.0 if chance is None else float(chance[guess])
    if sampler.unit() * q < p[guess]:
        token = guess
    else:
        rest = p.copy() if chance is None else np.maximum(p - chance, 0.0)
        rest[guess] = 0.0
        token = drawn(rest if rest.any() else p, sampler.unit())
    sampler.note(token)
    return Token(token, log_probability(logits, token) if sampler.logprobs else None)
