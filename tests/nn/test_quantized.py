"""Weights of few bits: how they are rounded, and what layers compute with them."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import GradientError, SettingError, ShapeError
from tinytorch.nn.functional import linear
from tinytorch.nn.quantized import QuantizedWeight

KINDS = [("int8", None), ("int8", 32), ("int8", 128), ("int4", 32), ("int4", 64), ("int4", 128)]
each_kind = pytest.mark.parametrize(("kind", "group"), KINDS)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def rounded(x):
    """Activations as they are multiplied: by the formula of `few_bits`, row by row."""
    largest = np.abs(x).max(-1, keepdims=True)
    return np.rint(x * (np.float32(127) / largest)), largest * np.float32(1 / 127)


@each_kind
def test_a_number_is_within_half_a_step(kind, group):
    """Closed form: rounding to the nearest multiple of a scale is off by half of it; at the ends of
    4 bits, where a scale of least squares cuts off, by less than the scale times the largest
    number's share. A scale that is rounded down to float16 cuts off 127 / 2^12 of a step."""
    w = normal(40, 200)
    q = QuantizedWeight(w, kind, group)
    scale = q.scale.numpy().astype(np.float32)
    each = 200 if group is None else group
    steps = np.repeat(np.abs(scale.reshape(40, -1)), each, axis=1)[:, :200]
    error = np.abs(q.dequantize().numpy() - w)
    assert (error <= (0.55 if kind == "int8" else 2.0) * steps).all()
    relative = np.sqrt(np.square(error).mean() / np.square(w).mean())
    assert relative < {"int8": 0.01, "int4": 0.105}[kind]


def test_least_squares_beats_the_largest_number():
    """Ground truth: ggml's q4_0, the largest number / -8, on the same numbers."""
    w = normal(500, 64)
    largest = np.take_along_axis(w, np.abs(w).argmax(1)[:, None], 1) / -8
    plain = np.clip(np.rint(w / largest), -8, 7) * largest
    ours = QuantizedWeight(w, "int4", 64).dequantize().numpy()
    assert np.square(ours - w).mean() < 0.95 * np.square(plain - w).mean()


@each_kind
@pytest.mark.parametrize("rows", [1, 3, 20])
def test_linear(kind, group, rows):
    """Ground truth: the formula in float64 from whole numbers; compiled the same, to the rounding
    of one float32 sum over groups (the integers are exact)."""
    w, x, bias = normal(33, 200), normal(rows, 200, seed=1), normal(33, seed=2)
    q = QuantizedWeight(w, kind, group)
    numbers, scale = rounded(x)
    wide = q.dequantize().numpy().astype(np.float64)
    wanted = (numbers @ wide.T) * scale + bias
    bound = 12 * 2.0**-24 * ((np.abs(numbers) @ np.abs(wide).T) * scale + np.abs(bias))
    found = q.linear(tt.Tensor(x), tt.Tensor(bias)).numpy()
    assert (np.abs(found - wanted) <= bound).all()
    compiled = tt.compile(lambda x, b: q.linear(x, b))
    assert (np.abs(compiled(tt.Tensor(x), tt.Tensor(bias)).numpy() - wanted) <= bound).all()
    assert "host calls: 0" in str(compiled.explain())


@each_kind
def test_rows_and_parts(kind, group):
    """Ground truth: the same rows of all numbers, bit for bit; compiled too."""
    q = QuantizedWeight(normal(30, 96), kind, group)
    every = q.dequantize().numpy()
    index = tt.tensor([[3, 0], [29, 3]])
    np.testing.assert_array_equal(q.rows(index).numpy(), every[index.numpy()])
    np.testing.assert_array_equal(tt.compile(q.rows)(index).numpy(), every[index.numpy()])
    np.testing.assert_array_equal(q[4:9].numpy(), every[4:9])
    np.testing.assert_array_equal(q[5].numpy(), every[5])
    np.testing.assert_array_equal(q.part(slice(4, 9)).dequantize().numpy(), every[4:9])


@each_kind
def test_convolution(kind, group):
    """Ground truth: the float64 convolution of what both operands stand for; in groups the
    activations are not rounded. Compiled = eager."""
    w, x, bias = normal(6, 4, 3, 3), normal(2, 4, 9, 8, seed=1), normal(6, seed=2)
    layer = nn.Conv2d(4, 6, 3, padding=1, stride=2)
    layer.weight, layer.bias = QuantizedWeight(w, kind, group), tt.Tensor(bias)
    if group is None:
        numbers, scale = rounded(x.reshape(2, -1))
        seen = (numbers * scale).reshape(x.shape)
    else:
        seen = x
    wide = [a.astype(np.float64) for a in (seen, layer.weight.dequantize().numpy(), bias)]
    plain = nn.functional.conv2d(*map(tt.Tensor, wide), padding=1, stride=2).numpy()
    found = layer(tt.Tensor(x)).numpy()
    assert found.shape == plain.shape
    np.testing.assert_allclose(found, plain, rtol=0, atol=36 * 2.0**-23 * np.abs(plain).max())
    compiled = tt.compile(layer)(tt.Tensor(x)).numpy()
    np.testing.assert_allclose(compiled, found, rtol=0, atol=36 * 2.0**-23 * np.abs(plain).max())


@pytest.mark.parametrize("unsigned", [False, True])
def test_with_a_scale_known_before(unsigned):
    """Closed form, in float64 from whole numbers: clip(round(x / step)), the exact sum of bytes, a
    scale for each channel; numbers beyond the largest byte are cut off. Compiled = eager."""
    w, x, bias = normal(6, 4, 3, 3), normal(2, 4, 9, 8, seed=1), normal(6, seed=2)
    rounding = nn.StaticRounding(2.0**-7, unsigned)
    low, high = (0, 255) if unsigned else (-127, 127)
    q = np.clip(np.rint(x * 128.0), low, high)
    assert (np.abs(x * 128) > high).any()
    for call in (rounding, tt.compile(rounding)):
        found = call(tt.Tensor(x)).numpy()
        assert found.dtype == (np.uint8 if unsigned else np.int8)
        np.testing.assert_array_equal(found, q)
    layer = nn.Conv2d(4, 6, 3, padding=1, stride=2)
    layer.weight = QuantizedWeight(w, input=rounding)
    layer.bias = tt.Tensor(bias)
    wide = [
        tt.Tensor(a.astype(np.float64)) for a in (q / 128, layer.weight.dequantize().numpy(), bias)
    ]
    plain = nn.functional.conv2d(*wide, padding=1, stride=2).numpy()
    flat = QuantizedWeight(w.reshape(6, 36), input=rounding)
    product = (q.reshape(16, 36) / 128) @ flat.dequantize().numpy().astype(np.float64).T
    for call in (lambda f: f, tt.compile):
        found = call(layer)(tt.Tensor(x)).numpy()
        np.testing.assert_allclose(found, plain, rtol=0, atol=2.0**-22 * np.abs(plain).max())
        found = call(flat.linear)(tt.Tensor(x.reshape(16, 36))).numpy()
        np.testing.assert_allclose(found, product, rtol=0, atol=2.0**-22 * np.abs(product).max())
    part = flat.part(slice(1, 3))
    assert part.input is rounding and part.linear(tt.Tensor(x.reshape(16, 36))).shape == (16, 2)


def test_conv1d():
    """Ground truth: the same signal as an image of height 1."""
    w, x = normal(5, 3, 4), tt.Tensor(normal(2, 3, 20, seed=1))
    signal, image = nn.Conv1d(3, 5, 4, bias=False), nn.Conv2d(3, 5, (1, 4), bias=False)
    signal.weight, image.weight = QuantizedWeight(w), QuantizedWeight(w[:, :, None])
    found = image(x.unsqueeze(2)).squeeze(2).numpy()
    np.testing.assert_array_equal(signal(x).numpy(), found)


def test_zeros_and_what_is_not_finite():
    """Closed form: 0 @ w = 0; NaN or an infinity in a row makes that row not finite, no other."""
    x = normal(4, 64)
    x[0], x[1, 3], x[2, 5] = 0, np.nan, np.inf
    for kind in ("int8", "int4"):
        q = QuantizedWeight(normal(8, 64, seed=1), kind)
        for call in (q.linear, tt.compile(q.linear)):
            y = call(tt.Tensor(x)).numpy()
            assert (y[0] == 0).all() and np.isfinite(y[3]).all()
            assert not np.isfinite(y[1]).any() and not np.isfinite(y[2]).any()
    nothing = QuantizedWeight(np.zeros((3, 32), np.float32), "int4", 32)
    assert (nothing.dequantize().numpy() == 0).all() and np.isfinite(nothing.scale.numpy()).all()


def test_scales_that_float16_does_not_hold():
    """Closed form: weights of 1e-7 keep their relative error; their scales are float32."""
    w = normal(4, 64)
    tiny = QuantizedWeight(w * np.float32(1e-7), "int4")
    assert tiny.scale.dtype is tt.float32 and QuantizedWeight(w, "int4").scale.dtype is tt.float16
    error = np.abs(tiny.dequantize().numpy() / np.float32(1e-7) - w)
    assert error.max() < 0.5
    huge = QuantizedWeight(w * np.float32(1e8), "int4")
    assert huge.scale.dtype is tt.float32 and np.isfinite(huge.dequantize().numpy()).all()


def test_other_number_types():
    """float16 and bfloat16 come out as they came in; a model in float64 computes in float32."""
    q = QuantizedWeight(normal(8, 64))
    for dtype in ("bfloat16", "float16", "float64"):
        x = tt.Tensor(normal(2, 64, seed=1)).to(dtype)
        assert q.linear(x).dtype is x.dtype
    assert q.to(tt.bfloat16).linear(tt.ones(1, 64)).dtype is tt.float32


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_training_through_it_is_refused(kind):
    """The phrase of the refusal; without gradients the same call works."""
    q = QuantizedWeight(normal(8, 64), kind)
    x = tt.ones(2, 64, requires_grad=True)
    with pytest.raises(GradientError, match="cannot be trained through"):
        q.linear(x)
    with tt.no_grad():
        assert q.linear(x).shape == (2, 8)
    layer = nn.Conv2d(4, 8, 4)
    layer.weight = QuantizedWeight(normal(8, 4, 4, 4), kind)
    with pytest.raises(GradientError, match="cannot be trained through"):
        layer(tt.ones(1, 4, 4, 4, requires_grad=True))
    assert list(q.parameters()) == [] and not q.requires_grad


@pytest.mark.parametrize(
    ("make", "error", "phrase"),
    [
        (lambda w: QuantizedWeight(w, "int2"), SettingError, "there is no such kind"),
        (lambda w: QuantizedWeight(w, "int4", 48), SettingError, "another number of weights"),
        (lambda w: QuantizedWeight(w * np.inf), SettingError, "not finite"),
        (lambda w: QuantizedWeight(w).linear(tt.ones(2, 5)), ShapeError, "do not belong together"),
        (lambda w: linear(tt.ones(2, 5), QuantizedWeight(w)), ShapeError, "do not belong"),
        (
            lambda w: QuantizedWeight.packed(w, np.ones(7, "f"), (8, 64), "int8", None),
            ShapeError, "do not belong to this weight",
        ),
    ],
)  # fmt: skip
def test_mistakes(make, error, phrase):
    """The phrases of the refusals, in four parts."""
    with pytest.raises(error, match=phrase) as caught:
        make(np.ones((8, 64), np.float32))
    assert all((caught.value.what, caught.value.got, caught.value.rule, caught.value.fix))
