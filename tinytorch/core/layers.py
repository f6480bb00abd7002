"""Chapter "layers": the dense layer, whose product of matrices can be exchanged.

Knows which product is in use; the products themselves are chapter "matmul".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinytorch.base.arguments import whole
from tinytorch.core.matmul import (
    matmul_naive,
    matmul_optimized_v1,
    matmul_optimized_v2,
    matmul_optimized_v3,
    matmul_vectorized,
)
from tinytorch.nn.activation import ReLU
from tinytorch.nn.dropout import Dropout
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module, Parameter, Sequential
from tinytorch.nn.shapes import Flatten
from tinytorch.tensor.creation import zeros
from tinytorch.tensor.dispatch import custom_vjp, tensor_in
from tinytorch.tensor.random import randn
from tinytorch.tensor.tensor import Tensor

__all__ = [
    "Dense", "DenseOptimized", "Dropout", "Flatten", "Linear", "Module", "ReLU", "Sequential",
    "dense_uses", "matmul_naive", "matmul_optimized_v1", "matmul_optimized_v2",
    "matmul_optimized_v3", "matmul_vectorized",
]  # fmt: skip

Product = Callable[[np.ndarray, np.ndarray], np.ndarray]

_product: Product | None = None  # None: the framework's own


@contextmanager
def dense_uses(product: Product | None) -> Iterator[None]:
    """While it is open, every `Dense` multiplies with this function, forward and backward.

    The function sees NumPy arrays, so a compiled program cannot hold it: for eager code.

    Args:
        product: (M, K), (K, N) -> (M, N), for example `matmul_naive`; None for the framework's own.

    Example:
        >>> import tinytorch as tt
        >>> layer = Dense(3, 2)
        >>> with dense_uses(matmul_naive):
        ...     slow = layer(tt.ones(4, 3))
        >>> bool(abs(slow - layer(tt.ones(4, 3))).max().item() < 1e-6)
        True
    """
    global _product
    before, _product = _product, product
    try:
        yield
    finally:
        _product = before


class Dense(Linear):
    """`nn.Linear` by the course's name: y = x W^T + b, with the product that `dense_uses` says.

    Differs from `nn.Linear`: inputs of another float type (NumPy's float64, in most programs of the
    course) become that of the weight.

    Args:
        input_size: numbers of each input.
        output_size: numbers of each output.
        bias: whether b is there; default True.

    Shapes: (..., input_size) -> (..., output_size); weight (output_size, input_size).

    Example:
        >>> import tinytorch as tt
        >>> Dense(784, 10)(tt.zeros(64, 784)).shape
        (64, 10)
    """

    def __init__(self, input_size: int, output_size: int, bias: bool = True):
        super().__init__(input_size, output_size, bias)
        self.input_size, self.output_size = self.in_features, self.out_features

    def forward(self, x: Tensor) -> Tensor:
        """(..., input_size) -> (..., output_size)."""
        x = tensor_in(x, self.weight.dtype)  # type: ignore[assignment]
        if _product is None:
            return super().forward(x)
        out = _times(_product, x, self.weight.transpose(0, 1))
        return out if self.bias is None else out + self.bias


class DenseOptimized(Module):
    """The matmul guide's layer: y = x W + b by `matmul_optimized_v3`, forward and backward.

    Args:
        input_size: numbers of each input.
        output_size: numbers of each output.

    Shapes: (..., input_size) -> (..., output_size); weight (input_size, output_size).

    Source: the guide's first values, weights normal with deviation 0.1 and biases 0.

    Example:
        >>> import tinytorch as tt
        >>> DenseOptimized(784, 10)(tt.zeros(64, 784)).shape
        (64, 10)
    """

    def __init__(self, input_size: int, output_size: int):
        self.input_size = whole("DenseOptimized", "input_size", input_size, at_least=1)
        self.output_size = whole("DenseOptimized", "output_size", output_size, at_least=1)
        self.weight = Parameter(randn(input_size, output_size) * 0.1)
        self.bias = Parameter(zeros(output_size))

    def forward(self, x: Tensor) -> Tensor:
        """(..., input_size) -> (..., output_size)."""
        return _times(matmul_optimized_v3, x, self.weight) + self.bias


def _times(product: Product, x: Tensor, w: Tensor) -> Tensor:
    """x w for x of any number of axes, with both gradients by the same product."""
    rows = x.reshape(-1, x.shape[-1])
    return _multiplied(rows, w, product=product).reshape(*x.shape[:-1], w.shape[-1])


def _applied(product: Product, a: Any, b: Any) -> Tensor:
    return Tensor(np.asarray(product(a.numpy(), b.numpy())), dtype=a.dtype)


@custom_vjp
def _multiplied(a: Tensor, b: Tensor, *, product: Product) -> Tensor:
    return _applied(product, a, b)


def _forward(a: Tensor, b: Tensor, *, product: Product):
    return _applied(product, a, b), (a, b, product)


def _backward(kept: tuple[Tensor, Tensor, Product], g: Tensor):
    a, b, product = kept
    g_a = _multiplied(g, b.transpose(0, 1), product=product)
    return g_a, _multiplied(a.transpose(0, 1), g, product=product)


_multiplied.define(_forward, _backward)
