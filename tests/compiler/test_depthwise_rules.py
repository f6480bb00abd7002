"""Depthwise convolution as slices, products and sums."""

from __future__ import annotations

import numpy as np
import pytest

import tinytorch as tt
import tinytorch.nn.functional as F

CASES = [  # stride, padding, dilation, kernel, picture
    (1, 1, 1, (3, 3), (9, 7)),
    (2, 1, 1, (3, 3), (9, 7)),
    (2, 0, 1, (3, 3), (10, 8)),
    (3, 2, 2, (3, 2), (17, 13)),
    (1, 0, 2, (3, 3), (9, 9)),
    (1, 3, 1, (2, 2), (5, 5)),
    ((1, 2), (0, 1), 1, (1, 3), (6, 7)),
]


def _gradients(stride, padding, dilation):
    def run(x, w):
        y = F.conv2d(x, w, stride=stride, padding=padding, dilation=dilation, groups=5)
        (y * y * y).sum().backward()
        found = (y.detach(), x.grad, w.grad)
        x.grad = w.grad = None
        return found

    return run


@pytest.mark.parametrize(("stride", "padding", "dilation", "kernel", "size"), CASES)
def test_output_and_both_gradients_are_those_of_the_definition(
    stride, padding, dilation, kernel, size
):
    """Ground truth: the eager definition in float64; sums of at most 2 x 9 x 9 terms."""
    rng = np.random.default_rng(0)
    x = tt.Tensor(rng.standard_normal((2, 5, *size)), requires_grad=True)
    w = tt.Tensor(rng.standard_normal((5, 1, *kernel)), requires_grad=True)
    run = _gradients(stride, padding, dilation)
    for mine, its in zip(tt.compile(run)(x, w), run(x, w), strict=True):
        scale = np.abs(its.numpy()).max()
        # 162 terms: sqrt(162) x 1.1e-16, and the cube triples the relative error
        np.testing.assert_allclose(mine.numpy(), its.numpy(), rtol=0, atol=5e-15 * scale)


def test_a_layer_of_many_channels_is_a_few_kernels():
    """Ground truth: count. A product of matrices a channel would be 192 kernels and more."""
    layer = tt.nn.Conv2d(64, 64, 3, padding=1, groups=64)
    compiled = tt.compile(lambda x: layer(x))
    compiled(tt.zeros(1, 64, 6, 6))
    assert "gemm" not in str(compiled.explain())
