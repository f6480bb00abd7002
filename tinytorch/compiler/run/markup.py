"""Pages as nested calls: what is put into one is escaped, unless it was made here.

Knows HTML's rules of writing, never what a page is about.

    >>> print(tag("p", "a < b, ", tag("b", "always"), id="first"))
    <p id="first">a &lt; b, <b>always</b></p>
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_VOID = frozenset({"meta", "input", "br"})  # HTML: without an end; shapes of pictures have one


class Markup(str):
    """Text of a page that needs no escaping any more."""

    __slots__ = ()


def tag(name: str, /, *inside: str, **attributes: str | float | None) -> Markup:
    """An element.

    Args:
        name: of the element.
        inside: what it holds: Markup as it is, other text escaped.
        attributes: None is left out; of a name that Python takes (`class_`, `for_`) the last "_",
            other "_" are "-"; numbers are rounded to a hundredth.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{joined(inside)}</{name}>")


def joined(parts: Iterable[str], between: str = "") -> Markup:
    """Parts of a page one after the other; what is no Markup is escaped.

    >>> print(joined(["<", tag("br")]))
    &lt;<br>
    """
    return Markup(between.join(p if isinstance(p, Markup) else escape(p) for p in parts))


def _text(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
