"""pooling.py: slow definitions, invariants, errors."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn import functional as F

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [((2, 2), None, 0), ((3, 2), (2, 1), (1, 1)), ((3, 3), 1, 1), ((4, 5), 4, (2, 0))],
)
def test_average_pooling(kernel, stride, padding, include):
    """Ground truth: own slow definition; means of at most 20 numbers, so 1e-14."""
    x = RNG.standard_normal((2, 3, 9, 8))
    steps = kernel if stride is None else (stride, stride) if isinstance(stride, int) else stride
    p, q = (padding, padding) if isinstance(padding, int) else padding
    wide = np.pad(x, ((0, 0), (0, 0), (p, p), (q, q)))
    inside = np.pad(np.ones(x.shape), ((0, 0), (0, 0), (p, p), (q, q)))
    rows, columns = (
        (n - k) // s + 1 for n, k, s in zip(wide.shape[2:], kernel, steps, strict=True)
    )
    expected = np.zeros((2, 3, rows, columns))
    for i, j in np.ndindex(rows, columns):
        window = (..., slice(i * steps[0], i * steps[0] + kernel[0]),
                  slice(j * steps[1], j * steps[1] + kernel[1]))  # fmt: skip
        count = kernel[0] * kernel[1] if include else inside[window].sum((2, 3))
        expected[:, :, i, j] = wide[window].sum((2, 3)) / count
    found = F.avg_pool2d(tt.Tensor(x), kernel, stride, padding, count_include_pad=include).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("size", [1, 2, (3, 5), (None, 4), (7, 9), (10, 1)])
def test_adaptive_pooling(size):
    """Ground truth: own slow definition: from floor(i H / n) to ceil((i + 1) H / n)."""
    x = RNG.standard_normal((2, 3, 7, 8))
    rows, columns = size if isinstance(size, tuple) else (size, size)
    rows, columns = rows or 7, columns or 8
    expected = np.zeros((2, 3, rows, columns))
    for i, j in np.ndindex(rows, columns):
        ys = slice(i * 7 // rows, -(-(i + 1) * 7 // rows))
        xs = slice(j * 8 // columns, -(-(j + 1) * 8 // columns))
        expected[:, :, i, j] = x[:, :, ys, xs].mean((2, 3))
    found = F.adaptive_avg_pool2d(tt.Tensor(x), size).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


def test_pooling_of_signals():
    """Ground truth: windows written out."""
    x = np.array([[[1.0, 5.0, 2.0, 4.0, 9.0]]])
    assert F.max_pool1d(tt.Tensor(x), 2).tolist() == [[[5.0, 4.0]]]
    assert F.avg_pool1d(tt.Tensor(x), 2).tolist() == [[[3.0, 3.0]]]
    assert F.max_pool1d(tt.Tensor(-x), 3, 2, 1).tolist() == [[[-1.0, -2.0, -4.0]]]
    padded = F.avg_pool1d(tt.Tensor(x), 2, 2, 1, count_include_pad=False)
    assert padded.tolist() == [[[1.0, 3.5, 6.5]]]


@pytest.mark.parametrize(
    ("kernel", "image"), [((3, 2), (7, 5)), ((2, 3), (5, 7)), ((4, 1), (4, 3))]
)
def test_windows_side_by_side_that_are_not_square(kernel, image):
    """Ground truth: the mean of each window by NumPy; rows and columns that are left over fall."""
    x = np.random.default_rng(0).standard_normal((2, 3, *image))
    rows, columns = image[0] // kernel[0], image[1] // kernel[1]
    cut = x[:, :, : rows * kernel[0], : columns * kernel[1]]
    expected = cut.reshape(2, 3, rows, kernel[0], columns, kernel[1]).mean((3, 5))
    np.testing.assert_allclose(F.avg_pool2d(tt.Tensor(x), kernel).numpy(), expected, rtol=1e-13)


def test_empty_batches_pass_through():
    """Ground truth: the shapes of the docstrings, with N = 0."""
    x = tt.zeros(0, 4, 6, 6)
    for layer, shape in (
        (nn.AvgPool2d(2), (0, 4, 3, 3)),
        (nn.AvgPool2d(3, 1, 1), (0, 4, 6, 6)),
        (nn.MaxPool2d(2), (0, 4, 3, 3)),
        (nn.AdaptiveAvgPool2d(4), (0, 4, 4, 4)),
    ):
        assert layer(x).shape == shape, layer


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (lambda: nn.MaxPool2d(2, padding=2), "wider than half the window"),
        (lambda: nn.AvgPool2d(2, padding=2), "wider than half the window"),
        (lambda: nn.MaxPool1d(3, padding=2), "wider than half the window"),
        (lambda: nn.AvgPool2d(2, count_include_pad=1), "count_include_pad is a yes or no"),
        (lambda: nn.AdaptiveAvgPool2d((1, 2, 3)), "two image axes"),
        (lambda: nn.AdaptiveAvgPool2d(0), "output_size is not a whole number"),
        (lambda: F.avg_pool2d(tt.zeros(1, 1, 4, 4), 2, padding=2), "wider than half the window"),
    ],
)
def test_bad_settings_are_named(make, phrase):
    """Ground truth: the ranges in the docstrings."""
    with pytest.raises(SettingError, match=phrase):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "phrase"),
    [
        (lambda: nn.AvgPool2d(9), (1, 1, 4, 4), "larger than the padded image"),
        (lambda: nn.AvgPool2d(2), (4, 4), "wrong number of axes"),
        (lambda: nn.MaxPool1d(2), (4,), "max_pool1d: input has the wrong number of axes"),
        (lambda: nn.AdaptiveAvgPool2d(1), (1, 1, 0, 4), "the image is empty"),
    ],
)
def test_bad_shapes_are_named(layer, shape, phrase):
    """Ground truth: the shapes in the docstrings."""
    with pytest.raises(ShapeError, match=phrase):
        layer()(tt.zeros(*shape))


def test_settings_are_shown():
    """Ground truth: written by hand."""
    assert repr(nn.AvgPool1d(3)) == "AvgPool1d(kernel_size=3, stride=3, padding=0)"
    assert repr(nn.AdaptiveAvgPool2d([2, None])) == "AdaptiveAvgPool2d(output_size=(2, None))"


def test_means_at_the_edges():
    """Closed form: zeros of the padding count, cells behind the last one do not."""
    x = tt.Tensor([[[2.0, 4.0]]])
    assert nn.AvgPool1d(2, padding=1, stride=2)(x).tolist() == [[[1.0, 2.0]]]
    image = tt.arange(6, dtype=tt.float32).reshape(1, 1, 3, 2)
    assert F.avg_pool2d(image, 2, ceil_mode=True).tolist() == [[[[1.5], [4.5]]]]
    turned = image.permute(0, 1, 3, 2)
    assert F.avg_pool2d(turned, 2, ceil_mode=True).tolist() == [[[[1.5, 4.5]]]]
