"""JSON read strictly."""

import pytest

from tinytorch.base.errors import short
from tinytorch.base.strict_json import NotStrictError, parse


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        (b"", "not JSON"),
        (b"{}x", "not JSON"),
        (b"[NaN]", "not JSON"),
        (b"[-Infinity]", "not JSON"),
        (b'{"\xff": 1}', "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a": {"b": 1, "b": 2}}', "a key stands twice"),
        (b"[" * 100_000, "not JSON"),
        (b"9" * 5000, "not JSON"),
    ],
)
def test_refused(text, phrase):
    """Ground truth: RFC 8259; equal keys, a byte order mark and long numbers are refused too."""
    with pytest.raises(NotStrictError, match=phrase):
        parse(text)


def test_read():
    """Ground truth: values written by hand."""
    assert parse(b' {"a": [1, -0.5, null, true, "\\u00e9"]} ') == {"a": [1, -0.5, None, True, "é"]}


def test_only_the_keys_that_stand_twice_are_named():
    """Ground truth: counted by hand."""
    with pytest.raises(NotStrictError) as raised:
        parse(b'{"a":1,"b":2,"a":3,"c":4}')
    assert raised.value.got == short(["a"])
