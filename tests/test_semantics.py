"""docs/semantics.md says what is true. Ground truth: its examples, run."""

import doctest
import re

from tests.floors import ROOT

PAGE = ROOT / "docs" / "semantics.md"


def test_the_examples_of_the_page_run():
    """The page's own outputs."""
    failed, tried = doctest.testfile(
        str(PAGE), module_relative=False,
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE,
    )  # fmt: skip
    assert tried > 15 and not failed


def test_the_tests_that_hold_it_are_there():
    """The files it names; a bare file name stands in the folder of the one before it."""
    named = re.findall(r"`((?:tests/[\w/]+/|tests/)?test_\w+\.py)`", PAGE.read_text())
    assert len(named) > 8
    folder = ""
    for name in named:
        folder = name.rpartition("/")[0] or folder
        assert (ROOT / folder / name.rpartition("/")[2]).exists(), name


def test_it_is_one_page():
    """Counting: what is read in ten minutes."""
    assert len(PAGE.read_text().splitlines()) < 220
