"""Arrays in a kernel's scratch memory. Ground truth: they lie side by side, on cache lines."""

import pytest

from tinytorch.kernels.blocking import LINE, Scratch


@pytest.mark.parametrize("itemsize", [4, 8])
def test_arrays_do_not_overlap(itemsize):
    """Each is as long as asked, begins on a line, and ends before the next."""
    sizes = {"a": 5, "none": 0, "b": 300, "c": 16, "d": 1}
    scratch = Scratch("float", itemsize, 16, sizes)
    starts = [*scratch.offsets.values(), scratch.bytes]
    assert list(scratch.offsets) == list(sizes)
    for start, end, size in zip(starts[:-1], starts[1:], sizes.values(), strict=True):
        assert start % LINE == 0
        assert end - start >= size * itemsize
        assert end - start < size * itemsize + LINE
