"""Keeps what was lowered: equal layers of a model are written once.

Knows keys and kernels, never what a key means.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

from tinytorch.codegen.kernel import Lowered

MOST = 1024  # a kernel's text is about 50 KB, a large program has about a hundred different ones


class LoweredOnce:
    """A bounded table from a key to kernels; the entry used longest ago goes first."""

    def __init__(self, most: int = MOST):
        self._most = most
        self._held: OrderedDict[Hashable, Lowered] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Lowered]) -> Lowered:
        """The kernels of a key, made at most once while they are remembered."""
        found = self._held.get(key)
        if found is None:
            found = self._held[key] = make()
            while len(self._held) > self._most:
                self._held.popitem(last=False)
        else:
            self._held.move_to_end(key)
        return found


LOWERED = LoweredOnce()
