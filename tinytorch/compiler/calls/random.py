"""The library call of random numbers.

Knows the lowering, never instructions.
"""

from __future__ import annotations

from math import prod

from tinytorch.compiler.plan.lowering import Lowering, dense_operand
from tinytorch.compiler.plan.stages import Group
from tinytorch.kernels import random_bits as kernels


def random_bits(lowering: Lowering, group: Group) -> bool:
    """Bits from the state of a generator, and its new state."""
    node = group.called
    (state,), (bits, new) = node.inputs, node.outputs
    for v in (state, bits, new):  # the kernel knows neither strides nor offsets
        lies = lowering.operand(v)
        if lies.offset or lies.strides != dense_operand(v.dtype, v.shape).strides:
            return False
    kernel = kernels.random_bits(lowering.target, prod(bits.shape))
    return lowering.run_kernel(group, kernel, {"state": state, "bits": bits, "new": new})
