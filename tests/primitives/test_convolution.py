"""Convolution: its rows are one another's adjoints; the windows are read, never written."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytorch.primitives import TABLE
from tinytorch.primitives.convolution import Im2col
from tinytorch.primitives.pooling import Window
from tinytorch.primitives.primitive import numbers


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 3), st.integers(0, 2), st.data())
def test_convolution_and_its_gradients_are_adjoints(height, width, stride, padding, data):
    """Closed form: <conv(x, w), g> = <x, input_gradient(g, w)> = <w, weight_gradient(g, x)>."""
    kernel = tuple(data.draw(st.integers(1, min(4, n + 2 * padding))) for n in (height, width))
    groups = data.draw(st.integers(1, 3))
    window = {
        "stride": (stride, data.draw(st.integers(1, 3))),
        "padding": ((padding, padding), (padding, padding)),
        "dilation": (1, 1),
        "groups": groups,
    }
    x, w = numbers(2, 2 * groups, height, width), numbers(3 * groups, 2, *kernel, seed=1)
    out = TABLE["convolution"](x, w, **window)
    g = numbers(*out.shape, seed=2)
    g_x = TABLE["convolution_input_gradient"](g, w, input_shape=x.shape, **window)
    g_w = TABLE["convolution_weight_gradient"](g, x, weight_shape=w.shape, **window)
    total = (out * g).sum()
    bound = 1e-13 * np.abs(w).sum() * np.abs(x).sum() * 2  # rounding of the products, |g| <= 2
    assert total == pytest.approx((x * g_x).sum(), rel=0, abs=bound)
    assert total == pytest.approx((w * g_w).sum(), rel=0, abs=bound)


@pytest.mark.parametrize("stride", [1, 2])
def test_im2col_holds_the_windows_and_cannot_be_written_through(stride):
    """Ground truth: plain loops over windows; each pixel is in several of them."""
    x, pair = numbers(2, 2, 5, 6), (stride, stride)
    window = Window(pair, ((1, 0), (0, 1)), (1, 1), 1)
    size = tuple((n + 1 - 3) // stride + 1 for n in (5, 6))
    windows = Im2col(x, (3, 3), size, window, np.dtype(float))
    assert not windows.images.flags.writeable
    padded = np.pad(x, ((0, 0), (0, 0), (1, 0), (0, 1)))
    for n, matrix in enumerate(windows):
        found = windows.narrow(matrix)[0]
        for i in range(size[0]):
            for j in range(size[1]):
                y, z = i * stride, j * stride
                wanted = padded[n, :, y : y + 3, z : z + 3].ravel()
                np.testing.assert_array_equal(found[:, i, j], wanted)
