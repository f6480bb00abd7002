"""Allocation: freed memory stays with the process, so the next array need not ask for pages.

Knows the C library's allocator, never arrays.

Note [why freed memory is kept]
    An eager operation allocates its result and soon frees it. glibc gives blocks over 128 KiB back
    to the system at once, and each new block is then filled with zeros page by page, which costs as
    much as the operation. Measured on an eager step of a small convolutional network: 412 ms, of
    them 58 ms for pages (docs/log.md, 2026-11-21).
"""

from __future__ import annotations

import ctypes
import sys

# Numbers of mallopt(3), from malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# Freed bytes at the end of the heap that stay; beyond that the system gets them back.
KEPT = 256 << 20
# The largest that glibc takes (HEAP_MAX_SIZE / 2): larger blocks are mapped one by one.
LARGEST = 32 << 20


def keep_freed_memory() -> bool:
    """Tell glibc to keep up to 256 MiB of freed memory; True where it could be told.

    >>> keep_freed_memory() in (True, False)
    True
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_TRIM_THRESHOLD, KEPT)) and bool(mallopt(_MMAP_THRESHOLD, LARGEST))
