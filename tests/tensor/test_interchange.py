"""How other libraries see a Tensor's memory, how theirs becomes one, and how the elements lie.

Ground truth: NumPy is the other side (PyTorch in tests/peer/test_tensor_peer.py).
"""

import io
import sys

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import SettingError


def test_array_shares_or_copies_as_asked():
    """NumPy 2's protocol: copy None shares where it can, True copies, False refuses to copy."""
    x = tt.Tensor([[1.0, 2.0]])
    for shared in (
        np.asarray(x),
        np.array(x, copy=None),
        np.asarray(x, dtype="float32", copy=False),
    ):
        assert np.shares_memory(shared, x._buffer.array) and shared.flags.writeable
    for own in (np.array(x), np.asarray(x, copy=True), np.asarray(x, dtype="int8")):
        assert not np.shares_memory(own, x._buffer.array)
    assert np.array(x).flags.writeable and np.asarray(x, dtype="int8").tolist() == [[1, 2]]
    assert np.shares_memory(np.asarray(x.T), x._buffer.array)
    with pytest.raises(ValueError):  # NumPy's own: it asks the buffer first
        np.asarray(x, dtype="float64", copy=False)
    with pytest.raises(SettingError, match="without a copy"):
        x.__array__(dtype="float64", copy=False)
    with pytest.raises(SettingError, match="without a copy"):
        tt.ones(1, dtype="bfloat16").__array__(copy=False)
    assert np.asarray(tt.ones(1, dtype="bfloat16")).dtype == np.float32


def test_what_left_shows_the_same_memory():
    """PyTorch: NumPy's array and the Tensor see what the other writes."""
    x = tt.zeros(3)
    seen = [np.asarray(x), np.from_dlpack(x), memoryview(x)]
    x += 1.0
    x[0] = 7.0
    assert [list(s) for s in seen] == [[7.0, 1.0, 1.0]] * 3 and x.tolist() == [7.0, 1.0, 1.0]
    seen[0][1] = seen[1][2] = 5.0
    assert x.tolist() == [7.0, 5.0, 5.0]
    seen[2][0] = 0.0
    assert x.tolist() == [0.0, 5.0, 5.0]
    w = tt.ones(2, requires_grad=True)
    for array in (w.numpy(), np.from_dlpack(w), (w * 2).numpy()):
        assert not array.flags.writeable
    w.detach().numpy()[0] = 3.0
    assert w.tolist() == [3.0, 1.0]


def test_dlpack_to_numpy():
    """NumPy: shared, own memory on request."""
    x = tt.Tensor(np.arange(6.0).reshape(2, 3))
    for view in (x, x.T, x[:, ::2], x[1]):
        array = np.from_dlpack(view)
        assert np.shares_memory(array, x._buffer.array) and array.flags.writeable
        assert np.array_equal(array, view.numpy())
    own = np.from_dlpack(x, copy=True)
    assert not np.shares_memory(own, x._buffer.array)
    for dtype in ("bool", "int8", "uint32", "int64", "float16", "float64"):
        assert np.from_dlpack(tt.ones(2, dtype=dtype)).dtype == dtype
    assert x.__dlpack_device__() == (1, 0)
    with pytest.raises(SettingError, match="no such device"):
        x.__dlpack__(dl_device=(2, 0))


def test_dlpack_from_numpy():
    """NumPy: shared, and written by either side."""
    a = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    x = tt.from_dlpack(a)
    assert np.shares_memory(x._buffer.array, a)
    x *= 2.0
    assert a[0].tolist() == [0.0, 2.0, 4.0] and x[0].tolist() == [0.0, 2.0, 4.0]
    assert not np.shares_memory(tt.from_dlpack(a, copy=True)._buffer.array, a)
    assert tt.from_dlpack(a[:, ::-1]).tolist() == a[:, ::-1].tolist()
    with pytest.raises(SettingError, match="no such device"):
        tt.from_dlpack(a, device="cuda")


def test_bfloat16_by_dlpack():
    """Invariant: there and back, the same bits and the same memory."""
    x = tt.Tensor([1.5, -2.0, 3.0], dtype="bfloat16")
    y = tt.from_dlpack(x)
    assert y.dtype is tt.bfloat16 and y.tolist() == x.tolist()
    assert tt.shares_memory(x, y) and not tt.shares_memory(x, tt.from_dlpack(x, copy=True))


class FirstProtocol:
    """An array of a library that knows DLPack's first version alone."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, stream=None):
        return self.array.__dlpack__()

    def __dlpack_device__(self):
        return (1, 0)


def test_dlpack_of_the_first_version():
    """NumPy, without max_version: it cannot say read-only, so a read-only view is copied."""
    assert tt.from_dlpack(FirstProtocol(np.ones(2))).tolist() == [1.0, 1.0]
    x = tt.ones(2)
    assert np.shares_memory(np.from_dlpack(FirstProtocol(x)), x._buffer.array)
    wide = np.from_dlpack(FirstProtocol(x.broadcast_to(3, 2)))
    assert wide.tolist() == [[1.0, 1.0]] * 3


def test_buffer_protocol():
    """Python: memoryview, bytes, file.write and np.frombuffer read the numbers, readinto writes."""
    x = tt.Tensor([[1.0, 2.0], [3.0, 4.0]])
    view = memoryview(x)
    assert view.shape == (2, 2) and view.format == "f" and not view.readonly and view[1, 0] == 3.0
    assert bytes(x) == np.asarray(x).tobytes() and bytes(x.T) == np.asarray(x.T).tobytes()
    file = io.BytesIO()
    file.write(x)
    assert np.frombuffer(file.getvalue(), np.float32).tolist() == [1.0, 2.0, 3.0, 4.0]
    assert np.frombuffer(x, np.float32).tolist() == [1.0, 2.0, 3.0, 4.0]
    view[0, 0] = 9.0
    assert x[0, 0].item() == 9.0
    file.seek(0)
    file.readinto(x)
    assert x[0, 0].item() == 1.0
    for refused in (x.T, tt.ones(2, requires_grad=True), tt.ones(2, dtype="bfloat16")):
        with pytest.raises((TypeError, BufferError)):
            file.readinto(refused)


def test_a_buffer_keeps_the_memory_alive_and_lets_go():
    """Invariant: the view outlives the Tensor; afterwards nothing is held."""
    x = tt.arange(1000)
    array = x._buffer.array
    before = sys.getrefcount(array)
    view = memoryview(x)
    del x
    assert view[999] == 999
    view.release()
    del view
    assert sys.getrefcount(array) == before - 1  # the Tensor's own reference is gone


def test_a_captured_tensor_has_no_buffer():
    """Ground truth: an exception of some kind, and the process lives."""

    def look(x):
        memoryview(x)

    with pytest.raises((SystemError, TypeError, tt.TinyTorchError)):
        tt.compile(look)(tt.ones(2))


def test_subclasses_have_buffers_too():
    """Invariant: parameters of layers are Tensors."""
    weight = tt.nn.Linear(2, 3).weight
    assert memoryview(weight).shape == (3, 2)


def test_html_for_notebooks():
    """By hand: a table of the corner, the shape and the type above it; no markup from outside."""
    text = tt.Tensor([[1.5, 2.0]])._repr_html_()
    assert "(1, 2) float32" in text and "<td>1.5</td>" in text
    large = tt.zeros(3, 20, 30, requires_grad=True)._repr_html_()
    assert "[0] is shown" in large and large.count("<tr>") == 11 and "requires grad" in large
    assert "&#8943;" in large and len(large) < 3000
    assert tt.Tensor(1.0)._repr_html_().startswith("<pre>")
    assert "int8" in tt.ones(2, dtype="int8")._repr_html_()
    assert "<table>" in tt.ones(0, 3)._repr_html_()


def test_numpys_functions_take_tensors():
    """NumPy, on the array that the Tensor reads as; the results are NumPy's."""
    a = np.arange(6.0).reshape(2, 3)
    x = tt.Tensor(a, requires_grad=True)
    for f in (
        np.sum, np.mean, np.std, np.median, np.argmax, lambda v: np.max(v, axis=1),
        lambda v: np.concatenate([v, a]), lambda v: np.where(v > 2, v, 0), np.transpose,
        lambda v: np.clip(v, 1, 3), lambda v: np.linalg.norm(v), np.shape, np.sort,
    ):  # fmt: skip
        found = f(x)
        assert not isinstance(found, tt.Tensor) and np.array_equal(found, f(a))
    assert np.allclose(x, a) and np.array_equal(x, a)
    with pytest.raises(tt.TinyTorchError, match="cannot look at values"):
        tt.compile(lambda x: np.sum(x))(tt.ones(2))


def test_to_took_no_keywords():
    """Ground truth: PyTorch's spelling, and the one device there is."""
    x = tt.ones(2)
    assert x.to(device="cpu") is x
    assert x.to("cpu", dtype=tt.float64).dtype is x.to(dtype=tt.float64).dtype is tt.float64
    with pytest.raises(SettingError, match="no such device"):
        x.to(device="cuda")


# --- strides, contiguity, sharing ---


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
