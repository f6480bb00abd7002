"""The primitives that have a kernel of their own: a row for each says how it is called.

Knows the lowering and the kernel floor, never expressions in detail. What no row takes is a host
call: NumPy's definition runs between two native segments, and `explain()` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from tinytorch.codegen.kernel import Lowered, Operand, Step
from tinytorch.compiler.calls.axis_ops import (
    extreme_position,
    integer_product,
    overwrite_rows,
    running_sum,
    scatter_along,
    scatter_rows,
    take_along,
    update_slice,
)
from tinytorch.compiler.calls.convolve_direct import forward, input_gradient, weight_gradient
from tinytorch.compiler.calls.hosting import dense_operand, fused_epilogue, place
from tinytorch.compiler.calls.pool import pool, pool_gradient
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.graph.rewrite import IndexCheck
from tinytorch.compiler.loops.epilogue import joined, lower_product
from tinytorch.compiler.loops.expression import Constant, Store
from tinytorch.compiler.loops.lowered import LOWERED
from tinytorch.compiler.loops.nest import Nest
from tinytorch.compiler.plan import kinds
from tinytorch.compiler.plan.access import reshape_strides
from tinytorch.compiler.plan.fuse import Group
from tinytorch.compiler.plan.tasks import HostCall, Task
from tinytorch.kernels.attention import lower_attention
from tinytorch.kernels.attention_gradient import AttentionGradientSpec, lower_attention_gradient
from tinytorch.kernels.attention_spec import AttentionSpec
from tinytorch.kernels.gather_scatter import index_check
from tinytorch.kernels.gemm_plan import GemmSpec
from tinytorch.kernels.random_bits import random_bits

Row = Callable[[Any, Group], bool]  # (the Lowering, the group): True if it took the node


def lower_host(lowering, group: Group) -> None:
    """The tasks of a node with a kernel of its own, and of its epilogue."""
    row = ROWS.get(group.own.primitive.name)
    if row in (forward, input_gradient, weight_gradient) and not kinds.is_product(group.own):
        row = None
    if row is None or not row(lowering, group):
        host_call(lowering, group.own)


def host_call(lowering, node: Node) -> None:
    """NumPy's definition of the node."""
    ins = [(v, lowering.operand(v)) for v in node.inputs]
    outs = [(v, lowering.operand(v)) for v in node.outputs]
    call = HostCall(
        node.primitive,
        dict(node.params),
        tuple((v.shape, o) for v, o in ins),
        tuple((v.shape, o) for v, o in outs),
        node.primitive.flops(
            [v.spec for v in node.inputs], [v.spec for v in node.outputs], **node.params
        ),
        sum(v.spec.nbytes for v in (*node.inputs, *node.outputs)),
    )
    given = [lowering.storage_of(v) for v, _ in ins]
    writes = [lowering.storage_of(v) for v, _ in outs]
    reads = frozenset(s for s in given if s.nbytes)  # of nothing, nothing is read
    lowering.tasks.append(
        Task(call, (*given, *writes), reads, frozenset(writes), call.name, node.where)
    )


def lower_check(lowering, check: IndexCheck) -> None:
    """A task that stops the program if an index lies outside its axis."""
    v = check.index
    access = lowering.access(v)
    flat = reshape_strides(access.shape, access.strides, (prod(v.shape),))
    if flat not in ((1,), (0,)) or (flat == (0,) and prod(v.shape) > 1):
        access = lowering.copied(v, access)
    if not prod(v.shape):
        return
    number = 1 + sum(t.check for t in lowering.tasks)
    kernel = index_check(prod(v.shape), Operand(v.dtype, (1,), access.offset), check.size, number)
    index = lowering.homes[access.home].storage
    status = lowering.status
    lowering.tasks.append(
        Task(
            kernel, (index, status), frozenset([index]), frozenset([status]), f"check {check.name}",
            check.where, check=True, details={"size": check.size, "number": number},
        )
    )  # fmt: skip


def _matmul(lowering, group: Group) -> bool:
    node = group.own
    (a, b), out = node.inputs, node.outputs[0]
    if not kinds.has_epilogue(node):
        batch = out.shape[:-2]
        return integer_product(
            lowering, group, (_batched(lowering, a, batch), _batched(lowering, b, batch))
        )
    rank, batch, (m, n), k = len(out.shape), out.shape[:-2], out.shape[-2:], a.shape[-1]
    left, right = (_batched(lowering, v, batch) for v in (a, b))
    rows = None
    if batch and not any(s for s, c in zip(right.strides, batch, strict=False) if c != 1):
        # b is the same for all: batches of rows become one tall matrix, where memory allows it
        rows = reshape_strides((*batch, m), left.strides[:-1], (prod(batch) * m,))
    if rows is not None:
        epilogue, names = fused_epilogue(lowering, group, tuple(range(rank - 1)), rank - 1)
        epilogue = joined(epilogue)
        left = Operand(left.dtype, (*rows, left.strides[-1]), left.offset)
        right = Operand(right.dtype, right.strides[-2:], right.offset)
        batch, m = (), prod(batch) * m
    else:
        epilogue, names = fused_epilogue(
            lowering, group, (rank - 2,), rank - 1, tuple(range(rank - 2))
        )
    spec = GemmSpec(batch, m, n, k, left, right, dense_operand(out.dtype, (*batch, m, n)))
    buffers = {**names, "a": lowering.storage_of(a), "b": lowering.storage_of(b)}
    lowered = lower_product(lowering.target, spec, epilogue)
    lowering.add(lowered, buffers, group.label, node.where, {s.argument for s in epilogue.stores})
    return True


def _batched(lowering, v: Value, batch: tuple[int, ...]) -> Operand:
    """The operand with a stride for each batch axis of the result, 0 where it is repeated."""
    o = lowering.operand(v)
    own = v.shape[:-2]
    lead = len(batch) - len(own)
    strides = [0] * lead + [s if n != 1 else 0 for s, n in zip(o.strides, own, strict=False)]
    return Operand(o.dtype, (*strides, *o.strides[-2:]), o.offset)


def _attention_spec(lowering, node: Node, q, k, v, out, lse) -> AttentionSpec:
    batch, heads, queries, size = q.shape
    return AttentionSpec(
        batch, heads, queries, k.shape[2], size, node.params["causal"], node.params["scale"],
        *(lowering.operand(x) for x in (q, k, v, out, lse)),
    )  # fmt: skip


def _attention(lowering, group: Group) -> bool:
    node = group.own
    values = (*node.inputs, *node.outputs)
    if node.inputs[0].dtype.name == "float16" or not all(prod(v.shape) for v in values):
        return False
    spec = _attention_spec(lowering, node, *values)
    key = ("attention", lowering.target.key, spec)
    lowered = LOWERED.get(key, lambda: lower_attention(lowering.target, spec))
    buffers = {
        n: lowering.storage_of(v)
        for n, v in zip(("q", "k", "v", "out", "lse"), values, strict=True)
    }
    lowering.add(lowered, buffers, group.label, node.where, {"out", "lse"})
    return True


def _attention_gradient(lowering, group: Group) -> bool:
    node = group.own
    g, q, k, v, out, lse = node.inputs
    if q.dtype.name == "float16" or not all(prod(x.shape) for x in (*node.inputs, *node.outputs)):
        return False
    spec = _attention_spec(lowering, node, q, k, v, out, lse)
    names = ("g", "q", "k", "v", "out", "lse", "g_q", "g_k", "g_v")
    values = (*node.inputs, *node.outputs)
    operands = [lowering.operand(x) for x in (g, *node.outputs)]
    whole = AttentionGradientSpec(spec, *operands)
    key = ("attention_gradient", lowering.target.key, whole)
    lowered = LOWERED.get(key, lambda: lower_attention_gradient(lowering.target, whole))
    buffers = {n: lowering.storage_of(x) for n, x in zip(names, values, strict=True)}
    lowering.add(lowered, buffers, group.label, node.where, {"g_q", "g_k", "g_v"})
    return True


def _random_bits(lowering, group: Group) -> bool:
    node = group.own
    bits, new = node.outputs
    kernel = random_bits(lowering.target, prod(bits.shape))
    buffers = {
        "state": lowering.storage_of(node.inputs[0]), "bits": lowering.storage_of(bits),
        "new": lowering.storage_of(new),
    }  # fmt: skip
    for v in (node.inputs[0], bits, new):  # the kernel knows neither strides nor offsets
        lies = lowering.operand(v)
        if lies.offset or lies.strides != dense_operand(v.dtype, v.shape).strides:
            return False
    lowered = Lowered((Step(kernel, kernel.arguments),))
    lowering.add(lowered, buffers, group.label, node.where, {"bits", "new"})
    return True


def _concatenate(lowering, group: Group) -> bool:
    node = group.own
    axis, first = node.params["axis"] % len(node.outputs[0].shape), 0
    for i, x in enumerate(node.inputs):
        starts = tuple(first if d == axis else 0 for d in range(len(x.shape)))
        if (node, i) in lowering.placed:
            lowering.access(x)  # it lies where it belongs
        else:
            place(lowering, group, x, starts)
        first += x.shape[axis]
    return True


def _pad(lowering, group: Group) -> bool:
    node = group.own
    out = node.outputs[0]
    home = lowering.home(out)
    strides = tuple(s if n != 1 else 0 for s, n in zip(home.strides, out.shape, strict=True))
    value = Constant(out.dtype, node.params.get("value", 0.0))
    fill = Store("to", out.dtype, strides, value, home.offset)
    nest = Nest(tuple(out.shape), frozenset(), (fill,), "fill")
    lowering.add_nest(nest, {"to": home.storage}, group.label, node.where, {"to"})
    place(lowering, group, node.inputs[0], tuple(node.params["before"]))
    return True


ROWS: dict[str, Row] = {
    "matmul": _matmul, "attention": _attention, "attention_gradient": _attention_gradient,
    "random_bits": _random_bits, "scatter_add": scatter_rows,
    "concatenate": _concatenate, "pad": _pad,
    "convolution": forward, "convolution_input_gradient": input_gradient,
    "convolution_weight_gradient": weight_gradient,
    "argmax": extreme_position, "argmin": extreme_position, "cumsum": running_sum,
    "take_along": take_along, "scatter_along": scatter_along, "slice_update": update_slice,
    "put_rows": overwrite_rows,
    "max_pool2d": pool, "max_pool2d_gradient": pool_gradient,
}  # fmt: skip
