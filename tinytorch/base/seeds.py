"""Where a seed comes from when nobody gives one.

Knows one function that draws whole numbers: that of the default generator of random Tensors, once
there is one. Loaders stand on a lower floor and ask here, so `tt.manual_seed` decides their order.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

_counted = count()
_source: Callable[[], int] = _counted.__next__


def draw_from(source: Callable[[], int]) -> None:
    """Let `source` give the seeds from now on: whole numbers in [0, 2**64)."""
    global _source
    _source = source


def draw_seed() -> int:
    """A seed that nobody else gets: of the stream that `tt.manual_seed` began."""
    return _source()
