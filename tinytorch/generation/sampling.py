"""Sampling: which token comes next, given a number for each.

Knows numbers of one position, never models or caches. In this order, as in `transformers`:
repetition penalty, temperature, top-k, top-p, min-p; then one token is drawn with what probability
is left. Where there are many tokens none is sorted that cannot be chosen: what is looked for are
the largest numbers, and these are found block by block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinytorch.base.arguments import number, whole
from tinytorch.base.errors import NonFiniteError, SettingError
from tinytorch.tensor.random import Generator, default_generator

Array = np.ndarray[Any, np.dtype[Any]]

_BLOCK = 64  # numbers of a group; of each group the largest is enough to begin with
_DRAWS = 512  # uniform numbers that are made at once: one costs as much as all, 0.25 ms
_NOTHING = 800.0  # exp(-800) is 0 in float64
_COLDEST, _HOTTEST = 1e-30, 1e35  # beyond them float32 tells no temperature from another
_FIRST = 256  # of the most probable tokens those among which top-p ends nearly always


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Args:
        temperature: by what logits are divided, in [0, inf): 0 is greedy, the most probable token
            (of equal ones the first); default 1.
        top_k: only so many of the most probable tokens, at least 1; more than there are: all.
            Default None: all.
        top_p: only the fewest most probable tokens that have this much probability together, in
            (0, 1]; default 1: all.
        min_p: only tokens at least so probable as this part of the most probable one, in [0, 1];
            default 0: all.
        repetition_penalty: logits of tokens that were there before, in prompt or answer, are
            divided by it where they are above 0, else multiplied; in (0, inf), default 1.
        seed: of the random numbers, at least 0; default None: one from `tt.manual_seed`'s
            generator, another for each answer.

    Raises:
        SettingError: a setting outside its range; the message names it.

    Source: top-p: Holtzman et al. 2020, https://arxiv.org/abs/1904.09751; min-p: Nguyen et al.
    2024, https://arxiv.org/abs/2407.01082; repetition penalty: Keskar et al. 2019,
    https://arxiv.org/abs/1909.05858, equation 4.

    Example:
        >>> Sampling(temperature=0).is_greedy, Sampling(top_k=50, top_p=0.9).is_greedy
        (True, False)
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self):
        owner = "Sampling"
        number(owner, "temperature", self.temperature, "[0, inf)")
        number(owner, "top_p", self.top_p, "(0, 1]")
        number(owner, "min_p", self.min_p, "[0, 1]")
        number(owner, "repetition_penalty", self.repetition_penalty, "(0, inf)")
        if self.top_k is not None:
            whole(owner, "top_k", self.top_k, at_least=1)
        if self.seed is not None:
            whole(owner, "seed", self.seed, at_least=0)

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is taken."""
        return self.temperature == 0


class Token(int):
    """A token id; `logprob` is the logarithm of its probability, if that was asked for.

    It is that of the model itself: before temperature, penalties and filters.

    Example:
        >>> Token(7), Token(7, -0.5).logprob, Token(7) == 7
        (7, -0.5, True)
    """

    logprob: float | None

    def __new__(cls, id: int, logprob: float | None = None):
        """An int that carries its logprob."""
        token = super().__new__(cls, id)
        token.logprob = logprob
        return token


class Sampler:
    """Chooses tokens by one `Sampling`, with random numbers of its own.

    The numbers depend on the seed and on how many were drawn before alone: the same logits give the
    same tokens, whatever else is generated, on any machine and with any number of threads.

    Args:
        sampling: how.
        logprobs: whether tokens carry their logprob; costs one pass over the vocabulary.
        seen: tokens that were there before, for the repetition penalty.

    Example:
        >>> import numpy as np
        >>> sampler = Sampler(Sampling(top_k=2, seed=1))
        >>> {int(sampler(np.array([0.0, 3.0, 2.9], np.float32))) for _ in range(50)}
        {1, 2}
    """

    def __init__(self, sampling: Sampling, logprobs: bool = False, seen: Sequence[int] = ()):
        self.sampling, self.logprobs = sampling, logprobs
        self._generator = None
        if not sampling.is_greedy:
            seed = default_generator.draw_seed() if sampling.seed is None else sampling.seed
            self._generator = Generator(seed)
        self._temperature = min(max(sampling.temperature, _COLDEST), _HOTTEST)
        self._lowest = -_NOTHING * self._temperature
        self._units: list[float] = []
        self._penalised = sampling.repetition_penalty != 1
        self._seen: dict[int, None] = dict.fromkeys(map(int, seen)) if self._penalised else {}

    def __call__(self, logits: Array, allowed: Array | None = None) -> Token:
        """The next token; from then on it was there before.

        Args:
            logits: floats (V,).
            allowed: bools (V,), tokens that may be chosen; default all.

        Raises:
            NonFiniteError: a logit is NaN or +inf.
            SettingError: no token is allowed.
        """
        x = self._changed(logits, allowed)
        chosen = _most_probable_one(x, allowed)
        if self._generator is not None:
            ids, weights = self._filtered(x, chosen)
            place = drawn(weights, self.unit())
            chosen = place if ids is None else int(ids[place])
        if self._penalised:
            self._seen[chosen] = None
        return Token(chosen, log_probability(logits, chosen) if self.logprobs else None)

    def note(self, token: int) -> None:
        """Say that a token is there."""
        if self._penalised:
            self._seen[token] = None

    def unit(self) -> float:
        """The next random number in [0, 1), a multiple of 2^-53."""
        if not self._units:
            if self._generator is None:
                return 0.0
            words = self._generator.bits((2, _DRAWS)).numpy().astype(np.uint64)
            numbers = ((words[0] >> np.uint64(5)) << np.uint64(26)) | (words[1] >> np.uint64(6))
            self._units = (numbers.astype(np.float64) * 2.0**-53)[::-1].tolist()
        return self._units.pop()

    def candidates(self, logits: Array, allowed: Array | None = None) -> tuple[Any, Array]:
        """The tokens that may be chosen, and weights in proportion to their probabilities.

        Returns:
            ids (n,), None for all; and weights (n,), some of them above 0. Where the choice is
            greedy there is one.
        """
        x = self._changed(logits, allowed)
        first = _most_probable_one(x, allowed)
        if self.sampling.is_greedy:
            return np.array([first]), np.ones(1)
        return self._filtered(x, first)

    def _changed(self, logits: Array, allowed: Array | None) -> Array:
        """Logits with the penalty, -inf where a token is not allowed."""
        x = self._with_penalty(logits) if self._seen else logits
        return x if allowed is None else np.where(allowed, x, np.asarray(-np.inf, x.dtype))

    def _filtered(self, x: Array, first: int) -> tuple[Array | None, Array]:
        """`candidates`, given the most probable one, where the choice is not greedy."""
        s, top = self.sampling, x[first]
        ids: Array | None = None
        if s.top_k is not None and s.top_k < len(x):
            ids = largest(x, s.top_k, in_order=False)
            x = x[ids]
        # Far below the largest a weight is 0 in any type. So no division overflows; to say that
        # it may (errstate) takes five times as long.
        weights = x - top
        np.maximum(weights, self._lowest, out=weights)
        weights /= self._temperature
        np.exp(weights, out=weights)
        if s.top_p < 1:
            kept = most_probable(weights, s.top_p)
            ids, weights = kept if ids is None else ids[kept], weights[kept]
        if s.min_p > 0:
            kept = (weights >= s.min_p).nonzero()[0]
            ids, weights = kept if ids is None else ids[kept], weights[kept]
        return ids, weights

    def _with_penalty(self, logits: Array) -> Array:
        x, ids = logits.copy(), np.fromiter(self._seen, np.int64, len(self._seen))
        own, penalty = x[ids], x.dtype.type(self.sampling.repetition_penalty)
        x[ids] = np.where(own > 0, own / penalty, own * penalty)
        return x

    def probabilities(self, logits: Array, allowed: Array | None = None) -> Array:
        """The probability with which each token is chosen, float64 (V,)."""
        ids, weights = self.candidates(logits, allowed)
        wide = weights.astype(np.float64)
        wide /= wide.sum()
        if ids is None:
            return wide
        out = np.zeros(len(logits))
        out[ids] = wide
        return out


def _most_probable_one(x: Array, allowed: Array | None) -> int:
    """The place of the largest number, which is finite; of equal ones the first."""
    first = int(x.argmax())  # the first NaN, if there is one
    top = float(x[first])
    if not math.isfinite(top):
        raise _not_finite(top, allowed is not None)
    return first


def largest(x: Array, k: int, in_order: bool = True) -> Array:
    """The places of the k largest numbers, the largest first; of equal ones the first ones.

    Args:
        x: (n,), no NaN.
        k: from 1 to n.
        in_order: False: those places in any order, which is faster.

    Cost: two passes over x, and a sort of k numbers.

    Example:
        >>> largest(np.array([1.0, 5.0, 5.0, 3.0]), 3)
        array([1, 2, 3])
    """
    n, groups = len(x), len(x) // _BLOCK
    if k == n:
        return _sorted(x, k) if in_order else np.arange(n)
    if k < groups // 2:  # the k-th largest of the groups' largest is no larger than that of all
        tops = x[: groups * _BLOCK].reshape(_BLOCK, groups).max(0)
        tops.partition(groups - k)
        bound = tops[groups - k]
    else:
        some = x.copy()
        some.partition(n - k)
        bound = some[n - k]
    near = (x >= bound).nonzero()[0]
    return near if len(near) == k and not in_order else near[_sorted(x[near], k)]


def _sorted(x: Array, k: int) -> Array:
    return (-x).argsort(kind="stable")[:k]


def most_probable(weights: Array, mass: float) -> Array:
    """The places of the fewest largest weights whose sum is at least `mass` times that of all.

    The largest first; of equal ones the first ones.

    Example:
        >>> most_probable(np.array([0.1, 0.4, 0.3, 0.2]), 0.7)
        array([1, 2])
    """
    n, count = len(weights), min(_FIRST, len(weights))
    wanted = mass * float(weights.sum())
    while True:
        places = largest(weights, count)
        sums = weights[places].cumsum(dtype=np.float64)
        if sums[-1] >= wanted or count == n:
            return places[: min(int(sums.searchsorted(wanted)) + 1, count)]
        count = min(4 * count, n)


def drawn(weights: Array, unit: float) -> int:
    """Place i with a probability in proportion to weights[i]; in two steps where they are many.

    Args:
        weights: (n,), none below 0, some above.
        unit: a random number in [0, 1).
    """
    n = len(weights)
    if n <= 4 * _BLOCK:
        return _place(weights, unit)
    # a group is every so manieth weight: sums of groups are sums of rows; the last has the rest
    groups = n // _BLOCK
    sums = weights[: groups * _BLOCK].reshape(_BLOCK, groups).sum(0)
    rest = weights[groups * _BLOCK :].sum(keepdims=True)
    ends = np.cumsum(np.concatenate([sums, rest]), dtype=np.float64)
    target = unit * float(ends[-1])
    group = min(int(ends.searchsorted(target, "right")), groups)
    own = (
        weights[group : groups * _BLOCK : groups] if group < groups else weights[groups * _BLOCK :]
    )
    before, size = (float(ends[group - 1]) if group else 0.0), float(ends[group])
    if not own.any():  # rounding led past the last weight
        return int(weights.argmax())
    part = (target - before) / (size - before)
    place = _place(own, part)
    return group + place * groups if group < groups else groups * _BLOCK + place


def _place(weights: Array, unit: float) -> int:
    """`drawn`, of few."""
    sums = np.add.accumulate(weights)  # in their own type: of so few the rounding tells nothing
    place = int(sums.searchsorted(unit * sums[-1], "right"))
    if place >= len(sums) or weights[place] == 0:  # rounding led past the last weight
        place = int(np.flatnonzero(weights)[-1])
    return place


def log_probability(logits: Array, token: int) -> float:
    """The logarithm of the softmax of logits at a token.

    Example:
        >>> round(log_probability(np.zeros(4, np.float32), 2), 4)
        -1.3863
    """
    top = logits.max()
    return float(logits[token] - top) - math.log(np.exp(logits - top).sum())


def _not_finite(top: float, masked: bool) -> Exception:
    if top == -np.inf:
        return SettingError(
            "no token can be chosen",
            got="-inf for every token" + (" that is allowed" if masked else ""),
            rule="at least one token with a finite logit",
            fix="let the mask allow one, or a stop token where an answer may end",
        )
    return NonFiniteError(
        "the logits are no numbers",
        got=f"a logit of {top}",
        rule="logits are finite, or -inf for a token that never comes",
        fix="check the model's weights, and tt.compile(model, check_nan=True) for where it began",
    )
