"""Broadcasting and its adjoint: `broadcast_to` repeats, `sum` adds up.

Each is the other's gradient. Knows shapes and additions. `fold_to` is how a cotangent gets back
to the shape of an operand that was broadcast.
"""

from __future__ import annotations

import numpy as np

from tinytorch.base.errors import ShapeError
from tinytorch.primitives.primitive import ErrorSample, OpClass, Primitive, Sample, Spec
from tinytorch.primitives.quiet import quiet_call
from tinytorch.primitives.reshaping import reshape
from tinytorch.primitives.samples import flags, numbers, strided
from tinytorch.primitives.shapes import NUMBER, check_axes, check_kind, check_sizes


def _repeated(x: Spec, *, shape: tuple[int, ...]) -> Spec:
    check_sizes("broadcast_to", shape)
    missing = len(shape) - len(x.shape)
    if missing < 0 or any(n not in (1, m) for n, m in zip(x.shape, shape[missing:], strict=True)):
        raise ShapeError(
            "broadcast_to: x does not stretch to this shape",
            got=f"x {x.shape}, shape={shape}",
            rule="aligned at the last axis, each size of x is 1 or equals that of shape",
            fix=f"reshape x first, for example to {(1,) * max(missing, 0) + x.shape}",
        )
    return Spec(shape, x.dtype)


def kept_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape after a reduction over `axes` that keeps them with size 1."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def reduced_shape(name: str, x: Spec, axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    """The shape of a reduction over `axes`, which are checked."""
    check_axes(name, len(x.shape), axes)
    if keepdims:
        return kept_shape(x.shape, axes)
    return tuple(n for i, n in enumerate(x.shape) if i not in axes)


def _summed(x: Spec, *, axes: tuple[int, ...], keepdims: bool) -> Spec:
    check_kind("sum", "x", x, NUMBER)
    return Spec(reduced_shape("sum", x, axes, keepdims), x.dtype)


def accumulator(dtype: np.dtype) -> np.dtype:
    """The type in which values of `dtype` are added up: float16 in float32, others in their own."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _sum(x: np.ndarray, *, axes, keepdims):
    if x.dtype.char in "fd":  # the common case by the shortest way: 1 us less
        return quiet_call(np.add.reduce, x, axes, None, None, keepdims)
    wide = quiet_call(np.add.reduce, x, axes, accumulator(x.dtype), None, keepdims)
    return wide if wide.dtype == x.dtype else quiet_call(wide.astype, x.dtype)


broadcast_to = Primitive(
    "broadcast_to",
    _repeated,
    lambda x, *, shape: np.broadcast_to(x, shape),
    vjp=lambda g, out, x, *, shape: (fold_to(g, tuple(x.shape)),),
    flops=lambda ins, outs, **params: 0,
    op_class=OpClass.MOVEMENT,
    samples=lambda: [
        Sample((numbers(),), {"shape": (2, 3)}),
        Sample((numbers(3),), {"shape": (3,)}),
        Sample((numbers(2, 1, 5),), {"shape": (7, 2, 3, 5)}),
        Sample((strided(3, 1),), {"shape": (3, 4)}),
        Sample((numbers(1, 2),), {"shape": (0, 2)}),
    ],
    error_samples=lambda: [
        ErrorSample((numbers(1, 3),), ValueError, "does not stretch", {"shape": (3,)}),
        ErrorSample((numbers(2, 3),), ValueError, "does not stretch", {"shape": (3, 3)}),
    ],
    doc="x repeated along axes of size 1 and new leading axes; a read-only view.",
)
sum_ = Primitive(
    "sum",
    _summed,
    _sum,
    vjp=lambda g, out, x, *, axes, keepdims: (
        broadcast_to(reshape(g, shape=kept_shape(tuple(x.shape), axes)), shape=tuple(x.shape)),
    ),
    flops=lambda ins, outs, **params: ins[0].size,
    samples=lambda: [
        Sample((numbers(),), {"axes": (), "keepdims": False}),
        Sample((numbers(2, 3, 5),), {"axes": (0, 2), "keepdims": False}),
        Sample((numbers(2, 3, 5),), {"axes": (1,), "keepdims": True}),
        Sample((strided(3, 4),), {"axes": (0, 1), "keepdims": False}),
        Sample((numbers(0, 3),), {"axes": (0,), "keepdims": False}),
        Sample((numbers(7),), {"axes": (), "keepdims": True}),
    ],
    error_samples=lambda: [
        ErrorSample((numbers(2),), ValueError, "does not exist", {"axes": (1,), "keepdims": False}),
        ErrorSample(
            (numbers(2, 2),), ValueError, "named twice", {"axes": (1, 1), "keepdims": False}
        ),
        ErrorSample((flags(2),), TypeError, "does not take", {"axes": (0,), "keepdims": False}),
    ],
    op_class=OpClass.REDUCTION,
    combines=("add", 0),
    doc="Sum over axes. Keeps the dtype: integers wrap, float16 is added up in float32.",
)


def fold_to(g, shape: tuple[int, ...]):
    """The cotangent of an operand of `shape` that was broadcast to g's shape: repeats are summed.

    >>> fold_to(np.ones((4, 2, 3)), (2, 1))
    array([[12.],
           [12.]])
    """
    have = tuple(g.shape)
    if have == shape:
        return g
    extra = len(have) - len(shape)
    axes = tuple(i for i, n in enumerate(have) if i < extra or (shape[i - extra] == 1 and n != 1))
    folded = sum_(g, axes=axes, keepdims=False) if axes else g
    return folded if tuple(folded.shape) == shape else reshape(folded, shape=shape)
