"""The library calls of caches of keys and values: tokens written into pages, attention to them.

Knows the lowering, strides and the kernels, never instructions.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from tinytorch.codegen.kernel import Lowered
from tinytorch.compiler.graph.graph import Value
from tinytorch.compiler.loops.lower_nest import LOWERED
from tinytorch.compiler.plan.lowering import Lowering
from tinytorch.compiler.plan.stages import Group
from tinytorch.kernels import caches as kernels
from tinytorch.kernels.caches import CachedAttentionSpec, Pages, lower_cached_attention


def _pages(lowering: Lowering, cache: Value, starts: Value, table: Value) -> Pages:
    places = lowering.operand(starts), lowering.operand(table)
    p, g, n, d = cache.shape
    return Pages(p, g, n, d, table.shape[1], *places)


def put_tokens(lowering: Lowering, group: Group) -> bool:
    """A copy of the cache, unless it lies where it lay, with new tokens at their places."""
    node = group.called
    (x, new, starts, counts, table), (out,) = node.inputs, node.outputs
    lowering.put(group, x, (0,) * len(x.shape))
    if not prod(new.shape):
        return True
    kernel = kernels.put_tokens(
        lowering.target, _pages(lowering, x, starts, table), (new.shape[0], new.shape[2]),
        *(lowering.operand(v) for v in (new, counts, out)),
    )  # fmt: skip
    values = {"new": new, "starts": starts, "counts": counts, "table": table, "out": out}
    return lowering.run_kernel(group, kernel, values)


def cached_attention(lowering: Lowering, group: Group) -> bool:
    """Attention of new queries to what is in a cache."""
    node = group.called
    (q, keys, values, starts, table, *scales), (out,) = node.inputs, node.outputs
    if not prod(q.shape):
        lowering.asked.update(node.inputs)  # none is read
        return True
    pages, (b, a, t, _) = _pages(lowering, keys, starts, table), q.shape
    q_at, keys_at, values_at, out_at = (lowering.operand(v) for v in (q, keys, values, out))
    spec = CachedAttentionSpec(
        b, a, t, pages, node.params["scale"], node.params["window"], q_at, keys_at, values_at,
        out_at, tuple(lowering.operand(v) for v in scales),
    )  # fmt: skip
    spec = replace(spec, needed=lowering.needed_rows(group, (0, 1, 2)))
    key = ("cached_attention", lowering.target.key, spec)
    lowered: Lowered = LOWERED.get(key, lambda: lower_cached_attention(lowering.target, spec))
    names = ("q", "keys", "values", "starts", "table", "out", "key_scales", "value_scales")
    held = zip(names, (q, keys, values, starts, table, out, *scales), strict=False)
    buffers = {n: lowering.storage_of(v) for n, v in held} | lowering.lengths(group)
    lowering.add(lowered, buffers, group.label, node.where, {"out"})
    return True
