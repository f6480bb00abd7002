"""Amounts as people read them.

Ground truth: closed forms; 1024 of a unit of bytes and 1000 of any other are the next.
"""

import pytest

from tinytorch.base.amounts import count_text, size_text, time_text


def test_numbers_of_bytes_for_people():
    """Closed form: 1024 of a unit are the next."""
    sizes = (0, 1023, 1024, 1536, (1 << 20) - 1, 1 << 20, 1 << 30, 5 << 29)
    assert [size_text(n) for n in sizes] == [
        "0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1024.0 KiB", "1.0 MiB", "1.0 GiB", "2.5 GiB",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("count", "text"),
    [(1023, "1023 B"), (1024, "1.0 KiB"), (2**20, "1.0 MiB"), (3 * 2**29, "1.5 GiB")],
)
def test_bytes_are_written_in_powers_of_1024(count, text):
    """Ground truth: IEC 80000-13."""
    assert size_text(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(999, "999 "), (1000, "1.0 k"), (10**6, "1.0 M"), (10**9, "1.0 G"), (10**12, "1.0 T")],
)
def test_operations_are_written_in_powers_of_1000(count, text):
    """Closed form: the prefixes of the SI; what is counted follows them."""
    assert count_text(count, "FLOP") == text + "FLOP"
    assert count_text(count) == text.rstrip()


@pytest.mark.parametrize(
    ("seconds", "usual", "written"),
    [
        (60.0, "60.00 s", "60 s"),
        (1.0, "1.00 s", "1 s"),
        (0.9994, "999.40 ms", "999 ms"),
        (1e-3, "1.00 ms", "1 ms"),
        (27.72e-6, "27.7 us", "27.7 us"),
        (3e-8, "30 ns", "30 ns"),
        (0.0, "0 ns", "0 ns"),
    ],
)
def test_durations_for_people(seconds, usual, written):
    """Closed form: the largest unit of which there is one; digits as asked."""
    assert (time_text(seconds), time_text(seconds, ".3g")) == (usual, written)
