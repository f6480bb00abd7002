"""convolution.py: slow definitions, invariants, errors."""

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


def test_transposed_convolution_refuses_sizes_that_do_not_fit():
    """Ground truth: four axes, output_padding below stride or dilation."""
    with pytest.raises(ShapeError, match="convolution_transpose: the sizes do not fit"):
        F.conv_transpose2d(tt.zeros(1, 2, 3, 3), tt.zeros(2, 2, 3, 3), output_padding=1)


def test_a_transposed_convolution_that_leaves_nothing_is_refused():
    """As PyTorch does: a padding of 1 on each side of one pixel leaves -1. It was (1, 4, 0, 0)."""
    x, w = tt.zeros(1, 1, 1, 1), tt.zeros(1, 4, 1, 1)
    for run in (F.conv_transpose2d, tt.compile(F.conv_transpose2d)):
        with pytest.raises(ShapeError, match="nothing is left"):
            run(x, w, stride=3, padding=1)


def test_empty_batches_pass_through():
    """Ground truth: the shapes of the docstrings, with N = 0."""
    x = tt.zeros(0, 4, 6, 6)
    for layer, shape in (
        (nn.Conv2d(4, 2, 3), (0, 2, 4, 4)),
        (nn.ConvTranspose2d(4, 2, 3), (0, 2, 8, 8)),
    ):
        assert layer(x).shape == shape, layer


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "in_channels cannot be split"),
        (lambda: nn.Conv2d(2, 4, (3, 3, 3)), "two image axes"),
        (lambda: nn.Conv2d(3, 4, 3, stride=2, padding="same"), "no such padding"),
        (lambda: nn.Conv1d(3, 4, 3, padding="reflect"), "no such padding"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, groups=2), "in_channels cannot be split"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, 2, output_padding=2), "output_padding is too large"),
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
    ],
)
def test_bad_shapes_are_named(layer, shape, phrase):
    """Ground truth: the shapes in the docstrings."""
    with pytest.raises(ShapeError, match=phrase):
        layer()(tt.zeros(*shape))


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


def test_settings_that_are_the_default_are_not_shown():
    """Ground truth: written by hand; the defaults of the docstrings."""
    assert repr(nn.Conv2d(3, 4, 3)) == "Conv2d(3, 4, kernel_size=(3, 3))"
    assert repr(nn.Conv1d(3, 4, 3)) == "Conv1d(3, 4, kernel_size=3)"
    assert repr(nn.ConvTranspose2d(3, 4, 3)) == "ConvTranspose2d(3, 4, kernel_size=(3, 3))"
