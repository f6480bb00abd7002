"""How operations along one axis, and at run-time places, are lowered to the kernels for them.

Knows the lowering and strides, never instructions.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from tinytorch.codegen.kernel import Kernel, Lowered, Operand, Step
from tinytorch.compiler.calls.hosting import place
from tinytorch.compiler.graph.graph import Value
from tinytorch.compiler.plan.access import reshape_strides
from tinytorch.compiler.plan.fuse import Group
from tinytorch.compiler.plan.layout import dense_strides
from tinytorch.kernels import axis_ops, gather_scatter
from tinytorch.kernels.gather_scatter import put_rows, scatter_add

MOST_SCRATCH = 16 << 20  # bytes a thread may be asked for; beyond it NumPy does the work


def run_kernel(lowering, group: Group, kernel: Kernel, values: dict[str, Value]) -> bool:
    """The task of a kernel whose buffers hold the values; it writes those of the node's outputs."""
    node = group.own
    buffers = {n: lowering.storage_of(v) for n, v in values.items()}
    writes = {n for n, v in values.items() if v in node.outputs}
    lowered = Lowered((Step(kernel, kernel.arguments),))
    lowering.add(lowered, buffers, group.label, node.where, writes)
    return True


def _beside(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def _line(lowering, v: Value, axis: int) -> tuple[Operand, int]:
    """(strides over the axes beside the axis, stride of the axis)."""
    o = lowering.operand(v)
    return replace(o, strides=_beside(o.strides, axis)), o.strides[axis]


def extreme_position(lowering, group: Group) -> bool:
    """argmax and argmin."""
    node = group.own
    (x,), (out,) = node.inputs, node.outputs
    axis = node.params["axis"] % len(x.shape)
    operand, step = _line(lowering, x, axis)
    kernel = axis_ops.extreme_position(
        lowering.target, _beside(x.shape, axis), x.shape[axis], operand, step,
        lowering.operand(out), node.primitive.name == "argmax",
    )  # fmt: skip
    return run_kernel(lowering, group, kernel, {"x": x, "out": out})


def running_sum(lowering, group: Group) -> bool:
    """cumsum."""
    node = group.own
    (x,), (out,) = node.inputs, node.outputs
    axis = node.params["axis"] % len(x.shape)
    if not prod(x.shape):
        return True
    operands = (*_line(lowering, x, axis), *_line(lowering, out, axis))
    beside = _beside(x.shape, axis)
    kernel = axis_ops.running_sum(lowering.target, beside, x.shape[axis], *operands)
    return run_kernel(lowering, group, kernel, {"x": x, "out": out})


def take_along(lowering, group: Group) -> bool:
    """Elements at indices, line by line."""
    node = group.own
    (x, index), (out,) = node.inputs, node.outputs
    axis = node.params["axis"] % len(x.shape)
    if not prod(out.shape):
        return True
    (a, i), (b, j), (c, k) = (_line(lowering, v, axis) for v in (x, index, out))
    kernel = gather_scatter.take_along(
        lowering.target, _beside(x.shape, axis), index.shape[axis], x.shape[axis], a, b, c,
        (i, j, k),
    )  # fmt: skip
    return run_kernel(lowering, group, kernel, {"x": x, "index": index, "out": out})


def scatter_along(lowering, group: Group) -> bool:
    """Sums at indices, line by line."""
    node = group.own
    (g, index), (out,) = node.inputs, node.outputs
    axis, size = node.params["axis"] % len(g.shape), node.params["size"]
    if not prod(out.shape):
        return True
    if g.dtype.is_float and g.dtype.itemsize == 2 and 4 * size > MOST_SCRATCH:
        return False
    (a, i), (b, j), (c, k) = (_line(lowering, v, axis) for v in (g, index, out))
    kernel = gather_scatter.scatter_along(
        lowering.target, _beside(g.shape, axis), g.shape[axis], size, a, b, c, (i, j, k)
    )
    return run_kernel(lowering, group, kernel, {"g": g, "index": index, "out": out})


def scatter_rows(lowering, group: Group) -> bool:
    """scatter_add: rows added up at indices along an axis."""
    node = group.own
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
    kernel = scatter_add(lowering.target, before, rows, size, columns, source[1], places[1], table)
    if kernel.scratch > MOST_SCRATCH:
        return False
    return run_kernel(lowering, group, kernel, {"g": source[0], "index": places[0], "out": out})


def _viewed(lowering, v: Value, shape: tuple[int, ...]) -> Operand | None:
    """Where v lies under another shape; None if that is no view (what is written has to be one)."""
    access = lowering.access(v)
    strides = reshape_strides(access.shape, access.strides, shape)
    return None if strides is None else Operand(v.dtype, strides, access.offset)


def _reshaped(lowering, v: Value, shape: tuple[int, ...]) -> tuple[Value, Operand]:
    """(v or a dense copy of it, its strides under another shape); v is read."""
    viewed = _viewed(lowering, v, shape)
    if viewed is not None:
        return v, viewed
    access = lowering.copied(v, lowering.access(v))
    dense = dense_strides(shape, tuple(range(len(shape))))
    return access.home, Operand(v.dtype, dense, access.offset)


def update_slice(lowering, group: Group) -> bool:
    """slice_update: a copy of x with y written over it at a run-time position."""
    node = group.own
    (x, y, start), (out,) = node.inputs, node.outputs
    place(lowering, group, x, (0,) * len(x.shape))
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
    return run_kernel(lowering, group, kernel, {"y": y, "start": start, "out": out})


def overwrite_rows(lowering, group: Group) -> bool:
    """put_rows: a copy of x, unless it lies where x lay, with rows of y at run-time places."""
    node = group.own
    (x, y, index), (out,) = node.inputs, node.outputs
    columns = prod(x.shape[1:])
    table = _viewed(lowering, out, (x.shape[0], columns))
    if table is None:
        return False
    source = _reshaped(lowering, y, (y.shape[0], columns))
    places = lowering.operand(index)
    place(lowering, group, x, (0,) * len(x.shape))
    if not prod(y.shape):
        return True
    kernel = put_rows(lowering.target, y.shape[0], x.shape[0], columns, source[1], places, table)
    return run_kernel(lowering, group, kernel, {"y": source[0], "index": index, "out": out})


def _overwrite(lowering, group: Group) -> bool:
    place(lowering, group, group.own.inputs[1], ())
    return True


def integer_product(lowering, group: Group, operands: tuple[Operand, Operand]) -> bool:
    """A product of integers; operands: strides over (*batch, m, k) and (*batch, k, n)."""
    node = group.own
    (a, b), (out,) = node.inputs, node.outputs
    if not prod(out.shape):
        return True
    left, right = operands
    kernel = axis_ops.integer_product(
        lowering.target, out.shape, a.shape[-1], replace(left, strides=(*left.strides[:-1], 0)),
        replace(right, strides=(*right.strides[:-2], 0, right.strides[-1])), lowering.operand(out),
        (left.strides[-1], right.strides[-2]),
    )  # fmt: skip
    return run_kernel(lowering, group, kernel, {"a": a, "b": b, "out": out})
