"""How max pooling and its gradient are lowered to the kernels for them.

Knows the lowering and strides over (N, C, H, W), never instructions. The gradient comes here when
its index was made by a pooling of the program; any other index was rewritten to a scatter.
"""

from __future__ import annotations

from tinytorch.codegen.kernel import Kernel, Lowered, Step
from tinytorch.compiler.graph.graph import Value
from tinytorch.compiler.plan.fuse import Group
from tinytorch.kernels.pooling import PoolSpec, max_pool, max_pool_gradient


def pool(lowering, group: Group) -> bool:
    """The winners of all windows, and their places."""
    node = group.own
    (x,), (out, index) = node.inputs, node.outputs
    spec = PoolSpec(x.shape, out.shape, **node.params)
    kernel = max_pool(lowering.target, spec, *(lowering.operand(v) for v in (x, out, index)))
    _add(lowering, group, kernel, (x, out, index), {"out", "index"})
    return True


def pool_gradient(lowering, group: Group) -> bool:
    """Each pixel from the windows it won."""
    node = group.own
    (g, index), out = node.inputs, node.outputs[0]
    maker = lowering.producer.get(index)
    if maker is None or maker.primitive.name != "max_pool2d" or maker.inputs[0].shape != out.shape:
        return False
    spec = PoolSpec(out.shape, g.shape, **maker.params)
    kernel = max_pool_gradient(
        lowering.target, spec, *(lowering.operand(v) for v in (g, index, out))
    )
    _add(lowering, group, kernel, (g, index, out), {"out"})
    return True


def _add(
    lowering, group: Group, kernel: Kernel, values: tuple[Value, ...], writes: set[str]
) -> None:
    """The task of a kernel whose buffers hold the values."""
    buffers = {
        name: lowering.storage_of(v) for name, v in zip(kernel.arguments, values, strict=True)
    }
    lowered = Lowered((Step(kernel, kernel.arguments),))
    lowering.add(lowered, buffers, group.label, group.own.where, writes)
