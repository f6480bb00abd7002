"""Which convolutions read pictures where they lie, which are products of windows, and which are
NumPy's. Ground truth: by hand, and the definition."""

from __future__ import annotations

import numpy as np
import pytest

from tests.compiler.compiled import targets
from tests.compiler.test_pass_regressions import Draft
from tinytorch.base.dtypes import bfloat16, float32, float64, int8, int16, int32, int64, uint8
from tinytorch.compiler.pipeline import stage
from tinytorch.primitives import TABLE

TARGET = targets()[-1]
NONE = ((0, 0), (0, 0))


def labels(d: Draft, *results) -> list[str]:
    """What each task does."""
    d.graph.results = list(results)
    return [t.shown for t in stage(d.graph, TARGET, "lower").tasks]


def settings(padding=NONE, stride=(1, 1), dilation=(1, 1), groups=1) -> dict:
    return {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


@pytest.mark.parametrize(("dtype", "more", "channels", "by"), [
    (float32, {}, 2, "pictures"), (bfloat16, {}, 2, "pictures"), (float64, {}, 2, "windows"),
    (float32, {"stride": (2, 1)}, 2, "pictures"),
    (float32, {"dilation": (2, 2), "stride": (2, 2)}, 2, "windows"),
    (float32, {"groups": 9}, 18, "windows"),
])  # fmt: skip
def test_which_way_a_convolution_and_its_gradients_go(dtype, more, channels, by):
    """Closed form: floats up to float32 without groups or dilation read pictures. The numbers are
    those of the definition: sums of small whole numbers, exactly."""
    p = settings(padding=((1, 0), (1, 1)), **more)
    d = Draft()
    x = d.given((2, channels, 6, 7), dtype)
    w = d.given((channels, channels // p["groups"], 2, 3), dtype)
    y = d("convolution", x, w, **p)
    g = d.given(y.shape, dtype)
    results = [
        y, d("convolution_input_gradient", g, w, **p, input_shape=x.shape),
        d("convolution_weight_gradient", g, x, **p, weight_shape=w.shape),
    ]  # fmt: skip
    found = labels(d, *results[:2])
    assert ("windows" in found) == (by == "windows")
    if by == "pictures":
        assert "filters" in found and "pad" not in found
    d.check(*results)


@pytest.mark.parametrize(("padding", "name"), [
    (((2, 0), (0, 0)), "numpy.convolution_input_gradient"),
    (((1, 0), (0, 2)), "convolution_input_gradient"),
    (((0, 0), (3, 0)), "numpy.convolution_input_gradient"),
    (((1, 1), (2, 2)), "convolution_input_gradient"),
])  # fmt: skip
def test_gradients_of_wide_padding(padding, name):
    """Closed form: a (2, 3) filter reaches 1 down and 2 across; a cotangent that begins further
    outside is NumPy's."""
    p = settings(padding=padding)
    d = Draft()
    x, w = d.given((1, 2, 5, 6)), d.given((3, 2, 2, 3))
    g = d.given(d("convolution", x, w, **p).shape)
    out = d("convolution_input_gradient", g, w, **p, input_shape=x.shape)
    assert name in labels(d, out)
    d.check(out)


@pytest.mark.parametrize("dtype", [float32, float64])
@pytest.mark.parametrize(("stride", "padding"), [
    ((1, 1), NONE), ((2, 3), ((1, 0), (0, 2))), ((3, 1), ((1, 1), (2, 1))),
    ((1, 2), ((0, 1), (1, 0))),
])  # fmt: skip
def test_strides_and_paddings(dtype, stride, padding):
    """Ground truth: the definition, exactly, for sums of small whole numbers, of pictures whose
    channels lie outermost, innermost, and with gaps."""
    p = settings(padding=padding, stride=stride)
    d = Draft()
    plain = d.given((2, 3, 7, 8), dtype)
    last = d("permute", d.given((2, 7, 8, 3), dtype), axes=(0, 3, 1, 2))
    gaps = d("slice", d.given((2, 5, 7, 16), dtype), start=(0, 1, 0, 0), stop=(2, 4, 7, 16),
             step=(1, 1, 1, 2))  # fmt: skip
    w = d.given((4, 3, 2, 3), dtype)
    results = []
    for x in (plain, last, gaps):
        y = d("convolution", x, w, **p)
        g = d.given(y.shape, dtype)
        results += [
            y, d("convolution_input_gradient", g, w, **p, input_shape=x.shape),
            d("convolution_weight_gradient", g, x, **p, weight_shape=w.shape),
        ]  # fmt: skip
    d.check(*results)


def test_gradients_of_pooling():
    """Closed form: of the program's own pooling a kernel; of given places a scatter."""
    d = Draft()
    x = d.given((1, 2, 4, 6))
    window = {"kernel": (2, 3), "stride": (2, 3), "padding": NONE}
    out, index = d.graph.add(TABLE["max_pool2d"], (x,), window)
    back = d("max_pool2d_gradient", d.given(out.shape), index, input_shape=x.shape)
    found = [label for label in labels(d, out, back) if label != "copy"]
    assert found == ["max_pool2d", "max_pool2d_gradient"]
    d.check(out, back)
    d = Draft()
    places = d("cast", d.given((1, 2, 2, 2), int64), dtype=index.dtype)
    g = d.given((1, 2, 2, 2))
    back = d("max_pool2d_gradient", g, places, input_shape=(1, 2, 4, 6))
    assert "scatter_along" in labels(d, back)


@pytest.mark.parametrize(("x", "w"), [(int8, int8), (uint8, int8), (int8, uint8), (uint8, uint8)])
@pytest.mark.parametrize("channels", [1, 3, 8, 17])
def test_pictures_of_bytes(x, w, channels):
    """Ground truth: the definition, on the extremes of both types: products of four bytes at a
    time, whole words of channels or not, zeros around, strides, and what follows the sums."""
    window = {"padding": ((1, 1), (1, 0)), "dilation": (1, 1), "groups": 1}
    for filters, stride in ((5, (1, 1)), (32, (2, 1))):
        d = Draft()
        pair = d.given((2, channels, 6, 7), x), d.given((filters, channels, 3, 3), w)
        random = np.random.default_rng(0)
        for v in pair:
            limits = np.iinfo(v.dtype.storage)
            extremes = np.array([limits.min, limits.max, 1, 3], v.dtype.storage)
            d.arrays[v] = random.choice(extremes, v.shape)
        wide = (d("cast", v, dtype=int32) for v in pair)
        y = d("convolution", *wide, stride=stride, **window)
        d.check(d("maximum", y, d.given((1, filters, 1, 1), int32)))


def test_other_integers_and_groups():
    """Ground truth: the definition; windows are written out for them."""
    window = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}
    d = Draft()
    x, w = d.given((2, 4, 5, 5), int16), d.given((6, 2, 3, 3), int16)
    a, b = d.given((1, 4, 5, 5), int8), d.given((3, 4, 3, 3), int8)
    d.check(
        d("convolution", x, w, groups=2, dtype=int32, **window),
        d("convolution", a, b, groups=1, **window),
    )
