"""Matrix products by fused multiply-adds of float32 or float64 vectors.

Knows how operands of any float type become packed numbers of the computing type; narrow types are
exact in float32.
"""

from __future__ import annotations

from tinytorch.base.dtypes import DType
from tinytorch.codegen.builder import Function
from tinytorch.codegen.kernel import Epilogue, Lowered, Operand
from tinytorch.codegen.target import Target
from tinytorch.kernels.gemm_micro import Micro, write_micro
from tinytorch.kernels.gemm_nest import Nest
from tinytorch.kernels.gemm_plan import Plan, plan_fma
from tinytorch.kernels.packing import Strip, emit_pack

# Packed panels stream from the second-level cache; 16 turns ahead gained 4 % over none at 1000^3.
FETCH_AHEAD = 2048


def lower_fma(target: Target, spec, epilogue: Epilogue) -> Lowered:
    """The kernels of a product computed with multiply-adds of float32 or float64."""
    plan = plan_fma(target, spec)
    arithmetic = MultiplyAdd(plan, spec.round_to, target.has_fma)
    return Nest(spec, plan, arithmetic, epilogue).lowered()


class MultiplyAdd:
    """Blocks of vector sums; packed operands are `out[k][lane]`."""

    granule = 1

    def __init__(self, plan: Plan, round_to: DType | None, fused: bool):
        self.plan, self.round_to, self.fused = plan, round_to, fused
        self.packed = plan.compute

    def strip(self, x: Operand, lane: int, depth: int, lanes: int) -> Strip:
        """How an operand is read."""
        return Strip(x.dtype, lane, depth, lanes, self.packed, self.round_to)

    def emit_pack(self, f, side, strip, source, first, k0, depth, out, width, whole, deep) -> None:
        """Copy one strip; both sides lie the same way."""
        emit_pack(f, strip, source, first, k0, depth, out, width, self.plan.lanes, whole, deep)

    def emit_begin(self, f: Function) -> None:
        """Nothing is needed before the first block."""

    def emit_rest(self, f: Function, nest: Nest, source, row, rows, k0, depth, out) -> None:
        """Any depth is read in place."""

    def micro(self, nest: Nest, rows: int, vectors: int, masked: bool) -> Micro:
        """The description of a micro-kernel."""
        plan, spec = self.plan, nest.spec
        direct = plan.pack_a == "direct"
        return Micro(
            plan.compute, plan.lanes, rows, vectors,
            a_row=spec.a.strides[-2] if direct else 1,
            a_depth=spec.a.strides[-1] if direct else plan.stride_a,
            b_depth=spec.b.strides[-2] if plan.pack_b == "direct" else vectors * plan.lanes,
            c_row=nest.c_row, masked=masked, add=nest.long, fused=self.fused,
            ahead=0 if plan.pack_b == "direct" else FETCH_AHEAD,
        )  # fmt: skip

    def write(self, name: str, micro: Micro) -> Function:
        """The micro-kernel's code."""
        return write_micro(name, micro)
