"""A tour: a training step goes through every stage of the compiler, with a word on each.

    python -m tinytorch.compiler                        a small step that comes with it
    python -m tinytorch.compiler train.py:step          `step` of your file, which is run first
    python -m tinytorch.compiler --page step.html       the same in pictures

Knows one small program, and how to print; never what a pass does.
"""

from __future__ import annotations

import argparse
import runpy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import tinytorch as tt
from tinytorch.base.errors import CompileError
from tinytorch.codegen import engine
from tinytorch.codegen.kernel import Kernel
from tinytorch.codegen.target import NAMES
from tinytorch.compiler.compile import Compiled
from tinytorch.compiler.pipeline import MEANINGS, PASSES

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


def example(target: str | None = None) -> tuple[Compiled, tuple[np.ndarray, np.ndarray]]:
    """The compiled step of SOURCE, on one thread, and arguments for it."""
    scope: dict[str, Any] = {"tt": tt, "np": np}
    exec(compile(SOURCE, "step.py", "exec"), scope)
    step = tt.compile(scope["step"], target=target, threads=1)
    return step, (np.ones((32, 16), np.float32), np.zeros((32, 8), np.float32))


def texts(stages: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(name, what it is, its print) of every stage."""
    for name, result in stages.items():
        yield name, MEANINGS[name], str(result)


def smallest(kernels: list[Kernel]) -> Kernel:
    """The kernel with the shortest text."""
    return min(kernels, key=lambda k: (len(k.ir), k.name.rpartition("_")[0]))


# how to read the print of each stage, for those who see one for the first time
READING = {
    "capture": "A line is an operation: what it makes, of what, its shape. Products with transposed"
    " operands are the backward pass; the last lines overwrite the weights.",
    "simplify": "Compare it with the lines above: fewer operations, and none that gives a number"
    " which is known already.",
    "end sums": "Only a program with lengths (`tt.dim`) changes here.",
    "recompute": "Without a policy the program is as it was. With one, some operations stand twice:"
    " again beside the backward pass that reads them.",
    "split reductions": "A sum over all axes is one over rows, then one over what these gave: the"
    " first can run on several threads.",
    "choose layouts": "Most values lie as they are written; pictures lie with channels innermost.",
    "fuse": "A group is one kernel. What only its own operations read never reaches memory.",
    "materialize": "What a group reads and stores; every value that is not named here is gone.",
    "assign buffers": "Every stored value has a piece of memory; a new weight lies in the old one's"
    " place.",
    "order tasks": "A group comes after those whose values it reads, and after the last reader of"
    " what it overwrites.",
    "lower": "Each group is now loops or a library call; the names in brackets are functions of"
    " machine code.",
    "derive": "As above, unless weights are frozen: then what follows from them alone is in front.",
    "plan the arena": "Temporaries that are not needed at the same time share bytes.",
    "launch plan": "This is all that is left for the runtime: functions, and numbers of memory.",
}


def of_file(place: str) -> Compiled:
    """The compiled function that a file leaves, after the file ran as a program.

    Args:
        place: "train.py:step": a file, and the name of a function that `tt.compile` made.

    Raises:
        CompileError: there is no such function, or the file did not call it.
    """
    path, _, name = place.rpartition(":")
    found = runpy.run_path(path, run_name="__main__").get(name) if path else None
    if not isinstance(found, Compiled) or not found.captures:
        kind = type(found).__name__ if found is not None else "nothing of that name"
        raise CompileError(
            "there is no compiled function to show",
            got=f"{place!r}: " + ("it was not called" if isinstance(found, Compiled) else kind),
            rule="FILE.py:NAME, where NAME is what tt.compile gave, and the file calls it",
            fix="@tt.compile before the function, and a call of it at the end of the file",
        )
    return found


def tour(step: Compiled, lines: int) -> Iterator[str]:
    """What to print: every stage with its meaning and how to read it, a kernel, the times.

    Args:
        step: what is shown; it was called.
        lines: how many of each print; 0 for all.
    """
    stages = step.stages()
    before: Any = None
    for number, (name, meaning, text) in enumerate(texts(stages)):
        if stages[name] is before:
            text = "(as the stage before left it)"
        before = stages[name]
        counted = text.count("\n") + 1
        yield f"--- {number} of {len(PASSES)}: {name} ({counted} lines)"
        yield f"{meaning}\n{READING[name]}\n\n{_first(text, lines)}\n"
    kernels, target = stages["lower"].kernels, stages["capture"].target
    if kernels:
        kernel = smallest(kernels)
        assembly = engine.assembly_text(engine.module_text([kernel]), target)
        yield f"--- LLVM IR of {kernel.name}\nThe shortest kernel, as the compiler writes it.\n"
        yield f"{_first(kernel.ir, lines)}\n\n--- assembly\nThe same kernel after LLVM.\n"
        yield f"{_first(assembly, lines)}\n"
    yield f"--- explain\nWhere the time of a run goes, on this machine.\n\n{step.explain()}"


def _first(text: str, lines: int) -> str:
    kept = text.split("\n")
    rest = len(kept) - lines
    if not lines or rest <= 0:
        return text
    return "\n".join([*kept[:lines], f"... {rest} more lines (--lines 0 shows them)"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the program and its way through the compiler; write what else was asked for."""
    parser = argparse.ArgumentParser("python -m tinytorch.compiler", description="A tour.")
    parser.add_argument("program", nargs="?", metavar="FILE.py:NAME", help="your compiled function")
    parser.add_argument("--target", choices=NAMES, help="write for this kind of processor")
    parser.add_argument("--lines", type=int, default=60, help="of each print; 0 for all")
    parser.add_argument("--page", metavar="FILE.html", help="write everything as a page, too")
    parser.add_argument("--trace", metavar="FILE.json", help="write a run for Perfetto, too")
    asked = parser.parse_args(arguments)
    if asked.program:
        step = of_file(asked.program)
    else:
        step, inputs = example(asked.target)
        step(*inputs)
        print(SOURCE)
    for text in tour(step, asked.lines):
        print(text)
    for write, path in ((step.page, asked.page), (step.trace, asked.trace)):
        if path:
            write(path)
            print(f"\nwrote {path}")


if __name__ == "__main__":
    main()
