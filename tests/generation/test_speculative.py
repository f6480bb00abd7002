"""speculative.py: guesses change no distribution, greedy answers are the same; drafts."""

import itertools

import numpy as np
import pytest

from tests.generation.models import LEARNED, ROTARY, greedy, logits_of, made
from tinytorch.base.errors import SettingError
from tinytorch.generation import ModelDraft, NGramDraft, Sampler, Sampling, generate
from tinytorch.generation.speculative import _chosen
from tinytorch.models import GPT, GPTConfig

PROMPT = [3, 14, 15, 9, 26]


class Fixed:
    """Guesses the same tokens each time; counts what it was asked."""

    def __init__(self, tokens):
        self.tokens, self.asked = tokens, []

    def guess(self, tokens, count):
        self.asked.append(len(tokens))
        return self.tokens[:count], None


class Oracle:
    """Knows the answer."""

    def __init__(self, answer, before):
        self.answer, self.before, self.asked = answer, before, 0

    def guess(self, tokens, count):
        self.asked += 1
        at = len(tokens) - self.before
        return self.answer[at : at + count], None


@pytest.mark.parametrize("config", [LEARNED, ROTARY])
@pytest.mark.parametrize("ahead", [1, 4, 31])
def test_greedy_answers_are_the_models(config, ahead):
    """Ground truth: decoding without a cache; good guesses, bad ones, another model's, n-grams."""
    model = made(config)
    wanted = greedy(model, PROMPT, 40)
    drafts = [Oracle(wanted, 5), Fixed([1, 2, 3]), Fixed([]), "ngrams", 2, made(LEARNED, seed=5)]
    for draft in drafts:
        found = list(generate(model, PROMPT, 40, temperature=0, draft=draft, ahead=ahead))
        assert found == wanted
    assert drafts[0].asked == -(-40 // (ahead + 1)) or ahead == 31


def test_the_context_is_filled_to_its_end():
    """Ground truth: as without a draft."""
    model = made()
    wanted = list(generate(model, PROMPT, temperature=0))
    for draft in (Fixed([wanted[0]] * 9), made(seed=3), Oracle(wanted, 5)):
        assert list(generate(model, PROMPT, temperature=0, draft=draft, ahead=9)) == wanted


def chi_square_bound(degrees):
    """At the level 1e-6 (Wilson and Hilferty 1931; 4.75 deviations)."""
    return degrees * (1 - 2 / (9 * degrees) + 4.75 * (2 / (9 * degrees)) ** 0.5) ** 3


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7, "top_k": 4}])
@pytest.mark.parametrize("kind", ["certain", "drawn"])
def test_a_token_has_the_models_distribution(settings, kind):
    """Pearson's chi-square of 6,000 tokens against p, for any q; the seed is fixed."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal(7).astype(np.float32) * 1.5
    q = rng.dirichlet(np.ones(7))
    sampler = Sampler(Sampling(**settings, seed=1))
    p, counts = sampler.probabilities(logits), np.zeros(7)
    for guess in rng.choice(7, 6_000, p=q):
        counts[_chosen(logits, None, sampler, int(guess), q if kind == "drawn" else None)] += 1
    some = p > 0
    assert not counts[~some].any()
    # certain guesses are one distribution for each guess: their mixture is p all the same
    chi = ((counts[some] - 6_000 * p[some]) ** 2 / (6_000 * p[some])).sum()
    assert chi < chi_square_bound(some.sum() - 1)


@pytest.mark.parametrize("draft", ["ngrams", "model"])
def test_answers_have_the_models_distribution(draft):
    """Pearson's chi-square of 500 answers of three tokens against the exact probability of each
    of the 64, from all logits without a cache."""
    config = GPTConfig(vocab=4, layers=1, heads=2, size=8, length=12)
    model, other = made(config, 1, 20.0), made(config, 2, 20.0)
    prompt, exact = [1, 2, 1], {}
    for answer in itertools.product(range(4), repeat=3):
        logits = logits_of(model, [*prompt, *answer]).astype(float)
        p = np.exp(logits - logits.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        exact[answer] = np.prod([p[2 + i, t] for i, t in enumerate(answer)])
    guesses = ModelDraft(other, seed=3) if draft == "model" else NGramDraft(1)
    counts = dict.fromkeys(exact, 0)
    for seed in range(500):
        answer = tuple(generate(model, prompt, 3, seed=seed, draft=guesses, ahead=2))
        counts[answer] += 1
    large = [a for a in exact if 500 * exact[a] >= 5]
    rest = 1 - sum(exact[a] for a in large)
    chi = sum((counts[a] - 500 * exact[a]) ** 2 / (500 * exact[a]) for a in large)
    few = sum(counts[a] for a in exact if a not in large)
    chi += (few - 500 * rest) ** 2 / max(500 * rest, 1e-9) if 500 * rest >= 5 else 0
    assert len(large) > 4 and chi < chi_square_bound(len(large))


def test_what_ngrams_guess():
    """Ground truth: by hand; the last time counts, and fewer tokens where so many never came."""
    draft = NGramDraft(3)
    assert draft.guess([1, 2, 3, 9, 1, 2, 3, 8, 1, 2, 3], 2) == ([8, 1], None)
    assert draft.guess([7, 2, 3, 9, 1, 2, 3], 5) == ([9, 1, 2, 3], None)
    assert draft.guess([1], 5) == ([], None) and draft.guess([1, 2], 5) == ([], None)


def test_wrong_drafts_are_named():
    """Ground truth: the phrase."""
    model = made()
    with pytest.raises(SettingError, match="guesses nothing"):
        generate(model, PROMPT, draft=3.5)
    with pytest.raises(SettingError, match="another vocabulary"):
        generate(model, PROMPT, draft=GPT(GPTConfig(vocab=9, layers=1, heads=1, size=8)))
    with pytest.raises(SettingError, match="n is not a whole number"):
        generate(model, PROMPT, draft=0)
