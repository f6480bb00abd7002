"""Matmul: sums of products over one common axis.

Knows matrices in the last two axes and batches before them. float16 and bfloat16 are multiplied and
added up in float32. `dtype` asks for another type of output: float32 for products of bfloat16.

# Note [the type of a contraction's gradients]
In mixed precision the operands are bfloat16 and the output float32. The cotangent g is then rounded
to bfloat16 to be an input like the others, and the gradients come out in g's own float32: they are
sums, and sums are not rounded. Without `dtype` everything has one type and this says nothing.
"""

from __future__ import annotations

import math

import numpy as np

from tinytorch.base.dtypes import DType, as_dtype, bfloat16, float32
from tinytorch.base.errors import DTypeError, ShapeError
from tinytorch.primitives.broadcasting import accumulator, fold_to
from tinytorch.primitives.casting import cast_like
from tinytorch.primitives.primitive import ErrorSample, OpClass, Primitive, Sample, Spec, dtype_of
from tinytorch.primitives.quiet import quiet, quietly
from tinytorch.primitives.reshaping import reshape, swap_last
from tinytorch.primitives.samples import flags, numbers, strided
from tinytorch.primitives.shapes import NUMBER, broadcast_shapes, check_kind, check_same_dtype


def output_dtype(name: str, operand: Spec, dtype: DType | None) -> DType:
    """The type of a contraction's output: that of its operands, or `dtype` of the same kind."""
    out = operand.dtype if dtype is None else as_dtype(dtype)
    if out.is_float != operand.dtype.is_float or out.kind == "b":
        raise DTypeError(
            f"{name}: dtype does not fit the operands",
            got=f"operands of dtype {operand.dtype.name}, dtype={out.name}",
            rule="floats give floats, integers give integers",
            fix=f"leave dtype out, or cast the operands to {out.name} first",
        )
    return out


def working_type(x: np.ndarray, dtype: DType | None) -> np.dtype:
    """The NumPy type in which a contraction of x is added up."""
    own = accumulator(x.dtype)
    if x.dtype.kind == "f" or dtype is None:
        return own
    return as_dtype(dtype).compute  # integers wrap modulo the output's width


def result_type(x: np.ndarray, dtype: DType | None) -> np.dtype:
    """The NumPy type of what a contraction of x returns."""
    return x.dtype if dtype is None else as_dtype(dtype).compute


def cotangent_for(g, operand):
    """g in the operand's type, and the `dtype` to ask its contractions for: see the Note."""
    return cast_like(g, operand), (None if dtype_of(g) is dtype_of(operand) else dtype_of(g))


def _product(a: Spec, b: Spec, *, dtype: DType | None = None) -> Spec:
    check_kind("matmul", "a", a, NUMBER)
    check_same_dtype("matmul", ("a", "b"), (a, b))
    for argument, x in (("a", a), ("b", b)):
        if len(x.shape) < 2:
            raise ShapeError(
                f"matmul: {argument} is not a matrix",
                got=f"{argument} {x.shape}",
                rule="at least two axes: rows and columns",
                fix=f"{argument}.reshape(1, -1) for a row, {argument}.reshape(-1, 1) for a column",
            )
    if a.shape[-1] != b.shape[-2]:
        raise ShapeError(
            "matmul: the inner sizes differ",
            got=f"a {a.shape}, b {b.shape}",
            rule=f"last axis of a = second last axis of b, here {a.shape[-1]} and {b.shape[-2]}",
            fix="transpose one of them, or check which axis holds the features",
        )
    batch = broadcast_shapes("matmul", ("a (batch)", "b (batch)"), (a.shape[:-2], b.shape[:-2]))
    return Spec((*batch, a.shape[-2], b.shape[-1]), output_dtype("matmul", a, dtype))


_product_of = quiet(np.matmul)


def _matmul(a: np.ndarray, b: np.ndarray, *, dtype: DType | None = None):
    if dtype is None and a.dtype.char in "fd":  # the common case by the shortest way: 3 us less
        if b.ndim > 2 or a.ndim == 2:
            return _product_of(a, b)
        rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
        return _product_of(rows, b).reshape(*a.shape[:-1], b.shape[-1])
    return _wide_matmul(a, b, dtype)


@quietly
def _wide_matmul(a: np.ndarray, b: np.ndarray, dtype: DType | None):
    working, result = working_type(a, dtype), result_type(a, dtype)
    a, b = a.astype(working, copy=False), b.astype(working, copy=False)
    if b.ndim == 2 and a.ndim > 2:  # one product of all rows instead of one for each batch
        rows = a.reshape(int(np.prod(a.shape[:-1], dtype=np.int64)), a.shape[-1])
        out = np.matmul(rows, b).reshape(*a.shape[:-1], b.shape[-1])
    else:
        out = np.matmul(a, b)
    return out.astype(result, copy=False)


def _matmul_vjp(g, out, a, b, *, dtype=None, needs=(True, True)):
    g, wanted = cotangent_for(g, a)
    g_a = None
    if needs[0]:
        g_a = fold_to(matmul(g, swap_last(b), dtype=wanted), tuple(a.shape))
    if not needs[1]:
        return g_a, None
    if len(b.shape) == 2 and len(a.shape) > 2:  # one product over all batches, no sum afterwards
        a, g = (reshape(x, shape=(_rows(x), int(x.shape[-1]))) for x in (a, g))
    if len(b.shape) == 2 and len(a.shape) == 2 and _lies_by_columns(b):
        # b is the transpose of what is in memory, and so is its gradient: optimizers go through
        # both together, three times as fast as when one of them lies across.
        return g_a, swap_last(matmul(swap_last(g), a, dtype=wanted))
    return g_a, fold_to(matmul(swap_last(a), g, dtype=wanted), tuple(b.shape))


def _lies_by_columns(x) -> bool:
    """Whether the elements of a matrix in memory go down its columns (False in a capture)."""
    array = x if isinstance(x, np.ndarray) else getattr(getattr(x, "_buffer", None), "array", None)
    return array is not None and array.flags.f_contiguous and not array.flags.c_contiguous


def _rows(x) -> int:
    return int(np.prod(tuple(x.shape)[:-1], dtype=np.int64))


matmul = Primitive(
    "matmul",
    _product,
    _matmul,
    vjp=_matmul_vjp,
    flops=lambda ins, outs, **params: 2 * outs[0].size * ins[0].shape[-1],
    samples=lambda: [
        Sample((numbers(1, 1), numbers(1, 1, seed=1))),
        Sample((numbers(3, 5), numbers(5, 2, seed=1))),
        Sample((strided(7, 3), strided(3, 4, seed=1))),
        Sample((numbers(2, 3, 4), numbers(4, 5, seed=1))),
        Sample((numbers(2, 1, 3, 4), numbers(5, 4, 2, seed=1))),
        Sample((numbers(3, 4), numbers(2, 4, 2, seed=1))),
        Sample((numbers(3, 0), numbers(0, 2))),
        Sample((numbers(0, 3), numbers(3, 2))),
        Sample((numbers(2, 0, 3), numbers(3, 2))),
        Sample((numbers(0, 2, 3), numbers(3, 2))),
        Sample(
            (numbers(3, 4, dtype="float32"), numbers(4, 2, dtype="float32")), {"dtype": bfloat16}
        ),
        Sample(
            (numbers(3, 4, dtype="float16"), numbers(4, 2, dtype="float16")), {"dtype": float32}
        ),
        Sample(
            (
                numbers(2, 3, low=-99, high=99, dtype="int8"),
                numbers(3, 2, low=-99, high=99, dtype="int8"),
            )
        ),
    ],
    error_samples=lambda: [
        ErrorSample((numbers(3, 5), numbers(4, 2)), ValueError, "inner sizes"),
        ErrorSample((numbers(3), numbers(3, 2)), ValueError, "not a matrix"),
        ErrorSample((numbers(2, 3, 4), numbers(3, 4, 5)), ValueError, "do not fit together"),
        ErrorSample((numbers(2, 2), numbers(2, 2, dtype="float32")), TypeError, "different number"),
        ErrorSample(
            (numbers(2, 2),) * 2, TypeError, "does not fit the operands", {"dtype": "int32"}
        ),
        ErrorSample((flags(2, 2),) * 2, TypeError, "does not take"),
    ],
    op_class=OpClass.CONTRACTION,
    doc="a @ b over the last two axes; batch axes broadcast.",
)
