"""The library calls of contractions: products of matrices, attention and its gradient.

Knows the lowering, strides and the kernels, never instructions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf, prod

from tinytorch.codegen.kernel import Lowered, Operand
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.loops.epilogue import joined, lower_product
from tinytorch.compiler.loops.lower_nest import LOWERED
from tinytorch.compiler.plan.access import reshape_strides
from tinytorch.compiler.plan.lowering import Lowering, dense_operand
from tinytorch.compiler.plan.prologue import computed_weight
from tinytorch.compiler.plan.stages import Group, Storage
from tinytorch.kernels.attention import lower_attention
from tinytorch.kernels.attention_gradient import lower_attention_gradient
from tinytorch.kernels.attention_spec import AttentionGradientSpec, AttentionSpec
from tinytorch.kernels.gemm_plan import GemmSpec
from tinytorch.kernels.grouped_dots import GroupedSpec, grouped_dots
from tinytorch.kernels.sparse import SparseSpec, lower_sparse


def matmul(lowering: Lowering, group: Group) -> bool:
    """The product of two arrays of matrices, and the arithmetic on it."""
    node = group.called
    (a, b), out = node.inputs, node.outputs[0]
    rank, batch, (m, n), k = len(out.shape), out.shape[:-2], out.shape[-2:], a.shape[-1]
    computed = computed_weight(lowering.producer, node)
    prologue, buffers = None, {"a": lowering.storage_of(a)}
    left, left_at = _batched(lowering, a, batch)
    begins = {"a": left_at}
    if computed is None:
        right, begins["b"] = _batched(lowering, b, batch)
        buffers["b"] = lowering.storage_of(b)
    else:
        prologue, read = lowering.fused_prologue(computed)
        own = (1, k) if prologue.along_rows else (n, 1)
        right = Operand(b.dtype, (*(0,) * len(batch), *own))
        buffers |= read
    rows = None
    if batch and not any(s for s, c in zip(right.strides, batch, strict=False) if c != 1):
        # b is the same for all: batches of rows become one tall matrix, where memory allows it
        rows = reshape_strides((*batch, m), left.strides[:-1], (prod(batch) * m,))
    if rows is not None:
        epilogue, names = lowering.fused_epilogue(group, tuple(range(rank - 1)), rank - 1)
        epilogue = joined(epilogue)
        left = Operand(left.dtype, (*rows, left.strides[-1]), left.offset)
        right = Operand(right.dtype, right.strides[-2:], right.offset)
        batch, m = (), prod(batch) * m
    else:
        epilogue, names = lowering.fused_epilogue(
            group, (rank - 2,), rank - 1, tuple(range(rank - 2))
        )
    needed = lowering.needed_rows(group, range(rank - 1))
    out_at = dense_operand(out.dtype, (*batch, m, n))
    summed = tuple(lowering.needs.summed(node))
    stays = prologue is None and not summed and lowering.stays(b)
    spec = GemmSpec(
        batch, m, n, k, left, right, out_at, prologue=prologue, summed=summed, b_stays=stays
    )
    buffers |= names | lowering.lengths(group)
    lowered = lower_product(lowering.target, spec, epilogue, needed)
    lowering.call(group, lowered, buffers, epilogue, begins)
    return True


def grouped_matmul(lowering: Lowering, group: Group) -> bool:
    """Few rows times a weight of few bits, and the arithmetic on it."""
    node = group.called
    x, weight, scale = node.inputs
    lead, rank = x.shape[:-1], len(x.shape)
    shapes = (prod(lead), x.shape[-1]), weight.shape, scale.shape
    operands: list[Operand] = []
    buffers: dict[str, Storage] = {}
    begins: dict[str, int] = {}
    for name, v, shape in zip(("x", "weight", "scale"), node.inputs, shapes, strict=True):
        access = lowering.located(v)
        strides = reshape_strides(v.shape, access.strides, shape)
        if strides is None or (shape[-1] > 1 and strides[-1] != 1):
            access, strides = lowering.copied(v, access), (shape[-1], 1)
        operands.append(Operand(v.dtype, strides))
        buffers[name] = lowering.of[access.base].storage
        begins[name] = access.offset * v.dtype.itemsize
    epilogue, names = lowering.fused_epilogue(group, tuple(range(rank - 1)), rank - 1)
    epilogue = joined(epilogue)
    bits, size = node.params["bits"], node.params["group"]
    spec = GroupedSpec(prod(lead), weight.shape[0], x.shape[-1], bits, size, *operands)
    key = ("grouped", lowering.target.key, spec, epilogue.arguments, epilogue.key)
    kernel = LOWERED.get(key, lambda: Lowered.of(grouped_dots(lowering.target, spec, epilogue)))
    lowering.call(group, kernel, buffers | names, epilogue, begins)
    return True


def sparse_matmul(lowering: Lowering, group: Group) -> bool:
    """Rows times a sparse matrix, and the arithmetic on the result, which lies across."""
    node = group.called
    x, *matrix = node.inputs
    (m, n), k = node.outputs[0].shape, x.shape[1]
    operand, begin = lowering.begun_operand(x)
    buffers, begins = {"x": lowering.storage_of(x)}, {"x": begin}
    for name, v in zip(("values", "columns", "starts"), matrix, strict=True):
        access = lowering.located(v)
        if access.strides != (1,) and v.shape[0] > 1:
            access = lowering.copied(v, access)
        buffers[name] = lowering.of[access.base].storage
        begins[name] = access.offset * v.dtype.itemsize
    epilogue, names = lowering.fused_epilogue(group, (1,), 0)
    kinds = [v.dtype for v in matrix]
    spec = SparseSpec(m, n, k, matrix[0].shape[0], operand, *kinds)
    key = ("sparse", lowering.target.key, spec, epilogue.arguments, epilogue.key)
    lowered = LOWERED.get(key, lambda: lower_sparse(lowering.target, spec, epilogue))
    lowering.call(group, lowered, buffers | names, epilogue, begins)
    return True


def _batched(lowering: Lowering, v: Value, batch: tuple[int, ...]) -> tuple[Operand, int]:
    """The operand with a stride for each batch axis of the result, 0 where it is repeated; and the
    bytes at which it begins."""
    o, start = lowering.begun_operand(v)
    own = v.shape[:-2]
    lead = len(batch) - len(own)
    strides = [0] * lead + [s if n != 1 else 0 for s, n in zip(o.strides, own, strict=False)]
    return Operand(o.dtype, (*strides, *o.strides[-2:])), start


# attention


def _attention_spec(
    lowering: Lowering, node: Node, q: Value, k: Value, v: Value, out: Value, lse: Value
) -> AttentionSpec:
    batch, heads, queries, size = q.shape
    return AttentionSpec(
        batch, heads, queries, k.shape[2], size, node.params["causal"], node.params["scale"],
        *(lowering.operand(x) for x in (q, k, v, out, lse)),
    )  # fmt: skip


def _of_nothing(lowering: Lowering, group: Group, numbers: Sequence[float]) -> bool:
    """Every result is one number: no query, or no key."""
    lowering.asked.update(group.called.inputs)  # none is read
    for v, number in zip(group.called.outputs, numbers, strict=True):
        lowering.put_number(group, v, number)
    return True


def attention(lowering: Lowering, group: Group) -> bool:
    """The result and the logarithm of the sums below it; not for heads of size 0."""
    node = group.called
    values = (*node.inputs, *node.outputs)
    if not all(prod(v.shape) for v in values):  # no queries, or they see nothing
        if not node.inputs[0].shape[-1]:
            return False
        return _of_nothing(lowering, group, (0.0, -inf))
    spec = _attention_spec(lowering, node, *values)
    spec = replace(spec, needed=lowering.needed_rows(group, (0, 1, 2)))
    key = ("attention", lowering.target.key, spec)
    lowered = LOWERED.get(key, lambda: lower_attention(lowering.target, spec))
    buffers = {
        n: lowering.storage_of(v)
        for n, v in zip(("q", "k", "v", "out", "lse"), values, strict=True)
    } | lowering.lengths(group)
    lowering.add(lowered, buffers, group.label, node.where, {"out", "lse"})
    return True


def attention_gradient(lowering: Lowering, group: Group) -> bool:
    """The cotangents of q, k and v."""
    node = group.called
    g, q, k, v, out, lse = node.inputs
    if not all(prod(x.shape) for x in (*node.inputs, *node.outputs)):
        return _of_nothing(lowering, group, (0.0, 0.0, 0.0))
    spec = _attention_spec(lowering, node, q, k, v, out, lse)
    every = prod(q.shape[:3])
    queries = tuple(replace(rows, rows=every) for rows in lowering.needs.summed(node))
    heads = tuple(rows.each(q.shape[2]) for rows in lowering.needed_rows(group, (0, 1)))
    spec = replace(spec, needed=(*heads, *queries))
    names = ("g", "q", "k", "v", "out", "lse", "g_q", "g_k", "g_v")
    values = (*node.inputs, *node.outputs)
    operands = [lowering.operand(x) for x in (g, *node.outputs)]
    whole = AttentionGradientSpec(spec, *operands)
    key = ("attention_gradient", lowering.target.key, whole)
    lowered = LOWERED.get(key, lambda: lower_attention_gradient(lowering.target, whole))
    buffers = {n: lowering.storage_of(x) for n, x in zip(names, values, strict=True)}
    buffers |= lowering.lengths(group)
    lowering.add(lowered, buffers, group.label, node.where, {"g_q", "g_k", "g_v"})
    return True
