"""Matrix products of any layout as tiles for the thread team, an epilogue in place of the store.

Knows pointers, strides and epilogues; never Tensors or graphs. out[..., i, j] is the sum over k of
a[..., i, k] * b[..., k, j], summed in an order that depends on the shapes and the target only.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from tinytorch.base.dtypes import DType
from tinytorch.codegen.kernel import Epilogue, Lowered, Operand, StoreEpilogue
from tinytorch.codegen.target import Target
from tinytorch.kernels.gemm_amx import lower_amx, suits_amx
from tinytorch.kernels.gemm_dot import lower_dot, suits_dot
from tinytorch.kernels.gemm_fma import lower_fma


@dataclass(frozen=True)
class GemmSpec:
    """One (batched) matrix product.

    Args:
        batch: sizes of the axes in front; entries are independent products.
        m, n, k: rows, columns, length of the sums; each may be 0 (k = 0 gives zeros).
        a: strides over (*batch, m, k). A stride of 0 repeats.
        b: strides over (*batch, k, n).
        out: strides over (*batch, m, n); read by the plain epilogue only.
        round_to: numbers of a and b are rounded to this type first (bfloat16), while being read.
    """

    batch: tuple[int, ...]
    m: int
    n: int
    k: int
    a: Operand
    b: Operand
    out: Operand
    round_to: DType | None = None

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * prod(self.batch) * self.m * self.n * self.k


def lower_gemm(target: Target, spec: GemmSpec, epilogue: Epilogue | None = None) -> Lowered:
    """The kernels of one matrix product.

    The epilogue is given each output element once, after its sum is complete, as vectors along n:
    `emit(f, value, (*batch, i, j), mask, pointers)`.

    Args:
        target: the machine.
        spec: shapes, types and strides.
        epilogue: what to do with the sums; by default store them to buffer "out".

    Returns:
        Steps over buffers "a", "b", the epilogue's, and "temporary.*".

    Cost: 2 m n k operations for each batch entry; copies of a and b where their layout asks for it.
    """
    chosen = epilogue or StoreEpilogue(spec.out)
    if not prod(spec.batch) * spec.m * spec.n:
        return Lowered(())
    if suits_dot(spec):
        return lower_dot(target, spec, chosen)
    if suits_amx(target, spec):
        return lower_amx(target, spec, chosen)
    return lower_fma(target, spec, chosen)
