"""The test that mistakes are refused, made of a list of them."""

from collections.abc import Callable

import pytest

Mistake = tuple[Callable[[], object], type[Exception], str]  # a call, its error, a phrase of it


def mistakes(*cases: Mistake) -> Callable:
    """A test of each call: `test_mistakes = mistakes((lambda: f(3), SettingError, "no"), ...)`."""

    @pytest.mark.parametrize(("call", "error", "phrase"), cases)
    def test(call, error, phrase):
        """Ground truth: the phrase beside each call, and the four parts of a refusal."""
        with pytest.raises(error, match=phrase) as caught:
            call()
        found = caught.value
        assert all((found.what, found.got, found.rule, found.fix))

    return test
