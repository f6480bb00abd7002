"""Chapter "matmul": a product of matrices, from three loops to the machine's own.

Knows NumPy arrays. The ladder of the matmul guide: `matmul_naive`, `matmul_vectorized`, then
`matmul_optimized_v1` to `v3`. `tinytorch.compile` is the rung above them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tinytorch.base.errors import ShapeError

# The guide's numbers: below so many products NumPy alone, else blocks that fit a 512 KB cache.
THRESHOLD = 1_000_000
BLOCK = 256


def _checked(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(first), np.asarray(second)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ShapeError(
            f"Cannot multiply {a.shape} and {b.shape}",
            got=f"{a.ndim} and {b.ndim} axes",
            rule="(M, K) times (K, N)",
            fix="transpose one of them, or reshape it to two axes",
        )
    return a, b


def matmul_naive(A: ArrayLike, B: ArrayLike) -> np.ndarray:
    """C[i, j] = sum over k of A[i, k] B[k, j], one number at a time.

    Args:
        A: (M, K).
        B: (K, N).

    Returns:
        (M, N), in the wider of both number types; sums in float64.

    Raises:
        ShapeError: the inner sizes differ.

    Cost: M N K turns of a Python loop, about 50 ns each.

    Example:
        >>> matmul_naive([[1.0, 2.0]], [[3.0], [4.0]])
        array([[11.]])
    """
    a, b = _checked(A, B)
    rows, columns = a.tolist(), b.T.tolist()
    out = np.empty((len(rows), len(columns)), np.result_type(a, b))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            total = 0.0
            for x, y in zip(row, column, strict=True):
                total += x * y
            out[i, j] = total
    return out


def matmul_vectorized(A: ArrayLike, B: ArrayLike) -> np.ndarray:
    """Row by row: row i of C is A[i, :] applied to all rows of B at once.

    Args:
        A: (M, K).
        B: (K, N).

    Returns:
        (M, N).

    Cost: M calls into NumPy.

    Example:
        >>> matmul_vectorized([[1.0, 2.0]], [[3.0], [4.0]])
        array([[11.]])
    """
    a, b = _checked(A, B)
    out = np.empty((a.shape[0], b.shape[1]), np.result_type(a, b))
    for i, row in enumerate(a):
        out[i] = row @ b
    return out


def matmul_optimized_v1(A: ArrayLike, B: ArrayLike) -> np.ndarray:
    """One call: NumPy's product, which is a BLAS.

    Args:
        A: (M, K).
        B: (K, N).

    Example:
        >>> matmul_optimized_v1([[1.0, 2.0]], [[3.0], [4.0]])
        array([[11.]])
    """
    a, b = _checked(A, B)
    return np.dot(a, b)


def matmul_optimized_v2(A: ArrayLike, B: ArrayLike) -> np.ndarray:
    """Blocks of 256 x 256 for large matrices, one call for small ones.

    Args:
        A: (M, K).
        B: (K, N); sizes need not be multiples of the block.

    Example:
        >>> matmul_optimized_v2(np.ones((300, 200)), np.ones((200, 300)))[299, 299]
        np.float64(200.0)
    """
    a, b = _checked(A, B)
    (m, k), n = a.shape, b.shape[1]
    if m * n * k < THRESHOLD:
        return np.dot(a, b)
    out = np.zeros((m, n), np.result_type(a, b))
    for i in range(0, m, BLOCK):
        for j in range(0, n, BLOCK):
            block = out[i : i + BLOCK, j : j + BLOCK]
            for at in range(0, k, BLOCK):
                block += np.dot(
                    a[i : i + BLOCK, at : at + BLOCK], b[at : at + BLOCK, j : j + BLOCK]
                )
    return out


def matmul_optimized_v3(A: ArrayLike, B: ArrayLike) -> np.ndarray:
    """v2 on contiguous memory: rows of A and B are read in order.

    Args:
        A: (M, K), any strides.
        B: (K, N), any strides.

    Example:
        >>> matmul_optimized_v3(np.ones((2, 3)), np.ones((2, 3)).T)
        array([[3., 3.],
               [3., 3.]])
    """
    a, b = _checked(A, B)
    return matmul_optimized_v2(np.ascontiguousarray(a), np.ascontiguousarray(b))
