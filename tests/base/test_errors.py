"""Messages: what is long or cannot be shown."""

from tinytorch.base.errors import short


def test_what_fits_is_shown_whole():
    """Closed form: the quoted text has two characters more; the limit is the last length whole."""
    assert short("a" * 18, 20) == repr("a" * 18)
    assert short(("a" * 9, "b" * 9), 26) == repr(("a" * 9, "b" * 9))
    cut = short(("a" * 9, "b" * 9), 25)
    assert len(cut) == 25 and cut == repr(("a" * 9, "b" * 9))[:22] + "..."


def test_eighty_characters_are_the_rule():
    """Ground truth: its docstring; a list whose text has 80 characters, and one with 81."""
    fits, over = ["a" * 20, "b" * 20, "c" * 20, "d" * 4], ["a" * 20, "b" * 20, "c" * 20, "d" * 5]
    assert len(repr(fits)) == 80 and short(fits) == repr(fits)
    assert short(over) == repr(over)[:77] + "..." and len(short(over)) == 80
