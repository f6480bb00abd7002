"""Functions that slide a window over images and signals: convolution and pooling.

Knows windows; the arithmetic is in `tensor.contractions`.
"""

from __future__ import annotations

from typing import Any

from tinytorch.tensor.contractions import convolution
from tinytorch.tensor.tensor import Tensor


def conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """Cross-correlation of images with windows of weights, plus one number per channel.

    Args:
        input: (N, C, H, W).
        weight: (K, C / groups, kernel height, kernel width).
        bias: (K,).
        stride: step of the window, one number or a pair.
        padding: zeros on each side, one number or a pair.
        dilation: distance between rows of the window, one number or a pair.
        groups: so many parts of the channels do not see each other.

    Returns:
        (N, K, H', W').
    """
    out = convolution(
        input, weight, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    return out if bias is None else out + bias.reshape(1, weight.shape[0], 1, 1)
