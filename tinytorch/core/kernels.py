"""Chapter "kernels": operations fused into one pass over memory."""

from __future__ import annotations

import functools
from collections.abc import Callable

from tinytorch.core.grid import kernel
from tinytorch.core.matmul import (
    matmul_naive,
    matmul_optimized_v1,
    matmul_optimized_v2,
    matmul_optimized_v3,
    matmul_vectorized,
)
from tinytorch.nn.functional import relu
from tinytorch.tensor.creation import asarray
from tinytorch.tensor.dispatch import custom_vjp
from tinytorch.tensor.elementwise import where
from tinytorch.tensor.interpreter import current
from tinytorch.tensor.operands import Operand
from tinytorch.tensor.tensor import Tensor

__all__ = [
    "fused_relu_add", "kernel", "matmul_naive", "matmul_optimized_v1", "matmul_optimized_v2",
    "matmul_optimized_v3", "matmul_vectorized",
]  # fmt: skip


def fused_relu_add(x: Operand, y: Operand) -> Tensor:
    """max(x + y, 0), reading each number once: one native loop, forward and backward.

    Args:
        x: any shape.
        y: the same shape.

    Returns:
        the same shape.

    Cost: 12 bytes a float32 number; add and ReLU one after the other move 24.

    Example:
        >>> import tinytorch as tt
        >>> fused_relu_add(tt.Tensor([1.0, -3.0]), tt.Tensor([1.0, 2.0])).numpy()
        array([2., 0.], dtype=float32)
    """
    a, b = asarray(x), asarray(y)
    if current() is not None:  # the program that is being recorded fuses it
        return relu(a + b)
    return _relu_add(a, b)


@custom_vjp
def _relu_add(x: Tensor, y: Tensor) -> Tensor:
    return _compiled(_sum_held)(x, y)


def _forward(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    out = _compiled(_sum_held)(x, y)
    return out, out


def _backward(out: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    passed = _compiled(_passed)(g, out)
    return passed, passed


_relu_add.define(_forward, _backward)


def _sum_held(x: Tensor, y: Tensor) -> Tensor:
    return relu(x + y)


def _passed(g: Tensor, out: Tensor) -> Tensor:
    return where(out > 0, g, 0.0)


@functools.cache
def _compiled(function: Callable) -> Callable:
    # Imported here: the course's first chapters need no LLVM.
    from tinytorch.compiler.compile import compile

    return compile(function)
