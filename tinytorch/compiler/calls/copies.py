"""The library calls that lay numbers out anew: joining and padding, as loops that copy.

Knows the lowering and loop nests, never instructions.
"""

from __future__ import annotations

from tinytorch.compiler.loops.expression import Constant, Store
from tinytorch.compiler.loops.nest import Nest
from tinytorch.compiler.plan.lowering import Lowering
from tinytorch.compiler.plan.stages import Group


def concatenate(lowering: Lowering, group: Group) -> bool:
    """Operands side by side, those copied that do not lie where they belong."""
    node = group.called
    axis, first = int(node.params["axis"]) % len(node.outputs[0].shape), 0
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
    out = node.outputs[0]
    place = lowering.place(out)
    strides = tuple(s if n != 1 else 0 for s, n in zip(place.strides, out.shape, strict=True))
    value = Constant(out.dtype, node.params.get("value", 0.0))
    fill = Store("to", out.dtype, strides, value, place.offset)
    nest = Nest(tuple(out.shape), frozenset(), (fill,), "fill")
    lowering.add_nest(nest, {"to": place.storage}, group.label, node.where, {"to"})
    lowering.put(group, node.inputs[0], tuple(node.params["before"]))
    return True
