"""Functions that move or repeat elements without computing: reshape, permute, join, pad, tile.

Knows axes, counted from the end if negative; views where NumPy gives views. What repeats is a
broadcast view, copied once where axes are joined.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import builtins
import functools
from collections.abc import Callable, Sequence
from operator import index
from typing import Any, ParamSpec

import numpy as np

from tinytorch.base.dtypes import Array, bool_, promote
from tinytorch.base.errors import ArgumentTypeError, SettingError, ShapeError
from tinytorch.primitives import TABLE
from tinytorch.primitives.shapes import broadcast_shapes as _common_shape
from tinytorch.primitives.shapes import check_sizes, sizes_of
from tinytorch.tensor.dispatch import alias, apply, copied, to_dtype, unshared, viewed
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.memory import TensorBase
from tinytorch.tensor.operands import Axes, Operand, Sizes, entries_of, make, tensor_of

__all__ = [
    "broadcast_arrays", "broadcast_shapes", "broadcast_to", "chunk", "concat", "expand_dims",
    "flatten", "flip", "matrix_transpose", "meshgrid", "moveaxis", "movedim", "narrow", "pad",
    "permute", "permute_dims", "repeat", "repeat_interleave", "reshape", "roll", "split", "squeeze",
    "stack", "tile", "transpose", "unbind", "unsqueeze", "unstack",
]  # fmt: skip

P = ParamSpec("P")
_RESHAPE, _PERMUTE = TABLE["reshape"], TABLE["permute"]


def refuse_bool(axis: Any) -> None:
    """Refuse a bool as an axis: Python would count it as 0 or 1."""
    raise ArgumentTypeError(
        "a bool is no axis",
        got=f"axis {axis!r}",
        rule="whole numbers; a yes or no goes by its name",
        fix="dim=0, or keepdim=True if that is meant",
    )


def axis_of(x: TensorBase, axis: Any, extra: int = 0) -> int:
    """`axis` counted from the start.

    Raises:
        ShapeError: there is no such axis.
        ArgumentTypeError: a bool.
    """
    rank = len(x.shape) + extra
    if isinstance(axis, bool):
        refuse_bool(axis)
    whole: Any = axis
    if not isinstance(axis, (int, np.integer)) or not -rank <= axis < rank:
        raise ShapeError(
            "there is no such axis",
            got=f"axis {axis!r} of a tensor {x.shape}",
            rule=f"-{rank} <= axis < {rank}" if rank else "a number has no axes",
            fix="axis=-1 for the last one",
        )
    return int(whole) % rank


def axes_of(x: TensorBase, axes: Any) -> tuple[int, ...]:
    """Axes counted from the start, in ascending order; None: all.

    A 0-d Tensor is reduced over nothing by axis 0 or -1, as if it were (1,): PyTorch's rule.
    """
    if axes is None:
        return tuple(range(len(x.shape)))
    given = entries_of(axes)
    if not x.shape and all(type(a) is not bool and a in (0, -1) for a in given):
        return ()
    return tuple(sorted([axis_of(x, a) for a in given]))


def as_vector(function: Callable[P, Any]) -> Callable[P, Any]:
    """Decorator for a function along one axis: a 0-d Tensor counts as (1,), as in PyTorch."""

    @functools.wraps(function)
    def of_vector(x: Operand, *args: Any, **settings: Any) -> Any:
        x = tensor_of(x)
        if x.shape:
            return function(x, *args, **settings)  # type: ignore[call-arg]
        out = function(reshape(x, 1), *args, **settings)  # type: ignore[call-arg]
        parts = [reshape(o, ()) if o.shape == (1,) else o for o in entries_of(out)]
        # values and indices go by name
        return out._make(parts) if isinstance(out, tuple) else parts[0]  # type: ignore[attr-defined]

    return of_vector  # type: ignore[return-value]


def reshape(x: Operand, *shape: Sizes) -> Any:
    """The same elements, in the same order, under other axes; one size may be -1: what is left.

    Example:
        >>> import tinytorch as tt
        >>> tt.reshape(tt.arange(6), 2, -1).tolist()
        [[0, 1, 2], [3, 4, 5]]
    """
    x = tensor_of(x)
    if STATE.interpreter is None:
        try:  # NumPy knows what -1 stands for; its refusals are explained below
            array = x._buffer.array.reshape(*shape)
        except (ValueError, TypeError, AttributeError):
            pass
        else:
            return viewed(_RESHAPE, x, array, {"shape": array.shape})
    sizes = sizes_of(shape)
    if -1 in sizes:
        known = 1
        for n in sizes:
            known *= n if n != -1 else 1
        if sizes.count(-1) > 1 or known == 0 or x.size % known:
            raise ShapeError(
                "reshape: the sizes do not fit",
                got=f"x {x.shape} with {x.size} elements, shape {sizes}",
                rule="one size may be -1; the product of the others divides the number of elements",
                fix=f"reshape({x.size})",
            )
        sizes = tuple([x.size // known if n == -1 else n for n in sizes])
    return alias(x) if sizes == x.shape else apply(_RESHAPE, (x,), {"shape": sizes})


def view(x: Operand, *shape: Sizes) -> Any:
    """`reshape` that never copies: a write to the result always reaches x.

    Raises:
        ShapeError: the sizes do not fit, or x does not lie in memory so that it can be seen so.
    """
    x = tensor_of(x)
    if STATE.interpreter is None:
        try:
            whole = x._buffer.array
            array = whole.reshape(*shape)
        except (ValueError, TypeError, AttributeError):
            pass
        else:
            if array.base is whole or (array.base is whole.base and whole.base is not None):
                return viewed(_RESHAPE, x, array, {"shape": array.shape})
    out = reshape(x, *shape)  # refuses what does not fit, and copies what cannot be seen
    if STATE.interpreter is None or STATE.interpreter.taken_from(out) is None:
        raise ShapeError(
            "view: these axes are no view of x, whose elements lie in another order",
            got=f"x {x.shape}, shape {out.shape}",
            rule="joined axes lie one behind the other in memory, as those of x.T do not",
            fix=f"x.reshape{out.shape}, which copies where it must",
        )
    return out


def permute(x: Operand, *axes: Sizes) -> Any:
    """Axis i of the result is axis axes[i] of x."""
    x = tensor_of(x)
    order = axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
    if bool in map(type, order):
        refuse_bool(order)
    return _permuted(x, tuple([axis_of(x, a) for a in sizes_of(axes)]))


def _permuted(x: TensorBase, order: tuple[int, ...]) -> Any:
    """Axis i of the result is axis order[i] of x, all counted from the start."""
    if STATE.interpreter is None and x._buffer is not None and len(order) == len(x.shape):
        try:
            array = x._buffer.array.transpose(order)
        except ValueError:  # an axis is named twice: explained below
            pass
        else:
            return viewed(_PERMUTE, x, array, {"axes": order})
    return apply(_PERMUTE, (x,), {"axes": order})


@functools.lru_cache(maxsize=256)
def _exchanged(rank: int, a: int, b: int) -> tuple[int, ...]:
    order = list(range(rank))
    order[a], order[b] = order[b], order[a]
    return tuple(order)


def transpose(x: Operand, a: int = -2, b: int = -1) -> Any:
    """x with axes a and b exchanged; a view."""
    x = tensor_of(x)
    rank = len(x.shape)
    if not rank and {a, b} <= {0, -1} and (a, b) != (-2, -1) and bool not in (type(a), type(b)):
        return alias(x)
    if not (type(a) is type(b) is int and -rank <= a < rank and -rank <= b < rank):
        a, b = axis_of(x, a), axis_of(x, b)
    return _permuted(x, _exchanged(rank, a, b))


def reversed_axes(x: TensorBase) -> Any:
    """x with its axes in reverse order: for a matrix, its transpose."""
    return _permuted(x, tuple(range(len(x.shape) - 1, -1, -1)))


def moveaxis(x: Operand, source: int | Sequence[int], destination: int | Sequence[int]) -> Any:
    """x with one axis, or several, moved to other places; those not named keep their order."""
    x = tensor_of(x)
    named = [a if isinstance(a, Sequence) else (a,) for a in (source, destination)]
    tensor = x
    taken, places = ([axis_of(tensor, a) for a in axes] for axes in named)
    if len({*taken}) != len(taken) or len({*places}) != len(taken) or len(places) != len(taken):
        raise ShapeError(
            "moveaxis: the axes are not moved one to one",
            got=f"source={source}, destination={destination}",
            rule="as many places as axes, none of them twice",
            fix="moveaxis(x, (0, 1), (-2, -1))",
        )
    order = [i for i in range(len(x.shape)) if i not in taken]
    for place, axis in sorted(zip(places, taken, strict=True)):
        order.insert(place, axis)
    return _permuted(x, tuple(order))


def flatten(x: Operand, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Axes start_dim to end_dim (included) as one."""
    x = tensor_of(x)
    if not x.shape:
        return reshape(x, 1)
    a, b = axis_of(x, start_dim), axis_of(x, end_dim)
    if a == b:
        return x
    size = 1
    for n in x.shape[a : b + 1]:
        size *= n
    return reshape(x, (*x.shape[:a], size, *x.shape[b + 1 :]))


def squeeze(x: Operand, dim: Axes = None, *, axis: Axes = None) -> Any:
    """x without its axes of size 1 (or those named, if their size is 1).

    Differs from the array API: an axis of another size that is named stays, as in PyTorch.
    """
    x = tensor_of(x)
    drop = axes_of(x, dim if axis is None else axis)
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in drop or n != 1))


def unsqueeze(x: Operand, dim: int) -> Any:
    """x with a new axis of size 1 at `dim`."""
    x = tensor_of(x)
    at = axis_of(x, dim, extra=1)
    return reshape(x, (*x.shape[:at], 1, *x.shape[at:]))


def expand_dims(x: Operand, axis: int = 0) -> Any:
    """`unsqueeze` by the array API's name."""
    return unsqueeze(x, axis)


def permute_dims(x: Operand, axes: Sequence[int]) -> Any:
    """`permute` by the array API's name."""
    return permute(x, tuple(axes))


def matrix_transpose(x: Operand) -> Any:
    """x with its last two axes exchanged: each matrix transposed; a view."""
    return transpose(x, -2, -1)


def broadcast_to(x: Operand, *shape: Sizes) -> Any:
    """x repeated along axes of size 1 and new leading axes; -1 keeps a size."""
    x = tensor_of(x)
    sizes = sizes_of(shape)
    missing = len(sizes) - len(x.shape)
    sizes = tuple(
        x.shape[i - missing] if n == -1 and i >= missing else n for i, n in enumerate(sizes)
    )
    if missing >= 0 and sizes == (1,) * missing + x.shape:
        return reshape(x, sizes)  # nothing is repeated
    if STATE.interpreter is None and x._buffer is not None:
        try:
            array = np.broadcast_to(x._buffer.array, sizes)
        except ValueError:
            pass  # explained below
        else:
            array.flags.writeable = x._buffer.array.flags.writeable
            return viewed(TABLE["broadcast_to"], x, array, {"shape": sizes})
    return apply(TABLE["broadcast_to"], (x,), {"shape": sizes})


def joined(xs: Sequence[Any]) -> list[Any]:
    """Tensors of one dtype."""
    tensors = [tensor_of(x) for x in xs]
    if not tensors:
        raise SettingError(
            "concat: nothing to join", got="no tensors", rule="at least one", fix="concat([x, y])"
        )
    dtype = tensors[0].dtype
    for t in tensors[1:]:
        dtype = promote(dtype, t.dtype)
    return [to_dtype(t, dtype) for t in tensors]


def concat(xs: Sequence[Any], dim: int | None = 0, axis: Any = ...) -> Any:
    """Tensors one after the other along an axis (None: flattened); their other sizes agree."""
    tensors = joined(xs)
    place = dim if axis is ... else axis
    if place is None:
        tensors, place = [reshape(t, -1) for t in tensors], 0
    shapes = [t.shape for t in tensors]
    if (0,) in shapes:  # of nothing nothing is known: PyTorch's rule
        tensors = [t for t in tensors if t.shape != (0,)] or tensors[:1]
    if () in shapes:
        raise ShapeError(
            "concat: a single number has no axis to be joined along",
            got=", ".join(str(t.shape) for t in tensors),
            rule="tensors with at least one axis",
            fix="tt.stack(numbers), or x.reshape(1) of each number",
        )
    at = axis_of(tensors[0], place)
    return apply(TABLE["concatenate"], tensors, {"axis": at})


def stack(xs: Sequence[Any], dim: int = 0, axis: int | None = None) -> Any:
    """Tensors of one shape beside each other along a new axis."""
    at = dim if axis is None else axis
    return concat([unsqueeze(x, at) for x in xs], at)


def slice_along(x: TensorBase, axis: int, start: int, stop: int) -> Any:
    """x[..., start:stop, ...] along one axis, 0 <= start <= stop <= size."""
    shape = x.shape
    begin, end = [0] * len(shape), list(shape)
    begin[axis], end[axis] = start, stop
    params = {"start": tuple(begin), "stop": tuple(end), "step": (1,) * len(shape)}
    return apply(TABLE["slice"], (x,), params)


def narrow(x: Operand, dim: int, start: int, length: int) -> Any:
    """x[..., start:start + length, ...] along one axis; a view.

    Raises:
        ShapeError: the part leaves the axis.
    """
    x = tensor_of(x)
    axis, start, length = axis_of(x, dim), index(start), index(length)
    n = x.shape[axis]
    first = start + n if start < 0 else start
    if not (0 <= first <= n and 0 <= length <= n - first):
        raise ShapeError(
            "narrow: the part leaves the axis",
            got=f"start={start}, length={length} along axis {axis} of a tensor {x.shape}",
            rule=f"start + length <= {n}, length >= 0",
            fix=f"narrow(x, {axis}, 0, {n})",
        )
    return slice_along(x, axis, first, first + length)


def select(x: Operand, dim: int, index: int) -> Any:
    """x[..., index, ...] at one place of an axis, without the axis; a view.

    Raises:
        IndexRangeError: the index is outside its axis.
    """
    x = tensor_of(x)
    return x[(slice(None),) * axis_of(x, dim) + (index,)]


def movedim(x: Operand, source: int, destination: int) -> Any:
    """`moveaxis` by PyTorch's name."""
    return moveaxis(x, source, destination)


def split(x: Operand, size_or_sizes: int | Sequence[int], dim: int = 0) -> tuple[Any, ...]:
    """x cut along an axis into parts of one size (the last may be less), or of those listed.

    Raises:
        ShapeError: parts below 0, of size 0 (unless the axis is empty), or that do not add up.
    """
    x = tensor_of(x)
    axis = axis_of(x, dim)
    n = x.shape[axis]
    if isinstance(size_or_sizes, (tuple, list)):
        sizes = list(sizes_of((size_or_sizes,)))
    else:
        step = sizes_of((size_or_sizes,))[0]
        if step < 0 or (n and not step):
            raise ShapeError(
                "split: the size of the parts is no size",
                got=f"{step} for axis {axis} of a tensor {x.shape}",
                rule="a whole number >= 1" if n else "a whole number >= 0",
                fix=f"split(x, {builtins.max(1, n // 2)}, dim={axis})",
            )
        sizes = [builtins.min(step, n - i) for i in range(0, n, step or 1)] or [0]
    if builtins.sum(sizes) != n or builtins.min(sizes, default=0) < 0:
        raise ShapeError(
            "split: the parts do not add up to the axis",
            got=f"sizes {sizes} for axis {axis} of a tensor {x.shape}",
            rule=f"whole numbers >= 0 whose sum is {n}",
            fix=f"split(x, {builtins.max(1, n // 2)}, dim={axis})",
        )
    out: list[Any] = []
    at = 0
    for size in sizes:
        out.append(slice_along(x, axis, at, at + size))
        at += size
    return tuple(out)


def chunk(x: Operand, chunks: int, dim: int = 0) -> tuple[Any, ...]:
    """x cut along an axis into at most `chunks` parts of equal size (the last may be smaller).

    An axis of size 0 gives as many empty parts as asked for.

    Raises:
        SettingError: chunks < 1.
    """
    x = tensor_of(x)
    (chunks,) = sizes_of((chunks,))
    if chunks < 1:
        raise SettingError(
            "chunk: there are no so few parts", got=f"chunks={chunks}", rule="chunks >= 1",
            fix=f"chunk(x, 2, dim={dim})",
        )  # fmt: skip
    n = x.shape[axis_of(x, dim)]
    if not n:
        return split(x, [0] * chunks, dim)
    return split(x, builtins.max(1, -(-n // chunks)), dim)


def unbind(x: Operand, dim: int = 0) -> tuple[Any, ...]:
    """The parts of x along an axis, without it."""
    x = tensor_of(x)
    at = axis_of(x, dim)
    return tuple(squeeze(part, at) for part in split(x, 1, at)) if x.shape[at] else ()


def unstack(x: Operand, *, axis: int = 0) -> tuple[Any, ...]:
    """`unbind` by the array API's name."""
    return unbind(x, axis)


def flip(x: Operand, dims: Axes = None, *, axis: Axes = None) -> Any:
    """x in reverse order along axes (None: all), in memory of its own; `x[::-1]` is a view."""
    x = tensor_of(x)
    axes = axes_of(x, dims if axis is None else axis)
    return unshared(apply(TABLE["flip"], (x,), {"axes": axes}))


def roll(x: Operand, shift: int | Sequence[int], dim: Axes = None, *, axis: Axes = None) -> Any:
    """x moved by `shift` along an axis; what leaves at one end comes back at the other.

    Args:
        x: any shape.
        shift: how far, or one for each axis.
        dim: the axis or axes; None: of the flattened x.
        axis: the array API's name of `dim`.
    """
    x = tensor_of(x)
    dim = dim if axis is None else axis
    if dim is None:
        return reshape(_rolled(reshape(x, -1), shift, 0), x.shape)
    dims = entries_of(dim)
    shifts = shift if isinstance(shift, (tuple, list)) else (shift,) * len(dims)
    out: Any = x
    for by, at in zip(shifts, dims, strict=True):
        out = _rolled(out, by, axis_of(x, at))
    return out


def _rolled(x: TensorBase, shift: Any, axis: int) -> Any:
    n = x.shape[axis]
    at = -index(shift) % n if n else 0
    if at == 0:
        return copied(x)
    return concat([slice_along(x, axis, at, n), slice_along(x, axis, 0, at)], axis)


def pad(x: Operand, before: Sequence[int], after: Sequence[int], value: Any = 0.0) -> Any:
    """x with `value` around it: before[i] and after[i] elements along axis i.

    Args:
        x: any shape.
        before: how many in front, for each axis.
        after: how many behind.
        value: a number or a 0-d Tensor, which gets the gradient of all the places it fills.
    """
    x = tensor_of(x)
    params = {"before": tuple(before), "after": tuple(after), "value": value}
    if not isinstance(value, TensorBase):
        return apply(TABLE["pad"], (x,), params)
    if value.shape:
        raise ShapeError(
            "pad: value is no single number",
            got=f"value {value.shape}",
            rule="a number, or a tensor of no axes",
            fix="tt.cat with what is to stand around x",
        )
    wide = apply(TABLE["pad"], (x,), params | {"value": 0})
    inside = apply(TABLE["full"], (), {"shape": x.shape, "value": True, "dtype": bool_})
    inside = apply(TABLE["pad"], (inside,), params | {"value": False})
    return apply(TABLE["where"], (inside, wide, to_dtype(value, x.dtype)), {})


# --- repeating ---


def broadcast_shapes(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape that arrays of these shapes stretch to together; a number n is the shape (n,).

    Example:
        >>> import tinytorch as tt
        >>> tt.broadcast_shapes((3, 1), (4,))
        (3, 4)

    Raises:
        ShapeError: they do not stretch, or a size is negative.
        ArgumentTypeError: sizes that are no whole numbers.
    """
    letters = [f"x{i}" for i in range(len(shapes))]
    tuples = [
        sizes_of((s,) if isinstance(s, (int, np.integer, str)) else (tuple(s),)) for s in shapes
    ]
    for sizes in tuples:
        check_sizes("broadcast_shapes", sizes)
    return _common_shape("broadcast_shapes", letters, tuples) if shapes else ()


def broadcast_arrays(*xs: Any) -> list[Any]:
    """Each x stretched to the shape they have together; views."""
    tensors = [tensor_of(x) for x in xs]
    shape = broadcast_shapes(*[t.shape for t in tensors])
    return [broadcast_to(t, shape) for t in tensors]


def tile(x: Operand, *counts: Sizes) -> Any:
    """x laid side by side counts[i] times along axis i; missing counts in front are 1.

    Example:
        >>> import tinytorch as tt
        >>> tt.tile(tt.tensor([1, 2]), (2, 2)).tolist()
        [[1, 2, 1, 2], [1, 2, 1, 2]]
    """
    x = tensor_of(x)
    times = sizes_of(counts)
    if min(times, default=0) < 0:
        raise SettingError(
            "tile: a negative count",
            got=f"counts {times}",
            rule="whole numbers >= 0",
            fix=f"tile(x, {tuple(max(n, 0) for n in times)})",
        )
    times = (1,) * (len(x.shape) - len(times)) + times
    shape = (1,) * (len(times) - len(x.shape)) + x.shape
    lifted = [n for s in shape for n in (1, s)]
    wide = [n for t, s in zip(times, shape, strict=True) for n in (t, s)]
    out = broadcast_to(reshape(x, lifted), wide)
    return unshared(reshape(out, [t * s for t, s in zip(times, shape, strict=True)]))


def repeat_as_torch(x: Operand, *counts: Sizes) -> Any:
    """`tile` by PyTorch's name for the method (`x.repeat(2, 3)`): one count for each axis."""
    x = tensor_of(x)
    times = sizes_of(counts)
    if len(times) < len(x.shape):
        raise ShapeError(
            "repeat: a count is missing",
            got=f"counts {times} for a tensor {x.shape}",
            rule="one count for each axis",
            fix=f"x.repeat{(1,) * (len(x.shape) - len(times)) + times}",
        )
    return tile(x, times)


def repeat(x: Operand, repeats: Operand, *, axis: int | None = None) -> Any:
    """Each element `repeats` times, one after the other, along an axis (None: of the flattened x).

    Args:
        x: any shape.
        repeats: a whole number >= 0, or one for each element along the axis.
        axis: along which.

    Differs from PyTorch: the method `x.repeat(...)` is PyTorch's, which is `tile`; this function is
    the array API's, PyTorch's `repeat_interleave`.

    Example:
        >>> import tinytorch as tt
        >>> tt.repeat(tt.tensor([1, 2]), 2).tolist(), tt.repeat(tt.tensor([1, 2]), [1, 3]).tolist()
        ([1, 1, 2, 2], [1, 2, 2, 2])
    """
    line: Any = reshape(x, -1) if axis is None else tensor_of(x)
    at = axis_of(line, 0 if axis is None else axis)
    shape = line.shape
    count: Any = repeats
    if not isinstance(repeats, (int, np.integer)):
        counts = np.asarray(repeats)
        if counts.ndim == 0 or counts.size == 1:
            (count,) = sizes_of((counts.reshape(()).item(),))
        else:
            counts = counts.astype(np.int64) if counts.size == 0 else counts  # [] has no numbers
            whole = counts.dtype.kind in "iu" and counts.min(initial=0) >= 0
            if counts.shape != (shape[at],) or not whole:
                raise ShapeError(
                    "repeat: the counts do not fit",
                    got=f"repeats {counts.tolist()} for an axis of {shape[at]}",
                    rule="one whole number >= 0, or one for each element",
                    fix="repeat(x, 2, axis=0)",
                )
            index: Array = np.repeat(np.arange(shape[at]), counts)  # type: ignore[arg-type]
            return apply(TABLE["take"], (line, make(index)), {"axis": at})
    if count < 0:
        raise SettingError("repeat: a negative count", got=count, rule=">= 0", fix="repeats=1")
    wide = (*shape[: at + 1], int(count), *shape[at + 1 :])
    out = broadcast_to(unsqueeze(line, at + 1), wide)
    return unshared(reshape(out, (*shape[:at], shape[at] * int(count), *shape[at + 1 :])))


def repeat_interleave(
    x: Operand, repeats: Operand, dim: int | None = None, *, output_size: int | None = None
) -> Any:
    """`repeat` by PyTorch's name; `output_size`, the length of the result, is not needed here."""
    return repeat(x, repeats, axis=dim)


def meshgrid(*xs: Any, indexing: str = "ij") -> list[Any]:
    """Grids of coordinates: the i-th result varies along one axis as the i-th vector does.

    Args:
        xs: vectors (or numbers) of one dtype; a list of them too.
        indexing: "ij" (the i-th runs along axis i) or "xy" (the first runs along axis 1).

    Differs from the array API, where "xy" is the default: tinytorch.array_api has it.
    """
    if indexing not in ("xy", "ij"):
        raise SettingError(
            "meshgrid: no such indexing", got=repr(indexing), rule='"xy" or "ij"', fix='"ij"'
        )
    listed = entries_of(xs[0]) if len(xs) == 1 else ()
    if listed and isinstance(listed[0], (TensorBase, np.ndarray, list, tuple)):
        xs = tuple(listed)
    vectors = [reshape(tensor_of(x), -1) for x in xs]
    places = list(range(len(vectors)))
    if indexing == "xy" and len(vectors) > 1:
        places[0], places[1] = 1, 0
    shape = [1] * len(vectors)
    for place, vector in zip(places, vectors, strict=True):
        shape[place] = builtins.max(0, vector.shape[0])
    out: list[Any] = []
    for place, vector in zip(places, vectors, strict=True):
        own = [1] * len(vectors)
        own[place] = vector.shape[0]
        out.append(broadcast_to(reshape(vector, own), shape))
    return out
