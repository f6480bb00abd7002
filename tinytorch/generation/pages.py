"""Pages: which pages of a cache are whose, and which are kept for prompts that begin alike.

Knows numbers of pages and keys, never keys and values. A page whose tokens are all of a prompt is
known by these and all tokens before them. Sequences that begin alike share it: nobody writes into a
full page, so it need not be copied. When none has it any more it is kept, until its place is
needed; of those kept the one goes that was used longest ago.

Source: Kwon et al. 2023, https://arxiv.org/abs/2309.06180, section 4.3.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np


class Pages:
    """Counts who has each of `count` pages.

    Args:
        count: P, pages in all, numbered from 0.

    Example:
        >>> pages = Pages(3)
        >>> first, second = pages.take(2)
        >>> pages.keep(first, b"Once")
        >>> pages.find(b"Once") == first, pages.free
        (True, 1)
        >>> pages.give_back([first, second, first])
        >>> pages.find(b"Once") == first, pages.free
        (True, 2)
    """

    def __init__(self, count: int):
        self._unused = list(range(count))[::-1]
        self._holders = [0] * count
        self._of_key: dict[bytes, int] = {}
        self._keys: dict[int, bytes] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()  # kept, nobody's; used last is last

    @property
    def free(self) -> int:
        """Pages that nobody has, kept ones among them."""
        return len(self._unused) + len(self._idle)

    def take(self, count: int) -> list[int]:
        """Pages for somebody, at most as many as are free; kept ones where no others are left."""
        taken: list[int] = []
        for _ in range(count):
            if self._unused:
                page = self._unused.pop()
            else:
                page, _ = self._idle.popitem(last=False)
                del self._of_key[self._keys.pop(page)]
            self._holders[page] = 1
            taken.append(page)
        return taken

    def find(self, key: bytes) -> int | None:
        """The page that is known by a key, for one more holder; None if there is none."""
        page = self._of_key.get(key)
        if page is not None:
            self._holders[page] += 1
            self._idle.pop(page, None)
        return page

    def keep(self, page: int, key: bytes) -> None:
        """Let a page that somebody has be found by a key, unless another one is."""
        if key not in self._of_key and page not in self._keys:
            self._of_key[key] = page
            self._keys[page] = key

    def give_back(self, pages: Iterable[int]) -> None:
        """Somebody has them no more. The last ones are the first whose place is taken."""
        for page in reversed(list(pages)):
            self._holders[page] -= 1
            if self._holders[page]:
                continue
            if page in self._keys:
                self._idle[page] = None
            else:
                self._unused.append(page)

    def forget(self) -> None:
        """No page is found any more: what is in them would be other numbers now."""
        self._unused += reversed(self._idle)
        self._idle.clear()
        self._of_key.clear()
        self._keys.clear()


def keys_of(tokens: Sequence[int], size: int) -> list[bytes]:
    """What the full pages of a sequence are known by, each by all tokens up to its end.

    Args:
        tokens: ids.
        size: tokens of a page.

    Example:
        >>> one, two = keys_of([1, 2, 3, 4, 5], 2), keys_of([1, 2, 3, 9], 2)
        >>> len(one), one[0] == two[0], one[1] == two[1]
        (2, True, False)
    """
    ids, keys, before = np.asarray(tokens, np.int64), [], b""
    for first in range(0, len(ids) - size + 1, size):
        before = hashlib.sha256(before + ids[first : first + size].tobytes()).digest()
        keys.append(before)
    return keys
