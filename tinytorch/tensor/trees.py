"""Trees: Tensors in tuples, lists and dicts, as functions of functions take and give them.

Knows containers, never what lies in them. A tuple may be a named one; None is nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def _kind(tree: Any) -> Any:
    """tuple, list or dict, if it is one of these or made from one."""
    return next((kind for kind in (tuple, list, dict) if isinstance(tree, kind)), None)


def leaves_of(tree: Any) -> Iterator[Any]:
    """What lies in the containers, left to right; None is nothing."""
    kind = _kind(tree)
    if kind is not None:
        for part in tree.values() if kind is dict else tree:
            yield from leaves_of(part)
    elif tree is not None:
        yield tree


def filled(tree: Any, leaves: Iterator[Any]) -> Any:
    """The same containers around other leaves."""
    kind, own = _kind(tree), tree.__class__
    if kind is None:
        return None if tree is None else next(leaves)
    if kind is dict:
        return own({key: filled(part, leaves) for key, part in tree.items()})
    parts = [filled(part, leaves) for part in tree]
    return own._make(parts) if hasattr(own, "_make") else own(parts)


def containers(tree: Any) -> Any:
    """The containers alone, in a form that compares: "(., [.])" of (Tensor, [Tensor])."""
    kind = _kind(tree)
    if kind is None:
        return "None" if tree is None else "."
    if kind is dict:
        parts = [f"{key!r}: {containers(part)}" for key, part in tree.items()]
        return "{" + ", ".join(parts) + "}"
    inner = ", ".join(map(containers, tree))
    return f"({inner})" if kind is tuple else f"[{inner}]"
