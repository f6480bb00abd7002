"""GPT-2's rule for cutting a text into words, and its spelling of bytes as characters.

Knows classes of characters, never tokens.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache
from itertools import groupby

# Unicode's White_Space. Python's own \s also takes the four separators U+001C..U+001F.
SPACES = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


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


def split(text: str) -> list[str]:
    """Words with the blank before them, runs of digits, of other signs, and of white space.

    Joined they are the text again.

    Source: Radford et al. 2019, github.com/openai/gpt-2, src/encoder.py. Its pattern asks the
    library `regex` for the classes letter, number and white space; here they are made from Python's
    own Unicode tables.

    >>> split("I've 2 cats,  no?")
    ['I', "'ve", ' 2', ' cats', ',', ' ', ' no', '?']
    """
    rule = _rule("a-zA-Z", "0-9") if text.isascii() else _rule(_class("L"), _class("N"))
    return rule.findall(text)


@cache
def _rule(letters: str, numbers: str) -> re.Pattern[str]:
    """The pattern, given what letters and numbers are; for ASCII it is twice as fast."""
    endings = "'(?:[sdmt]|re|ve|ll)"
    other = f"[^{SPACES}{letters}{numbers}]+"
    # White space before a word leaves its last blank to the word.
    blank = f"[{SPACES}]+(?![^{SPACES}])|[{SPACES}]+"
    return re.compile(f"{endings}| ?[{letters}]+| ?[{numbers}]+| ?{other}|{blank}")


@cache
def _class(category: str) -> str:
    """All characters whose general category begins with a letter, as ranges of a pattern."""
    points = range(sys.maxunicode + 1)
    runs = groupby(points, key=lambda point: unicodedata.category(chr(point))[0] == category)
    ranges = [list(run) for inside, run in runs if inside]
    return "".join(f"{chr(r[0])}-{chr(r[-1])}" for r in ranges)
