"""What kernels of their own need of the lowering: buffers, epilogues, copies into a result.

Knows the lowering, groups and expressions; never which primitive is lowered.
"""

from __future__ import annotations

from math import prod

from tinytorch.codegen.kernel import Operand
from tinytorch.compiler.graph.graph import Value
from tinytorch.compiler.loops.build_expressions import Given
from tinytorch.compiler.loops.epilogue import FusedEpilogue
from tinytorch.compiler.loops.expression import Store
from tinytorch.compiler.loops.nest import Nest, verify_nest
from tinytorch.compiler.plan.access import identity
from tinytorch.compiler.plan.fuse import Group
from tinytorch.compiler.plan.layout import dense_strides


def fused_epilogue(
    lowering, group: Group, rows: tuple[int, ...], column: int, batch: tuple[int, ...] = ()
):
    """(the group's arithmetic on the result of its host, buffer name -> Storage)."""
    out = group.own.outputs[0]
    given = Given(out.dtype, len(out.shape))
    own = frozenset(v for n in group.nodes for v in n.outputs)
    build, names = lowering.arithmetic(out.shape, own, given={out: given})
    made = lowering.stored.made_by(group)
    stores = [lowering.store_of(build, v, identity(out.shape)) for v in made]
    lowering.check_in_place(group, stores, names)
    nest = Nest(out.shape, frozenset(), tuple(stores), group.label)
    verify_nest(nest, {name: s.nbytes for name, s in names.items()})
    epilogue = FusedEpilogue(nest.stores, given, out.shape, rows, column, lowering.target, batch)
    return epilogue, names


def dense_operand(dtype, shape: tuple[int, ...]) -> Operand:
    """An array without gaps in the order its axes are written."""
    return Operand(dtype, dense_strides(shape, tuple(range(len(shape)))))


def place(lowering, group: Group, x: Value, starts: tuple[int, ...]) -> None:
    """Copy x into the output at the given starts; if it lies there already, nothing is done."""
    node, out = group.own, group.own.outputs[0]
    lowering.access(x)
    home = lowering.home(out)
    if not prod(x.shape) or lowering.homes.get(x) == home and not any(starts):
        return
    build, names = lowering.arithmetic(x.shape)
    offset = home.offset + sum(s * a for s, a in zip(home.strides, starts, strict=True))
    strides = tuple(s if n != 1 else 0 for s, n in zip(home.strides, x.shape, strict=True))
    store = Store("to", out.dtype, strides, build.value(x, identity(x.shape)), offset)
    nest = Nest(tuple(x.shape), frozenset(), (store,), node.primitive.name)
    buffers = {**names, "to": home.storage}
    lowering.add_nest(nest, buffers, group.label, node.where, {"to"})
