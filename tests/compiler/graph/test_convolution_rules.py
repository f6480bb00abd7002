"""Depthwise convolution as slices, products and sums; dilated and grouped as plain ones."""

from __future__ import annotations

import numpy as np
import pytest

import tinytorch as tt
import tinytorch.nn.functional as F

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
