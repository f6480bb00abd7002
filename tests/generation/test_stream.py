"""stream.py: pieces of whole characters, stop strings across tokens, tokenizers and functions."""

import numpy as np
import pytest

from tests.generation.models import LEARNED, greedy, made
from tinytorch.base.errors import SettingError
from tinytorch.generation import stream
from tinytorch.generation.stream import _streamed
from tinytorch.text import CharacterTokenizer

TEXT = "Ein süßes Stück: 一番 🙂 und Schluß"


def given(ids, why="length"):
    yield from ids
    return why


def pieces(ids, decode, stops=()):
    return list(_streamed(given(ids), decode, list(stops)))


def as_text(ids):
    return bytes(ids).decode(errors="replace")


@pytest.mark.parametrize("decode", [bytes, as_text])
def test_pieces_are_whole_characters(decode):
    """Ground truth: the text; every byte is a token, every piece a character."""
    assert pieces(TEXT.encode(), decode) == list(TEXT)


@pytest.mark.parametrize("decode", [bytes, as_text])
def test_bytes_that_are_no_text_are_given_as_the_replacement_character(decode):
    """Ground truth: Python's own decoder."""
    for bad in (b"a\xff\xfeb", "ab🙂".encode()[:-1], b"\xc3", b"\xff" * 6 + b"x"):
        assert "".join(pieces(bad, decode)) == bad.decode(errors="replace")


@pytest.mark.parametrize("decode", [bytes, as_text])
@pytest.mark.parametrize("stop", ["Stück", "🙂", "ß", "Schlu", "E", "zzz", ": 一"])
def test_stop_strings_across_tokens(decode, stop):
    """Ground truth: the text before the string."""
    found = pieces(TEXT.encode(), decode, [stop, "never comes"])
    assert "".join(found) == TEXT.split(stop)[0] and "" not in found


def test_the_first_of_several_stop_strings_counts():
    """Ground truth: by hand; one that ends later may begin earlier."""
    assert "".join(pieces(b"abcdefg", bytes, ["ef", "cdefgh"])) == "abcd"
    assert pieces(b"aab", bytes, ["ab"]) == ["a"]
    assert pieces(b"abxabc", bytes, ["abc"])[0] == "ab" + "x"


def test_a_tokenizer_that_writes_blanks_between_words():
    """Ground truth: the whole text at once; a blank depends on the token before."""
    words = ["so", "geht", "es", "auch", "gut"]

    def decode(ids):
        return " ".join(words[i] for i in ids)

    assert pieces([0, 1, 2, 3, 4], decode) == ["so", " geht", " es", " auch", " gut"]


def test_models_and_tokenizers():
    """Ground truth: the greedy tokens, spelled by the tokenizer; text in and text out."""
    letters = "".join(chr(97 + i) for i in range(26)) + "ABCDEFGHIJKLMNOPQRSTUVWX"
    tokenizer, model = CharacterTokenizer(letters), made(LEARNED)
    prompt = tokenizer.encode("hello")
    answer = tokenizer.decode(np.array(greedy(model, prompt, 20)))
    for ids in ("hello", prompt):
        for decoder in (tokenizer, tokenizer.decode):
            if isinstance(ids, str) and decoder is not tokenizer:
                continue
            found = list(stream(model, ids, decoder, 20, temperature=0))
            assert "".join(found) == answer
    cut = "".join(stream(model, "hello", tokenizer, 20, temperature=0, stop=answer[5:8]))
    assert cut == answer[: answer.index(answer[5:8])]
    with pytest.raises(SettingError, match="needs a tokenizer"):
        stream(model, "hello", tokenizer.decode)
    for wrong in ("", ["a", ""]):
        with pytest.raises(SettingError, match="a stop string is empty"):
            stream(model, "hello", tokenizer, stop=wrong)
