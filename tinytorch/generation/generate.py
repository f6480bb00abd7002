"""generate: tokens that follow a prompt, one by one.

Knows contexts and samplers; token ids, never text (generation/stream.py).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tinytorch.base.arguments import flag, whole
from tinytorch.base.errors import SettingError, short
from tinytorch.generation.context import Context, borrow, checked_prompt, give_back
from tinytorch.generation.sampling import Sampler, Sampling, Token
from tinytorch.generation.speculative import Allowed, draft_of, speculated

Array = np.ndarray[Any, np.dtype[Any]]
Stops = int | Iterable[int | Sequence[int]]
Mask = Callable[[Sequence[int]], "Array"]  # of an answer so far: which tokens may follow


@runtime_checkable
class Constraint(Protocol):
    """Which tokens an answer may go on with: `Choices`, `Grammar`, or a class of one's own."""

    def allowed(self, tokens: Sequence[int]) -> Array:
        """Bools (V,): the tokens that may follow those of the answer; none: it ends."""
        ...

    def may_end(self, tokens: Sequence[int]) -> bool:
        """Whether these tokens are an answer."""
        ...


def generate(
    model: Any, prompt: Any, max_tokens: int | None = None, *, temperature: float = 1.0,
    top_k: int | None = None, top_p: float = 1.0, min_p: float = 0.0,
    repetition_penalty: float = 1.0, seed: int | None = None, stop: Stops = (),
    logprobs: bool = False, constraint: Constraint | Mask | None = None,
    context: Context | None = None, draft: Any = None, ahead: int = 4, slide: bool = False,
) -> Generator[Token, None, str]:  # fmt: skip
    """The tokens that follow a prompt, each as soon as it is there.

    Args:
        model: a `LanguageModel`, such as `models.GPT`.
        prompt: token ids, at least one.
        max_tokens: at most so many tokens; default None: until the context is full.
        temperature: 0 is greedy; this and the next as in `Sampling`.
        top_k: only so many of the most probable tokens.
        top_p: only the most probable tokens with this much probability together.
        min_p: only tokens at least so probable as this part of the most probable one.
        repetition_penalty: above 1, tokens that were there before are less probable.
        seed: the same seed gives the same tokens, with any number of threads.
        stop: a token id, or several, or sequences of them: where one comes the answer ends, and it
            is not given.
        logprobs: whether each token has its `logprob`.
        constraint: says which tokens may follow: `Choices`, `Grammar` (a regular expression, JSON),
            any `Constraint`, or a function of the answer so far that gives bools (V,).
        context: a `Context` of the model that is kept between calls: what the prompt has in common
            with what is in it is not computed again. Default: one that begins empty.
        draft: guesses tokens that the model then reads several at a time: a smaller model with the
            same vocabulary, "ngrams" (what followed the same tokens before), or a `Draft`. The
            distribution of answers stays what it is; a seed gives another one of them.
        ahead: guesses at a time, from 1 to 31; default 4.
        slide: where the context is full, forget its older half, read the newer one again and go on;
            then max_tokens alone is the end. Not together with a draft.

    Returns:
        an iterator of tokens: ints, with `logprob`. Its value (of `yield from`) is why it ended:
        "stop", or "length" where max_tokens or the context was reached. A stop token that never
        comes changes nothing.

    Raises:
        SettingError: an empty prompt, one that is longer than the context, ids outside the
            vocabulary, a setting outside its range; when it is called, not at the first token.
        NonFiniteError: (at a token) the logits are NaN.

    Leaving the loop, or Ctrl-C in it, leaves model and context as they are behind a token: both can
    be used again. The model is in evaluation while it computes.

    Cost: the prompt is read in pieces of 256 tokens; then each token reads all weights once.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import GPT, GPTConfig
        >>> model = GPT(GPTConfig(vocab=9, layers=1, heads=2, size=8, length=16))
        >>> tokens = list(generate(model, [1, 2, 3], max_tokens=5, seed=0))
        >>> len(tokens), tokens == list(generate(model, [1, 2, 3], max_tokens=5, seed=0))
        (5, True)
    """
    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty, seed)
    ids = checked_prompt("generate", prompt, int(model.config.vocab))
    length = context.length if context is not None else int(model.config.length)
    if flag("generate", "slide", slide):
        limit = _without_end(ids, length, max_tokens, draft)
    else:
        limit = room_for("generate", ids, length, max_tokens)
    if context is not None and context.model is not model:
        raise SettingError(
            "generate: the context is that of another model",
            got="a context made with another model",
            rule="context.model is the model",
            fix="Context(model)",
        )
    stops = stop_sequences(stop)
    sampler = Sampler(sampling, flag("generate", "logprobs", logprobs), ids)
    guesses = None if draft is None else draft_of(draft, int(model.config.vocab))
    ahead = whole("generate", "ahead", ahead, at_least=1)

    def allowed(answer: Sequence[int]) -> Array | None:
        return None if constraint is None else allowed_now(constraint, answer, stops)

    def tokens(used: Context) -> Iterator[Token]:
        new = ids[used.keep(ids) :]
        if guesses is None:
            return _one_by_one(used, new, sampler, allowed)
        return speculated(used, new, sampler, guesses, ahead, allowed)

    return _generated(model, tokens, limit, stops, context)


def room_for(owner: str, ids: Sequence[int], length: int, max_tokens: int | None) -> int:
    """How many tokens may follow a prompt."""
    if len(ids) > length:
        raise SettingError(
            f"{owner}: the prompt is longer than the context",
            got=f"{len(ids)} tokens",
            rule=f"at most {length}",
            fix=f"prompt[-{length}:], its last tokens",
        )
    room = length - len(ids) + 1  # the last token is not read any more
    return room if max_tokens is None else min(room, whole(owner, "max_tokens", max_tokens, 0))


def _without_end(ids: Sequence[int], length: int, max_tokens: int | None, draft: Any) -> int:
    """How many tokens may follow a prompt in a context that slides."""
    room_for("generate", ids, length, max_tokens)
    if max_tokens is None or draft is not None or length < 2:
        raise SettingError(
            "generate: this answer cannot slide",
            got=f"max_tokens={max_tokens}, draft={draft!r}, a context of {length}",
            rule="max_tokens given, no draft, a context of at least 2 tokens",
            fix="generate(..., max_tokens=1000, slide=True)",
        )
    return max_tokens


def stop_sequences(stop: Stops) -> list[tuple[int, ...]]:
    """Stop tokens and sequences of them, all as sequences."""
    given = [stop] if isinstance(stop, int) else list(stop)
    found = [(int(s),) if isinstance(s, (int, np.integer)) else tuple(map(int, s)) for s in given]
    if not all(found):
        raise SettingError(
            "generate: a stop sequence is empty",
            got=f"stop={stop!r}",
            rule="token ids, or sequences of at least one",
            fix="leave it out",
        )
    return found


def _generated(
    model: Any, tokens: Callable[[Context], Iterator[Token]], limit: int,
    stops: list[tuple[int, ...]], given: Context | None,
) -> Generator[Token, None, str]:  # fmt: skip
    if not limit:
        return "length"
    context = borrow(model) if given is None else given
    held = HeldBack(stops)
    try:
        for count, token in enumerate(tokens(context), 1):
            if stops:
                yield from held.take(token)
                if held.is_stopped:
                    return "stop"
            else:
                yield token
            if count == limit:
                yield from held.rest()
                return "length"
    except AnswerEnds:
        yield from held.rest()
    finally:
        if given is None:
            give_back(context)
    return "stop"


def _one_by_one(
    context: Context, new: list[int], sampler: Sampler, allowed: Allowed
) -> Iterator[Token]:
    """The tokens that follow what is in a context and the new ones, without end."""
    answer: list[int] = []
    while True:
        mask = allowed(answer)
        if len(new) > context.room:  # it slides, or the answer has ended before
            new = [*context.tokens, *new][-(context.length // 2) :]
            context.cut(0)
        token = sampler(context.read(new), mask)
        answer.append(token)
        yield token
        new = [int(token)]


class AnswerEnds(Exception):
    """A constraint allows no further token."""


def allowed_now(
    constraint: Constraint | Mask, answer: Sequence[int], stops: Iterable[tuple[int, ...]]
) -> Array:
    """What a constraint allows, and stop tokens where the answer may end.

    Raises:
        AnswerEnds: nothing may follow.
        SettingError: nothing may follow, and the answer is not whole.
    """
    if isinstance(constraint, Constraint):
        allowed, may_end = np.array(constraint.allowed(answer), bool), constraint.may_end(answer)
    else:
        allowed, may_end = np.array(constraint(answer), bool), False
    if not allowed.any():
        if may_end or not isinstance(constraint, Constraint):
            raise AnswerEnds
        raise SettingError(
            "generate: no token goes on with what the constraint asks for",
            got=f"{len(answer)} tokens so far: {short(list(answer))}",
            rule="tokens for every text that is asked for",
            fix="pieces of all tokens, those of single bytes among them",
        )
    if may_end:
        for s in stops:
            if len(s) == 1:
                allowed[s[0]] = True
    return allowed


class HeldBack:
    """Gives tokens on unless they may be the beginning of a stop sequence."""

    def __init__(self, stops: Sequence[tuple[int, ...]]):
        self.stops, self.is_stopped = stops, False
        self._tokens: list[Token] = []

    def take(self, token: Token) -> list[Token]:
        """The tokens that can be given now."""
        self._tokens.append(token)
        if not self.stops:
            return self.rest()
        now = tuple(self._tokens)
        for stop in self.stops:
            if now[-len(stop) :] == stop:
                self.is_stopped = True
                return self._give(len(now) - len(stop))
        return self._give(len(now) - begun(now, self.stops))

    def rest(self) -> list[Token]:
        """All that is held."""
        return self._give(len(self._tokens))

    def _give(self, count: int) -> list[Token]:
        given, self._tokens = self._tokens[:count], self._tokens[count:]
        return given


def begun(items: Sequence[Any], stops: Sequence[Sequence[Any]]) -> int:
    """How many of the last tokens, or characters, are the beginning of a stop sequence."""
    longest = 0
    for stop in stops:
        for n in range(min(len(stop) - 1, len(items)), longest, -1):
            if items[-n:] == stop[:n]:
                longest = n
                break
    return longest
