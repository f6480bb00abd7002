"""Reading and writing parts of a Tensor: x[1, ::2, ..., index], x[mask], take, gather.

Knows NumPy's rules of indexing, written in rows of the table, with one difference, PyTorch's: a
number (or 0-d index) is taken first, so that it never moves the axes of index arrays beside it.
`x[0, :, i]` is `x[0][:, i]`; in NumPy the number counts as an index array there.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinytorch.base.dtypes import Array, DType, bool_, int32, int64, uint8
from tinytorch.base.errors import DTypeError, IndexRangeError, ShapeError
from tinytorch.base.lengths import at_most, holds_length, is_symbolic
from tinytorch.primitives import TABLE
from tinytorch.primitives.movement import positions
from tinytorch.tensor.autograd import GradientRule
from tinytorch.tensor.dispatch import apply, number, tensor_in, to_dtype, viewed
from tinytorch.tensor.elementwise import where
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.memory import TensorBase, held, view_of
from tinytorch.tensor.operands import Operand, entries_of, make, tensor_of, to_buffer
from tinytorch.tensor.shaping import (
    as_vector,
    axes_of,
    axis_of,
    broadcast_to,
    concat,
    permute,
    reshape,
    slice_along,
)

__all__ = ["gather", "index_select", "one_hot", "scatter_add", "take", "take_along_axis"]


@dataclass
class Selection:
    """What a key means: a slice of every axis, a shape, then index arrays along some axes."""

    start: list[int] = field(default_factory=list[int])
    stop: list[int] = field(default_factory=list[int])
    step: list[int] = field(default_factory=list[int])
    shape: list[int] = field(default_factory=list[int])
    points: list[tuple[int, Any]] = field(
        default_factory=list[tuple[int, Any]]
    )  # (axis of `shape`, 0-d index)
    arrays: list[tuple[int, Any]] = field(
        default_factory=list[tuple[int, Any]]
    )  # (axis without points, index)

    @property
    def bounds(self) -> dict[str, tuple[int, ...]]:
        """The slice of every axis, as params of the row `slice`."""
        return {"start": tuple(self.start), "stop": tuple(self.stop), "step": tuple(self.step)}

    def cut(self, first: int, end: int, by: int = 1) -> None:
        """Take these positions of the next axis."""
        self.start.append(first)
        self.stop.append(end)
        self.step.append(by)


class _Truth:
    """A single True or False as an index: a new axis that is there once, or not at all."""

    def __init__(self, truth: bool):
        self.truth = truth


def _is_array(k: Any) -> bool:
    return isinstance(k, (TensorBase, np.ndarray))


def _is_mask(k: Any) -> bool:
    if isinstance(k, TensorBase):
        return k.dtype is bool_
    return isinstance(k, (bool, np.bool_)) or (k.__class__ is np.ndarray and k.dtype.kind == "b")


def _as_index(k: Any) -> Any:
    """A list, or a tuple inside the key, as the index array it stands for; an array as it is."""
    entries = entries_of(k)
    if entries is not k:
        return k
    if not entries:
        return np.zeros(0, np.int64)
    numbers = [x.item() if isinstance(x, TensorBase) else x for x in entries]
    return to_buffer(numbers, None, copy=False).array


def _refuse_key(k: Any) -> None:
    raise DTypeError(
        "this cannot be an index",
        got=repr(k),
        rule="whole numbers, slices, None, ..., arrays of whole numbers, masks of bools",
        fix="x[int(i)], or x[i.astype(tt.int64)]",
    )


def _entries(x: Any, key: Any) -> list[Any]:
    """The key as a list with one entry for each axis of x, and for each None and single truth."""
    given = [_as_index(k) for k in (key if key.__class__ is tuple else (key,))]
    masks = [_is_mask(k) for k in given]
    widths = [  # how many axes of x each stands for
        getattr(k, "ndim", 0) if mask else int(k is not None and k is not Ellipsis)
        for k, mask in zip(given, masks, strict=True)
    ]
    rank, used = len(x.shape), sum(widths)
    if used > rank:
        raise IndexRangeError(
            "too many indices",
            got=f"{used} for a tensor {x.shape}",
            rule=f"at most one for each of its {rank} axes",
            fix="leave some out, or use reshape first",
        )
    out: list[Any] = []
    axis, rest = 0, rank - used
    for k, mask, width in zip(given, masks, widths, strict=True):
        if k is Ellipsis:
            if rest < 0:  # a second one
                _refuse_key(k)
            out.extend([slice(None)] * rest)
            axis, rest = axis + rest, -1
        elif mask:
            out.extend(_positions_of(k, x, axis))
        else:
            out.append(k)
        axis += width
    return out if rest < 0 else [*out, *[slice(None)] * rest]


def _positions_of(mask: Any, x: Any, axis: int) -> tuple[Any, ...]:
    """The index arrays that pick what a mask of bools picks; its values must be known."""
    if isinstance(mask, TensorBase):
        tensor: Any = mask
        mask = tensor.read("x[mask], whose size depends on values")
    mask = np.asarray(mask)
    if mask.ndim == 0:
        return (_Truth(bool(mask)),)
    _check_mask(mask, x, axis)
    return mask.nonzero()


def _check_mask(mask: Any, x: Any, axis: int) -> None:
    if mask.shape != x.shape[axis : axis + mask.ndim]:
        raise ShapeError(
            "the mask does not fit the tensor",
            got=f"a mask {mask.shape} for a tensor {x.shape}",
            rule="the mask has the sizes of the axes that it stands for",
            fix="mask.broadcast_to(x.shape)",
        )


def _selection(x: Any, key: Any) -> Selection:
    picked = Selection()
    axis = 0
    for k in _entries(x, key):
        if k is None:
            picked.shape.append(1)
            continue
        if isinstance(k, _Truth):
            picked.arrays.append(
                (len(picked.shape) - len(picked.points), make(np.zeros(int(k.truth), np.int64)))
            )
            picked.shape.append(1)
            continue
        n = x.shape[axis]
        if isinstance(k, slice):
            picked.cut(*_bounds(k, n))
            picked.shape.append(positions(picked.start[-1], picked.stop[-1], picked.step[-1]))
        elif _is_array(k):
            index = tensor_of(k)
            if index.dtype.kind not in "iu":
                _refuse_key(k)
            picked.cut(0, n)
            if index.shape:
                picked.arrays.append((len(picked.shape) - len(picked.points), index))
            else:
                picked.points.append((len(picked.shape), index))
            picked.shape.append(n)
        else:
            i = _whole(k, n, axis, x)
            picked.cut(i, i + 1)
        axis += 1
    return picked


def _bounds(k: Any, n: int) -> tuple[int, int, int]:
    if holds_length((k.start, k.stop, n)):
        return _bounds_of_lengths(k, n)
    try:
        return k.indices(n)
    except TypeError:
        _refuse_key(k)
        raise


def _bounds_of_lengths(k: Any, n: Any) -> tuple[Any, Any, int]:
    """`slice.indices` where a size or an end is a length (base/lengths.py)."""
    by = 1 if k.step is None else operator.index(k.step)
    first, last = (0, n) if by > 0 else (n - 1, -1)

    def end(given: Any, otherwise: Any) -> Any:
        if given is None:
            return otherwise
        place = given if is_symbolic(given) else operator.index(given)
        if not at_most(0, place, "a slice's end"):
            place = place + n
            if not at_most(0, place, "a slice's end"):
                return 0 if by > 0 else -1
        limit = n if by > 0 else n - 1
        return place if at_most(place, limit, "a slice's end") else limit

    return end(k.start, first), end(k.stop, last), by


def _whole(k: Any, n: int, axis: int, x: Any) -> int:
    try:
        i: Any = k if is_symbolic(k) else operator.index(k)
    except TypeError:
        _refuse_key(k)
        raise
    if isinstance(k, (bool, np.bool_)):
        _refuse_key(k)
    if holds_length((i, n)):
        what = "an index"
        fits = at_most(-n, i, what) and at_most(i, n - 1, what)
    else:
        fits = -n <= i < n
    if not fits:
        raise IndexRangeError(
            "an index points outside its axis",
            got=f"index {i} for axis {axis} of a tensor {x.shape}",
            rule=f"{-n} to {n - 1}" if n else "no index is inside an empty axis",
            fix="check the loop's bounds",
        )
    return i if i >= 0 else i + n


def _select(x: Any, picked: Selection) -> Any:
    shape = x.shape
    if picked.start != [0] * len(shape) or picked.stop != list(shape) or set(picked.step) - {1}:
        x = apply(TABLE["slice"], (x,), picked.bounds)
    x = reshape(x, picked.shape)
    for axis, index in reversed(picked.points):
        whole, place = x, held(index)
        x = apply(TABLE["take"], (x, place), {"axis": axis})
        if STATE.interpreter is not None:
            STATE.interpreter.shows(x, whole, _POINT, {"index": place, "axis": axis})
    if not picked.arrays:
        return x
    axes = [axis for axis, _ in picked.arrays]
    if len(axes) == 1:
        return apply(TABLE["take"], (x, picked.arrays[0][1]), {"axis": axes[0]})
    first = axes[0]
    if axes[-1] - first + 1 != len(axes):  # arrays not side by side: their axes come first
        x = permute(x, *axes, *(i for i in range(len(x.shape)) if i not in axes))
        first = 0
    sizes = x.shape[first : first + len(axes)]
    index = _joint_index([index for _, index in picked.arrays], sizes)
    total = 1
    for n in sizes:
        total *= n
    x = reshape(x, (*x.shape[:first], total, *x.shape[first + len(axes) :]))
    return apply(TABLE["take"], (x, index), {"axis": first})


def _joint_index(indices: list[Any], sizes: tuple[int, ...]) -> Any:
    """One index into the joined axes; an index outside its own axis stays outside."""
    flat: Any = 0
    outside: Any = None
    total = 1
    for index, n in zip(indices, sizes, strict=True):
        index = to_dtype(index, int64)
        if STATE.interpreter is None:
            _check_range(index._buffer.array, n)
        else:
            wrong = (index < -n) | (index >= n)
            outside = wrong if outside is None else outside | wrong
        flat = flat * n + where(index < 0, index + n, index)
        total *= n
    return flat if outside is None else where(outside, total, flat)


def _check_range(index: Array, n: int) -> None:
    wrong = (index < -n) | (index >= n)
    if wrong.any():
        raise IndexRangeError(
            "an index points outside its axis",
            got=f"index {int(index[wrong].flat[0])} for an axis of size {n}",
            rule=f"{-n} to {n - 1}" if n else "no index is inside an empty axis",
            fix="check the labels or tokens, and the size of the axis they look into",
        )


class _Picked(GradientRule):
    """A row of views: x[key] made by NumPy itself, of numbers, slices, None and ...

    What the key means is worked out when a gradient asks, since most keys are never asked.
    """

    name = "slice"

    selects = (0,)

    @staticmethod
    def numpy(array: Array, *, key: Any) -> Array:
        """The view; an array even of a single element."""
        parts = key if key.__class__ is tuple else (key,)
        return array[parts if Ellipsis in parts else (*parts, Ellipsis)]

    @staticmethod
    def take(x: Any, *, key: Any) -> Any:
        """x[key]."""
        return getitem(x, key)

    @staticmethod
    def put(x: Any, new: Any, *, key: Any) -> Any:
        """A new Tensor: x with `new` at `key`."""
        picked = _selection(x, key)
        return put_slice(x, _in_region(new, picked), picked.start, picked.stop, picked.step)

    @staticmethod
    def vjp(g: Any, out: Any, x: Any, *, key: Any) -> tuple[Any, ...]:
        """g at its places, zeros elsewhere."""
        picked = _selection(x, key)
        return TABLE["slice"].vjp(_in_region(g, picked), None, x, **picked.bounds)  # type: ignore[operator]


class _Point(GradientRule):
    """A row of views in a recording: x at an index that is known when the program runs."""

    name = "take"

    @staticmethod
    def take(x: Any, *, index: Any, axis: int) -> Any:
        """x there, without the axis."""
        return apply(TABLE["take"], (x, index), {"axis": axis})

    @staticmethod
    def put(x: Any, new: Any, *, index: Any, axis: int) -> Any:
        """A new Tensor: x with `new` there."""
        order = (axis, *[i for i in range(len(x.shape)) if i != axis])
        rows = put_rows(permute(x, *order), reshape(index, 1), reshape(new, (1, *new.shape)))
        return permute(rows, *[order.index(i) for i in range(len(order))])


_PICKED = _Picked()
_POINT = _Point()
# bool is not among them, though Python counts it as a number: it would be a mask
_PLAIN = {int, slice, type(None), type(Ellipsis), np.int64, np.int32}


def _in_region(new: Any, picked: Selection) -> Any:
    """Numbers for what a selection of slices takes, under the axes of the whole."""
    bounds = zip(picked.start, picked.stop, picked.step, strict=True)
    return reshape(new, tuple([positions(*b) for b in bounds]))


def put_slice(
    x: Any, new: Any, start: Sequence[Any], stop: Sequence[Any], step: Sequence[Any]
) -> Any:
    """A new Tensor: x with `new` at range(start, stop, step) along each axis.

    Cost: of the size of `new` where steps are 1 or -1 (compiled: written in place), else of x.
    """
    if not new.size:
        return x
    turned = tuple([i for i, by in enumerate(step) if by < 0 and new.shape[i] > 1])
    if turned:
        new = apply(TABLE["flip"], (new,), {"axes": turned})
    lows: list[int] = []
    ends: list[int] = []
    gaps: list[int] = []
    for first, end, by in zip(start, stop, step, strict=True):
        count = positions(first, end, by)
        last = first + (count - 1) * by
        lows.append(first if by > 0 else last)
        ends.append((last if by > 0 else first) + 1)
        gaps.append(abs(by) if count > 1 else 1)
    if set(gaps) <= {1}:
        if new.shape == x.shape:
            return new
        return apply(TABLE["slice_update"], (x, new, _places(lows)), {})
    forward = {"start": tuple(lows), "stop": tuple(ends), "step": tuple(gaps)}
    spread: Callable[..., Any] = TABLE["slice"].vjp  # type: ignore[assignment]
    (numbers,) = spread(new, None, x, **forward)
    everywhere = apply(TABLE["full"], (), {"shape": new.shape, "value": True, "dtype": bool_})
    (places,) = spread(everywhere, None, x, **forward)
    return where(places, numbers, x)


def _places(lows: Sequence[Any]) -> Any:
    """Where a part begins, int64, one number for each axis."""
    if not holds_length(tuple(lows)):
        return make(np.array(lows, np.int64))
    return concat([reshape(number(low, int64), 1) for low in lows])


def is_plain(key: Any) -> bool:
    """Whether a key is made of numbers, slices, None and ... alone: what it takes is a view."""
    for k in key if key.__class__ is tuple else (key,):
        if type(k) not in _PLAIN:
            return False
    return True


def part_of(x: Any, key: Any) -> Any:
    """x[key] as a view to be written: not recorded; None if the key does not fit (eager only)."""
    try:
        array = _PICKED.numpy(x._buffer.array, key=key)
    except (IndexError, TypeError, ValueError):
        return None
    return view_of(x, array, _PICKED, {"key": key})


def _single(k: Any) -> Any:
    """An entry of a key; a whole number for a Tensor of one, whose value is known eagerly."""
    if isinstance(k, TensorBase) and k.shape == () and k.dtype.kind in "iu":
        tensor: Any = k
        return int(tensor)
    return k


def getitem(x: Any, key: Any) -> Any:
    """x[key] (see above); a view where only numbers, slices, None and ... are used."""
    if STATE.interpreter is None:
        parts = key if key.__class__ is tuple else (key,)
        for k in parts:
            if type(k) not in _PLAIN:
                break
        else:
            if Ellipsis not in parts:  # so that NumPy gives an array even of a single element
                parts = (*parts, Ellipsis)
            try:
                array = x._buffer.array[parts]
            except (IndexError, TypeError, ValueError, AttributeError):
                pass  # explained below
            else:
                return viewed(_PICKED, x, array, {"key": key})
        whole = tuple(map(_single, parts))
        if is_plain(whole) and not is_plain(key):
            return getitem(x, whole)
    return _select(x, _selection(x, key))


def numbers_first(array: Array, key: tuple[Any, ...]) -> tuple[Array, tuple[Any, ...]]:
    """A view of `array` with the numbers of a key taken, and the rest of the key.

    NumPy then means by the rest what `getitem` means by the whole.
    """
    for k in key:
        if type(k) not in _PLAIN:
            break
    else:
        return array, key
    taken: list[Any] = []
    rest: list[Any] = []
    for k in key:
        mask = _is_mask(k) or (entries_of(k) is k and np.asarray(k).dtype == np.bool_)
        if not mask and isinstance(k, (int, np.integer)):
            taken.append(k)
        elif not mask and k.__class__ is np.ndarray and not k.shape and k.dtype.kind in "iu":
            taken.append(int(k))
        else:
            rest.append(k)
            if k is Ellipsis:
                taken.append(k)
            elif k is not None:
                taken.extend([slice(None)] * (np.ndim(k) if mask else 1))
    if len(rest) == len(key):
        return array, key
    return array[tuple(taken) if Ellipsis in taken else (*taken, Ellipsis)], tuple(rest)


def updated(x: Any, key: Any, value: Any) -> Any:
    """A new Tensor: x with `value` at `key`; the last wins where a place is named twice."""
    value = tensor_in(value, x.dtype)
    if STATE.interpreter is not None:
        new = _behind_mask(x, key, value)
        if new is not None:
            return new
    picked = _selection(x, key)
    if not picked.arrays and not picked.points:
        y = _in_region(fit(value, tuple(picked.shape)), picked)
        return put_slice(x, y, picked.start, picked.stop, picked.step)
    if x.dtype is bool_:  # the rows below add numbers up
        return to_dtype(updated(to_dtype(x, uint8), key, to_dtype(value, uint8)), bool_)
    places = apply(TABLE["iota"], (), {"shape": (x.size,), "axis": 0, "dtype": int64})
    places = _select(reshape(places, x.shape), picked)
    y = reshape(fit(value, places.shape), -1)
    places = reshape(places, -1)
    if not places.shape[0]:
        return x
    order = apply(TABLE["argsort"], (places,), {"axis": 0})
    places, y = getitem(places, order), getitem(y, order)
    last = concat([places[1:] != places[:-1], make(np.ones(1, bool))])
    y = where(last, y, number(0, x.dtype))
    params = {"axis": 0, "size": x.size}
    new = apply(TABLE["scatter_add"], (y, places), params)
    hits = apply(TABLE["scatter_add"], (to_dtype(last, int32), places), params)
    return reshape(where(hits > 0, new, reshape(x, -1)), x.shape)


def _behind_mask(x: Any, key: Any, value: Any) -> Any:
    """`updated` where the key has one mask whose values are not known yet; None for other keys.

    What the other entries take is written whole: `value` where the mask is true, the old numbers
    elsewhere. Of several values the i-th belongs to the i-th place that is true; if there are not
    as many places, an index outside its axis says so when the program runs.
    """
    parts: tuple[Any, ...] = key if key.__class__ is tuple else (key,)
    masks = [i for i, k in enumerate(parts) if isinstance(k, TensorBase) and k.dtype is bool_]
    if len(masks) != 1 or any(type(k) not in _PLAIN for i, k in enumerate(parts) if i != masks[0]):
        return None
    mask: Any = parts[masks[0]]
    before, after = parts[: masks[0]], parts[masks[0] + 1 :]
    whole = (*before, *(slice(None),) * mask.ndim, *after)
    used = sum(k is not None and k is not Ellipsis for k in whole)
    axes = [x.ndim - used if k is Ellipsis else int(not isinstance(k, (int, np.integer)))
            for k in before]  # fmt: skip
    region, at = getitem(x, whole), sum(axes)
    _check_mask(mask, region, at)
    rest = (*region.shape[:at], *region.shape[at + mask.ndim :])
    while len(value.shape) > len(rest) + 1 and value.shape[0] == 1:
        value = reshape(value, value.shape[1:])
    value = reshape(value, (*(1,) * (len(rest) + 1 - len(value.shape)), *value.shape))
    n = value.shape[at]
    value = fit(value, (*rest[:at], n, *rest[at:]))
    if n == 1:
        value = reshape(value, (*rest[:at], *(1,) * mask.ndim, *rest[at:]))
    elif n:
        hits = to_dtype(reshape(mask, -1), int64)
        place = where(hits > 0, apply(TABLE["cumsum"], (hits,), {"axis": 0}) - 1, 0)
        total = apply(TABLE["sum"], (hits,), {"axes": (0,), "keepdims": False})
        index = reshape(where(total == n, place, n), mask.shape)
        value = apply(TABLE["take"], (value, index), {"axis": at})
    else:
        return x
    spread = reshape(mask, (*(1,) * at, *mask.shape, *(1,) * (len(rest) - at)))
    new = where(spread, value, region)
    everything = all(k is Ellipsis or k == slice(None) for k in whole)
    return new if everything else updated(x, whole, new)


def fit(value: Any, shape: tuple[int, ...]) -> Any:
    """A value for a place of this shape.

    Raises:
        ShapeError: it does not broadcast to it.
    """
    while len(value.shape) > len(shape) and value.shape[0] == 1:
        value = reshape(value, value.shape[1:])
    try:
        return broadcast_to(value, shape)
    except ShapeError:
        raise ShapeError(
            "the value does not fit the place it is written to",
            got=f"a value {value.shape} for a place {shape}",
            rule="it has that shape, or broadcasts to it",
            fix=f"value.reshape({shape}), if the number of elements agrees",
        ) from None


def take(x: Operand, index: Operand, dim: int = 0, *, axis: int | None = None) -> Any:
    """x[index] along one axis: the axes of index take its place.

    Raises:
        IndexRangeError: an index is outside the axis.
    """
    x = tensor_of(x)
    at = axis_of(x, dim if axis is None else axis)
    return apply(TABLE["take"], (x, tensor_of(index)), {"axis": at})


@as_vector
def index_select(x: Operand, dim: int, index: Operand) -> Any:
    """`take` with PyTorch's order of arguments; an index that is one number counts as (1,)."""
    index = tensor_of(index)
    return take(x, index if index.shape else reshape(index, 1), dim)


def gather(x: Operand, dim: int, index: Operand) -> Any:
    """out[.., i, ..] = x[.., index[.., i, ..], ..] along one axis.

    Args:
        x: any shape; one number counts as (1,).
        dim: the axis.
        index: as many axes; on the others at most as long as x, whose first elements are meant.

    Returns:
        the shape of index.

    Raises:
        ShapeError: other axes of index are longer than those of x.
        IndexRangeError: an index is outside the axis.

    Example:
        >>> import tinytorch as tt
        >>> tt.gather(tt.tensor([[1, 2], [3, 4]]), 0, tt.tensor([[1]])).tolist()
        [[3]]
    """
    x, index = tensor_of(x), tensor_of(index)
    if not x.shape:
        axes_of(x, dim)  # refuses what no number has
        places = index if index.shape else reshape(index, 1)
        return reshape(
            apply(TABLE["take_along"], (reshape(x, 1), places), {"axis": 0}), index.shape
        )
    axis = axis_of(x, dim)
    return apply(TABLE["take_along"], (_beside(x, index, axis), index), {"axis": axis})


def _beside(x: Any, index: Any, axis: int) -> Any:
    """The part of x that an index along `axis` speaks of: its first elements on the other axes."""
    ends = [
        n if i == axis else min(n, m)
        for i, (n, m) in enumerate(zip(x.shape, index.shape, strict=False))
    ]
    if len(x.shape) != len(index.shape) or tuple(ends) == x.shape:
        return x  # what does not fit is refused by the row
    zeros = (0,) * len(ends)
    params = {"start": zeros, "stop": tuple(ends), "step": (1,) * len(ends)}
    return apply(TABLE["slice"], (x,), params)


def take_along_axis(x: Operand, index: Operand, axis: int = -1) -> Any:
    """`gather` as the array API has it: the other axes of x and index broadcast."""
    x, index = tensor_of(x), tensor_of(index)
    at = axis_of(x, axis)
    if len(x.shape) == len(index.shape) and x.shape != index.shape:
        sizes = [
            (n, m) if i == at else (m if n == 1 else n, n if m == 1 else m)
            for i, (n, m) in enumerate(zip(x.shape, index.shape, strict=True))
        ]
        x = broadcast_to(x, [n for n, _ in sizes])
        index = broadcast_to(index, [m for _, m in sizes])
    return apply(TABLE["take_along"], (x, index), {"axis": at})


def scatter_add(x: Operand, dim: int, index: Operand, source: Operand) -> Any:
    """x plus each element of `source` at its own index along an axis (a new Tensor).

        out[.., index[.., i, ..], ..] += source[.., i, ..]

    Args:
        x: any shape; one number counts as (1,).
        dim: the axis.
        index: as many axes; on the others at most as long as x, whose first elements are meant.
        source: at least as long as index on each axis; what has no index is not added.

    Raises:
        ShapeError: index is longer than x or source where it may not be.
        IndexRangeError: an index is outside the axis.

    Example:
        >>> import tinytorch as tt
        >>> tt.scatter_add(tt.zeros(2, 2), 0, tt.tensor([[1], [1]]), tt.ones(2, 2)).tolist()
        [[0.0, 0.0], [2.0, 0.0]]
    """
    x, index = tensor_of(x), tensor_of(index)
    source = tensor_in(source, x.dtype)
    if not x.shape:
        axes_of(x, dim)  # refuses what no number has
        parts = [t if t.shape else reshape(t, 1) for t in (x, index, source)]
        return reshape(scatter_add(parts[0], 0, parts[1], parts[2]), ())
    axis = axis_of(x, dim)
    if index.shape and len(source.shape) == len(index.shape):
        whole = _beside(source, index, axis)
        longer = whole.shape[axis] > index.shape[axis]
        source = slice_along(whole, axis, 0, index.shape[axis]) if longer else whole
    params = {"axis": axis, "size": x.shape[axis]}
    added = apply(TABLE["scatter_along"], (source, index), params)
    missing = tuple([n - m for n, m in zip(x.shape, added.shape, strict=True)])
    if any(n < 0 for n in missing):
        raise ShapeError(
            "scatter_add: the index is longer than x",
            got=f"index {index.shape}, x {x.shape}, dim={dim}",
            rule="beside the axis at most as long as x",
            fix="slice the index, or make x larger",
        )
    if any(missing):
        added = apply(TABLE["pad"], (added,), {"before": (0,) * len(missing), "after": missing})
    return x + added


def one_hot(index: Operand, num_classes: int, dtype: DType = int64) -> Any:
    """A new last axis of `num_classes` with 1 at the index and 0 elsewhere."""
    index = tensor_of(index)
    classes = apply(TABLE["iota"], (), {"shape": (num_classes,), "axis": 0, "dtype": int64})
    return to_dtype(reshape(to_dtype(index, int64), (*index.shape, 1)) == classes, dtype)


def slice_update(x: TensorBase, y: Operand, start: Operand) -> Any:
    """A new Tensor: x with y at positions known only when it runs (compiled: written in place).

    Args:
        x: any shape.
        y: at most as long as x on each axis.
        start: int64 (axes of x,), where y begins.

    Raises:
        IndexRangeError: y would leave x.
    """
    y = tensor_in(y, x.dtype)
    return apply(TABLE["slice_update"], (x, y, tensor_of(start)), {})


def put_rows(x: TensorBase, index: Operand, y: Operand) -> Any:
    """A new Tensor: x with row index[i] replaced by y[i]; of equal indices the last wins.

    Args:
        x: (V, ...).
        index: integers (N,).
        y: (N, ...).

    Raises:
        IndexRangeError: an index is outside the table.
    """
    y = tensor_in(y, x.dtype)
    return apply(TABLE["put_rows"], (x, y, tensor_of(index)), {})
