"""Depthwise convolution as slices, products and sums; dilated and grouped as plain ones; those of
many channels over few pixels as products of matrices."""

from __future__ import annotations

import numpy as np
import pytest

import tinytorch as tt
import tinytorch.nn.functional as F
from tests.compiler.compiled import targets
from tests.compiler.test_pass_regressions import Draft
from tinytorch.compiler.pipeline import stage

TARGET = targets()[-1]

CASES = [  # stride, padding, dilation, kernel, picture, groups, channels in, channels out
    (1, 1, 1, (3, 3), (9, 7), 5, 5, 5),
    (2, 1, 1, (3, 3), (9, 7), 5, 5, 5),
    (2, 0, 1, (3, 3), (10, 8), 5, 5, 5),
    (3, 2, 2, (3, 2), (17, 13), 5, 5, 5),
    (1, 0, 2, (3, 3), (9, 9), 5, 5, 5),
    (1, 3, 1, (2, 2), (5, 5), 5, 5, 5),
    ((1, 2), (0, 1), 1, (1, 3), (6, 7), 5, 5, 5),
    (1, 2, 2, (3, 3), (9, 7), 1, 3, 4),
    (1, 0, 2, (3, 3), (9, 8), 1, 3, 4),
    (1, (3, 1), (3, 1), (3, 2), (10, 8), 1, 2, 3),
    (1, 5, 2, (3, 3), (5, 5), 1, 2, 2),
    (1, 4, 3, (2, 2), (7, 6), 2, 4, 6),
    (2, 1, 1, (3, 3), (9, 7), 2, 4, 6),
    (1, 1, 1, (3, 3), (6, 7), 4, 8, 4),
    (2, 2, 2, (3, 3), (11, 9), 2, 4, 4),
]


@pytest.mark.parametrize("case", CASES)
def test_output_and_both_gradients_are_those_of_the_definition(case):
    """Ground truth: the eager definition in float64; sums of at most 2 x 100 terms."""
    compare(case, relative=5e-15)  # sqrt(200) x 1.1e-16, and the cube triples the relative error


def compare(case, relative: float) -> None:
    """A convolution and its gradients, compiled and by the definition."""
    stride, padding, dilation, kernel, size, groups, channels, filters = case
    rng = np.random.default_rng(0)
    x = tt.Tensor(rng.standard_normal((2, channels, *size)), requires_grad=True)
    w = tt.Tensor(rng.standard_normal((filters, channels // groups, *kernel)), requires_grad=True)

    def run(x, w):
        settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        y = F.conv2d(x, w, **settings)
        (y * y * y).sum().backward()
        found = (y.detach(), x.grad, w.grad)
        x.grad = w.grad = None
        return found

    for mine, its in zip(tt.compile(run)(x, w), run(x, w), strict=True):
        scale = np.abs(its.numpy()).max()
        np.testing.assert_allclose(mine.numpy(), its.numpy(), rtol=0, atol=relative * scale)


FEW = [  # as CASES, pictures of few pixels under many filters
    (1, 1, 1, (3, 3), (2, 2), 1, 96, 160),
    (2, 1, 1, (3, 3), (4, 3), 1, 96, 160),
    (1, 0, 1, (1, 1), (2, 3), 1, 400, 330),
    ((1, 2), (0, 1), 1, (2, 3), (3, 4), 1, 160, 144),
    (1, 1, 1, (2, 2), (1, 1), 1, 200, 190),
    (1, 1, 2, (3, 3), (3, 4), 1, 100, 150),
    (1, 3, 2, (3, 3), (3, 2), 1, 100, 150),  # only the gradient of the filters, as below
    (2, 2, 1, (2, 2), (1, 1), 1, 200, 190),  # windows that lie in the padding alone
    (1, 4, 1, (3, 3), (1, 1), 1, 100, 150),  # the same of more pixels: none of the three
    (3, 0, 1, (3, 3), (5, 9), 1, 100, 150),  # pixels that no window sees
    (1, 1, 1, (3, 3), (4, 4), 1, 96, 160),
]


@pytest.mark.parametrize("case", FEW)
def test_few_pixels_are_products_of_matrices(case):
    """Ground truth: the eager definition in float64; sums of at most 1,440 terms."""
    compare(case, relative=2e-14)


def test_pictures_of_few_pixels_in_bfloat16_and_float16():
    """Ground truth: the eager definition; products of narrow floats are added up in float32, whose
    sums of 1,440 terms round by sqrt(1440) x 6e-8 of the largest, and once more at the end."""
    rng = np.random.default_rng(0)
    for dtype, end in (("bfloat16", 2**-8), ("float16", 2**-11)):
        x = tt.Tensor(rng.standard_normal((2, 96, 2, 2), np.float32)).to(dtype)
        w = tt.Tensor(rng.standard_normal((160, 96, 3, 3), np.float32)).to(dtype)
        mine = tt.compile(lambda x, w: F.conv2d(x, w, padding=1))(x, w).to("float32").numpy()
        its = F.conv2d(x, w, padding=1).to("float32").numpy()
        allowed = (end + 40 * 6e-8) * np.abs(its).max()
        np.testing.assert_allclose(mine, its, rtol=0, atol=allowed)


def test_a_layer_of_many_channels_is_a_few_kernels():
    """Ground truth: count. A product of matrices a channel would be 192 kernels and more."""
    layer = tt.nn.Conv2d(64, 64, 3, padding=1, groups=64)
    compiled = tt.compile(lambda x: layer(x))
    compiled(tt.zeros(1, 64, 6, 6))
    assert "gemm" not in str(compiled.explain())


def operations_of(groups: int, kernel=(3, 3), channels: int = 2, **more) -> set[str]:
    """Names of the primitives that a convolution of `groups` groups becomes."""
    d = Draft()
    x = d.given((1, groups * channels, 12, 12))
    w = d.given((groups * channels, channels, *kernel))
    settings = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), **more}
    d.graph.results = [d("convolution", x, w, groups=groups, **settings)]
    return {n.primitive.name for n in stage(d.graph, TARGET, "simplify").graph.nodes}


def test_which_convolutions_are_rewritten():
    """Closed form: up to 8 groups of channels, up to 64 taps of depthwise ones, dilated ones whose
    steps are 1 and whose filter has more than one tap that way; all others stay."""
    assert operations_of(1) == {"convolution"}
    assert operations_of(2) == operations_of(8) == {"slice", "convolution", "concatenate"}
    assert operations_of(9) == {"convolution"}
    taps = {"slice", "reshape", "mul", "add"}
    assert operations_of(9, (8, 8), 1) == operations_of(2, channels=1) == taps
    assert operations_of(9, (8, 9), 1) == {"convolution"}
    assert operations_of(1, channels=1) == {"convolution"}
    phases = {"reshape", "permute", "convolution"}
    assert operations_of(1, dilation=(2, 2)) == phases
    assert operations_of(1, dilation=(2, 2), stride=(2, 2)) == {"convolution"}
    assert operations_of(1, (1, 1), dilation=(2, 2)) == {"convolution"}
    assert "permute" in operations_of(1, (1, 3), dilation=(2, 2))
    assert operations_of(1, (3, 1), dilation=(1, 2)) == {"convolution"}
    assert "pad" in operations_of(1, dilation=(2, 2), padding=((1, 1), (0, 0)))
    assert "pad" in operations_of(1, dilation=(5, 2))  # 12 rows are no whole steps of 5
    assert "pad" not in operations_of(1, dilation=(3, 2))


def test_which_convolutions_are_of_few_pixels():
    """Closed form: at most 8 output pixels of a picture, 32 where they are summed over, and 2^17
    numbers in the filters, in one group."""
    none = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}

    def becomes(name: str, size: tuple[int, int], filters=(512, 256, 1, 1), **more) -> bool:
        d = Draft()
        p = {**none, **more}
        x = d.given((1, filters[1] * p["groups"], *size))
        w, g = d.given(filters), d.given((1, filters[0], *size))
        made = {
            "convolution": lambda: d(name, x, w, **p),
            "convolution_input_gradient": lambda: d(name, g, w, input_shape=x.shape, **p),
            "convolution_weight_gradient": lambda: d(name, g, x, weight_shape=filters, **p),
        }
        d.graph.results = [made[name]()]
        names = {n.primitive.name for n in stage(d.graph, TARGET, "simplify").graph.nodes}
        assert ("matmul" in names) != (name in names)
        return "matmul" in names

    for name in ("convolution", "convolution_input_gradient"):
        assert becomes(name, (2, 4)) and not becomes(name, (3, 3))
        assert not becomes(name, (2, 4), (511, 256, 1, 1))
        assert not becomes(name, (2, 4), (1152, 128, 1, 1), groups=9)
    name = "convolution_weight_gradient"
    assert becomes(name, (4, 8)) and not becomes(name, (3, 11))
    assert not becomes(name, (4, 8), (511, 256, 1, 1))
