"""The library calls of max pooling and its gradient.

Knows the lowering and strides over (N, C, H, W), never instructions. The gradient comes here when
its index was made by a pooling of the program; any other index was rewritten to a scatter.
"""

from __future__ import annotations

from tinytorch.compiler.plan.lowering import Lowering
from tinytorch.compiler.plan.stages import Group
from tinytorch.kernels import pooling as kernels
from tinytorch.kernels.pooling import PoolSpec


def max_pool(lowering: Lowering, group: Group) -> bool:
    """The winners of all windows, and their places."""
    node = group.called
    (x,), (out, index) = node.inputs, node.outputs
    spec = PoolSpec(x.shape, out.shape, **node.params)
    operands = (lowering.operand(v) for v in (x, out, index))
    kernel = kernels.max_pool(lowering.target, spec, *operands)
    return lowering.run_kernel(group, kernel, {"x": x, "out": out, "index": index})


def max_pool_gradient(lowering: Lowering, group: Group) -> bool:
    """Each pixel from the windows it won."""
    (g, index), (out,) = group.called.inputs, group.called.outputs
    maker = lowering.producer.get(index)
    if maker is None or index not in maker.outputs[1:] or maker.inputs[0].shape != out.shape:
        return False
    spec = PoolSpec(out.shape, g.shape, **maker.params)
    operands = (lowering.operand(v) for v in (g, index, out))
    kernel = kernels.max_pool_gradient(lowering.target, spec, *operands)
    return lowering.run_kernel(group, kernel, {"g": g, "index": index, "out": out})
