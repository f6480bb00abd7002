"""automata.py: regular expressions against Python's `re`, JSON against Python's `json`."""

import json
import random
import re

import pytest

from tinytorch.base.errors import SettingError
from tinytorch.generation import Json, Regex, matches

PATTERNS = [
    "", "abc", "a*", "a+b?", "(ab|a)*c", "[a-c]{2,3}", "a{2}", "a{2,}b", "x{0,2}", "(a|b|)c",
    "[^a]*", r"\d+(\.\d+)?", r"[\w.-]+@\w+", r"\s*\S+\s*", ".*", "a.c", "[]a]+", "[a-]+", r"[\]\\]",
    "ü+", "[à-ö]{2}", "[^x]", "(?:a|bc){1,2}", r"\u00e4|\x41", "[一-二]", "🙂?", r"\D\W", "a*?b",
    r"-?(0|[1-9]\d*)", "(((a)))", "[.]", r"\.\*\n",
]  # fmt: skip
LETTERS = "abcxyz019.@-_ \n]\\üäàöé一丁🙂A*"


@pytest.mark.parametrize("pattern", PATTERNS)
def test_expressions_match_what_pythons_do(pattern):
    """Ground truth: re.fullmatch with ASCII classes, on 400 random texts and on their parts."""
    ours, theirs = Regex(pattern), re.compile(pattern, re.ASCII)
    rng = random.Random(1)
    texts = ["", *LETTERS, "abc", "ab", "aab", "12.5", "a@b", "-0", "-10", "bcbc"]
    texts += ["".join(rng.choices(LETTERS, k=rng.randint(1, 4))) for _ in range(400)]
    few = [c for c in LETTERS if c in pattern] or ["a"]
    texts += ["".join(rng.choices(few, k=rng.randint(1, 5))) for _ in range(200)]
    for text in texts:
        assert matches(ours, text) == bool(theirs.fullmatch(text)), text


def test_bytes_that_are_no_text_match_nothing():
    """Ground truth: UTF-8: every character of some planes, and no sequence that is none."""
    any_one = Regex(".")
    for code in [*range(0, 0x900), *range(0xD700, 0xE100, 7), *range(0xFFF0, 0x10010), 0x10FFFF]:
        if code != 10 and not 0xD800 <= code < 0xE000:
            assert matches(any_one, chr(code))
    for wrong in (
        b"\x80",
        b"\xc0\x80",
        b"\xe0\x80\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xff",
        b"\xf0\x8f\xbf\xbf",
        b"\xc3",
        b"a\xc3",
    ):
        assert not matches(any_one, wrong)


@pytest.mark.parametrize("pattern", [
    "(", ")", "(a", "a)", "[a", "[b-a]", "*", "a{2", "a{x}", "a{3,2}", "a{5000}", r"\q", "\\",
    "(?=a)", r"\u12", r"\xzz", "^a$", "(?P<n>a)",
])  # fmt: skip
def test_what_is_no_expression_is_refused(pattern):
    """Ground truth: four parts, with the pattern in the message."""
    with pytest.raises(SettingError, match="Regex: ") as caught:
        Regex(pattern)
    assert repr(pattern) in str(caught.value)


def value(rng, depth=0):
    kind = rng.randint(0, 7 if depth < 4 else 5)
    if kind == 0:
        return rng.choice([None, True, False])
    if kind == 1:
        return rng.randint(-(10**9), 10**9)
    if kind == 2:
        return rng.uniform(-1, 1) * 10.0 ** rng.randint(-20, 20)
    if kind <= 5:
        return "".join(rng.choices('ab"\\\n\t/üé一🙂\x7f\u2028 ', k=rng.randint(0, 6)))
    if kind == 6:
        return [value(rng, depth + 1) for _ in range(rng.randint(0, 3))]
    return {str(value(rng, 9)): value(rng, depth + 1) for _ in range(rng.randint(0, 3))}


def is_json(text):
    def refuse(name):
        raise ValueError(name)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


def test_json_is_what_python_reads():
    """Ground truth: json.dumps in several forms, and json.loads of texts with a change in one
    place; NaN is no JSON."""
    rng, ours, kept, refused = random.Random(0), Json(), 0, 0
    for _ in range(300):
        x = value(rng)
        for form in ({}, {"indent": 2}, {"ensure_ascii": False}, {"separators": (",", ":")}):
            text = json.dumps(x, **form)
            assert matches(ours, text), text
        at, letter = rng.randint(0, len(text)), rng.choice('{}[],:"\\ae0-+.1 \nE\x01')
        for changed in (text[:at] + letter + text[at:], text[:at] + text[at + 1 :]):
            assert matches(ours, changed) == is_json(changed), changed
            kept, refused = kept + is_json(changed), refused + (not is_json(changed))
    assert kept > 50 and refused > 50
    for text in (
        "",
        "NaN",
        "Infinity",
        "01",
        "1.",
        ".5",
        "+1",
        "[1,]",
        '{"a":1,}',
        "{,}",
        "[,]",
        "tru",
        "nulll",
        '"\x01"',
        "'a'",
        "{1:2}",
        "[1 2]",
        "1 2",
        '{"a"}',
        "]",
    ):
        assert not matches(ours, text), text


def test_roots_depth_and_blanks():
    """Ground truth: by hand."""
    assert matches(Json("object"), " {}") and not matches(Json("object"), "[]")
    assert matches(Json("array"), "[{}]") and not matches(Json("array"), "1")
    assert matches(Json(depth=2), "[[1]]") and not matches(Json(depth=2), "[[[]]]")
    assert matches(Json(blanks=2), "[  1]") and not matches(Json(blanks=2), "[   1]")
    for wrong in ({"root": "text"}, {"depth": 0}, {"blanks": -1}):
        with pytest.raises(SettingError, match=next(iter(wrong))):
            Json(**wrong)
