"""batcher.py: each answer is what it is alone, to the last bit; pages, waiting, what goes wrong."""

import numpy as np
import pytest

import tinytorch as tt
from tests.generation.models import LEARNED, ROTARY, made
from tinytorch.base.errors import NonFiniteError, SettingError
from tinytorch.generation import Batcher, generate, generate_batch

RNG = np.random.default_rng(0)
PROMPTS = [RNG.integers(0, 50, n).tolist() for n in (3, 17, 1, 40, 8, 30, 2)]
MODES = [{"temperature": 0}, {"top_p": 0.9}, {"top_k": 5, "repetition_penalty": 1.2}]


def settings_of(i):
    return {"max_tokens": 10 + 3 * i, "seed": i, "logprobs": True, **MODES[i % 3]}


def bits(tokens):
    return [(int(t), t.logprob) for t in tokens]


def alone(model, i, slots, **more):
    batcher = Batcher(model, slots, **more)
    request = batcher.submit(PROMPTS[i], **settings_of(i))
    batcher.run()
    return bits(request.tokens)


@pytest.mark.parametrize("config", [LEARNED, ROTARY])
@pytest.mark.parametrize("more", [{}, {"dtype": "int8"}])
def test_an_answer_is_what_it_is_alone(config, more):
    """Invariant: to the last bit of each logprob, whoever joins and leaves beside it, in whichever
    slot and pages; by a batcher of as many slots."""
    model = made(config)
    wanted = [alone(model, i, 3, **more) for i in range(7)]
    batcher = Batcher(model, 3, pages=5, **more)
    requests, waits = [], 0
    for i, prompt in enumerate(PROMPTS):
        requests.append(batcher.submit(prompt, **settings_of(i)))
        if i % 2:
            batcher.step()
        waits += len(batcher.waiting)
    batcher.run()
    assert waits and [bits(r.tokens) for r in requests] == wanted
    assert batcher.free_pages == 5 and {r.reason for r in requests} == {"length"}


def test_answers_are_those_of_generate():
    """Invariant: the same tokens; logprobs to rounding, since products of one row are another
    program."""
    model = made(ROTARY)
    found = generate_batch(model, PROMPTS, 12, temperature=0, logprobs=True)
    for prompt, tokens in zip(PROMPTS, found, strict=True):
        wanted = list(generate(model, prompt, 12, temperature=0, logprobs=True))
        assert tokens == wanted
        np.testing.assert_allclose(
            [t.logprob for t in tokens], [t.logprob for t in wanted], rtol=0, atol=1e-4
        )
    assert generate_batch(model, []) == []
    one, two = (generate_batch(model, [PROMPTS[0]] * 2, 12, seed=s)[1 - s] for s in (0, 1))
    assert one == two


def test_programs_are_recorded_once():
    """Ground truth: one for steps, one for prompts of any length."""
    batcher = Batcher(made(), 2)
    for i, prompt in enumerate(PROMPTS[:5]):
        batcher.submit(prompt, 4 + i)
    batcher.run()
    assert (batcher._step.captures, batcher._read.captures) == (1, 1)


def test_pages_are_given_and_taken_back():
    """Ground truth: by counting; one that does not fit waits, and nobody overtakes it."""
    batcher = Batcher(made(), 4, page=32, pages=4)
    large = batcher.submit([1] * 60, 5)  # 64 places: two pages
    small = batcher.submit([1] * 3, 3)
    batcher.step()
    assert batcher.free_pages == 1 and len(batcher.running) == 2
    larger = batcher.submit([1] * 33, 32)  # 64 places: two pages, and one is free
    last = batcher.submit([1], 2)
    batcher.step()
    assert batcher.waiting == [larger, last] and not larger.tokens
    batcher.step()
    assert small.is_done and batcher.running == [large]
    batcher.step()
    assert batcher.running == [large, larger] and batcher.waiting == [last]
    batcher.cancel(large)
    batcher.cancel(large)
    assert large.reason == "cancelled" and len(large.tokens) == 4
    batcher.cancel(larger)
    batcher.run()
    assert last.reason == "length" and batcher.free_pages == 4 and not batcher.step()


def test_what_does_not_fit_is_refused():
    """Ground truth: the phrase, at once."""
    batcher = Batcher(made(), 2, page=32, pages=2)
    with pytest.raises(SettingError, match="more pages than there are"):
        batcher.submit([1] * 60, 10)
    with pytest.raises(SettingError, match="longer than the context"):
        batcher.submit([1] * 97)
    with pytest.raises(SettingError, match="no sequence of token ids"):
        batcher.submit([])
    with pytest.raises(SettingError, match="temperature"):
        batcher.submit([1], temperature=-1)
    with pytest.raises(SettingError, match="does not fit the kernel"):
        Batcher(made(), 2, page=40)
    assert batcher.submit([1], 0).reason == "length" and not batcher.waiting


class Breaks:
    """A constraint that raises at its second token."""

    def __init__(self, error):
        self.error = error

    def allowed(self, tokens):
        if len(tokens) == 1 and self.error is not None:
            error, self.error = self.error, None
            raise error
        return np.ones(50, bool)

    def may_end(self, tokens):
        return True


def test_one_that_fails_leaves_the_others_alone():
    """Invariant: the others' answers are what they are alone; `run` raises at its end."""
    model = made()
    batcher = Batcher(model, 3)
    bad = batcher.submit([1, 2], 9, constraint=Breaks(NonFiniteError("a", got=1, rule=2, fix=3)))
    good = batcher.submit(PROMPTS[1], **settings_of(1))
    with pytest.raises(NonFiniteError):
        batcher.run()
    assert bad.reason == "error" and len(bad.tokens) == 1
    assert bits(good.tokens) == alone(model, 1, 3)


def test_ctrl_c_in_a_step():
    """Invariant: the next steps go on as if nothing had been."""
    model = made()
    wanted = [alone(model, i, 3) for i in range(3)]
    batcher = Batcher(model, 3)
    requests = [
        batcher.submit(
            PROMPTS[i], **settings_of(i), constraint=Breaks(KeyboardInterrupt() if i == 1 else None)
        )
        for i in range(3)
    ]
    with pytest.raises(KeyboardInterrupt):
        batcher.run()
    batcher.run()
    assert [bits(r.tokens) for r in requests] == wanted


def test_stops_and_logprobs_and_threads():
    """Invariant: as `generate` ends; any number of threads, the same bits."""
    model = made()
    answer = list(generate(model, PROMPTS[0], 20, temperature=0))
    stop = [tuple(answer[5:7])]
    wanted = list(generate(model, PROMPTS[0], 20, temperature=0, stop=stop))
    batcher = Batcher(model, 2)
    request = batcher.submit(PROMPTS[0], 20, temperature=0, stop=stop)
    batcher.run()
    assert request.tokens == wanted and request.reason == "stop"
    many = alone(model, 2, 2)
    tt.set_num_threads(1)
    try:
        assert alone(model, 2, 2) == many
    finally:
        tt.set_num_threads(None)
