"""generate.py: greedy against all logits computed again, seeds, ends, and what goes wrong."""

import itertools

import numpy as np
import pytest

import tinytorch as tt
from tests.generation.models import LEARNED, ROTARY, greedy, logits_of, made
from tinytorch.base.errors import NonFiniteError, SettingError
from tinytorch.generation import Context, generate
from tinytorch.generation.generate import HeldBack

PROMPT = [3, 14, 15, 9, 26]


def ended(tokens):
    """(tokens, why they ended)."""
    found = []
    while True:
        try:
            found.append(next(tokens))
        except StopIteration as end:
            return found, end.value


@pytest.mark.parametrize("config", [LEARNED, ROTARY])
def test_greedy_is_the_largest_logit_each_time(config):
    """Ground truth: without a cache, everything computed again for each token."""
    model = made(config)
    found, why = ended(generate(model, PROMPT, 40, temperature=0))
    assert found == greedy(model, PROMPT, 40) and why == "length"


def test_the_context_is_filled_and_not_more():
    """Ground truth: the last token need not be read: length - T + 1 of them."""
    model = made()
    found, why = ended(generate(model, PROMPT, temperature=0))
    assert len(found) == 96 - 5 + 1 and why == "length"
    assert len(list(generate(model, [1] * 96, temperature=0))) == 1
    assert ended(generate(model, PROMPT, 0)) == ([], "length")


def test_a_context_that_slides_goes_on():
    """Ground truth: without a cache, from the newer half of a context of 16 each time it is full;
    stops, and the end that max_tokens is, stay what they are."""
    model, length = made(), 16
    context = Context(model, length)
    found, why = ended(generate(model, PROMPT, 60, temperature=0, context=context, slide=True))
    window, wanted = list(PROMPT), []
    for _ in range(60):
        if len(window) > length:
            window = window[-length // 2 :]
        wanted.append(int(logits_of(model, window)[-1].argmax()))
        window.append(wanted[-1])
    assert found == wanted and why == "length"
    assert len(context.tokens) <= length
    end = wanted[40]
    again = generate(model, PROMPT, 60, temperature=0, slide=True, stop=end, context=context)
    assert ended(again) == (wanted[: wanted.index(end)], "stop")
    for wrong in ({}, {"max_tokens": 9, "draft": model}):
        with pytest.raises(SettingError, match="cannot slide"):
            generate(model, PROMPT, slide=True, **wrong)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_seed_gives_the_same_tokens(threads):
    """Invariant: with any number of threads, whatever else is generated between."""
    model, settings = made(), {"temperature": 0.9, "top_p": 0.9, "seed": 11}
    wanted = list(generate(model, PROMPT, 30, **settings))
    tt.set_num_threads(threads)
    try:
        tokens = generate(model, PROMPT, 30, **settings)
        found = list(itertools.islice(tokens, 10))
        list(generate(model, PROMPT[:2], 5, seed=1))
        found += tokens
    finally:
        tt.set_num_threads(None)
    assert found == wanted != list(generate(model, PROMPT, 30, **(settings | {"seed": 12})))


def test_logprobs_add_up_to_the_probability_of_the_answer():
    """Ground truth: log softmax of all logits without a cache."""
    model = made()
    tokens = list(generate(model, PROMPT, 8, seed=2, logprobs=True))
    logits = logits_of(model, [*PROMPT, *tokens])[len(PROMPT) - 1 : -1].astype(float)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    wanted = logs[np.arange(8), tokens]
    np.testing.assert_allclose([t.logprob for t in tokens], wanted, rtol=0, atol=1e-4)


def test_stop_tokens_and_sequences():
    """Ground truth: the greedy answer cut by hand; what only begins a sequence is given at last."""
    model = made()
    answer = greedy(model, PROMPT, 20)
    cut = answer.index(answer[7])
    assert ended(generate(model, PROMPT, 20, temperature=0, stop=answer[7])) == (
        answer[:cut], "stop",
    )  # fmt: skip
    two = tuple(answer[4:6])
    at = next(i for i in range(19) if tuple(answer[i : i + 2]) == two)
    assert ended(generate(model, PROMPT, 20, temperature=0, stop=[two, 49])) == (
        answer[:at], "stop",
    )  # fmt: skip
    never = next(t for t in range(50) if t not in answer)
    wanted = answer, "length"
    assert ended(generate(model, PROMPT, 20, temperature=0, stop=never)) == wanted
    held = [(answer[19], never), tuple(answer[18:20]) + (never,)]
    assert ended(generate(model, PROMPT, 20, temperature=0, stop=held)) == wanted


def test_tokens_are_held_back_no_longer_than_needed():
    """Ground truth: by hand, with a sequence that overlaps itself."""
    held = HeldBack([(1, 1, 2)])
    given = [held.take(t) for t in (1, 1, 1, 3, 1, 1, 2)]
    assert given == [[], [], [1], [1, 1, 3], [], [], []] and held.is_stopped


def test_prefixes_are_reused():
    """Invariant: the answer is that of an empty context; only what is new is read."""
    model = made()
    context, read = Context(model), []
    before = context.read
    context.read = lambda tokens: read.append(len(tokens)) or before(tokens)
    first = list(generate(model, PROMPT, 6, temperature=0, context=context))
    second = list(generate(model, [*PROMPT, *first, 7], 6, temperature=0, context=context))
    assert read == [5, *[1] * 5, 2, *[1] * 5]
    assert second == greedy(model, [*PROMPT, *first, 7], 6)
    with pytest.raises(SettingError, match="that of another model"):
        generate(made(seed=1), PROMPT, context=context)


@pytest.mark.parametrize("wrong, phrase", [
    ({"prompt": []}, "no sequence of token ids"),
    ({"prompt": [1] * 97}, "longer than the context"),
    ({"prompt": [50]}, "not in the model's vocabulary"),
    ({"temperature": -1.0}, "temperature is outside"),
    ({"top_k": 0}, "top_k is not a whole number"),
    ({"top_p": 0.0}, "top_p is outside"),
    ({"max_tokens": -1}, "max_tokens is not a whole number"),
    ({"stop": [()]}, "a stop sequence is empty"),
    ({"logprobs": "yes"}, "logprobs is a yes or no"),
])  # fmt: skip
def test_wrong_arguments_are_named_at_once(wrong, phrase):
    """Ground truth: the phrase; before the first token is asked for."""
    arguments = {"prompt": PROMPT} | wrong
    with pytest.raises(SettingError, match=phrase):
        generate(made(), **arguments)


def test_top_k_above_the_vocabulary_is_all_of_it():
    """Invariant: as without."""
    model = made()
    few = [list(generate(model, PROMPT, 9, seed=0, top_k=k)) for k in (None, 50, 10_000)]
    assert few[0] == few[1] == few[2]


def test_weights_that_are_no_numbers_are_named():
    """Ground truth: NaN in one weight reaches the logits."""
    model = made()
    with tt.no_grad():
        model.norm.weight.assign_(model.norm.weight * float("nan"))
    for temperature in (0, 1):
        with pytest.raises(NonFiniteError, match="the logits are no numbers"):
            list(generate(model, PROMPT, 5, temperature=temperature))


class Interrupts:
    """A constraint that allows everything, and is interrupted at its third token."""

    def __init__(self):
        self.armed = True

    def allowed(self, tokens):
        if len(tokens) == 3 and self.armed:
            self.armed = False
            raise KeyboardInterrupt
        return np.ones(50, bool)

    def may_end(self, tokens):
        return True


def test_ctrl_c_leaves_model_and_context_usable():
    """Invariant: behind an interruption the next answer is what it would have been."""
    model, context = made(), None
    context = Context(model)
    wanted = list(generate(model, PROMPT, 12, temperature=0))
    found, interrupts = [], Interrupts()
    with pytest.raises(KeyboardInterrupt):
        for token in generate(
            model, PROMPT, 12, temperature=0, constraint=interrupts, context=context
        ):
            found.append(token)
    assert found == wanted[:3]
    for given in (context, None):
        assert list(generate(model, PROMPT, 12, temperature=0, context=given)) == wanted
    tokens = generate(model, PROMPT, 12, temperature=0)
    next(tokens)
    tokens.close()  # a loop that was left
    assert list(generate(model, PROMPT, 12, temperature=0)) == wanted
