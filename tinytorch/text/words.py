"""Words and letters: how a text is cut before merging, and how GPT-2 and its like spell bytes.

Knows characters and their Unicode classes, never tokens.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Literal

import numpy as np

# How a text is cut before merging: by a model's pattern, before runs of blanks, not at all.
Words = Literal["gpt2", "llama3", "cl100k", "qwen2", "blanks", "whole"]
# Of later patterns: digits of a number that stay together.
DIGITS: dict[Words, int] = {"llama3": 3, "cl100k": 3, "qwen2": 1}

# --- bytes as characters ---


def _spelling() -> str:
    """GPT-2's order of the bytes: first those with a printable Latin-1 character, then the rest."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
    return "".join(map(chr, shown))


# Note [bytes are spelled with printable characters]
# A vocabulary file is text, a token any bytes. GPT-2 writes a byte as the Latin-1 character of that
# number where that can be seen, and the 68 others as the characters from U+0100 on: a blank is "Ġ".
# Source: Radford et al. 2019, github.com/openai/gpt-2, src/encoder.py, bytes_to_unicode.
_SHOWN = _spelling()
_HIDDEN = [b for b in range(256) if chr(b) not in _SHOWN]
LETTER = {**{ord(c): c for c in _SHOWN}, **{b: chr(256 + i) for i, b in enumerate(_HIDDEN)}}
BYTE = {letter: byte for byte, letter in LETTER.items()}


def spelled(data: bytes) -> str:
    """Bytes in GPT-2's letters.

    >>> spelled(b" to be\\n")
    'ĠtoĠbeĊ'
    """
    return "".join([LETTER[b] for b in data])


def unspelled(token: str) -> bytes:
    """The bytes that were spelled so; KeyError for a character that spells none."""
    return bytes([BYTE[c] for c in token])


# --- words ---

OTHER, ALPHA, NUMBER, SPACE = range(4)  # what a character is to GPT-2's pattern
POINTS = 0x110000  # code points there are
# Unicode's White_Space (PropList.txt). Python's own also has the four separators U+001C..U+001F.
WHITE = (
    *range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F,
    0x205F, 0x3000,
)  # fmt: skip


@cache
def classes() -> np.ndarray:
    """The class of each code point, (POINTS + 1,) uint8; the last is of bytes that are no UTF-8.

    Letters have a general category L*, numbers N*, from Python's own Unicode tables: `isalpha` asks
    for the first, and of what else is numeric the category is N* (a test asks it of all).

    Cost: 20 ms, once.
    """
    characters = np.arange(POINTS, dtype=np.uint32).view("U1")
    letters, out = np.strings.isalpha(characters), np.full(POINTS + 1, OTHER, np.uint8)
    out[:-1][np.strings.isnumeric(characters)] = NUMBER
    out[:-1][letters] = ALPHA
    out[list(WHITE)] = SPACE
    return out


def split(text: str, words: Words = "gpt2") -> list[str]:
    """The words of a text; joined they are the text again.

    "blanks" begins a word before each run of blanks, "whole" makes one of all.

    >>> split("to  be", "blanks"), split("to  be", "whole")
    (['to', '  be'], ['to  be'])
    """
    if words == "gpt2":
        return gpt2_words(text)
    if words in DIGITS:
        return later_words(text, words)
    if words == "blanks":
        return _BLANKS.findall(text)
    return [text] if text else []


_BLANKS = re.compile(r" *[^ ]+| +")


def gpt2_words(text: str) -> list[str]:
    """Words with the blank before them, runs of digits, of other signs, and of white space.

    Source: Radford et al. 2019, github.com/openai/gpt-2, src/encoder.py. Its pattern asks the
    library `regex` for the classes letter, number and white space; here they are made from Python's
    own Unicode tables.

    >>> gpt2_words("I've 2 cats,  no?")
    ['I', "'ve", ' 2', ' cats', ',', ' ', ' no', '?']
    """
    return _rule(text.isascii()).findall(text)


def later_words(text: str, words: Words = "llama3") -> list[str]:
    """Words with the sign before them, a few digits, other signs with the lines' ends behind them.

    Args:
        text: any text.
        words: "llama3", "qwen2", whose digits stand alone, or "cl100k", which differs from "llama3"
            where a text ends in white space: that is one word, lines' ends or not.

    Source: github.com/openai/tiktoken, tiktoken_ext/openai_public.py (cl100k_base), and the files
    tokenizer.json of Llama 3 and Qwen 2.

    >>> later_words("I'VE 2048 cats,\\n\\n no?")
    ['I', "'VE", ' ', '204', '8', ' cats', ',\\n\\n', ' no', '?']
    """
    return _later_rule(words, text.isascii()).findall(text)


@cache
def _rule(ascii_only: bool) -> re.Pattern[str]:
    """GPT-2's pattern; for ASCII alone it is twice as fast."""
    letters, numbers, spaces = (_ranges(kind, ascii_only) for kind in (ALPHA, NUMBER, SPACE))
    endings = "'(?:[sdmt]|re|ve|ll)"
    other = f"[^{spaces}{letters}{numbers}]+"
    return re.compile(f"{endings}| ?[{letters}]+| ?[{numbers}]+| ?{other}|{_blank(spaces)}")


@cache
def _later_rule(words: Words, ascii_only: bool) -> re.Pattern[str]:
    letters, numbers, spaces = (_ranges(kind, ascii_only) for kind in (ALPHA, NUMBER, SPACE))
    # U+017F is a small s as well.
    endings = "'(?:[sdmtSDMT\u017f]|[rR][eE]|[vV][eE]|[lL][lL])"
    word = f"[^\r\n{letters}{numbers}]?[{letters}]+"
    other = f" ?[^{spaces}{letters}{numbers}]+[\r\n]*"
    lines = f"[{spaces}]*[\r\n]"
    if words == "cl100k":
        lines = f"[{spaces}]++\\Z|{lines}"
    digits = f"[{numbers}]{{1,{DIGITS[words]}}}"
    return re.compile(f"{endings}|{word}|{digits}|{other}|{lines}|{_blank(spaces)}")


def _blank(spaces: str) -> str:
    """White space; before a word its last character is left to the word."""
    return f"[{spaces}]+(?![^{spaces}])|[{spaces}]+"


def _ranges(kind: int, ascii_only: bool) -> str:
    """All characters of a class, as ranges of a pattern."""
    inside = np.concatenate([[False], classes()[: 128 if ascii_only else POINTS] == kind, [False]])
    edges = np.flatnonzero(inside[1:] != inside[:-1]).reshape(-1, 2).tolist()
    return "".join(f"{re.escape(chr(start))}-{re.escape(chr(end - 1))}" for start, end in edges)


def last_border(text: str, words: Words = "gpt2") -> int:
    """The last place where a text may be cut: both parts have the words of the whole, whatever
    follows. It lies before white space that stands behind something else; 0 if there is none.

    >>> last_border("to be "), last_border("tobe"), last_border("to\\nbe", "blanks")
    (5, 0, 0)
    """
    if words == "whole":
        return 0
    kinds, at = classes(), len(text) - 1

    def fits() -> bool:
        here, before = text[at], text[at - 1]
        if words == "blanks":
            return here == " " and before != " "
        if kinds[ord(here)] != SPACE or kinds[ord(before)] == SPACE:
            return False
        # Later patterns leave ends of lines to the signs before them.
        return words == "gpt2" or here not in "\r\n" or kinds[ord(before)] != OTHER

    while at > 0 and not fits():
        at -= 1
    return max(at, 0)
