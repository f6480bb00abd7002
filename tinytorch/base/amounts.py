"""Bytes, counts and seconds as people read them: with the unit in which they are at least 1.

Knows numbers, never what they are of.
"""

from __future__ import annotations

_BYTES = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
_COUNTS = (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3))
_SECONDS = (("s", 1.0, ".2f"), ("ms", 1e-3, ".2f"), ("us", 1e-6, ".1f"), ("ns", 1e-9, ".0f"))


def size_text(n: int) -> str:
    """A number of bytes.

    >>> size_text(500), size_text(2048), size_text(3 << 20)
    ('500 B', '2.0 KiB', '3.0 MiB')
    """
    for unit, size in _BYTES:
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n} B"


def count_text(n: int, what: str = "") -> str:
    """A count of something.

    >>> count_text(999), count_text(8192), count_text(64_500_000), count_text(8192, "FLOP")
    ('999', '8.2 k', '64.5 M', '8.2 kFLOP')
    """
    for prefix, size in _COUNTS:
        if n >= size:
            return f"{n / size:.1f} {prefix}{what}"
    return f"{n} {what}".rstrip()


def time_text(seconds: float, form: str = "") -> str:
    """A duration.

    Args:
        seconds: at least 0.
        form: how its number is written, as `format` takes it; default two digits after the point,
            one of microseconds, none of nanoseconds.

    >>> time_text(12.3), time_text(0.0123), time_text(4.56e-6), time_text(5e-8)
    ('12.30 s', '12.30 ms', '4.6 us', '50 ns')
    >>> time_text(0.0123, ".3g")
    '12.3 ms'
    """
    unit, size, usual = next((row for row in _SECONDS if seconds >= row[1]), _SECONDS[-1])
    return f"{seconds / size:{form or usual}} {unit}"
