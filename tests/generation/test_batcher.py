"""batcher.py: each answer is what it is alone, to the last bit; pages, waiting, what goes wrong."""

from dataclasses import replace

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


def alone(batcher, i):
    """The answer of a batcher in which nobody is and that has read nothing that begins alike."""
    batcher._pages.forget()
    request = batcher.submit(PROMPTS[i], **settings_of(i))
    batcher.run()
    assert request.reused == 0
    return bits(request.tokens)


@pytest.mark.parametrize("config", [LEARNED, ROTARY])
@pytest.mark.parametrize("more", [{}, {"dtype": "int8"}])
def test_an_answer_is_what_it_is_alone(config, more):
    """Invariant: to the last bit of each logprob, whoever joins and leaves beside it, in whichever
    slot and pages; by a batcher of as many slots."""
    model = made(config)
    empty, batcher = Batcher(model, 3, **more), Batcher(model, 3, pages=5, **more)
    wanted = [alone(empty, i) for i in range(7)]
    requests, waits = [], 0
    for i, prompt in enumerate(PROMPTS):
        requests.append(batcher.submit(prompt, **settings_of(i)))
        if i % 2:
            batcher.step()
        waits += len(batcher.waiting)
    batcher.run()
    assert waits and [bits(r.tokens) for r in requests] == wanted
    assert batcher.free_pages == 5 and {r.reason for r in requests} == {"length"}


def long_ones(seed=1):
    """Prompts of 70 to 140 tokens: several that begin alike, one that does not."""
    draw = np.random.default_rng(seed)
    start, other = draw.integers(0, 50, 100).tolist(), draw.integers(0, 50, 140).tolist()
    return [[*start[:n], *draw.integers(0, 50, 12).tolist()] for n in (100, 64, 96, 70)] + [other]


@pytest.mark.parametrize(
    ("config", "piece", "more"),
    [(LEARNED, 64, {}), (ROTARY, 37, {"dtype": "int8"}), (ROTARY, 256, {"window": 200})],
)
def test_beginnings_are_shared_and_pieces_change_nothing(config, piece, more):
    """Invariant: an answer is to the last bit what it is alone, whatever it shares with whom, and
    wherever its pieces begin by that; how much is shared, by counting pages of 32."""
    model = made(replace(config, length=256))
    settings = {"max_tokens": 6, "temperature": 0, "logprobs": True}
    batchers = [Batcher(model, 3, page=32, piece=piece, **more) for _ in range(2)]
    wanted, prompts = [], long_ones()
    for prompt in prompts:
        batchers[0]._pages.forget()
        wanted.append(batchers[0].submit(prompt, **settings))
        batchers[0].run()
        assert wanted[-1].reused == 0
    found = [batchers[1].submit(prompt, **settings) for prompt in prompts]
    batchers[1].run()
    assert [bits(r.tokens) for r in found] == [bits(r.tokens) for r in wanted]
    assert [r.reused for r in found] == [0, 64, 96, 64, 0]
    again = batchers[1].submit(prompts[-1], **settings)
    batchers[1].run()
    assert bits(again.tokens) == bits(wanted[-1].tokens) and again.reused == 128


def test_pieces_change_no_bit():
    """Invariant: one program for pieces of up to 64 tokens gives the same last logits."""
    model, prompt, found = made(replace(ROTARY, length=256)), long_ones()[-1], []
    batcher = Batcher(model, 1, piece=64)
    for size in (64, 33, 7):
        batcher.piece = size
        batcher._pages.forget()
        found.append(batcher.submit(prompt, 1, logprobs=True, temperature=0))
        batcher.run()
    assert batcher._read.captures == 1
    assert bits(found[0].tokens) == bits(found[1].tokens) == bits(found[2].tokens)


def test_those_that_come_together_share_what_the_first_has_read():
    """Ground truth: by counting: the second takes each page as soon as the first has filled it, and
    reads its own 12 tokens."""
    batcher = Batcher(made(replace(LEARNED, length=256)), 2, page=32, piece=32)
    prompts = long_ones()
    first, second = (batcher.submit(p, 3, temperature=0) for p in prompts[:2])
    batcher.step()
    assert (first.at, second.at, batcher.free_pages) == (32, 32, 16 - 4 - 2)
    batcher.step()
    assert (first.at, second.at) == (64, 64)
    batcher.run()
    assert second.reused == 64 and batcher.free_pages == 16


def test_a_long_prompt_does_not_hold_up_the_others():
    """Ground truth: by counting: one token of the answer for each piece of 16 tokens."""
    batcher = Batcher(made(replace(LEARNED, length=256)), 2, piece=16)
    short = batcher.submit([1, 2], 20, temperature=0)
    batcher.step()
    long = batcher.submit(long_ones()[-1], 2, temperature=0)
    for count in range(2, 10):
        batcher.step()
        assert (len(short.tokens), long.at, len(long.tokens)) == (count, 16 * (count - 1), 0)
    batcher.step()
    assert long.at == 140 and len(long.tokens) == 1


def test_pages_are_kept_until_their_place_is_needed():
    """Ground truth: three prompts of two pages in five; who was used longest ago goes."""
    model = made(replace(LEARNED, length=256))
    batcher = Batcher(model, 1, page=32, pages=5, piece=256)
    prompts = [np.random.default_rng(i).integers(0, 50, 64).tolist() for i in range(3)]

    def reused(i):
        request = batcher.submit([*prompts[i], 7], 1, temperature=0)
        batcher.run()
        assert request.tokens and batcher.free_pages == 5
        return request.reused

    assert [reused(i) for i in (0, 1, 0)] == [0, 0, 64]  # three pages each, two of them kept
    assert [reused(i) for i in (2, 0, 1)] == [0, 64, 0]
    with tt.no_grad():
        model.head.weight.assign_(model.head.weight * 2.0)
    assert reused(0) == 0


def test_a_window_that_comes_around_shares_nothing():
    """Ground truth: pages that are overwritten are nobody else's; answers are what they are."""
    model = made(replace(ROTARY, length=700))
    prompt = np.random.default_rng(0).integers(0, 50, 600).tolist()
    batcher = Batcher(model, 1, page=32, piece=256, window=40)
    answers = []
    for _ in range(2):
        request = batcher.submit(prompt, 5, temperature=0, logprobs=True)
        batcher.run()
        assert request.reused == 0
        answers.append(bits(request.tokens))
    assert answers[0] == answers[1]


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
    batcher = Batcher(made(), 4, page=32, pages=4, piece=64)
    large = batcher.submit([1] * 60, 5)  # 64 places: two pages
    small = batcher.submit([1] * 3, 3)
    batcher.step()
    assert batcher.free_pages == 1 and len(batcher.running) == 2
    larger = batcher.submit([2] * 33, 32)  # 64 places: two pages, and one is free
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
    with pytest.raises(SettingError, match="piece"):
        Batcher(made(), 2, piece=0)
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
    assert bits(good.tokens) == alone(Batcher(model, 3), 1)


def test_ctrl_c_in_a_step():
    """Invariant: the next steps go on as if nothing had been."""
    model = made()
    batcher = Batcher(model, 3)
    wanted = [alone(batcher, i) for i in range(3)]
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
    many = alone(batcher, 2)
    tt.set_num_threads(1)
    try:
        assert alone(Batcher(model, 2), 2) == many
    finally:
        tt.set_num_threads(None)
