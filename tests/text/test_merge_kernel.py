"""The native code of merging: every kind of it is code for every target; what UTF-8 is to it."""

from typing import get_args

import numpy as np
import pytest

from tinytorch.codegen.engine import compile_text
from tinytorch.codegen.target import NAMES, Target
from tinytorch.text import BytePairTokenizer, Vocabulary
from tinytorch.text.merge_kernel import module_text
from tinytorch.text.words import LETTER, POINTS, Words, classes

TARGETS = [("x86_64", name) for name in NAMES if name != "neon"] + [("aarch64", "neon")]


@pytest.mark.parametrize(("architecture", "name"), TARGETS)
@pytest.mark.parametrize("words", [words for words in get_args(Words) if words != "qwen2"])
@pytest.mark.parametrize("by_characters", [False, True])
def test_every_kind_is_code_for_every_target(architecture, name, words, by_characters):
    """Ground truth: LLVM, which verifies the text and writes an object."""
    target = Target.named(name, architecture=architecture)
    image = compile_text(module_text(words, by_characters, not by_characters), target)
    assert image[:4] == b"\x7fELF" or image[:4] == b"\xcf\xfa\xed\xfe"


def test_characters_have_their_classes():
    """Ground truth: the definition in Python, at each end of each run of a class and of each length
    of UTF-8. A letter goes on with letters, a digit with digits: merges show it."""
    letters = sorted(LETTER.values())
    pairs = [(first, letter) for first in "a1!ĉ" for letter in letters]  # ĉ is a tab
    t = BytePairTokenizer(Vocabulary([*letters, *map("".join, pairs)]), pairs)
    edges = np.flatnonzero(np.diff(classes()[:-1]))
    points = {*edges, *(edges + 1), *range(0x800), *range(0, POINTS, 997), 0xFFFF, 0x10000}
    found = [chr(p) for p in sorted(points - set(range(0xD800, 0xE000)))]
    text = "".join(f"a{c}1{c}!{c}\t{c}\n\n" for c in found)
    assert t._native(text.encode()).tolist() == t._defined(text)
    assert len(found) > 5000 and len(t._defined(text)) < len(text.encode())
