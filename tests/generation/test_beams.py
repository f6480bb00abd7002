"""beams.py: against all answers, against greedy decoding, and what a beam is there for."""

import itertools

import numpy as np
import pytest

import tinytorch as tt
from tests.generation.models import greedy, logits_of, made
from tinytorch.base.errors import NonFiniteError, SettingError
from tinytorch.generation import beam_search
from tinytorch.generation.context import borrow
from tinytorch.models import GPTConfig

SMALL = GPTConfig(vocab=4, layers=1, heads=2, size=8, length=12)


def logs_of(model, tokens):
    logits = logits_of(model, tokens).astype(float)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def all_answers(model, prompt, count, stop, penalty):
    """Every answer of at most `count` tokens with its score, the best first."""
    found = []
    for n in range(count + 1):
        for answer in itertools.product([t for t in range(4) if t != stop], repeat=n):
            if n == count:
                whole = answer
            else:
                whole = (*answer, stop)
            logs = logs_of(model, [*prompt, *whole])[len(prompt) - 1 : -1]
            total = sum(logs[i, t] for i, t in enumerate(whole))
            found.append((answer, total, total / len(whole) ** penalty))
    return sorted(found, key=lambda f: -f[2])


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_with_enough_beams_the_best_answers_are_found(penalty):
    """Ground truth: all answers of at most three tokens, from logits without a cache."""
    model = made(SMALL, 1, 20.0)
    wanted = all_answers(model, [1, 2], 3, 3, penalty)
    found = beam_search(model, [1, 2], 3, beams=40, stop=3, length_penalty=penalty)
    assert len(found) == len(wanted) == 40
    for beam, (_, _, score) in zip(found, wanted, strict=True):
        assert beam.score == pytest.approx(score, abs=1e-4)
        same = next(w for w in wanted if w[0] == beam.tokens)
        assert beam.logprob == pytest.approx(same[1], abs=1e-4)
    few = beam_search(model, [1, 2], 3, beams=5, stop=3, length_penalty=penalty)
    assert few[0].score <= wanted[0][2] + 1e-4


def test_one_beam_is_greedy():
    """Ground truth: the largest logit each time."""
    model = made()
    (beam,) = beam_search(model, [3, 1, 4], 20, beams=1)
    assert list(beam.tokens) == greedy(model, [3, 1, 4], 20)
    logs = logs_of(model, [3, 1, 4, *beam.tokens])[2:-1]
    assert beam.logprob == pytest.approx(logs[np.arange(20), beam.tokens].sum(), abs=1e-3)


def test_programs_are_recorded_once():
    """Ground truth: one for prompts and one for steps, however often it is called; of another
    number of beams others."""
    model = made()
    beam_search(model, [2, 7], 5, beams=2)
    first = beam_search(model, [3, 1, 4], 8, beams=3)
    assert beam_search(model, [2, 7], 5, beams=3)
    assert beam_search(model, [3, 1, 4], 8, beams=3) == first
    contexts = [borrow(model, batch=beams) for beams in (2, 3)]
    assert [(c.batch, c.compilations) for c in contexts] == [(2, 2), (3, 2)]


def test_more_beams_find_better_answers():
    """Invariant: the most probable answer of eight beams is no worse than that of one."""
    worse = 0
    for seed in range(4):
        model = made(seed=seed)
        one, many = (beam_search(model, [3, 1, 4], 12, beams=n)[0].logprob for n in (1, 8))
        assert many >= one - 1e-3
        worse += many > one + 1e-3
    assert worse


def test_stop_sequences_end_answers():
    """Ground truth: no answer has one; the context may end before."""
    model = made(SMALL, 1, 20.0)
    for beam in beam_search(model, [1, 2], beams=4, stop=[3, (0, 0)]):
        text = ",".join(map(str, beam.tokens))
        assert "3" not in text and "0,0" not in text and len(beam.tokens) <= 11
    assert beam_search(model, [1], 0) == []


def test_what_goes_wrong_is_named():
    """Ground truth: the phrase."""
    model = made(SMALL)
    for wrong, phrase in (({"beams": 0}, "beams"), ({"length_penalty": -1}, "length_penalty")):
        with pytest.raises(SettingError, match=phrase):
            beam_search(model, [1], 3, **wrong)
    with pytest.raises(SettingError, match="no sequence of token ids"):
        beam_search(model, [], 3)
    with tt.no_grad():
        model.norm.weight.assign_(model.norm.weight * float("nan"))
    with pytest.raises(NonFiniteError, match="no numbers"):
        beam_search(model, [1], 3)
