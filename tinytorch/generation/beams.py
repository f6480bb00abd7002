"""Beam search: several beginnings of an answer are kept, the most probable ones.

Knows contexts and log probabilities. Where the most probable token leads to an improbable answer,
greedy decoding follows it and a beam does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinytorch.base.arguments import number, whole
from tinytorch.base.errors import NonFiniteError
from tinytorch.generation.context import borrow, checked_prompt, give_back
from tinytorch.generation.generate import Stops, room_for, stop_sequences
from tinytorch.generation.sampling import largest

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Beam:
    """An answer.

    Args:
        tokens: its ids, without the stop sequence.
        logprob: logarithm of its probability, the stop sequence included.
        score: logprob over length^length_penalty: what answers are ordered by.
    """

    tokens: tuple[int, ...]
    logprob: float
    score: float


def beam_search(
    model: Any, prompt: Any, max_tokens: int | None = None, *, beams: int = 4, stop: Stops = (),
    length_penalty: float = 1.0,
) -> list[Beam]:  # fmt: skip
    """The most probable answers to a prompt that keeping so many beginnings finds, the best first.

    Args:
        model: a `LanguageModel`, such as `models.GPT`.
        prompt: token ids, at least one.
        max_tokens: at most so many tokens; default None: until the context is full.
        beams: beginnings that are kept, and answers that are given, at least 1; default 4. 1 is
            greedy decoding.
        stop: a token id, or several, or sequences of them; an answer ends before one.
        length_penalty: answers are compared by logprob / length^length_penalty, length counting the
            stop sequence; in [0, inf), default 1: the mean of a token. 0 favours short answers.

    Raises:
        SettingError: as `generate`.
        NonFiniteError: the logits are NaN.

    Cost: a step of a batch of `beams` sequences for each token; what they have in the cache is
    copied where they change places. Programs are recorded at the first call with so many beams.

    Source: Wu et al. 2016, https://arxiv.org/abs/1609.08144, section 7, with length^a for the
    penalty, as `transformers` has it.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import GPT, GPTConfig
        >>> model = GPT(GPTConfig(vocab=9, layers=1, heads=2, size=8, length=16))
        >>> best = beam_search(model, [1, 2, 3], 5, beams=3)
        >>> len(best), len(best[0].tokens), best[0].score >= best[1].score
        (3, 5, True)
    """
    ids = checked_prompt("beam_search", prompt, int(model.config.vocab))
    beams = whole("beam_search", "beams", beams, at_least=1)
    penalty = number("beam_search", "length_penalty", length_penalty, "[0, inf)")
    limit = room_for("beam_search", ids, int(model.config.length), max_tokens)
    search = _Search(stop_sequences(stop), beams, penalty, limit)
    if limit:
        context = borrow(model, batch=beams)
        try:
            logits = context.read(np.tile(np.array(ids, np.int64), (beams, 1))).reshape(beams, -1)
            while search.go_on(log_softmax(logits)):
                context.cache.reorder(search.rows)
                logits = context.read(search.last).reshape(beams, -1)
        finally:
            give_back(context)
    return search.best()


def log_softmax(logits: Array) -> Array:
    """The logarithms of the probabilities of each row, float64.

    Raises:
        NonFiniteError: a logit is NaN or +inf.
    """
    top = logits.max(-1, keepdims=True)
    if not np.isfinite(top).all():
        raise NonFiniteError(
            "the logits are no numbers",
            got=f"a logit of {float(top[~np.isfinite(top)][0])}",
            rule="logits are finite, or -inf for a token that never comes",
            fix="check the model's weights",
        )
    shifted = (logits - top).astype(np.float64)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


class _Search:
    """Beginnings that are kept, and answers that are found."""

    def __init__(self, stops: list[tuple[int, ...]], beams: int, penalty: float, limit: int):
        self.stops, self.beams, self.penalty, self.limit = stops, beams, penalty, limit
        self.kept: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
        self.found: list[Beam] = []
        self.rows: list[int] = []

    @property
    def last(self) -> Array:
        """The last token of each row of the batch, (beams, 1)."""
        return np.array([[self._kept(i)[0][-1]] for i in range(self.beams)], np.int64)

    def _kept(self, row: int) -> tuple[tuple[int, ...], float]:
        return self.kept[min(row, len(self.kept) - 1)]  # rows that are not needed repeat the last

    def go_on(self, logs: Array) -> bool:
        """Take the next tokens' log probabilities (beams, V); whether there is more to read."""
        n, vocab = len(self.kept), logs.shape[-1]
        scores = (np.array([p for _, p in self.kept])[:, None] + logs[:n]).reshape(-1)
        # no more than so many can end here: for each beginning one token for each stop sequence
        most = min(self.beams + n * len(self.stops), int(np.isfinite(scores).sum()))
        kept: list[tuple[tuple[int, ...], float]] = []
        rows: list[int] = []
        for place in largest(scores, most) if most else ():
            row, token = divmod(int(place), vocab)
            tokens, total = (*self.kept[row][0], token), float(scores[place])
            stop = next((s for s in self.stops if tokens[-len(s) :] == s), None)
            if stop is not None:
                self._end(tokens[: -len(stop)], total, len(tokens))
            elif len(kept) < self.beams:
                kept.append((tokens, total))
                rows.append(row)
        self.kept = kept
        self.rows = [rows[min(i, len(rows) - 1)] for i in range(self.beams)] if rows else []
        if kept and len(kept[0][0]) == self.limit:
            for tokens, total in kept:
                self._end(tokens, total, len(tokens))
            self.kept = []
        return bool(self.kept) and not self._is_settled()

    def _end(self, tokens: tuple[int, ...], logprob: float, length: int) -> None:
        self.found.append(Beam(tokens, logprob, logprob / max(length, 1) ** self.penalty))

    def _is_settled(self) -> bool:
        """Whether no beginning can lead to an answer better than as many as are wanted.

        A logprob only falls; what it is divided by is at most that of the longest answer.
        """
        if len(self.found) < self.beams:
            return False
        worst = sorted((b.score for b in self.found), reverse=True)[self.beams - 1]
        return max(p for _, p in self.kept) / self.limit**self.penalty <= worst

    def best(self) -> list[Beam]:
        """The answers, the best first."""
        return sorted(self.found, key=lambda b: -b.score)[: self.beams]
