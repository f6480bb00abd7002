"""constraints.py: masks against a slow definition, and answers that are what was asked for."""

import json
import re

import numpy as np
import pytest

from tests.generation.models import made
from tinytorch.base.errors import SettingError
from tinytorch.generation import (
    Batcher,
    Choices,
    Grammar,
    Json,
    Regex,
    beam_search,
    generate,
    matches,
)

# 50 tokens: single characters, pieces of several, of UTF-8 cut in two, and two that are no text
PIECES = [c.encode() for c in '{}[]:,"0123456789.-abcdef truls\n'] + [
    b'": ', b'{"', b"true", b"null", b"\xc3", b"\xbc", "ü".encode(), b'"a"', b"]}",
    b"fals", b"-1", b"ab", b"\\", b"\\n", b"\xf0\x9f", b"\x99\x82", b"", None,
]  # fmt: skip
END = 49
PROMPT = [3, 14, 15]


def text_of(tokens):
    return b"".join(PIECES[t] or b"" for t in tokens)


def slow(language, tokens):
    """Which tokens leave a state, each byte by byte from the beginning."""
    found = []
    for piece in PIECES:
        state = language.start
        for byte in text_of(tokens) + (piece or b""):
            state = None if state is None else language.step(state, byte)
        found.append(bool(piece) and state is not None)
    return found


@pytest.mark.parametrize("language", [Regex('[a-f]+|"[^"]*"'), Json(), Regex("ü{1,3}🙂?")])
def test_masks_are_their_definition(language):
    """Ground truth: `slow`; along random walks, and going back to earlier ones."""
    grammar, rng = Grammar(language, PIECES), np.random.default_rng(0)
    for _ in range(12):
        tokens = []
        for _ in range(8):
            mask = grammar.allowed(tokens)
            assert mask.tolist() == slow(language, tokens)
            assert grammar.may_end(tokens) == matches(language, text_of(tokens))
            if not mask.any():
                break
            tokens.append(int(rng.choice(np.flatnonzero(mask))))
    assert not grammar.allowed([END]).any() and not grammar.may_end([END])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("settings", [{}, {"draft": "ngrams"}, {"temperature": 0}])
def test_answers_match_the_expression(seed, settings):
    """Ground truth: Python's `re` and `json`, on the text of the answer."""
    model = made()
    number = Grammar(r"-?[1-9]\d{0,3}(\.\d{2})?", PIECES)
    tokens = list(generate(model, PROMPT, 30, seed=seed, constraint=number, stop=END, **settings))
    assert re.fullmatch(r"-?[1-9]\d{0,3}(\.\d{2})?", text_of(tokens).decode())
    value = Grammar.json(PIECES, "array", depth=3, blanks=1)
    tokens = generate(model, PROMPT, 90, seed=seed, constraint=value, stop=END, **settings)
    found = []
    while True:
        try:
            found.append(next(tokens))
        except StopIteration as end:
            why = end.value
            break
    if why == "stop":
        json.loads(text_of(found))
    else:
        assert len(found) == 90 and value.allowed(found).any()


def test_an_answer_ends_where_nothing_may_follow():
    """Ground truth: the one text; no stop token is needed, and its reason is "stop"."""
    tokens = generate(made(), PROMPT, 30, constraint=Grammar("true", PIECES), seed=0)
    assert text_of(list(tokens)) == b"true"
    batcher = Batcher(made(), 2)
    request = batcher.submit(PROMPT, 30, constraint=Grammar("true|null", PIECES), seed=0)
    batcher.run()
    assert text_of(request.tokens) in (b"true", b"null") and request.reason == "stop"


def test_choices():
    """Ground truth: membership; the probable one comes; one that begins another needs a stop."""
    model, choices = made(), [[1, 2], [1, 3, 4], [7]]
    asked = Choices(choices, 50)
    found = {tuple(generate(model, PROMPT, constraint=asked, seed=s, temperature=3.0))
             for s in range(40)}  # fmt: skip
    assert found == {(1, 2), (1, 3, 4), (7,)}
    nested = Choices([[1], [1, 2]], 50)
    assert list(generate(model, PROMPT, constraint=nested, seed=0)) == [1, 2]
    ends = {tuple(generate(model, PROMPT, constraint=nested, seed=s, stop=9, temperature=9.0))
            for s in range(20)}  # fmt: skip
    assert ends == {(1,), (1, 2)}
    for wrong in ([], [[]], [[50]], [[-1]]):
        with pytest.raises(SettingError, match="what cannot be chosen"):
            Choices(wrong, 50)


def test_a_function_of_the_answer_is_a_mask():
    """Ground truth: only even tokens; none any more ends the answer."""
    even = np.arange(50) % 2 == 0
    tokens = list(generate(made(), PROMPT, 9, seed=1, constraint=lambda a: even & (len(a) < 5)))
    assert len(tokens) == 5 and all(t % 2 == 0 for t in tokens)


def test_a_language_that_the_tokens_cannot_write():
    """Ground truth: no token has a "z"."""
    with pytest.raises(SettingError, match="no token goes on"):
        list(generate(made(), PROMPT, 9, constraint=Grammar("az", PIECES)))
    assert beam_search(made(), PROMPT, 2, beams=2)
