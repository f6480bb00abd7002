"""GPT-2's pattern and its classes of characters; bytes spelled with letters; where words end."""

import sys
import unicodedata
from typing import get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinytorch.text.words import (
    ALPHA,
    NUMBER,
    OTHER,
    SPACE,
    Words,
    classes,
    gpt2_words,
    last_border,
    later_words,
    spelled,
    split,
    unspelled,
)

# Unicode 14, PropList.txt, White_Space.
SPACES = [*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)]
SPACES += [0x2028, 0x2029, 0x202F, 0x205F, 0x3000]


def kind(c: str) -> str:
    """The class of a character in GPT-2's pattern."""
    if ord(c) in SPACES:
        return "space"
    return {"L": "letter", "N": "number"}.get(unicodedata.category(c)[0], "other")


def slow(text: str) -> list[str]:
    """GPT-2's pattern as a program: the alternatives in their order, at each place."""
    words, at = [], 0
    while at < len(text):
        endings = [e for e in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
                   if text.startswith(e, at)]  # fmt: skip
        start = at + (text[at] == " " and at + 1 < len(text))
        first = kind(text[start])
        if endings:
            end = at + len(endings[0])
        elif first != "space":
            end = run(text, start, first)
        else:
            end = run(text, at, "space")
            # Before a word the last one stays, unless it is the only one.
            end -= end < len(text) and end - at > 1
        words.append(text[at:end])
        at = end
    return words


def later(text: str, words: str) -> list[str]:
    """The pattern of Llama 3 and its like as a program."""
    found, at = [], 0
    while at < len(text):
        found.append(text[at : later_end(text, at, words)])
        at += len(found[-1])
    return found


def later_end(text: str, at: int, words: str) -> int:
    """Where the word that begins there ends: the first alternative that fits."""
    small = text[at : at + 3].lower().replace("\u017f", "s")
    for ending in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d"):
        if small.startswith(ending):
            return at + len(ending)
    first = kind(text[at])
    begin = at + (first not in ("letter", "number") and text[at] not in "\r\n")
    if begin < len(text) and kind(text[begin]) == "letter":
        return run(text, begin, "letter")
    if first == "number":
        return min(run(text, at, "number"), at + (1 if words == "qwen2" else 3))
    begin = at + (text[at] == " ")
    if begin < len(text) and kind(text[begin]) == "other":
        end = run(text, begin, "other")
        while end < len(text) and text[end] in "\r\n":
            end += 1
        return end
    end = run(text, at, "space")
    if words == "cl100k" and end == len(text):
        return end
    lines = max(text.rfind("\r", at, end), text.rfind("\n", at, end))
    return lines + 1 if lines >= 0 else end - (end < len(text) and end - at > 1)


def run(text: str, at: int, wanted: str) -> int:
    """Where the run of characters of one class ends."""
    while at < len(text) and kind(text[at]) == wanted:
        at += 1
    return at


MIXED = st.text(st.sampled_from(" \n\t'sdmtrevlLab1²一é,.-_\xa0\u2003\x1c\x85☃\U0001f642\u0300"))


@settings(deadline=None)
@given(MIXED | st.text() | st.text(st.characters(max_codepoint=127)))
@example("we'll  see\n\n I've 'S x² 10½ \x1c\x1f\x85 ")
def test_words_are_cut_as_gpt2_does(text):
    """Ground truth: the pattern as a slow program over unicodedata. (Compared once with the
    original pattern in the library regex 2026.11.15, 60,000 random texts: the same.)"""
    assert gpt2_words(text) == slow(text)
    assert "".join(gpt2_words(text)) == text


# Turned into small letters, some signs become two characters.
PLAIN = st.text(st.characters(exclude_characters="\u0130"))
LATER = MIXED | st.text(st.sampled_from(" \n\r\t'sSrReElLaB12\u017f.-é深\xa0\u2028"), max_size=20)


@pytest.mark.parametrize("words", ["llama3", "qwen2", "cl100k"])
@settings(deadline=None)
@given(text=LATER | PLAIN)
@example(text="I'VE  2048 caſe'ſ,\r\n\n \tno?\n  ")
def test_words_are_cut_as_later_models_do(words, text):
    """Ground truth: the pattern as a slow program over unicodedata. (Compared once with the
    original patterns in the library regex 2026.11.19, 60,000 random texts: the same.)"""
    assert later_words(text, words) == split(text, words) == later(text, words)
    assert "".join(split(text, words)) == text


@pytest.mark.parametrize("words", get_args(Words))
@settings(deadline=None)
@given(text=LATER, behind=LATER)
@example(text="a.\nb", behind="\n")
@example(text="a \n\n", behind="")
def test_a_border_parts_no_word(words, text, behind):
    """Invariant: the words of the whole are those of both parts, whatever follows."""
    at = last_border(text, words)
    parts = [*split(text[:at], words), *split(text[at:] + behind, words)]
    assert at == 0 or parts == split(text + behind, words)


def test_every_character_is_in_its_class():
    """Ground truth: unicodedata's category of all 1,114,112 code points; Unicode's White_Space."""
    wanted = {"letter": ALPHA, "number": NUMBER, "space": SPACE, "other": OTHER}
    every = [wanted[kind(chr(point))] for point in range(sys.maxunicode + 1)]
    assert classes().tolist() == [*every, OTHER]


@pytest.mark.parametrize("kind_of_words", ["blanks", "whole"])
@given(text=st.text(" ab\n") | st.text())
def test_words_of_other_kinds(kind_of_words, text):
    """Invariant: joined they are the text; "blanks": each begins with blanks that are not inside,
    and only the first may have none."""
    found = split(text, kind_of_words)
    assert "".join(found) == text and all(found)
    if kind_of_words == "blanks":
        assert all(word.startswith(" ") for word in found[1:])
        assert not any(" " in word.strip(" ") for word in found)


@settings(deadline=None)
@given(
    text=MIXED | st.text(" ab"),
    more=MIXED | st.text(" ab"),
    kind_of_words=st.sampled_from(["gpt2", "blanks"]),
)
@example("a ", " b", "gpt2")
@example("a \n", "b", "gpt2")
def test_at_a_border_words_end_whatever_follows(text, more, kind_of_words):
    """Ground truth: the words of the whole."""
    at = last_border(text, kind_of_words)
    parts = [*split(text[:at], kind_of_words), *split(text[at:] + more, kind_of_words)]
    assert parts == split(text + more, kind_of_words) and not last_border(text, "whole")


def test_bytes_are_spelled():
    """Ground truth: GPT-2's letters of a blank, a new line and a zero; every byte comes back."""
    assert spelled(b" \n\0a") == "ĠĊĀa"
    data = bytes(range(256))
    assert unspelled(spelled(data)) == data
    with pytest.raises(KeyError):
        unspelled(" ")
