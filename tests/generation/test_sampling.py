"""sampling.py: each filter against a slow definition, draws against exact probabilities, seeds."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import NonFiniteError, SettingError
from tinytorch.generation.sampling import (
    Sampler,
    Sampling,
    Token,
    drawn,
    largest,
    log_probability,
    most_probable,
)


def numbers(n, seed=0, ties=False, dtype=np.float32):
    x = np.random.default_rng(seed).standard_normal(n) * 3
    return (np.round(x) if ties else x).astype(dtype)


def softmax(x):
    x = x.astype(np.longdouble)
    powers = np.exp(x - x.max())
    return powers / powers.sum()


def slow(logits, s: Sampling, seen=()):
    """The probabilities token by token, in the order that the docstring gives."""
    x = [float(v) for v in logits]
    for t in set(seen):
        x[t] = x[t] / s.repetition_penalty if x[t] > 0 else x[t] * s.repetition_penalty
    order = sorted(range(len(x)), key=lambda t: (-x[t], t))
    if s.temperature == 0:
        return np.eye(len(x))[order[0]]
    kept = order[: s.top_k] if s.top_k else order
    p = softmax(np.array([x[t] / s.temperature for t in kept]))
    total, few = 0, []
    for t, mass in zip(kept, p, strict=True):
        if total < s.top_p or s.top_p == 1:
            few.append((t, mass))
        total += mass
    few = [(t, mass) for t, mass in few if mass >= s.min_p * p[0]]
    out, whole = np.zeros(len(x)), sum(mass for _, mass in few)
    for t, mass in few:
        out[t] = mass / whole
    return out


SETTINGS = [
    {}, {"temperature": 0}, {"temperature": 0.3}, {"temperature": 40.0}, {"top_k": 1}, {"top_k": 7},
    {"temperature": 1e-300}, {"temperature": 1e-9}, {"temperature": 1e300},
    {"top_k": 100_000}, {"top_p": 0.9}, {"top_p": 0.05}, {"min_p": 0.1}, {"min_p": 1.0},
    {"repetition_penalty": 1.7}, {"repetition_penalty": 0.5, "temperature": 0},
    {"temperature": 0.7, "top_k": 40, "top_p": 0.8, "min_p": 0.02, "repetition_penalty": 1.2},
]  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("n", [1, 5, 65, 3000])
def test_each_filter_is_its_definition(settings, n):
    """Ground truth: `slow`; float32 weights are within 16 units in the last place of exp, and the
    largest of 20,000 logits divided by 0.3 is 40: 40 * 2^-23 more."""
    for ties in (False, True):
        logits, seen = numbers(n, ties=ties), [0, n // 2, n - 1]
        s = Sampling(**settings)
        found = Sampler(s, seen=seen).probabilities(logits)
        wanted = slow(logits, s, seen)
        if s.top_p == 1:  # the border of top-p may fall on another token by rounding
            assert ((found > 0) == (wanted > 1e-38)).all()
        np.testing.assert_allclose(found, wanted.astype(float), rtol=0, atol=2e-5)


def test_the_largest_and_the_most_probable():
    """Ground truth: a stable sort."""
    for n in (1, 3, 64, 129, 5000):
        for ties in (False, True):
            x = numbers(n, seed=n, ties=ties)
            order = np.argsort(-x, kind="stable")
            for k in {1, min(n, 3), min(n, 50), n}:
                assert largest(x, k).tolist() == order[:k].tolist()
            weights = np.exp(x)
            sums = np.cumsum(weights[order], dtype=float)
            for mass in (0.01, 0.5, 0.999, 1.0):
                kept = most_probable(weights, mass)
                assert kept.tolist() == order[: len(kept)].tolist()
                before = sums[len(kept) - 2] if len(kept) > 1 else 0.0
                rounding = 1e-6 * sums[-1]  # of the sum of all, in float32
                assert before - rounding <= mass * sums[-1] <= sums[len(kept) - 1] + rounding


@pytest.mark.parametrize("n", [6, 300])
def test_draws_have_the_probabilities(n):
    """Pearson's chi-square of 10,000 draws against the exact probabilities, at the level 1e-6; the
    seed is fixed."""
    logits = numbers(n, seed=4) / 2
    sampler = Sampler(Sampling(temperature=0.8, top_k=min(n, 12), seed=5))
    p = sampler.probabilities(logits)
    counts = np.bincount([sampler(logits) for _ in range(10_000)], minlength=n)
    assert not counts[p == 0].any()
    some = p > 0
    chi = ((counts[some] - 10_000 * p[some]) ** 2 / (10_000 * p[some])).sum()
    degrees = some.sum() - 1  # Wilson and Hilferty 1931; 4.75 deviations are 1e-6
    bound = degrees * (1 - 2 / (9 * degrees) + 4.75 * (2 / (9 * degrees)) ** 0.5) ** 3
    assert chi < bound


@pytest.mark.parametrize("n", [257, 1000, 50_257])
def test_many_tokens_are_drawn_from_in_two_steps(n):
    """Ground truth: going through the unit interval, each token takes its probability of it: 4,000
    equal steps find each of the probable ones as often as it is probable, to one step a border
    (there are as many as groups) and the rounding of float32 sums."""
    weights = np.exp(numbers(n, seed=9) * 3)
    weights[::7] = 0
    p, steps = weights / weights.sum(dtype=float), 4000
    counts = np.bincount([drawn(weights, (i + 0.5) / steps) for i in range(steps)], minlength=n)
    assert not counts[::7].any()
    assert (np.abs(counts - steps * p) <= 2 + 1e-5 * steps).all()
    for unit in (0.0, 1 - 2.0**-53):
        assert weights[drawn(weights, unit)] > 0


def test_seeds():
    """Invariant: the same seed, the same tokens; `manual_seed` decides where none is given."""
    logits = numbers(100)

    def tokens(seed, before=None):
        if before is not None:
            tt.manual_seed(before)
        sampler = Sampler(Sampling(seed=seed))
        return [sampler(logits) for _ in range(100)]

    assert tokens(1) == tokens(1) != tokens(2)
    assert tokens(None, 7) == tokens(None, 7) != tokens(None, 8)
    tt.manual_seed(7)
    assert tokens(None) != tokens(None)


def test_logprobs_are_the_models_own():
    """Closed form: log softmax, whatever the temperature."""
    logits = numbers(1000)
    token = Sampler(Sampling(temperature=0.1, seed=0), logprobs=True)(logits)
    assert token.logprob == pytest.approx(float(np.log(softmax(logits)[token])), rel=1e-5)
    assert log_probability(np.float32([0, -np.inf]), 1) == -np.inf
    assert Token(3).logprob is None and isinstance(Token(3), int)


def test_masks_and_penalties_go_on():
    """Ground truth: what is not allowed never comes; what came is penalised from then on."""
    logits = np.float32([5, 4, 3, 2])
    allowed = np.array([False, True, True, False])
    sampler = Sampler(Sampling(temperature=0, repetition_penalty=2.0))
    assert [sampler(logits, allowed) for _ in range(3)] == [1, 2, 1]
    assert [Sampler(Sampling(temperature=0))(logits) for _ in range(2)] == [0, 0]


@pytest.mark.parametrize("wrong", [
    {"temperature": -0.1}, {"temperature": float("nan")}, {"top_k": 0}, {"top_p": 0.0},
    {"top_p": 1.5}, {"min_p": -1}, {"repetition_penalty": 0}, {"seed": -1}, {"top_k": 2.5},
])  # fmt: skip
def test_settings_outside_their_range_are_named(wrong):
    """Ground truth: the name in the message."""
    with pytest.raises(SettingError, match=next(iter(wrong))):
        Sampling(**wrong)


def test_logits_that_are_no_numbers():
    """Ground truth: NaN and +inf are refused, -inf is a token that never comes."""
    for bad in (np.nan, np.inf):
        for settings in ({}, {"temperature": 0}, {"top_k": 2}):
            with pytest.raises(NonFiniteError, match="no numbers"):
                Sampler(Sampling(**settings))(np.float32([0, bad, 1]))
    sampler = Sampler(Sampling(seed=0))
    assert {int(sampler(np.float32([-np.inf, 0, -np.inf]))) for _ in range(9)} == {1}
    with pytest.raises(SettingError, match="no token can be chosen"):
        sampler(np.float32([-np.inf, -np.inf]))
    with pytest.raises(SettingError, match="no token can be chosen"):
        sampler(np.float32([1, 2]), np.array([False, False]))
