"""What each operation does along an axis whose length is known only when the program runs.

Knows primitives by name or class, axes and masks; never how masks are made (lengths.py). A rule
says which places of its result are valid, and puts what changes nothing in place of all it reads
that is not. What no rule can make right is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch.base.dtypes import DType, int64, uint32
from tinytorch.base.lengths import Length, at_bound, bound_of, value_at
from tinytorch.compiler.graph.attention_lengths import (
    attention,
    attention_gradient,
    cached_attention,
    put_tokens,
)
from tinytorch.compiler.graph.axes import (
    Axes,
    Axis,
    common_axis,
    in_place,
    plain_axes,
    regrouped,
    valid_part,
)
from tinytorch.compiler.graph.axes import plain_axis as plain
from tinytorch.compiler.graph.body_lengths import branch, loop
from tinytorch.compiler.graph.graph import Node, Value, applied
from tinytorch.compiler.graph.lengths import LengthRewriter, Rule
from tinytorch.primitives.host import HostFunction
from tinytorch.primitives.primitive import OpClass, Spec

Values = tuple[Value, ...]
_JOINED = (
    "its places are joined with those of another axis by reshape: not all valid ones come first"
)


def _prefix(b: LengthRewriter, axis: Axis) -> Axis:
    """The axis, refused if its valid places are not the first ones."""
    if len(axis.parts) > 1 and axis.is_ragged:
        b.refuse(_JOINED)
    return axis


def _axis(node: Node) -> int:
    return node.params["axis"]


def _axes(node: Node) -> tuple[int, ...]:
    return tuple(node.params["axes"])


# elementwise, sources


def _met(b: LengthRewriter, several: Sequence[Axes]) -> Axes:
    """The axes of values that are broadcast against each other."""
    rank = max(map(len, several))
    out: list[Axis] = []
    for d in range(rank):
        there = [axes[d - rank] for axes in several if len(axes) >= rank - d]
        wide = [axis for axis in there if axis.length != 1] or there[:1]
        axis = common_axis(wide)
        out.append(b.refuse(_JOINED) if axis is None else axis)
    return tuple(out)


def _elementwise(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    out = b.again(inputs, [_met(b, [b.axes_of(v) for v in inputs])])
    if len(inputs) == 1 and inputs[0] in b.zero and node.primitive.exact:
        b.zero.update(out)
    return out


def _full(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    shape, value, dtype = (node.params[k] for k in ("shape", "value", "dtype"))
    axes = plain_axes(shape, is_free=True)
    number = b.scalar(value, dtype)
    out = b.add("broadcast_to", number, shape=at_bound(shape)) if shape else number
    return (b.note(out, axes),)


def _iota(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    axis = _axis(node)
    axes = tuple(plain(n, is_free=d != axis) for d, n in enumerate(node.params["shape"]))
    return b.again((), [axes])


# movement


def _reshape(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    axes = regrouped(b.axes_of(inputs[0]), node.params["shape"])
    if axes is None:
        b.refuse("axes are joined whole, and taken apart where they were joined")
        return inputs
    return _moved(b, inputs, axes)


def _moved(b: LengthRewriter, inputs: Values, axes: Axes, **params: Any) -> Values:
    out = b.again(inputs, [axes], **params)
    if inputs[0] in b.zero:
        b.zero.update(out)
    return out


def _permute(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    axes = b.axes_of(inputs[0])
    return _moved(b, inputs, tuple(axes[a] for a in _axes(node)))


def _broadcast_to(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    shape, own = node.params["shape"], b.axes_of(inputs[0])
    new = len(shape) - len(own)
    axes = tuple(
        own[d - new] if d >= new and own[d - new].length == n else plain(n, is_free=True)
        for d, n in enumerate(shape)
    )
    return b.again(inputs, [axes])


def _slice(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    """Where the first place is known the slice is one; else each place is looked up."""
    (x,) = inputs
    axes = b.axes_of(x)
    kept, start, stop, step = list(axes), [0] * len(axes), [a.size for a in axes], [1] * len(axes)
    late: list[tuple[int, Any, int]] = []
    each = zip(*(node.params[k] for k in ("start", "stop", "step")), strict=True)
    for d, ((first, end, by), n) in enumerate(zip(each, node.outputs[0].shape, strict=True)):
        if first == 0 and by == 1 and n == axes[d].length:
            continue
        _prefix(b, axes[d])
        kept[d] = plain(n)
        places = bound_of(n)
        if isinstance(first, Length) or (by < 0 and holds_more(end)):
            late.append((d, first, by))
        else:
            start[d], step[d] = first, by
            stop[d] = first + (places - 1) * by + (1 if by > 0 else -1) if places else first
    out = b.add("slice", x, start=tuple(start), stop=tuple(stop), step=tuple(step))
    for d, first, by in late:
        out = b.shifted(out, d, first, kept[d].size, by)
    return (b.note(out, tuple(kept)),)


def holds_more(end: Any) -> bool:
    """Whether an end of a slice is a length."""
    return isinstance(end, Length)


def _flip(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    (x,) = inputs
    axes = b.axes_of(x)
    whole = tuple(d for d in _axes(node) if not axes[d].is_ragged)
    out = b.add("flip", x, axes=whole) if whole else x
    for d in _axes(node):
        if axes[d].is_ragged:
            out = b.shifted(out, d, _prefix(b, axes[d]).length - 1, axes[d].size, -1)
    return (b.note(out, axes),)


def _pad(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    (x,) = inputs
    axes, out = list(b.axes_of(x)), x
    value = node.params.get("value", 0.0)
    for d, (first, last) in enumerate(
        zip(node.params["before"], node.params["after"], strict=True)
    ):
        if isinstance(first, int) and isinstance(last, int) and first == last == 0:
            continue
        length = _prefix(b, axes[d]).length
        axes[d] = plain(length + first + last)
        behind = not isinstance(last, int) or last > 0
        laid = _laid(b, out, d, first, length, axes[d].size, value, behind)
        out = b.note(laid, tuple(axes))
    return (out,)


def _laid(
    b: LengthRewriter, x: Value, d: int, first: Any, n: Any, places: int, value: float, behind: bool
) -> Value:
    """The n valid places of x from `first` on, along an axis of so many places.

    Args:
        value: what lies before.
        behind: whether it lies behind too; else anything may.
    """
    rank = len(x.shape)
    if isinstance(first, int) and places >= first + x.shape[d]:
        before = tuple(first if i == d else 0 for i in range(rank))
        after = tuple(places - first - x.shape[d] if i == d else 0 for i in range(rank))
        moved = b.add("pad", x, before=before, after=after, value=value)
        if not behind or isinstance(n, int):
            return moved
    else:
        steps = b.places((places,), 0, int64)
        index = b.clipped(b.add("sub", steps, b.scalar(first, int64)), x.shape[d])
        moved = b.add("take", x, index, axis=d)
    here = b.places(tuple(places if i == d else 1 for i in range(rank)), d, int64)
    inside = b.add("less", here, b.scalar(first + n, int64))
    if not isinstance(first, int) or first > 0:
        begun = b.add("less_equal", b.scalar(first, int64), here)
        inside = b.add("logical_and", begun, inside)
    return b.add("where", inside, moved, b.scalar(value, x.dtype))


def _concatenate(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    d = _axis(node)
    each = [b.axes_of(v) for v in inputs]
    beside = [(*axes[:d], plain(1), *axes[d + 1 :]) for axes in each]
    whole = plain(node.outputs[0].shape[d])
    axes = tuple(whole if i == d else axis for i, axis in enumerate(_met(b, beside)))
    if not any(a[d].is_ragged for a in each[:-1]) and len(each[-1][d].parts) == 1:
        return b.again(inputs, [axes])
    out: Value | None = None
    at: Any = 0
    for v, own in zip(inputs, each, strict=True):
        n = _prefix(b, own[d]).length
        laid = _laid(b, v, d, at, n, whole.size, 0, behind=False)
        if out is not None:
            shape = tuple(whole.size if i == d else 1 for i in range(len(axes)))
            begun = b.add("less_equal", b.scalar(at, int64), b.places(shape, d, int64))
            laid = b.add("where", begun, laid, out)
        out, at = laid, at + n
    return (b.note(out, axes),) if out is not None else inputs


# along axes


def _lowest(dtype: DType) -> float:
    return -math.inf if dtype.is_float else _range_of(dtype)[0]


def _highest(dtype: DType) -> float:
    return math.inf if dtype.is_float else _range_of(dtype)[1]


def _range_of(dtype: DType) -> tuple[int, int]:
    bits = 8 * dtype.itemsize
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dtype.kind == "i" else (0, 2**bits - 1)


def _neutral(node: Node, dtype: DType) -> float:
    start = node.primitive.combines[1] if node.primitive.combines else 0
    if math.isinf(start):
        return _lowest(dtype) if start < 0 else _highest(dtype)
    return start


def _reduction(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    (x,) = inputs
    axes, over = b.axes_of(x), set(_axes(node))
    kept = node.params["keepdims"]
    out = tuple(plain(1) if d in over else a for d, a in enumerate(axes) if kept or d not in over)
    masked = b.masked(x, sorted(over), _neutral(node, x.dtype))
    return b.again((masked,), [out])


def _position(smallest: bool) -> Rule:
    def rule(b: LengthRewriter, node: Node, inputs: Values) -> Values:
        (x,), d = inputs, _axis(node)
        axes = b.axes_of(x)
        _prefix(b, axes[d])
        masked = b.masked(x, [d], _highest(x.dtype) if smallest else _lowest(x.dtype))
        return b.again((masked,), [(*axes[:d], *axes[d + 1 :])])

    return rule


def _cumsum(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    """What comes before a valid place is valid."""
    axes = b.axes_of(inputs[0])
    _prefix(b, axes[_axis(node)])
    return b.again(inputs, [axes])


def _sort(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    """NaN, or the largest number, comes last, and after equal ones before it."""
    (x,), d = inputs, _axis(node)
    axes = b.axes_of(x)
    _prefix(b, axes[d])
    masked = b.masked(x, [d], math.nan if x.dtype.is_float else _highest(x.dtype))
    return b.again((masked,), [axes])


# places that are known only when it runs


def _wrapped(b: LengthRewriter, index: Value, axis: Axis) -> Value:
    """Indices into an axis of a length: from the front, those outside it outside its places."""
    if not axis.is_ragged:
        return index
    n = b.scalar(_prefix(b, axis).length, int64)
    axes = b.axes_of(index)
    wide = index if index.dtype is int64 else b.add("cast", index, dtype=int64)
    zero = b.scalar(0, int64)
    front = b.add("where", b.add("less", wide, zero), b.add("add", wide, n), wide)
    wrong = b.add("logical_or", b.add("less", front, zero), b.add("less_equal", n, front))
    return b.note(b.add("where", wrong, b.scalar(axis.size, int64), front), axes)


def _take(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    (x, index), d = inputs, _axis(node)
    own, of_index = b.axes_of(x), b.axes_of(index)
    places = b.masked(_wrapped(b, index, own[d]), range(len(of_index)), 0)
    return b.again((x, places), [(*own[:d], *of_index, *own[d + 1 :])])


def _scatter_add(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    (g, index), d = inputs, _axis(node)
    own, of_index, size = b.axes_of(g), b.axes_of(index), plain(node.params["size"])
    end = d + len(of_index)
    met = _met(b, [own[d:end], of_index]) if of_index else ()
    places = b.masked(_wrapped(b, index, size), range(len(met)), 0, met)
    g = b.masked(g, range(d, end), 0, (*own[:d], *met, *own[end:]))
    return b.again((g, places), [(*own[:d], size, *own[end:])])


def _take_along(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    (x, index), d = inputs, _axis(node)
    own, of_index = b.axes_of(x), b.axes_of(index)
    beside = _met(b, [(*a[:d], plain(1), *a[d + 1 :]) for a in (own, of_index)])
    places = b.masked(_wrapped(b, index, own[d]), range(len(of_index)), 0)
    return b.again((x, places), [(*beside[:d], of_index[d], *beside[d + 1 :])])


def _scatter_along(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    (g, index), d = inputs, _axis(node)
    axes, size = _met(b, [b.axes_of(g), b.axes_of(index)]), plain(node.params["size"])
    places = b.masked(_wrapped(b, index, size), range(len(axes)), 0, axes)
    return b.again((b.masked(g, [d], 0, axes), places), [(*axes[:d], size, *axes[d + 1 :])])


def _slice_update(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    """x, but y from a place on: y is looked up where it lies."""
    x, y, start = inputs
    own, new = b.axes_of(x), b.axes_of(y)
    inside: Value | None = None
    wrong: Value | None = None
    late: list[tuple[int, Value, Value]] = []
    zero = b.scalar(0, int64)
    for d, (axis, part) in enumerate(zip(own, new, strict=True)):
        if axis.parts == part.parts:
            continue
        n, m = (b.scalar(_prefix(b, a).length, int64) for a in (axis, part))
        first = b.add("slice", start, start=(d,), stop=(d + 1,), step=(1,))
        first = b.add("reshape", first, shape=())
        first = b.add("where", b.add("less", first, zero), b.add("add", first, n), first)
        end = b.add("add", first, m)
        outside = b.add("logical_or", b.add("less", first, zero), b.add("less", n, end))
        wrong = outside if wrong is None else b.add("logical_or", wrong, outside)
        here = b.places(tuple(axis.size if i == d else 1 for i in range(len(own))), d, int64)
        there = b.add("logical_and", b.add("less_equal", first, here), b.add("less", here, end))
        inside = there if inside is None else b.add("logical_and", inside, there)
        steps = b.add("sub", b.places((axis.size,), 0, int64), first)
        late.append((d, b.clipped(steps, part.size), b.scalar(part.size, int64)))
    if inside is None or wrong is None:
        return (b.note(y, own),)
    for d, index, outside in late:  # an index outside its axis says so before anything is written
        y = b.add("take", y, b.add("where", wrong, outside, index), axis=d)
    return (b.note(b.add("where", inside, y, x), own),)


# contractions, windows


def _matmul(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    x, y = inputs
    left, right = b.axes_of(x), b.axes_of(y)
    batch = _met(b, [left[:-2], right[:-2]]) if len(left) + len(right) > 4 else ()
    inner = common_axis([left[-1], right[-2]])
    if inner is None:
        b.refuse(_JOINED)
        return inputs
    # nothing times what is not valid may be NaN: both are 0 there
    x = b.masked(x, [len(left) - 1], 0, (*left[:-1], inner))
    y = b.masked(y, [len(right) - 2], 0, (*right[:-2], inner, right[-1]))
    return b.again((x, y), [(*batch, left[-2], right[-1])])


def _grouped(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    """Row by row; where the features end, x is 0."""
    x, *weight = inputs
    if any(axis.is_ragged for v in weight for axis in b.axes_of(v)):
        b.refuse("weights of few bits have fixed sizes")
    axes = b.axes_of(x)
    x = b.masked(x, [len(axes) - 1], 0)
    return b.again((x, *weight), [(*axes[:-1], *plain_axes(node.outputs[0].shape[-1:]))])


def _sparse(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    """Row by row; the features that the matrix was made for are fixed."""
    x, *matrix = inputs
    if any(axis.is_ragged for v in matrix for axis in b.axes_of(v)) or b.axes_of(x)[1].is_ragged:
        b.refuse("sparse matrices have fixed sizes")
    rows = b.axes_of(x)[0]
    return b.again((x, *matrix), [(rows, *plain_axes(node.outputs[0].shape[1:]))])


def _convolution(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    """Zeros beyond a picture are its padding."""
    x, w = inputs
    if any(axis.is_ragged for axis in b.axes_of(w)) or b.axes_of(x)[1].is_ragged:
        b.refuse("filters and channels have fixed sizes")
    return b.again((b.masked(x, _sides(b, x), 0), w), [_images(b, x, node.outputs[0].shape)])


def _sides(b: LengthRewriter, x: Value) -> tuple[int, int]:
    for axis in b.axes_of(x)[2:]:
        _prefix(b, axis)
    return (2, 3)


def _images(b: LengthRewriter, x: Value, shape: tuple[Any, ...]) -> Axes:
    return (b.axes_of(x)[0], *plain_axes(shape[1:]))


def _input_gradient(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    g, w = inputs
    return b.again((b.masked(g, _sides(b, g), 0), w), [_images(b, g, node.params["input_shape"])])


def _weight_gradient(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    lead = _met(b, [b.axes_of(v)[:1] for v in inputs])
    g, x = (b.masked(v, (0, *_sides(b, v)), 0, (*lead, *b.axes_of(v)[1:])) for v in inputs)
    return b.again((g, x), [plain_axes(node.params["weight_shape"])])


def _pooling(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    """Picture by picture, channel by channel."""
    for v in inputs:
        if any(axis.is_ragged for axis in b.axes_of(v)[2:]):
            b.refuse("pictures have fixed sizes; their number may be a length")
    lead = _met(b, [b.axes_of(v)[:2] for v in inputs])
    return b.again(inputs, [(*lead, *plain_axes(v.shape[2:])) for v in node.outputs])


# random bits


def _random_bits(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    """The numbers that the stream has for that many, each put in its place.

    Of n numbers the i-th is word i // b of block i % b, b = ceil(n / 4) (primitives/creation.py):
    all blocks that may be needed are made, and looked up by the b of this call.
    """
    (state,), shape = inputs, node.params["shape"]
    total: Any = math.prod(shape)
    blocks, most = -(-total // 4), -(-bound_of(total) // 4)
    if 4 * most >= 2**31:
        b.refuse("fewer than 2**31 numbers at once")
    words = b.add("random_bits", state, shape=(4 * most,))
    sizes, axes = at_bound(shape), plain_axes(shape)
    index = b.scalar(0, int64)
    stride: Any = 1
    for d in reversed(range(len(shape))):
        places = b.places(tuple(n if i == d else 1 for i, n in enumerate(sizes)), d, int64)
        index = b.add("add", index, b.add("mul", places, b.scalar(stride, int64)))
        stride = stride * shape[d]
    n = b.scalar(blocks, int64)
    gap = b.add("sub", b.scalar(most, int64), n)  # places between words that are not needed
    place = index
    for word in (1, 2, 3):
        beyond = b.add("less_equal", b.add("mul", n, b.scalar(word, int64)), index)
        place = b.add("add", place, b.add("where", beyond, gap, b.scalar(0, int64)))
    bits = b.add("take", words, b.clipped(place, 4 * most), axis=0)
    return b.note(bits, axes), _moved_on(b, state, b.scalar(blocks, uint32))


def _moved_on(b: LengthRewriter, state: Value, blocks: Value) -> Value:
    """The state of a generator so many blocks later: its counter has 64 bits."""
    key = b.add("slice", state, start=(0,), stop=(2,), step=(1,))
    low, high = (b.add("slice", state, start=(i,), stop=(i + 1,), step=(1,)) for i in (2, 3))
    after = b.add("add", low, blocks)
    carry = b.add("cast", b.add("less", after, low), dtype=uint32)
    return b.add("concatenate", key, after, b.add("add", high, carry), axis=0)


# what Python does


def _host_call(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    """The function is given the valid parts, and what it makes is laid where it is valid."""
    called: HostFunction = node.params["function"]
    results: tuple[Spec, ...] = node.params["results"]
    dims, given = tuple(b.lengths), [b.axes_of(v) for v in inputs[1:]]
    made = [plain_axes(spec.shape) for spec in results]

    def on_valid_parts(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        lengths = dict(zip(dims, map(int, arrays[len(given) :]), strict=True))
        parts = [valid_part(x, of, lengths) for x, of in zip(arrays, given, strict=False)]
        wanted = [Spec(value_at(spec.shape, lengths), spec.dtype) for spec in results]
        return tuple(
            in_place(x, of, lengths) for x, of in zip(called(parts, wanted), made, strict=True)
        )

    function = HostFunction(on_valid_parts, called.name)
    whole = tuple(Spec(at_bound(spec.shape), spec.dtype) for spec in results)
    told = (*inputs, *b.lengths.values())
    params: dict[str, Any] = {"function": function, "results": whole}
    b.nodes.append(applied(node.primitive, told, params, node.where, node.replay))
    for v, of in zip(b.nodes[-1].outputs, made, strict=False):
        b.note(v, of)
    return b.nodes[-1].outputs


RULES: dict[str | OpClass, Rule] = {
    # by op class
    OpClass.ELEMENTWISE: _elementwise,
    OpClass.REDUCTION: _reduction,
    OpClass.SCAN: _cumsum,
    OpClass.SORT: _sort,
    OpClass.WINDOW: _pooling,
    # by name
    "full": _full,
    "iota": _iota,
    "reshape": _reshape,
    "permute": _permute,
    "broadcast_to": _broadcast_to,
    "slice": _slice,
    "flip": _flip,
    "pad": _pad,
    "concatenate": _concatenate,
    "argmax": _position(smallest=False),
    "argmin": _position(smallest=True),
    "take": _take,
    "scatter_add": _scatter_add,
    "take_along": _take_along,
    "scatter_along": _scatter_along,
    "slice_update": _slice_update,
    "matmul": _matmul,
    "grouped_matmul": _grouped,
    "sparse_matmul": _sparse,
    "convolution": _convolution,
    "convolution_input_gradient": _input_gradient,
    "convolution_weight_gradient": _weight_gradient,
    "max_pool2d_gradient": _pooling,
    "max_pool2d_take": _pooling,
    "attention": attention,
    "attention_gradient": attention_gradient,
    "put_tokens": put_tokens,
    "cached_attention": cached_attention,
    "random_bits": _random_bits,
    "host_call": _host_call,
    "scan": loop,
    "cond": branch,
}
