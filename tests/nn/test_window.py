"""convolution.py, pooling.py: slow definitions, invariants, errors."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn import functional as F

RNG = np.random.default_rng(0)


def slow_convolution(x, w, stride, padding, dilation, groups):
    """One product at a time, from the definition."""
    (n, c, h, width), (o, per_group, kh, kw) = x.shape, w.shape
    (top, bottom), (left, right) = padding
    wide = np.zeros((n, c, h + top + bottom, width + left + right))
    wide[:, :, top : top + h, left : left + width] = x
    rows = (wide.shape[2] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    columns = (wide.shape[3] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    out = np.zeros((n, o, rows, columns))
    for b, k, i, j in np.ndindex(*out.shape):
        first = k // (o // groups) * per_group
        for ch, p, q in np.ndindex(per_group, kh, kw):
            out[b, k, i, j] += (
                w[k, ch, p, q]
                * (
                    wide[
                        b,
                        first + ch,
                        i * stride[0] + p * dilation[0],
                        j * stride[1] + q * dilation[1],
                    ]
                )
            )
    return out


@pytest.mark.parametrize("padding", ["same", "valid", (1, 2)])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_with_every_setting(padding, groups):
    """Ground truth: own slow definition, float64; sums of 24 terms of order 1, so 1e-13."""
    x, w = RNG.standard_normal((2, 4, 6, 5)), RNG.standard_normal((4, 4 // groups, 2, 3))
    dilation = (2, 1)
    sides = {"same": ((1, 1), (1, 1)), "valid": ((0, 0), (0, 0))}.get(padding, ((1, 1), (2, 2)))
    expected = slow_convolution(x, w, (1, 1), sides, dilation, groups)
    found = F.conv2d(
        tt.Tensor(x), tt.Tensor(w), padding=padding, dilation=dilation, groups=groups
    ).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
    if padding == "same":
        assert found.shape[2:] == x.shape[2:]


def test_an_odd_cell_of_same_padding_goes_to_the_right_and_the_bottom():
    """Ground truth: own slow definition; a window of 2 looks at its own pixel and the next."""
    x, w = RNG.standard_normal((1, 2, 4, 5)), RNG.standard_normal((3, 2, 2, 4))
    expected = slow_convolution(x, w, (1, 1), ((0, 1), (1, 2)), (1, 1), 1)
    found = F.conv2d(tt.Tensor(x), tt.Tensor(w), padding="same").numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
    found = F.conv1d(tt.Tensor(x[:, :, 0]), tt.Tensor(w[:, :, 0, :2]), padding="same").numpy()
    expected = slow_convolution(
        x[:, :, :1], w[:, :, :1, :2], (1, 1), ((0, 0), (0, 1)), (1, 1), 1
    )[:, :, 0]  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


def test_a_signal_is_an_image_of_height_one():
    """Ground truth: own slow definition."""
    x, w, b = RNG.standard_normal((2, 4, 9)), RNG.standard_normal((6, 2, 3)), np.arange(6.0)
    expected = slow_convolution(
        x[:, :, None], w[:, :, None], (1, 2), ((0, 0), (1, 1)), (1, 2), 2
    )[:, :, 0] + b[:, None]  # fmt: skip
    found = F.conv1d(tt.Tensor(x), tt.Tensor(w), tt.Tensor(b), 2, 1, 2, 2).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("stride", [1, 2, (3, 1)])
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution_is_the_adjoint(stride, groups):
    """Invariant: <conv(x, w), y> = <x, conv_transpose(y, w)> for every x and y."""
    settings = {"stride": stride, "padding": (1, 0), "dilation": (1, 2), "groups": groups}
    x, w = RNG.standard_normal((2, 4, 7, 8)), RNG.standard_normal((6, 4 // groups, 3, 2))
    forward = F.conv2d(tt.Tensor(x), tt.Tensor(w), **settings)
    y = RNG.standard_normal(forward.shape)
    bare = F.conv_transpose2d(tt.Tensor(y), tt.Tensor(w), **settings)
    extra = tuple(n - m for n, m in zip(x.shape[2:], bare.shape[2:], strict=True))
    back = F.conv_transpose2d(tt.Tensor(y), tt.Tensor(w), output_padding=extra, **settings)
    assert back.shape == x.shape
    assert (forward.numpy() * y).sum() == pytest.approx((x * back.numpy()).sum(), rel=1e-12)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_cells_below_a_transposed_convolution(stride, padding):
    """Ground truth: without padding the whole is there; padding cuts it, output_padding cuts less,
    and beyond the whole lie zeros. With dilation it may reach the stride and more."""
    y, w = RNG.standard_normal((2, 4, 3, 5)), RNG.standard_normal((4, 3, 3, 2))
    settings = {"stride": stride, "dilation": 4}
    whole = F.conv_transpose2d(tt.Tensor(y), tt.Tensor(w), **settings).numpy()
    for extra in (0, 1, 2, 3):
        wide = np.pad(whole, ((0, 0), (0, 0), (0, extra), (0, extra)))
        rows, columns = (n - 2 * padding + extra for n in whole.shape[2:])
        wanted = wide[:, :, padding : padding + rows, padding : padding + columns]
        found = F.conv_transpose2d(
            tt.Tensor(y), tt.Tensor(w), padding=padding, output_padding=extra, **settings
        )
        np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=1e-13)


VIEWS = {
    "every other": lambda x: x[:, :, ::2, ::2],
    "transposed": lambda x: x.transpose(2, 3),
    "a column": lambda x: x[:, :, :, 3:4],
    "a column of every other row": lambda x: x[:, :, ::2, 5:6],
    "a row": lambda x: x[:, :, 2:3],
    "backwards": lambda x: x.flip((2, 3)),
    "channels last": lambda x: x.permute(0, 3, 1, 2),
    "a part": lambda x: x[:, 1:, 1:-1, 2:-1],
    "repeated": lambda x: x[:, :, :1].expand(2, 4, 6, 8),
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("kernel", [(1, 1), (3, 1), (1, 3)])
def test_a_convolution_of_a_view(name, kernel):
    """Found from outside: one run over rows that do not follow one another read other numbers, and
    beyond the array. Invariant: a view gives what a copy of it gives, gradients too."""
    outcomes = []
    for copied in (False, True):
        x = tt.Tensor(np.arange(2 * 4 * 6 * 8.0).reshape(2, 4, 6, 8), requires_grad=True)
        view = VIEWS[name](x)
        view = tt.Tensor(view.numpy().copy(), requires_grad=True) if copied else view
        kernel = tuple(min(k, n) for k, n in zip(kernel, view.shape[2:], strict=True))
        w = tt.Tensor(np.ones((3, view.shape[1], *kernel)) + np.arange(3.0).reshape(3, 1, 1, 1))
        w.requires_grad_()
        out = F.conv2d(view, w)
        (out * out).sum().backward()
        outcomes.append((out.numpy(), w.grad.numpy()))
    for found, wanted in zip(*outcomes, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_cotangent_that_is_a_view():
    """The same for gradients: the cotangent is the image of a convolution with turned filters."""
    x, w = RNG.standard_normal((2, 3, 6, 6)), RNG.standard_normal((4, 3, 1, 1))
    g, slopes = RNG.standard_normal((2, 4, 6, 6)), []
    for view in (lambda t: t.transpose(2, 3), lambda t: tt.Tensor(t.numpy().swapaxes(2, 3).copy())):
        image = tt.Tensor(x, requires_grad=True)
        (F.conv2d(image, tt.Tensor(w)) * view(tt.Tensor(g))).sum().backward()
        slopes.append(image.grad.numpy())
    np.testing.assert_array_equal(*slopes)


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


def test_empty_batches_pass_through():
    """Ground truth: the shapes of the docstrings, with N = 0."""
    x = tt.zeros(0, 4, 6, 6)
    for layer, shape in (
        (nn.Conv2d(4, 2, 3), (0, 2, 4, 4)),
        (nn.ConvTranspose2d(4, 2, 3), (0, 2, 8, 8)),
        (nn.AvgPool2d(2), (0, 4, 3, 3)),
        (nn.AvgPool2d(3, 1, 1), (0, 4, 6, 6)),
        (nn.MaxPool2d(2), (0, 4, 3, 3)),
        (nn.AdaptiveAvgPool2d(4), (0, 4, 4, 4)),
        (nn.Flatten(), (0, 144)),
        (nn.GroupNorm(2, 4), (0, 4, 6, 6)),
    ):
        assert layer(x).shape == shape, layer


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (lambda: nn.Conv2d(3, 4, 3, stride=2, padding="same"), "no such padding"),
        (lambda: nn.Conv1d(3, 4, 3, padding="reflect"), "no such padding"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, groups=2), "in_channels cannot be split"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, 2, output_padding=2), "output_padding is too large"),
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
        (lambda: nn.Conv2d(3, 4, 3), (3, 8, 8), r"in_channels = 3[\s\S]*x.unsqueeze\(0\)"),
        (lambda: nn.Conv2d(1, 4, 3), (5, 8, 8), r"x\[:, None\]"),
        (lambda: nn.Conv2d(3, 4, 3), (2, 8, 8, 3), r"x.permute\(0, 3, 1, 2\)"),
        (lambda: nn.Conv1d(3, 4, 3), (2, 5, 8), r"\(N, C, T\) with C = in_channels = 3"),
        (lambda: nn.ConvTranspose2d(3, 4, 3), (2, 5, 8, 8), "ConvTranspose2d: input has the wrong"),
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


def test_transposed_convolution_refuses_sizes_that_do_not_fit():
    """Ground truth: four axes, output_padding below stride or dilation."""
    with pytest.raises(ShapeError, match="convolution_transpose: the sizes do not fit"):
        F.conv_transpose2d(tt.zeros(1, 2, 3, 3), tt.zeros(2, 2, 3, 3), output_padding=1)


def test_settings_are_shown():
    """Ground truth: written by hand."""
    assert repr(nn.Conv2d(3, 4, 3, padding="same", groups=1, bias=False)) == (
        "Conv2d(3, 4, kernel_size=(3, 3), padding='same', bias=False)"
    )
    assert repr(nn.ConvTranspose2d(4, 2, 3, 2, 1, 1)) == (
        "ConvTranspose2d(4, 2, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), "
        "output_padding=(1, 1))"
    )
    assert repr(nn.Conv1d(4, 2, 3, dilation=2)) == "Conv1d(4, 2, kernel_size=3, dilation=2)"
    assert repr(nn.AvgPool1d(3)) == "AvgPool1d(kernel_size=3, stride=3, padding=0)"
    assert repr(nn.AdaptiveAvgPool2d([2, None])) == "AdaptiveAvgPool2d(output_size=(2, None))"


def test_a_transposed_convolution_that_leaves_nothing_is_refused():
    """As PyTorch does: a padding of 1 on each side of one pixel leaves -1. It was (1, 4, 0, 0)."""
    x, w = tt.zeros(1, 1, 1, 1), tt.zeros(1, 4, 1, 1)
    for run in (F.conv_transpose2d, tt.compile(F.conv_transpose2d)):
        with pytest.raises(ShapeError, match="nothing is left"):
            run(x, w, stride=3, padding=1)


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
