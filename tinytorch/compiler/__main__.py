"""Shows a training step going through every stage of the compiler: python -m tinytorch.compiler.

Knows one small program, and how to print; never what a pass does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

import tinytorch as tt
from tinytorch.codegen import engine
from tinytorch.codegen.kernel import Kernel
from tinytorch.compiler.compile import Compiled
from tinytorch.compiler.pipeline import PASSES

SOURCE = """\
weight = tt.Tensor(np.full((16, 8), 0.1, np.float32), requires_grad=True)
bias = tt.Tensor(np.zeros(8, np.float32), requires_grad=True)


def step(x, y):
    weight.grad = bias.grad = None
    loss = (((x @ weight + bias).tanh() - y) ** 2).mean()
    loss.backward()
    with tt.no_grad():
        for p in (weight, bias):
            p.assign_(p - 0.1 * p.grad)
    return loss
"""
CAPTURE = (
    "`step` is called once with values that record (`record/recording.py`); backward pass and"
    " update are operations like any others."
)


def example(target: str | None = None) -> tuple[Compiled, tuple[np.ndarray, np.ndarray]]:
    """The compiled step of SOURCE, on one thread, and arguments for it."""
    scope: dict[str, Any] = {"tt": tt, "np": np}
    exec(compile(SOURCE, "step.py", "exec"), scope)
    step = tt.compile(scope["step"], target=target, threads=1)
    return step, (np.ones((32, 16), np.float32), np.zeros((32, 8), np.float32))


def texts(stages: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(name, what it is, its print) of every stage."""
    meanings = {"capture": CAPTURE, **{step.name: step.meaning for step in PASSES}}
    for name, result in stages.items():
        yield name, meanings[name], str(result)


def smallest(kernels: list[Kernel]) -> Kernel:
    """The kernel with the shortest text."""
    return min(kernels, key=lambda k: (len(k.ir), k.name.rpartition("_")[0]))


def main() -> None:
    """Print the program, every stage, and the shortest kernel as LLVM IR and as assembly."""
    step, arguments = example(*sys.argv[1:2])
    stages = step.stages(*arguments)
    print(SOURCE)
    for name, meaning, text in texts(stages):
        print(f"--- {name}\n{meaning}\n\n{text}\n")
    target = stages["capture"].target
    kernel = smallest(stages["lower"].kernels)
    print(f"--- LLVM IR of {kernel.name}\n{kernel.ir}\n")
    print(f"--- assembly\n{engine.assembly_text(engine.module_text([kernel]), target)}")
    step(*arguments)
    print(f"--- explain\n{step.explain()}")


if __name__ == "__main__":
    main()
