"""Strides, contiguity, sharing. NumPy is the truth."""

import numpy as np
import pytest

import tinytorch as tt


def test_strides_are_numpys():
    """NumPy, in elements."""
    a = np.zeros((2, 3, 4), np.float32)
    x = tt.Tensor(a)
    for mine, theirs in ((x, a), (x.T, a.T), (x[:, ::2], a[:, ::2]), (x[0], a[0])):
        assert mine.stride() == tuple(s // 4 for s in theirs.strides)
        assert mine.is_contiguous() == theirs.flags.c_contiguous
        assert mine.is_contiguous("column") == theirs.flags.f_contiguous
    assert x.stride(1) == 4 and x.nbytes == 96 and x.itemsize == x.element_size() == 4
    assert x.data_ptr() == x._buffer.array.ctypes.data


def test_contiguous_copies_only_if_it_must():
    """Invariant: memory is shared exactly where the order is right already."""
    x = tt.Tensor(np.arange(6.0).reshape(2, 3))
    assert tt.shares_memory(x.contiguous(), x) and not tt.shares_memory(x.T.contiguous(), x)
    column = x.contiguous("column")
    assert column.stride() == (1, 2) and column.tolist() == x.tolist()
    assert tt.shares_memory(x.T.contiguous("column"), x)


def test_views_cost_nothing_copies_cost_their_size():
    """O(1) against O(N): a view of 8 MB allocates less than 10 kB, a copy 8 MB."""
    import tracemalloc

    x = tt.ones(1000, 1000, dtype="float64")

    def allocated(f) -> int:
        tracemalloc.start()
        kept = f()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert kept is not None
        return most

    for view in (lambda: x.T, lambda: x[10:20, ::2], lambda: x.reshape(-1), lambda: x.unsqueeze(0)):
        assert allocated(view) < 10_000
    assert allocated(lambda: x.T.contiguous()) > 8_000_000


@pytest.mark.parametrize("ask", [tt.stride, tt.is_contiguous, lambda x: tt.shares_memory(x, x)])
def test_a_capture_refuses(ask):
    """Ground truth: the message; `contiguous` goes through."""
    with pytest.raises(tt.TinyTorchError, match="cannot look at values"):
        tt.compile(lambda x: ask(x))(tt.ones(2))
    assert tt.compile(lambda x: x.T.contiguous())(tt.ones(2, 3)).shape == (3, 2)
