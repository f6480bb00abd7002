"""The library calls of attention and its gradient.

Knows the lowering and strides, never instructions.
"""

from __future__ import annotations

from math import prod

from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.loops.lower_nest import LOWERED
from tinytorch.compiler.plan.lowering import Lowering
from tinytorch.compiler.plan.stages import Group
from tinytorch.kernels.attention import lower_attention
from tinytorch.kernels.attention_gradient import lower_attention_gradient
from tinytorch.kernels.attention_spec import AttentionGradientSpec, AttentionSpec


def _spec(
    lowering: Lowering, node: Node, q: Value, k: Value, v: Value, out: Value, lse: Value
) -> AttentionSpec:
    batch, heads, queries, size = q.shape
    return AttentionSpec(
        batch, heads, queries, k.shape[2], size, node.params["causal"], node.params["scale"],
        *(lowering.operand(x) for x in (q, k, v, out, lse)),
    )  # fmt: skip


def forward(lowering: Lowering, group: Group) -> bool:
    """The result and the logarithm of the sums below it. Not in float16, and not of nothing."""
    node = group.called
    values = (*node.inputs, *node.outputs)
    if node.inputs[0].dtype.name == "float16" or not all(prod(v.shape) for v in values):
        return False
    spec = _spec(lowering, node, *values)
    key = ("attention", lowering.target.key, spec)
    lowered = LOWERED.get(key, lambda: lower_attention(lowering.target, spec))
    buffers = {
        n: lowering.storage_of(v)
        for n, v in zip(("q", "k", "v", "out", "lse"), values, strict=True)
    }
    lowering.add(lowered, buffers, group.label, node.where, {"out", "lse"})
    return True


def gradient(lowering: Lowering, group: Group) -> bool:
    """The cotangents of q, k and v. Not in float16, and not of nothing."""
    node = group.called
    g, q, k, v, out, lse = node.inputs
    if q.dtype.name == "float16" or not all(prod(x.shape) for x in (*node.inputs, *node.outputs)):
        return False
    spec = _spec(lowering, node, q, k, v, out, lse)
    names = ("g", "q", "k", "v", "out", "lse", "g_q", "g_k", "g_v")
    values = (*node.inputs, *node.outputs)
    operands = [lowering.operand(x) for x in (g, *node.outputs)]
    whole = AttentionGradientSpec(spec, *operands)
    key = ("attention_gradient", lowering.target.key, whole)
    lowered = LOWERED.get(key, lambda: lower_attention_gradient(lowering.target, whole))
    buffers = {n: lowering.storage_of(x) for n, x in zip(names, values, strict=True)}
    lowering.add(lowered, buffers, group.label, node.where, {"g_q", "g_k", "g_v"})
    return True
