"""Numbered versions of one program: what each does, checked, timed, and counted.

Knows calls and counts; never what is computed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tinytorch.codegen import engine
from tinytorch.codegen.kernel import Kernel
from tinytorch.codegen.target import Target
from tinytorch.codegen.team import StageTable, Team

ROUNDS = 16  # in which all versions take turns; the best counts: neighbours only slow a round down
ROUND_SECONDS = 0.05
FEW_ROUNDS, SLOW_SECONDS = 2, 0.3  # the slowest versions get few: so long a call is steady enough


@dataclass(frozen=True)
class Version:
    """One way to compute something.

    Args:
        name: in a few words.
        call: computes it; gives what is compared.
        flops: multiplications and additions of a call.
        bytes: that a call reads and writes, as `counted` says.
        limit: what keeps it from being faster, in a sentence.
        assembly: of its kernels, where they are ours to show.
        reference: it is no step of the way, but something to compare with.
        threads: of one, the processor's time is counted, whoever else is on the machine; of
            several, the time on the wall.
    """

    name: str
    call: Callable[[], np.ndarray]
    flops: int
    bytes: int = 0
    limit: str = ""
    assembly: str = ""
    reference: bool = False
    threads: int = 1


@dataclass(frozen=True)
class Timed:
    """A version, and the seconds of a call in its fastest round."""

    version: Version
    seconds: float

    @property
    def rate(self) -> float:
        """GFLOP/s."""
        return self.version.flops / self.seconds / 1e9


class Native:
    """Kernels written over the builder, ready to be called: a stage each, one after the other.

    Args:
        target: the machine.
        steps: (kernel, arrays in the order of its arguments).
        threads: how many take part.
    """

    def __init__(
        self, target: Target, steps: Sequence[tuple[Kernel, Sequence[np.ndarray]]], threads: int = 1
    ):
        kernels = [kernel for kernel, _ in steps]
        text = engine.module_text(kernels)
        self.assembly = engine.assembly_text(text, target)
        self._library = engine.load([engine.compile_text(text, target)], [k.name for k in kernels])
        self._held = [array for _, arrays in steps for array in arrays]
        stages = [
            (self._library[k.name], k.tiles, [a.ctypes.data for a in arrays]) for k, arrays in steps
        ]
        self._table = StageTable(stages, max(k.scratch for k in kernels))
        self.threads = threads

    def __call__(self) -> None:
        """Run them."""
        Team().run(self._table, self.threads)


def measure(
    versions: Sequence[Version], expected: Callable[[Version], np.ndarray], rounds: int = ROUNDS
) -> list[Timed]:
    """A call's time in each version's fastest round, after each has given the right numbers.

    Args:
        versions: to be timed.
        expected: what a version must give, in float64.
        rounds: in which all take turns.

    Returns:
        a Timed for each.
    """
    for version in versions:
        check(version, expected(version))
    best = [float("inf")] * len(versions)
    for number in range(rounds):
        for i, version in enumerate(versions):
            if number >= FEW_ROUNDS and best[i] > SLOW_SECONDS:
                continue
            clock = time.thread_time if version.threads == 1 else time.perf_counter
            start, calls = clock(), 0
            while (spent := clock() - start) < ROUND_SECONDS:
                version.call()
                calls += 1
            # Not the fastest call: the clock of a thread's time may tick in hundredths of a second.
            best[i] = min(best[i], spent / calls)
    return [Timed(v, s) for v, s in zip(versions, best, strict=True)]


def check(version: Version, wanted: np.ndarray) -> None:
    """See that a version gives the right numbers, before anybody times it.

    Sums of float32 differ by their order: by up to the root of their length in units of the last
    place, of numbers of size 1 (Higham 2002, "Accuracy and Stability", section 4.2).
    """
    got = np.asarray(version.call(), np.float64)
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-5 * scale, err_msg=version.name)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a table in Markdown, the first of them its head; numbers to the right."""
    head, *rest = rows
    line = ["---" if i < 2 else "--:" for i in range(len(head))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, line, *rest))
