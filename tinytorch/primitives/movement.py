"""Rows that move elements: slice, pad, flip, concatenate. Slice and pad are each other's gradient.

Knows positions, never what the numbers mean.
"""

from __future__ import annotations

import numpy as np

from tinytorch.base.dtypes import check_fits
from tinytorch.base.errors import ShapeError
from tinytorch.primitives.broadcasting import broadcast_to, fold_to
from tinytorch.primitives.primitive import ErrorSample, OpClass, Primitive, Sample, Spec
from tinytorch.primitives.quiet import quietly
from tinytorch.primitives.reshaping import permute, reshape, swap_last
from tinytorch.primitives.samples import numbers, strided
from tinytorch.primitives.shapes import (
    check_axes,
    check_axis,
    check_count,
    check_positive,
    check_same_dtype,
)

__all__ = [
    "broadcast_to", "concatenate", "flip", "fold_to", "pad", "permute", "reshape", "slice_",
    "swap_last",
]  # fmt: skip


def _free(ins, outs, **params) -> int:
    return 0


def _sliced(x: Spec, *, start, stop, step) -> Spec:
    rank = len(x.shape)
    for argument, entries in (("start", start), ("stop", stop), ("step", step)):
        check_count("slice", argument, entries, rank)
    out = []
    for axis, (n, first, end, by) in enumerate(zip(x.shape, start, stop, step, strict=True)):
        taken = range(first, end, by) if by else ()
        if by == 0 or (taken and not (0 <= taken[0] < n and 0 <= taken[-1] < n)):
            raise ShapeError(
                f"slice: the positions along axis {axis} leave x",
                got=f"start={first}, stop={end}, step={by}, with {n} positions",
                rule="step is not 0, and range(start, stop, step) stays within 0 .. size - 1",
                fix="use slice(start, stop, step).indices(size), which gives numbers that fit",
            )
        out.append(len(taken))
    return Spec(tuple(out), x.dtype)


def _slice(x: np.ndarray, *, start, stop, step):
    pick = []
    for first, end, by in zip(start, stop, step, strict=True):
        if len(range(first, end, by)) == 0:
            pick.append(slice(0, 0))
        else:
            pick.append(slice(first, None if end < 0 else end, by))
    return x[(*pick, ...)]  # the ellipsis keeps an array of no axes an array


def _slice_vjp(g, out, x, *, start, stop, step):
    """Put g back in its places, zeros elsewhere."""
    shape = tuple(x.shape)
    backwards = tuple(i for i, by in enumerate(step) if by < 0)
    if backwards:
        g = flip(g, axes=backwards)
    before, after = [], []
    for axis, (n, first, end, by) in enumerate(zip(shape, start, stop, step, strict=True)):
        taken = range(first, end, by)
        if not taken:
            before.append(n)
            after.append(0)
            continue
        lowest, count, gap = min(taken[0], taken[-1]), len(taken), abs(by)
        if gap > 1:
            g = _spread(g, axis, gap)
        before.append(lowest)
        after.append(n - lowest - ((count - 1) * gap + 1))
    if any(before) or any(after):
        g = pad(g, before=tuple(before), after=tuple(after), value=0.0)
    return (g,)


def _spread(g, axis: int, gap: int):
    """gap - 1 zeros between neighbours along an axis: (n) to ((n - 1) * gap + 1)."""
    shape = tuple(g.shape)
    n, rank = shape[axis], len(shape) + 1
    g = reshape(g, shape=(*shape[: axis + 1], 1, *shape[axis + 1 :]))
    none = (0,) * rank
    g = pad(g, before=none, after=(*none[: axis + 1], gap - 1, *none[axis + 2 :]), value=0.0)
    g = reshape(g, shape=(*shape[:axis], n * gap, *shape[axis + 1 :]))
    return cut(g, axis, 0, (n - 1) * gap + 1)


def cut(x, axis: int, first: int, end: int):
    """x[..., first:end, ...] along one axis, as a primitive."""
    shape = tuple(x.shape)
    start, stop = [0] * len(shape), list(shape)
    start[axis], stop[axis] = first, end
    return slice_(x, start=tuple(start), stop=tuple(stop), step=(1,) * len(shape))


def _padded(x: Spec, *, before, after, value=0.0) -> Spec:
    for argument, entries in (("before", before), ("after", after)):
        check_count("pad", argument, entries, len(x.shape))
        check_positive("pad", argument, entries, least=0)
    check_fits(value, x.dtype)
    return Spec(tuple(b + n + a for b, n, a in zip(before, x.shape, after, strict=True)), x.dtype)


@quietly
def _pad(x: np.ndarray, *, before, after, value=0.0):
    shape = tuple(b + n + a for b, n, a in zip(before, x.shape, after, strict=True))
    out = np.full(shape, np.asarray(value).astype(x.dtype))
    out[tuple(slice(b, b + n) for b, n in zip(before, x.shape, strict=True))] = x
    return out


def _pad_vjp(g, out, x, *, before, after, value=0.0):
    stop = tuple(b + n for b, n in zip(before, x.shape, strict=True))
    return (slice_(g, start=before, stop=stop, step=(1,) * len(before)),)


def _flipped(x: Spec, *, axes) -> Spec:
    check_axes("flip", len(x.shape), axes)
    return x


def _flip(x: np.ndarray, *, axes):
    turned = (slice(None, None, -1 if i in axes else 1) for i in range(x.ndim))
    return x[(*turned, ...)]


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


def _concatenate_vjp(g, out, *xs, axis, needs=None):
    ends = np.cumsum([0, *(x.shape[axis] for x in xs)]).tolist()
    return tuple(
        cut(g, axis, first, end) if wanted else None
        for first, end, wanted in zip(ends, ends[1:], needs or (True,) * len(xs), strict=False)
    )


slice_ = Primitive(
    "slice",
    _sliced,
    _slice,
    vjp=_slice_vjp,
    flops=_free,
    op_class=OpClass.MOVEMENT,
    samples=lambda: [
        Sample((numbers(),), {"start": (), "stop": (), "step": ()}),
        Sample((numbers(7),), {"start": (1,), "stop": (6,), "step": (2,)}),
        Sample((numbers(7),), {"start": (6,), "stop": (-1,), "step": (-3,)}),
        Sample((numbers(5, 4),), {"start": (3, 0), "stop": (0, 3), "step": (-1, 1)}),
        Sample((strided(3, 6),), {"start": (0, 4), "stop": (3, 0), "step": (2, -2)}),
        Sample((numbers(4, 3),), {"start": (2, 0), "stop": (2, 3), "step": (1, 1)}),
        Sample((numbers(3),), {"start": (-1,), "stop": (-1,), "step": (-1,)}),
        Sample((numbers(0, 3),), {"start": (0, 2), "stop": (0, 3), "step": (1, 1)}),
    ],
    error_samples=lambda: [
        ErrorSample(
            (numbers(3),), ValueError, "leave x", {"start": (0,), "stop": (4,), "step": (1,)}
        ),
        ErrorSample(
            (numbers(3),), ValueError, "step is not 0", {"start": (0,), "stop": (3,), "step": (0,)}
        ),
        ErrorSample(
            (numbers(3),), ValueError, "one entry", {"start": (), "stop": (3,), "step": (1,)}
        ),
    ],
    selects=(0,),
    doc="x at range(start, stop, step) along each axis, a view; stop = -1 goes back through 0.",
)
pad = Primitive(
    "pad",
    _padded,
    _pad,
    vjp=_pad_vjp,
    flops=_free,
    samples=lambda: [
        Sample((numbers(),), {"before": (), "after": (), "value": 0.0}),
        Sample((numbers(3),), {"before": (2,), "after": (1,), "value": -1.5}),
        Sample((strided(2, 3),), {"before": (0, 1), "after": (3, 0), "value": 0.0}),
        Sample((numbers(0, 2),), {"before": (1, 0), "after": (0, 1), "value": 2.0}),
        Sample((numbers(3, low=0, high=9, dtype="int32"),), {"before": (1,), "after": (0,)}),
    ],
    error_samples=lambda: [
        ErrorSample(
            (numbers(3),), ValueError, "outside its range", {"before": (-1,), "after": (0,)}
        ),
        ErrorSample((numbers(3),), ValueError, "one entry", {"before": (1, 1), "after": (0,)}),
    ],
    op_class=OpClass.COPY,
    doc="x with `value` around it: before[i] and after[i] times along axis i.",
)
flip = Primitive(
    "flip",
    _flipped,
    _flip,
    vjp=lambda g, out, x, *, axes: (flip(g, axes=axes),),
    flops=_free,
    op_class=OpClass.MOVEMENT,
    samples=lambda: [
        Sample((numbers(),), {"axes": ()}),
        Sample((numbers(5),), {"axes": (0,)}),
        Sample((strided(2, 3),), {"axes": (0, 1)}),
        Sample((numbers(0, 3),), {"axes": (1,)}),
    ],
    error_samples=lambda: [
        ErrorSample((numbers(3),), ValueError, "does not exist", {"axes": (1,)}),
        ErrorSample((numbers(3),), ValueError, "named twice", {"axes": (0, 0)}),
    ],
    doc="x in reverse order along the axes; a view.",
)
concatenate = Primitive(
    "concatenate",
    _joined,
    lambda *xs, axis: np.concatenate(xs, axis),
    vjp=_concatenate_vjp,
    flops=_free,
    samples=lambda: [
        Sample((numbers(3),), {"axis": 0}),
        Sample((numbers(2, 3), numbers(1, 3, seed=1), strided(4, 3, seed=2)), {"axis": 0}),
        Sample((numbers(2, 3, 1), numbers(2, 0, 1), numbers(2, 2, 1, seed=2)), {"axis": 1}),
    ],
    error_samples=lambda: [
        ErrorSample((), ValueError, "nothing to join", {"axis": 0}),
        ErrorSample(
            (numbers(2, 3), numbers(3, 2)), ValueError, "beside the joined axis", {"axis": 0}
        ),
        ErrorSample(
            (numbers(2), numbers(2, dtype="float32")), TypeError, "different number", {"axis": 0}
        ),
        ErrorSample((numbers(2), numbers(2)), ValueError, "does not exist", {"axis": 1}),
    ],
    op_class=OpClass.COPY,
    keeps_order=True,
    doc="The arrays one after the other along an axis.",
)
