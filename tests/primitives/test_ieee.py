"""Definitions never warn, and never touch the user's error state."""

import threading
import warnings

import numpy as np
import pytest

from tinytorch.primitives import TABLE, div


def test_the_users_error_state_stays():
    """Ground truth: np.geterr; NumPy itself still raises where the user asked it to."""
    with np.errstate(divide="raise"):
        before = np.geterr()
        assert np.isinf(div(np.ones(1), np.zeros(1))).all()
        assert np.geterr() == before
        with pytest.raises(FloatingPointError):
            np.divide(np.ones(1), np.zeros(1))


def test_threads_at_the_same_time():
    """Invariant: the same answers from many threads, each with its own context."""
    wrong = []
    zeros = np.zeros(200_000)  # long enough for NumPy to let other threads run meanwhile

    def work():
        try:
            for _ in range(30):
                if not np.isnan(div(zeros, zeros)).all():
                    wrong.append("a number")
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.parametrize(
    "name", ["add", "sub", "mul", "div", "remainder", "floor_div", "pow", "maximum"]
)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_odd_pairs_do_not_warn(name, dtype):
    """Ground truth: warnings are errors here; NumPy warns for inf - inf, 0 / 0 and overflow."""
    odd = np.array(
        [np.nan, np.inf, -np.inf, 0, -0.0, 1, np.finfo(dtype).max, np.finfo(dtype).tiny], dtype
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TABLE[name](odd[:, None], odd)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_overflowing_sums_do_not_warn(dtype):
    """Ground truth: warnings are errors here; sums of the largest numbers are inf."""
    big = np.full((1, 1, 4, 4), np.finfo(dtype).max, dtype)
    window = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isinf(TABLE["sum"](big, axes=(2, 3), keepdims=False)).all()
        assert np.isinf(TABLE["matmul"](big, big)).all()
        assert np.isinf(TABLE["convolution"](big, big[:, :, :2, :2], **window)).all()
        assert np.isinf(TABLE["cumsum"](big, axis=3)[..., 1:]).all()
        TABLE["attention"](big, big, big, causal=True, scale=1.0)
        TABLE["cast"](big, dtype="int32")
        TABLE["cast"](big, dtype="float16")
