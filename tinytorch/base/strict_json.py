"""JSON read strictly: what a lenient reader would guess about is refused.

Knows text, never what it describes. Safetensors headers, manifests and saved states are read here.

Source: RFC 8259. Python's own reader also takes NaN, Infinity, and lets the last of two equal keys
win.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NoReturn

from tinytorch.base.errors import short


class NotStrictError(ValueError):
    """Why a text is not strict JSON, in the parts of an error message.

    Args:
        what: goes on after the name of the thing: "is not JSON".
        got: what was found.
        rule: what would have been right.
    """

    def __init__(self, what: str, got: object, rule: str):
        super().__init__(f"{what}: {got}")
        self.what, self.got, self.rule = what, got, rule


def parse(text: bytes) -> Any:
    """The value that UTF-8 JSON text describes.

    Raises:
        NotStrictError: not UTF-8, not JSON, a key twice in one object, NaN, numbers or nesting
            longer than Python reads.

    Example:
        >>> parse(b'{"step": 12}')
        {'step': 12}
        >>> parse(b'{"step": 12, "step": 13}')
        Traceback (most recent call last):
        tinytorch.base.strict_json.NotStrictError: is not strict: a key stands twice: ['step']
    """
    try:
        return json.loads(text.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise NotStrictError("is not UTF-8", error, "JSON in UTF-8") from None
    except NotStrictError:
        raise
    except (ValueError, RecursionError) as error:
        raise NotStrictError("is not JSON", error, "JSON in UTF-8") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        twice = [name for name, times in Counter(n for n, _ in pairs).items() if times > 1]
        raise NotStrictError(
            "is not strict: a key stands twice", short(twice), "every name is there once"
        )
    return table


def _no_constant(name: str) -> NoReturn:
    raise NotStrictError("is not JSON", name, "NaN and Infinity are not JSON")
