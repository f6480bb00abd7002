"""Chapter "spatial": pictures."""

from __future__ import annotations

from tinytorch.nn.convolution import Conv2d
from tinytorch.nn.normalization import BatchNorm2d
from tinytorch.nn.pooling import AvgPool2d, MaxPool2d
from tinytorch.nn.shapes import Flatten
from tinytorch.tensor.tensor import Tensor

Conv2D, MaxPool2D, AvgPool2D, BatchNorm2D = Conv2d, MaxPool2d, AvgPool2d, BatchNorm2d

__all__ = [
    "AvgPool2D", "AvgPool2d", "BatchNorm2D", "BatchNorm2d", "Conv2D", "Conv2d", "Flatten",
    "MaxPool2D", "MaxPool2d", "flatten",
]  # fmt: skip


def flatten(x: Tensor) -> Tensor:
    """Each sample as one row.

    Args:
        x: (N, ...).

    Returns:
        (N, the product of the other sizes).

    Example:
        >>> import tinytorch as tt
        >>> flatten(tt.zeros(64, 32, 30, 30)).shape
        (64, 28800)
    """
    return x.reshape(x.shape[0], -1)
