"""The library calls along axes: scans, run-time places, joining, padding, a generator's bits.

Knows the lowering and strides, never instructions.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from tinytorch.codegen.kernel import Operand
from tinytorch.compiler.graph.graph import Value
from tinytorch.compiler.loops.lower_nest import LOWERED
from tinytorch.compiler.plan.access import dense_strides, reshape_strides
from tinytorch.compiler.plan.lowering import Lowering, dense_operand
from tinytorch.compiler.plan.stages import Group
from tinytorch.kernels import axis_ops, gather_scatter
from tinytorch.kernels.random_bits import random_bits as bits_kernel
from tinytorch.kernels.sorting import SortSpec, lower_sort

MOST_SCRATCH = 16 << 20  # bytes a thread may be asked for; beyond it NumPy does the work


def _beside(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def _line(lowering: Lowering, v: Value, axis: int) -> tuple[Operand, int]:
    """(strides over the axes beside the axis, stride of the axis)."""
    o = lowering.operand(v)
    return replace(o, strides=_beside(o.strides, axis)), o.strides[axis]


def extreme_position(lowering: Lowering, group: Group, largest: bool) -> bool:
    """argmax and argmin."""
    node = group.called
    (x,), (out,) = node.inputs, node.outputs
    axis = int(node.params["axis"]) % len(x.shape)
    operand, step = _line(lowering, x, axis)
    kernel = axis_ops.extreme_position(
        lowering.target, _beside(x.shape, axis), x.shape[axis], operand, step,
        lowering.operand(out), largest,
    )  # fmt: skip
    return lowering.run_kernel(group, kernel, {"x": x, "out": out})


def running_sum(lowering: Lowering, group: Group) -> bool:
    """cumsum."""
    node = group.called
    (x,), (out,) = node.inputs, node.outputs
    axis = int(node.params["axis"]) % len(x.shape)
    if not prod(x.shape):
        return True
    operands = (*_line(lowering, x, axis), *_line(lowering, out, axis))
    beside = _beside(x.shape, axis)
    kernel = axis_ops.running_sum(lowering.target, beside, x.shape[axis], *operands)
    return lowering.run_kernel(group, kernel, {"x": x, "out": out})


def order(lowering: Lowering, group: Group, places: bool) -> bool:
    """argsort (places) and sort."""
    node = group.called
    (x,), (out,) = node.inputs, node.outputs
    if not prod(x.shape):
        return True
    axis = int(node.params["axis"]) % len(x.shape)  # the sorted axis
    spec = SortSpec(
        _beside(x.shape, axis), x.shape[axis], *_line(lowering, x, axis),
        *_line(lowering, out, axis), places,
    )  # fmt: skip
    target = lowering.target
    lowered = LOWERED.get(("sort", target.key, spec), lambda: lower_sort(target, spec))
    buffers = {"x": lowering.storage_of(x), "out": lowering.storage_of(out)}
    lowering.add(lowered, buffers, group.label, node.where, {"out"})
    return True


def take_along(lowering: Lowering, group: Group) -> bool:
    """Elements at indices, line by line."""
    node = group.called
    (x, index), (out,) = node.inputs, node.outputs
    axis = int(node.params["axis"]) % len(x.shape)
    if not prod(out.shape):
        return True
    (a, i), (b, j), (c, k) = (_line(lowering, v, axis) for v in (x, index, out))
    kernel = gather_scatter.take_along(
        lowering.target, _beside(x.shape, axis), index.shape[axis], x.shape[axis], a, b, c,
        (i, j, k),
    )  # fmt: skip
    return lowering.run_kernel(group, kernel, {"x": x, "index": index, "out": out})


def scatter_along(lowering: Lowering, group: Group) -> bool:
    """Sums at indices, line by line."""
    node = group.called
    (g, index), (out,) = node.inputs, node.outputs
    axis, size = int(node.params["axis"]) % len(g.shape), int(node.params["size"])
    if not prod(out.shape):
        return True
    if g.dtype.is_float and g.dtype.itemsize == 2 and 4 * size > MOST_SCRATCH:
        return False
    (a, i), (b, j), (c, k) = (_line(lowering, v, axis) for v in (g, index, out))
    kernel = gather_scatter.scatter_along(
        lowering.target, _beside(g.shape, axis), g.shape[axis], size, a, b, c, (i, j, k)
    )
    return lowering.run_kernel(group, kernel, {"g": g, "index": index, "out": out})


def scatter_rows(lowering: Lowering, group: Group) -> bool:
    """scatter_add: rows added up at indices along an axis."""
    node = group.called
    (g, index), (out,) = node.inputs, node.outputs
    axis, size, rank = node.params["axis"], node.params["size"], len(index.shape)
    axis %= len(out.shape)
    if not prod(out.shape):
        return True
    before, rows, columns = prod(g.shape[:axis]), prod(index.shape), prod(g.shape[axis + rank :])
    table = _viewed(lowering, out, (before, size, columns))
    if table is None:
        return False
    source = _reshaped(lowering, g, (before, rows, columns))
    places = _reshaped(lowering, index, (rows,))
    kernel = gather_scatter.scatter_add(
        lowering.target, before, rows, size, columns, source[1], places[1], table
    )
    if kernel.scratch > MOST_SCRATCH:
        return False
    return lowering.run_kernel(group, kernel, {"g": source[0], "index": places[0], "out": out})


def _viewed(lowering: Lowering, v: Value, shape: tuple[int, ...]) -> Operand | None:
    """Where v lies under another shape; None if that is no view (what is written has to be one)."""
    access = lowering.located(v)
    strides = reshape_strides(access.shape, access.strides, shape)
    return None if strides is None else Operand(v.dtype, strides, access.offset)


def _reshaped(lowering: Lowering, v: Value, shape: tuple[int, ...]) -> tuple[Value, Operand]:
    """(v or a dense copy of it, its strides under another shape); v is read."""
    viewed = _viewed(lowering, v, shape)
    if viewed is not None:
        return v, viewed
    access = lowering.copied(v, lowering.located(v))
    dense = dense_strides(shape, tuple(range(len(shape))))
    return access.base, Operand(v.dtype, dense, access.offset)


def update_slice(lowering: Lowering, group: Group) -> bool:
    """slice_update: a copy of x with y written over it at a run-time position."""
    node = group.called
    (x, y, start), (out,) = node.inputs, node.outputs
    lowering.put(group, x, (0,) * len(x.shape))
    if not prod(y.shape):
        return True
    to = lowering.operand(out)
    if not y.shape:
        return _overwrite(lowering, group)
    line, step = _line(lowering, y, 0)
    out_line, out_step = _line(lowering, out, 0)
    kernel = gather_scatter.place_at(
        lowering.target, y.shape[1:], x.shape, y.shape[0], line, out_line, (step, out_step),
        to.strides, lowering.operand(start),
    )  # fmt: skip
    return lowering.run_kernel(group, kernel, {"y": y, "start": start, "out": out})


def put_rows(lowering: Lowering, group: Group) -> bool:
    """put_rows: a copy of x, unless it lies where x lay, with rows of y at run-time places."""
    node = group.called
    (x, y, index), (out,) = node.inputs, node.outputs
    columns = prod(x.shape[1:])
    table = _viewed(lowering, out, (x.shape[0], columns))
    if table is None:
        return False
    source = _reshaped(lowering, y, (y.shape[0], columns))
    places = lowering.operand(index)
    lowering.put(group, x, (0,) * len(x.shape))
    if not prod(y.shape):
        return True
    kernel = gather_scatter.put_rows(
        lowering.target, y.shape[0], x.shape[0], columns, source[1], places, table
    )
    return lowering.run_kernel(group, kernel, {"y": source[0], "index": index, "out": out})


def _overwrite(lowering: Lowering, group: Group) -> bool:
    lowering.put(group, group.called.inputs[1], ())
    return True


# numbers laid out anew


def concatenate(lowering: Lowering, group: Group) -> bool:
    """Operands side by side, those copied that do not lie where they belong."""
    node = group.called
    axis, first = int(node.params["axis"]) % len(node.outputs[0].shape), 0
    lowering.access(node.outputs[0])  # where parts belong is asked of it, in whichever order
    for i, x in enumerate(node.inputs):
        starts = tuple(first if d == axis else 0 for d in range(len(x.shape)))
        if (node, i) in lowering.buffers.parts:
            lowering.access(x)  # it lies where it belongs
        else:
            lowering.put(group, x, starts)
        first += x.shape[axis]
    return True


def pad(lowering: Lowering, group: Group) -> bool:
    """The operand in the middle of one number."""
    node = group.called
    lowering.put_number(group, node.outputs[0], node.params.get("value", 0.0))
    lowering.put(group, node.inputs[0], tuple(node.params["before"]))
    return True


def random_bits(lowering: Lowering, group: Group) -> bool:
    """Bits from the state of a generator, and its new state."""
    node = group.called
    (state,), (bits, new) = node.inputs, node.outputs
    for v in (state, bits, new):  # the kernel knows neither strides nor offsets
        lies = lowering.operand(v)
        if lies.offset or lies.strides != dense_operand(v.dtype, v.shape).strides:
            return False
    kernel = bits_kernel(lowering.target, prod(bits.shape))
    return lowering.run_kernel(group, kernel, {"state": state, "bits": bits, "new": new})
