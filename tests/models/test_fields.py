"""Settings of files: which values are taken, and what is said of others."""

import pytest

from tinytorch.base.errors import FileFormatError
from tinytorch.models.fields import Fields

FIELDS = Fields(
    {"x.whole": 3, "x.number": 0.5, "x.none": None, "x.yes": True, "x.text": "a",
     "x.three": [1, 2.5]},
    "the file", "x.",
)  # fmt: skip


def test_what_is_there_and_what_stands_for_the_default():
    """Ground truth: the table."""
    assert FIELDS.whole("whole") == 3 and FIELDS.whole("none", 7) == 7
    assert FIELDS.number("number", 1.0) == 0.5 and FIELDS.number("gone", 0) == 0.0
    assert FIELDS.positive("whole") == 3.0 and FIELDS.positive("none", 2.0) == 2.0
    assert FIELDS.flag("yes", False) is True and FIELDS.flag("none", False) is False
    assert FIELDS.one_of("text", "b", {"a": "A", "b": "B"}) == "A"
    assert FIELDS.one_of("gone", "b", {"a": "A", "b": "B"}) == "B"
    assert FIELDS.factors("three", 2) == (1.0, 2.5)
    FIELDS.must_be("yes", True)
    FIELDS.must_be("gone", "whatever")


@pytest.mark.parametrize(
    ("ask", "rule"),
    [
        (lambda: FIELDS.whole("number"), "a whole number >= 1"),
        (lambda: FIELDS.whole("yes"), "a whole number >= 1"),
        (lambda: FIELDS.whole("gone"), "a whole number >= 1"),
        (lambda: FIELDS.number("text", 1.0), "a number >= 0"),
        (lambda: FIELDS.positive("gone"), "a number > 0"),
        (lambda: FIELDS.flag("whole", True), "true or false"),
        (lambda: FIELDS.one_of("three", "a", {"a": ""}), "one of 'a'"),
        (lambda: FIELDS.factors("three", 3), "3 numbers > 0"),
        (lambda: FIELDS.must_be("whole", 3.0), "x.whole = 3.0: nothing else"),
    ],
)
def test_what_is_refused(ask, rule):
    """Ground truth: four parts that name the file, the setting as the file has it, and the rule."""
    with pytest.raises(FileFormatError, match="the file: x.* cannot be used") as told:
        ask()
    assert rule in told.value.rule and told.value.got.startswith("x.") and told.value.fix
