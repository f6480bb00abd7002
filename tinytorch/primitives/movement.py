"""Rows that move elements: reshape, permute, broadcast_to, slice, pad, flip, concatenate; and sum.

Knows shapes and positions, never what the numbers mean. All but pad and concatenate give views
where NumPy does. `sum` is here because it is the gradient of repeating; `fold_to` is how a
cotangent gets back to the shape of an operand that was broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from tinytorch.base.dtypes import check_fits
from tinytorch.base.errors import ShapeError
from tinytorch.primitives.ieee import ieee_call, ieee_steps, row_major
from tinytorch.primitives.primitive import (
    Array,
    Cotangents,
    OpClass,
    Operand,
    Primitive,
    Spec,
    flags,
    no_flops,
    numbers,
    refused,
    sample,
    strided,
)
from tinytorch.primitives.shapes import (
    NUMBER,
    check_axes,
    check_axis,
    check_count,
    check_kind,
    check_positive,
    check_same_dtype,
    check_sizes,
)

Sizes = tuple[int, ...]  # of axes, or their numbers, or positions along them


def _reshaped(x: Spec, *, shape: Sizes) -> Spec:
    check_sizes("reshape", shape)
    out = Spec(shape, x.dtype)
    if out.size != x.size:
        raise ShapeError(
            "reshape: the new shape has another number of elements",
            got=f"x {x.shape} with {x.size} elements, shape={shape} with {out.size}",
            rule="the product of the sizes stays the same",
            fix=f"shape=({x.size},), or another factorisation of {x.size}",
        )
    return out


def _reshape(x: Array, *, shape: Sizes) -> Array:
    return x.reshape(shape)


def _reshape_vjp(g: Operand, out: Operand, x: Operand, *, shape: Sizes) -> Cotangents:
    return (reshape(g, shape=tuple(x.shape)),)


def _permuted(x: Spec, *, axes: Sizes) -> Spec:
    check_count("permute", "axes", axes, len(x.shape))
    check_axes("permute", len(x.shape), axes)
    return Spec(tuple(x.shape[a] for a in axes), x.dtype)


def _permute(x: Array, *, axes: Sizes) -> Array:
    return x.transpose(axes)


def _permute_vjp(g: Operand, out: Operand, x: Operand, *, axes: Sizes) -> Cotangents:
    back = [0] * len(axes)
    for i, a in enumerate(axes):
        back[a] = i
    return (permute(g, axes=tuple(back)),)


reshape = Primitive(
    "reshape", _reshaped, _reshape, vjp=_reshape_vjp, flops=no_flops, op_class=OpClass.MOVEMENT,
    may_copy=True,
    samples=lambda: [
        sample(numbers(), shape=(1, 1)),
        sample(numbers(2, 3, 5), shape=(5, 6)),
        sample(strided(3, 4), shape=(2, 6)),
        sample(numbers(0, 3), shape=(7, 0, 2)),
        sample(numbers(1), shape=()),
    ],
    error_samples=lambda: [
        refused(ValueError, "another number of elements", numbers(2, 3), shape=(7,)),
        refused(ValueError, "not a size", numbers(2, 3), shape=(-1,)),
    ],
    doc="x in the same order under other axes.",
)  # fmt: skip
permute = Primitive(
    "permute", _permuted, _permute, vjp=_permute_vjp, flops=no_flops, op_class=OpClass.MOVEMENT,
    samples=lambda: [
        sample(numbers(), axes=()),
        sample(numbers(2, 3, 5), axes=(2, 0, 1)),
        sample(strided(3, 4), axes=(1, 0)),
        sample(numbers(0, 3, 1), axes=(1, 2, 0)),
    ],
    error_samples=lambda: [
        refused(ValueError, "one entry for each axis", numbers(2, 3), axes=(0,)),
        refused(ValueError, "named twice", numbers(2, 3), axes=(1, 1)),
        refused(ValueError, "does not exist", numbers(2, 3), axes=(0, 2)),
    ],
    doc="Axis i of the output is axis axes[i] of x.",
)  # fmt: skip


def swap_last(x: Operand) -> Operand:
    """x with its last two axes exchanged, as a primitive: the transpose of each matrix."""
    rank = len(x.shape)
    return permute(x, axes=(*range(rank - 2), rank - 1, rank - 2))


# --- broadcast_to repeats, sum adds up: each is the other's gradient ---


def _repeated(x: Spec, *, shape: Sizes) -> Spec:
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


def _broadcast_to(x: Array, *, shape: Sizes) -> Array:
    return np.broadcast_to(x, shape)


def _broadcast_to_vjp(g: Operand, out: Operand, x: Operand, *, shape: Sizes) -> Cotangents:
    return (fold_to(g, tuple(x.shape)),)


def kept_shape(shape: Sizes, axes: Sizes) -> Sizes:
    """The shape after a reduction over `axes` that keeps them with size 1."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def reduced_shape(name: str, x: Spec, axes: Sizes, keepdims: bool) -> Sizes:
    """The shape of a reduction over `axes`, which are checked."""
    check_axes(name, len(x.shape), axes)
    if keepdims:
        return kept_shape(x.shape, axes)
    return tuple(n for i, n in enumerate(x.shape) if i not in axes)


def _summed(x: Spec, *, axes: Sizes, keepdims: bool) -> Spec:
    check_kind("sum", "x", x, NUMBER)
    return Spec(reduced_shape("sum", x, axes, keepdims), x.dtype)


def accumulator(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which values of `dtype` are added up: float16 in float32, others in their own."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _sum(x: Array, *, axes: Sizes, keepdims: bool) -> Array:
    if x.dtype.char in "fd":  # the common case by the shortest way: 1 us less
        return row_major(ieee_call(np.add.reduce, x, axes, None, None, keepdims))
    wide = row_major(ieee_call(np.add.reduce, x, axes, accumulator(x.dtype), None, keepdims))
    return wide if wide.dtype == x.dtype else ieee_call(wide.astype, x.dtype)


def _sum_vjp(g: Operand, out: Operand, x: Operand, *, axes: Sizes, keepdims: bool) -> Cotangents:
    shape = tuple(x.shape)
    return (broadcast_to(reshape(g, shape=kept_shape(shape, axes)), shape=shape),)


def reduced_flops(ins: Sequence[Spec], outs: Sequence[Spec], **params: Any) -> int:
    """Of rows that look at each element of their first input once."""
    return ins[0].size


def over(*axes: int, keepdims: bool = False) -> dict[str, Any]:
    """The parameters of a reduction."""
    return {"axes": axes, "keepdims": keepdims}


broadcast_to = Primitive(
    "broadcast_to", _repeated, _broadcast_to, vjp=_broadcast_to_vjp, flops=no_flops,
    op_class=OpClass.MOVEMENT,
    samples=lambda: [
        sample(numbers(), shape=(2, 3)),
        sample(numbers(3), shape=(3,)),
        sample(numbers(2, 1, 5), shape=(7, 2, 3, 5)),
        sample(strided(3, 1), shape=(3, 4)),
        sample(numbers(1, 2), shape=(0, 2)),
    ],
    error_samples=lambda: [
        refused(ValueError, "does not stretch", numbers(1, 3), shape=(3,)),
        refused(ValueError, "does not stretch", numbers(2, 3), shape=(3, 3)),
    ],
    doc="x repeated along axes of size 1 and new leading axes; a read-only view.",
)  # fmt: skip
sum_ = Primitive(
    "sum", _summed, _sum, vjp=_sum_vjp, flops=reduced_flops, op_class=OpClass.REDUCTION,
    combines=("add", 0),
    samples=lambda: [
        sample(numbers(), **over()),
        sample(numbers(2, 3, 5), **over(0, 2)),
        sample(numbers(2, 3, 5), **over(1, keepdims=True)),
        sample(strided(3, 4), **over(0, 1)),
        sample(numbers(0, 3), **over(0)),
        sample(numbers(7), **over(keepdims=True)),
    ],
    error_samples=lambda: [
        refused(ValueError, "does not exist", numbers(2), **over(1)),
        refused(ValueError, "named twice", numbers(2, 2), **over(1, 1)),
        refused(TypeError, "does not take", flags(2), **over(0)),
    ],
    doc="Sum over axes. Keeps the dtype: integers wrap, float16 is added up in float32.",
)  # fmt: skip


def fold_to(g: Operand, shape: Sizes) -> Operand:
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


# --- slice, pad, flip, concatenate; slice and pad are each other's gradient ---


def positions(first: int, end: int, by: int) -> int:
    """How many numbers `range(first, end, by)` has; sizes may be lengths (base/lengths.py).

    >>> positions(0, 7, 2)
    4
    """
    count = end - first if by == 1 else -((first - end) // by if by > 0 else (end - first) // -by)
    return count if count > 0 else 0


def _sliced(x: Spec, *, start: Sizes, stop: Sizes, step: Sizes) -> Spec:
    rank = len(x.shape)
    for argument, entries in (("start", start), ("stop", stop), ("step", step)):
        check_count("slice", argument, entries, rank)
    out: list[int] = []
    for axis, (n, first, end, by) in enumerate(zip(x.shape, start, stop, step, strict=True)):
        count = positions(first, end, by) if by else 0
        last = first + (count - 1) * by
        if by == 0 or (count and not (0 <= first < n and 0 <= last < n)):
            raise ShapeError(
                f"slice: the positions along axis {axis} leave x",
                got=f"start={first}, stop={end}, step={by}, with {n} positions",
                rule="step is not 0, and range(start, stop, step) stays within 0 .. size - 1",
                fix="use slice(start, stop, step).indices(size), which gives numbers that fit",
            )
        out.append(count)
    return Spec(tuple(out), x.dtype)


def _slice(x: Array, *, start: Sizes, stop: Sizes, step: Sizes) -> Array:
    pick: list[slice] = []
    for first, end, by in zip(start, stop, step, strict=True):
        if len(range(first, end, by)) == 0:
            pick.append(slice(0, 0))
        else:
            pick.append(slice(first, None if end < 0 else end, by))
    return x[(*pick, ...)]  # the ellipsis keeps an array of no axes an array


def _slice_vjp(
    g: Operand, out: Operand, x: Operand, *, start: Sizes, stop: Sizes, step: Sizes
) -> Cotangents:
    """Put g back in its places, zeros elsewhere."""
    shape = tuple(x.shape)
    backwards = tuple(i for i, by in enumerate(step) if by < 0)
    if backwards:
        g = flip(g, axes=backwards)
    before: list[int] = []
    after: list[int] = []
    for axis, (n, first, end, by) in enumerate(zip(shape, start, stop, step, strict=True)):
        count, gap = positions(first, end, by), abs(by)
        if not count:
            before.append(n)
            after.append(0)
            continue
        lowest = first if by > 0 else first + (count - 1) * by
        if gap > 1:
            g = _spread(g, axis, gap)
        before.append(lowest)
        after.append(n - lowest - ((count - 1) * gap + 1))
    if any(before) or any(after):
        g = pad(g, before=tuple(before), after=tuple(after), value=0.0)
    return (g,)


def _spread(g: Operand, axis: int, gap: int) -> Operand:
    """gap - 1 zeros between neighbours along an axis: (n) to ((n - 1) * gap + 1)."""
    shape = tuple(g.shape)
    n, rank = shape[axis], len(shape) + 1
    g = reshape(g, shape=(*shape[: axis + 1], 1, *shape[axis + 1 :]))
    none = (0,) * rank
    g = pad(g, before=none, after=(*none[: axis + 1], gap - 1, *none[axis + 2 :]), value=0.0)
    g = reshape(g, shape=(*shape[:axis], n * gap, *shape[axis + 1 :]))
    return cut(g, axis, 0, (n - 1) * gap + 1)


def cut(x: Operand, axis: int, first: int, end: int) -> Operand:
    """x[..., first:end, ...] along one axis, as a primitive."""
    shape = tuple(x.shape)
    start, stop = [0] * len(shape), list(shape)
    start[axis], stop[axis] = first, end
    return slice_(x, start=tuple(start), stop=tuple(stop), step=(1,) * len(shape))


def _padded(x: Spec, *, before: Sizes, after: Sizes, value: float = 0.0) -> Spec:
    for argument, entries in (("before", before), ("after", after)):
        check_count("pad", argument, entries, len(x.shape))
        check_positive("pad", argument, entries, least=0)
    check_fits(value, x.dtype)
    return Spec(tuple(b + n + a for b, n, a in zip(before, x.shape, after, strict=True)), x.dtype)


@ieee_steps
def _pad(x: Array, *, before: Sizes, after: Sizes, value: float = 0.0) -> Array:
    shape = tuple(b + n + a for b, n, a in zip(before, x.shape, after, strict=True))
    out = np.full(shape, np.asarray(value).astype(x.dtype))
    out[tuple(slice(b, b + n) for b, n in zip(before, x.shape, strict=True))] = x
    return out


def _pad_vjp(
    g: Operand, out: Operand, x: Operand, *, before: Sizes, after: Sizes, value: float = 0.0
) -> Cotangents:
    stop = tuple(b + n for b, n in zip(before, x.shape, strict=True))
    return (slice_(g, start=before, stop=stop, step=(1,) * len(before)),)


def _flipped(x: Spec, *, axes: Sizes) -> Spec:
    check_axes("flip", len(x.shape), axes)
    return x


def _flip(x: Array, *, axes: Sizes) -> Array:
    turned = (slice(None, None, -1 if i in axes else 1) for i in range(x.ndim))
    return x[(*turned, ...)]


def _flip_vjp(g: Operand, out: Operand, x: Operand, *, axes: Sizes) -> Cotangents:
    return (flip(g, axes=axes),)


def _joined(*xs: Spec, axis: int) -> Spec:
    if not xs:
        raise ShapeError(
            "concatenate: there is nothing to join",
            got="no arrays",
            rule="at least one array",
            fix="give one array or more",
        )
    names = [f"xs[{i}]" for i in range(len(xs))]
    check_same_dtype("concatenate", names, xs)
    shape = xs[0].shape
    check_axis("concatenate", len(shape), axis)
    for x in xs:
        if x.shape[:axis] + x.shape[axis + 1 :] != shape[:axis] + shape[axis + 1 :]:
            raise ShapeError(
                "concatenate: the shapes differ beside the joined axis",
                got=", ".join(str(x.shape) for x in xs),
                rule=f"equal sizes on every axis but axis={axis}",
                fix="reshape or slice the arrays first, or join along another axis",
            )
    return Spec((*shape[:axis], sum(x.shape[axis] for x in xs), *shape[axis + 1 :]), xs[0].dtype)


def _concatenate(*xs: Array, axis: int) -> Array:
    return np.concatenate(xs, axis)


def _concatenate_vjp(
    g: Operand, out: Operand, *xs: Operand, axis: int, needs: tuple[bool, ...] | None = None
) -> Cotangents:
    ends = [*accumulate((x.shape[axis] for x in xs), initial=0)]
    return tuple(
        cut(g, axis, first, end) if wanted else None
        for first, end, wanted in zip(ends, ends[1:], needs or (True,) * len(xs), strict=False)
    )


slice_ = Primitive(
    "slice", _sliced, _slice, vjp=_slice_vjp, flops=no_flops, op_class=OpClass.MOVEMENT,
    selects=(0,),
    samples=lambda: [
        sample(numbers(), start=(), stop=(), step=()),
        sample(numbers(7), start=(1,), stop=(6,), step=(2,)),
        sample(numbers(7), start=(6,), stop=(-1,), step=(-3,)),
        sample(numbers(5, 4), start=(3, 0), stop=(0, 3), step=(-1, 1)),
        sample(strided(3, 6), start=(0, 4), stop=(3, 0), step=(2, -2)),
        sample(numbers(4, 3), start=(2, 0), stop=(2, 3), step=(1, 1)),
        sample(numbers(3), start=(-1,), stop=(-1,), step=(-1,)),
        sample(numbers(0, 3), start=(0, 2), stop=(0, 3), step=(1, 1)),
    ],
    error_samples=lambda: [
        refused(ValueError, "leave x", numbers(3), start=(0,), stop=(4,), step=(1,)),
        refused(ValueError, "step is not 0", numbers(3), start=(0,), stop=(3,), step=(0,)),
        refused(ValueError, "one entry", numbers(3), start=(), stop=(3,), step=(1,)),
    ],
    doc="x at range(start, stop, step) along each axis, a view; stop = -1 goes back through 0.",
)  # fmt: skip
pad = Primitive(
    "pad", _padded, _pad, vjp=_pad_vjp, flops=no_flops, op_class=OpClass.COPY,
    samples=lambda: [
        sample(numbers(), before=(), after=(), value=0.0),
        sample(numbers(3), before=(2,), after=(1,), value=-1.5),
        sample(strided(2, 3), before=(0, 1), after=(3, 0), value=0.0),
        sample(numbers(0, 2), before=(1, 0), after=(0, 1), value=2.0),
        sample(numbers(3, low=0, high=9, dtype="int32"), before=(1,), after=(0,)),
    ],
    error_samples=lambda: [
        refused(ValueError, "outside its range", numbers(3), before=(-1,), after=(0,)),
        refused(ValueError, "one entry", numbers(3), before=(1, 1), after=(0,)),
    ],
    doc="x with `value` around it: before[i] and after[i] times along axis i.",
)  # fmt: skip
flip = Primitive(
    "flip", _flipped, _flip, vjp=_flip_vjp, flops=no_flops, op_class=OpClass.MOVEMENT,
    samples=lambda: [
        sample(numbers(), axes=()),
        sample(numbers(5), axes=(0,)),
        sample(strided(2, 3), axes=(0, 1)),
        sample(numbers(0, 3), axes=(1,)),
    ],
    error_samples=lambda: [
        refused(ValueError, "does not exist", numbers(3), axes=(1,)),
        refused(ValueError, "named twice", numbers(3), axes=(0, 0)),
    ],
    doc="x in reverse order along the axes; a view.",
)  # fmt: skip
concatenate = Primitive(
    "concatenate", _joined, _concatenate, vjp=_concatenate_vjp, flops=no_flops,
    op_class=OpClass.COPY, keeps_order=True,
    samples=lambda: [
        sample(numbers(3), axis=0),
        sample(numbers(2, 3), numbers(1, 3, seed=1), strided(4, 3, seed=2), axis=0),
        sample(numbers(2, 3, 1), numbers(2, 0, 1), numbers(2, 2, 1, seed=2), axis=1),
    ],
    error_samples=lambda: [
        refused(ValueError, "nothing to join", axis=0),
        refused(ValueError, "beside the joined axis", numbers(2, 3), numbers(3, 2), axis=0),
        refused(TypeError, "different number", numbers(2), numbers(2, dtype="float32"), axis=0),
        refused(ValueError, "does not exist", numbers(2), numbers(2), axis=1),
    ],
    doc="The arrays one after the other along an axis.",
)  # fmt: skip
