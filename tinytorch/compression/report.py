"""What compressing a model gained: bytes, arithmetic and time, before and after.

Knows two models and an example, never how one came from the other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinytorch.base.arguments import whole
from tinytorch.compiler.compile import compile as compiled
from tinytorch.compression.quantize import bytes_of
from tinytorch.compression.recorded import check_model, inputs_of, recorded
from tinytorch.nn.module import Module, evaluating
from tinytorch.nn.weight_forms import SparseWeight
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.tensor import Tensor


def flops_of(model: Module, example: Any) -> int:
    """Arithmetic operations of one call in evaluation mode, a multiplication and an addition two.

    Each operation of the recorded graph says how many it has, as its row of the table of primitives
    defines them; numbers that are 0 are counted as any other where all are multiplied. What follows
    from weights alone, such as unpacking them, is not counted: a frozen program does it once.

    Args:
        model: any module.
        example: an input, or a tuple of them.

    Example:
        >>> import tinytorch as tt
        >>> flops_of(tt.nn.Linear(100, 10, bias=False), tt.zeros(1, 100))
        2000
    """
    inputs = inputs_of("flops_of", example)
    graph = recorded(check_model("flops_of", model), inputs).graph
    total, given = 0, set(graph.arguments)
    for node in graph.nodes:
        if given.isdisjoint(node.inputs):
            continue
        given.update(node.outputs)
        ins, outs = ([v.spec for v in values] for values in (node.inputs, node.outputs))
        total += node.primitive.flops(ins, outs, **node.params)
    return total


@dataclass(frozen=True)
class Report:
    """Two models side by side; `print` shows a table.

    Args:
        bytes: of parameters and saved buffers, before and after.
        flops: of one call.
        milliseconds: of one compiled call, the median.
        difference: the largest difference of their answers to the example, over the largest answer
            of the first; None where shapes differ.
        whole: of the second's sparse weights those that layers multiply by with all their zeros,
            and why.
    """

    bytes: tuple[int, int]
    flops: tuple[int, int]
    milliseconds: tuple[float, float]
    difference: float | None
    whole: Mapping[str, str] = field(default_factory=dict[str, str])

    def __str__(self) -> str:
        rows = [
            ("bytes", *(f"{n:,}" for n in self.bytes), _times(*self.bytes)),
            ("FLOP", *(f"{n:,}" for n in self.flops), _times(*self.flops)),
            ("ms", *(f"{t:.3f}" for t in self.milliseconds), _times(*self.milliseconds)),
        ]
        lines = [f"{'':6} {'before':>16} {'after':>16} {'ratio':>8}"]
        lines += [f"{name:6} {a:>16} {b:>16} {ratio:>8}" for name, a, b, ratio in rows]
        if self.difference is not None:
            lines.append(f"answers differ by {self.difference:.2e} of the largest")
        lines += [f"{name} is multiplied whole: {why}" for name, why in self.whole.items()]
        return "\n".join(lines)

    __repr__ = __str__


def _times(before: float, after: float) -> str:
    return f"{before / after:.2f}" if after else "-"


def report(before: Module, after: Module, example: Any, *, runs: int = 15) -> Report:
    """What a model and a smaller one hold, compute and take, in evaluation mode.

    Args:
        before: the model as it was.
        after: the smaller one.
        example: an input that both take, or a tuple of them.
        runs: timed calls of each, in turns, after one that compiles; at least 1; default 15.

    Returns:
        a Report; `print` shows it.

    Cost: compiles both models, once each.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import nn
        >>> wide, narrow = nn.MLP([64, 128, 10]), nn.MLP([64, 32, 10])
        >>> found = report(wide, narrow, tt.zeros(1, 64), runs=1)
        >>> found.bytes, found.flops[0] > 3 * found.flops[1]
        ((38440, 9640), True)
    """
    models = (check_model("report", before), check_model("report", after))
    inputs = inputs_of("report", example)
    whole("report", "runs", runs, at_least=1)
    with no_grad(), evaluating(*models):
        calls = [compiled(model) for model in models]
        answers = [call(*inputs) for call in calls]
        seconds: list[list[float]] = [[], []]
        for _ in range(runs):
            for call, taken in zip(calls, seconds, strict=True):
                start = time.perf_counter()
                call(*inputs)
                taken.append(time.perf_counter() - start)
    first, second = (float(np.median(taken)) * 1e3 for taken in seconds)
    return Report(
        (bytes_of(before), bytes_of(after)),
        (flops_of(before, inputs), flops_of(after, inputs)),
        (first, second), _difference(*answers),
        {n: w.whole for n, w in after.named_modules() if isinstance(w, SparseWeight) and w.whole},
    )  # fmt: skip


def _difference(a: Any, b: Any) -> float | None:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor) or a.shape != b.shape:
        return None
    x, y = (t.numpy().astype(np.float64) for t in (a, b))
    largest = np.abs(x).max(initial=0.0)
    return float(np.abs(x - y).max(initial=0.0) / largest) if largest else None
