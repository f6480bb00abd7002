"""Depthwise convolution as slices, products and sums; dilated and grouped as plain ones."""

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
        # 200 terms: sqrt(200) x 1.1e-16, and the cube triples the relative error
        np.testing.assert_allclose(mine.numpy(), its.numpy(), rtol=0, atol=5e-15 * scale)


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
