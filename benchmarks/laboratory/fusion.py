"""Chains of small operations: one after the other, and as one kernel.

Knows functions over Tensors. What fusion saves is bytes: each operation alone reads its operands
from memory and writes its result there; fused, only what comes in and goes out moves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import tinytorch as tt
import tinytorch.nn.functional as F
from benchmarks.laboratory.versions import Version
from tinytorch.codegen.target import Target

ROWS, COLUMNS = 2048, 1024
Chain = Callable[..., tt.Tensor]


def bias_gelu(x: tt.Tensor, bias: tt.Tensor) -> tt.Tensor:
    """GELU(x + bias)."""
    return F.gelu(x + bias)


def residual_norm(x: tt.Tensor, y: tt.Tensor, weight: tt.Tensor, bias: tt.Tensor) -> tt.Tensor:
    """Layer norm of x + y."""
    return F.layer_norm(x + y, (x.shape[-1],), weight, bias)


def softmax(x: tt.Tensor) -> tt.Tensor:
    """Softmax of each row."""
    return F.softmax(x, -1)


def relu_add(x: tt.Tensor, y: tt.Tensor) -> tt.Tensor:
    """max(x + y, 0), the course's example."""
    return F.relu(x + y)


def adam(p: tt.Tensor, g: tt.Tensor, m: tt.Tensor, v: tt.Tensor) -> tt.Tensor:
    """A step of AdamW (Loshchilov & Hutter 2019), bias correction of step 10."""
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g * g
    step = (m / (1 - 0.9**10)) / ((v / (1 - 0.999**10)).sqrt() + 1e-8)
    return p * (1 - 1e-3 * 0.01) - 1e-3 * step


@dataclass(frozen=True)
class Pair:
    """A chain both ways.

    Args:
        name: of the chain.
        alone: an operation after the other, on NumPy.
        fused: compiled.
    """

    name: str
    alone: Version
    fused: Version


def chains() -> dict[str, tuple[Chain, tuple[tuple[int, ...], ...]]]:
    """(function, shapes of its operands) of each chain, by name."""
    whole, row = (ROWS, COLUMNS), (COLUMNS,)
    return {
        "bias + GELU": (bias_gelu, (whole, row)),
        "residual + layer norm": (residual_norm, (whole, whole, row, row)),
        "softmax": (softmax, (whole,)),
        "add + ReLU": (relu_add, (whole, whole)),
        "AdamW": (adam, (whole, whole, whole, whole)),
    }


def pairs(target: Target) -> list[Pair]:
    """Each chain eagerly and compiled; bytes counted operation by operation, and in the plan."""
    out: list[Pair] = []
    for name, (chain, shapes) in chains().items():
        draw = np.random.default_rng(0).standard_normal
        given = [tt.Tensor(np.abs(draw(s)).astype(np.float32)) for s in shapes]
        compiled = tt.compile(chain, target=target, threads=1)
        compiled(*given)
        nodes = compiled.stages()["capture"].graph.nodes
        alone = sum(
            v.spec.nbytes
            for n in nodes
            if not (n.is_movement or n.is_source)
            for v in (*n.inputs, *n.outputs)
        )
        tasks = compiled._last.program.plan.tasks
        flops = sum(t.flops for t in tasks)
        moved = sum(t.bytes for t in tasks)
        out.append(
            Pair(
                name,
                Version(name, lambda c=chain, g=given: c(*g).numpy(), flops, alone),
                Version(
                    name, lambda c=compiled, g=given: c(*g).numpy(), flops, moved,
                    assembly=compiled.asm(),
                ),
            )
        )  # fmt: skip
    return out
