"""How compiling grows with a program: `python -m benchmarks.compile_time [PROGRAM ...] [--check]`.

Each program is made in a size and in four times that size, up to 50,000 operations. Recording, each
pass, its check, LLVM and loading are timed alone, in processor time of this process, without
garbage collection in between. `--check` ends with 1 where something that takes 50 ms or more took
more than 5.5 times as long for four times the program (4.5 is asked of the whole).
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

import tinytorch as tt
from tinytorch import nn
from tinytorch.codegen import engine
from tinytorch.codegen.target import Target
from tinytorch.compiler.graph.graph import Captured, Graph, check_captured
from tinytorch.compiler.pipeline import PASSES
from tinytorch.compiler.record.recording import record
from tinytorch.compiler.run.program import Program, key_of

GROWTH = 4
MOST, MOST_TOGETHER = 5.5, 4.5  # times the time, of one part and of all together
SHORT = 0.05  # seconds that say nothing about growth
Made = tuple[Callable, tuple]  # a function and its arguments


def _ones(*shape: int) -> tt.Tensor:
    return tt.Tensor(np.ones(shape, np.float32))


def layers(n: int) -> Made:
    """n linear layers, one after the other."""
    tt.manual_seed(0)
    return nn.Sequential(*(nn.Linear(16, 16) for _ in range(n))), (_ones(4, 16),)


def training_step(n: int) -> Made:
    """Forward, backward and AdamW of n linear layers with a residual connection."""
    tt.manual_seed(0)
    blocks = nn.ModuleList(nn.Linear(16, 16) for _ in range(n))
    optimizer = tt.optim.AdamW(blocks.parameters(), lr=1e-3)

    def step(x):
        for block in blocks:
            x = x + block(x).tanh()
        loss = (x * x).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step, (_ones(4, 16),)


def chain(n: int) -> Made:
    """Elementwise operations, each of the one before."""

    def f(x):
        for _ in range(n):
            x = (x * 1.5 - 0.5).tanh()
        return x

    return f, (_ones(64),)


def meeting(n: int) -> Made:
    """Ways that part and meet again, then a sum of columns."""

    def f(x):
        for _ in range(n):
            x = x * x - x
        return x.sum(0)

    return f, (_ones(32, 64),)


def towers(n: int) -> Made:
    """Softmax of softmax: reductions that wait for reductions."""

    def f(x):
        for _ in range(n):
            x = x.softmax(-1) * 2
        return x

    return f, (_ones(32, 64),)


def wide(n: int) -> Made:
    """Many results of one input, and their sum."""

    def f(x):
        parts = [(x + i).tanh() for i in range(n)]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total, [part.sum() for part in parts]

    return f, (_ones(64),)


def movement(n: int) -> Made:
    """Transposed and reshaped again and again."""

    def f(x):
        for _ in range(n):
            x = x.T.reshape(64, 32)
        return x

    return f, (_ones(32, 64),)


def states(n: int) -> Made:
    """n small tensors, updated in place."""
    held = [_ones(16) for _ in range(n)]

    def f(x):
        for state in held:
            state += x

    return f, (_ones(16),)


# With the size that makes about 12,000 operations, so that four times as many are about 50,000.
PROGRAMS: dict[str, tuple[Callable[[int], Made], int]] = {
    "160 layers": (layers, 160),
    "training step": (training_step, 250),
    "chain": (chain, 3000),
    "meeting": (meeting, 6000),
    "towers": (towers, 1700),
    "wide": (wide, 2500),
    "movement": (movement, 3000),
    "states": (states, 2500),
}


def parts(graph: Graph, target: Target) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is done with a recorded program, part by part: a name, and what does it."""
    kept: list = [Captured(graph, target)]

    def keep(make: Callable[[], object]) -> Callable[[], object]:
        return lambda: kept.__setitem__(0, make())

    yield "key", lambda: key_of(graph, target)
    yield "check capture", lambda: check_captured(kept[0])
    for step in PASSES:
        yield step.name, keep(lambda step=step: step.run(kept[0]))
        yield f"check {step.name}", lambda step=step: step.check(kept[0])
    launch = kept[0]
    kernels = launch.arena.program.kernels
    texts = engine.module_texts(kernels)
    yield "LLVM", keep(lambda: [engine.compile_text(text, target) for text in texts])
    yield "load", lambda: Program(launch.plan, kept[0], graph, target).runner(1)


def measured(make: Callable[[int], Made], size: int) -> tuple[int, dict[str, float]]:
    """The number of operations, and the seconds of each part."""
    function, arguments = make(size)
    seconds: dict[str, float] = {}

    def timed(name: str, do: Callable[[], object]) -> object:
        gc.collect()
        start = time.process_time()
        out = do()
        seconds[name] = time.process_time() - start
        return out

    gc.disable()
    try:
        recording = timed("record", lambda: record(function, arguments, {}))
        for name, do in parts(recording.graph, Target.host()):  # type: ignore[attr-defined]
            timed(name, do)
    finally:
        gc.enable()
    return len(recording.graph.nodes), seconds  # type: ignore[attr-defined]


def main() -> int:
    """Print a table for each program; with `--check`, say whether growth is as asked."""
    names = [a for a in sys.argv[1:] if not a.startswith("-")] or list(PROGRAMS)
    wrong: list[str] = []
    measured(layers, 2)  # what is done once in a process
    for name in names:
        make, size = PROGRAMS[name]
        (few, small), (many, large) = (measured(make, n) for n in (size, GROWTH * size))
        print(f"\n{name}: {few} and {many} operations")
        rows = [*small, "all"]
        small["all"], large["all"] = sum(small.values()), sum(large.values())
        for row in rows:
            times = large[row] / max(small[row], 1e-6)
            print(f"{row:24}{small[row]:9.3f} s{large[row]:9.3f} s{times:8.1f} times")
            most = MOST_TOGETHER if row == "all" else MOST
            if large[row] >= SHORT and times > most:
                wrong.append(f"{name}, {row}: {times:.1f}")
    if wrong:
        print("\ngrows faster than the program: " + "; ".join(wrong))
    return 1 if wrong and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
