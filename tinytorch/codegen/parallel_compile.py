"""Compiles the kernels of one program on several cores, in helper processes.

Knows kernels' text and processes, never what the code computes. LLVM, as llvmlite holds it,
compiles one module at a time in a process: a large program is split over processes, this one too.
A helper that LLVM ends is a CompileError here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from tinytorch.base import settings
from tinytorch.base.errors import CompileError
from tinytorch.codegen import engine
from tinytorch.codegen.kernel import Kernel
from tinytorch.codegen.target import Target

# A helper starts in about 0.35 s, a line compiles in about 32 us: 21,500 lines took 0.70 s in one
# process and 0.63 s in two (two cores of 2026), so that is where splitting begins to be worth it.
LINES_WORTH_A_HELPER = 15_000


def compile_kernels(
    kernels: Iterable[Kernel], target: Target, processes: int | None = None
) -> list[bytes]:
    """Object code of all kernels, equal ones once.

    Args:
        kernels: in any order, repetitions allowed.
        target: the processor to write for.
        processes: this one and helpers, >= 1; default: the number of cores, for large programs.

    Returns: objects for `engine.load`; together they hold every kernel.
    Raises: CompileError as `engine.compile_text`.
    Cost: 32 us a line, divided by `processes`; 0.35 s for starting helpers.
    """
    engine.module_text(kernels := list(kernels))  # refuses different kernels of one name
    unique = list({k.name: k for k in kernels}.values())
    if processes is None:
        lines = sum(k.ir.count("\n") for k in unique)
        processes = min(settings.available_cores(), lines // LINES_WORTH_A_HELPER)
    groups = _groups(unique, max(1, processes if sys.executable else 1))
    texts = [engine.module_text(g) for g in groups]
    helpers = [_Helper(text, target) for text in texts[1:]]
    try:
        own = engine.compile_text(texts[0], target)
        return [own, *(h.result() for h in helpers)]
    finally:
        for helper in helpers:
            helper.stop()


def _groups(kernels: Sequence[Kernel], count: int) -> list[list[Kernel]]:
    """At most `count` groups of about equal length of text, the longest kernels placed first."""
    groups: list[list[Kernel]] = [[] for _ in range(count)]
    sizes = [0] * count
    for kernel in sorted(kernels, key=lambda k: (-len(k.ir), k.name)):
        least = sizes.index(min(sizes))
        groups[least].append(kernel)
        sizes[least] += len(kernel.ir)
    return [g for i, g in enumerate(groups) if g or i == 0]


class _Helper:
    """One process that compiles one text."""

    def __init__(self, text: str, target: Target):
        self._text, self._target = text, target
        root = str(Path(__file__).resolve().parents[2])
        # Neither -m nor an empty entry may put the present folder on the path: ./json.py would run.
        given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        path = os.pathsep.join([root, *filter(None, given)])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tinytorch.codegen.parallel_compile"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
            process_group=0,  # Ctrl-C at the terminal is for the process that trains
        )
        self._image = b""
        self._thread = threading.Thread(target=self._talk, daemon=True)
        self._thread.start()

    def _talk(self) -> None:
        given = json.dumps({"target": asdict(self._target), "text": self._text}).encode()
        self._image = self._process.communicate(given)[0]

    def result(self) -> bytes:
        """The object, when it is there."""
        self._thread.join()
        if self._process.returncode < 0:  # ended by a signal: LLVM's fatal errors do that
            raise CompileError.own_fault(
                "LLVM ended the process that compiled a kernel",
                got=f"signal {-self._process.returncode}",
                rule="code for this target out of valid IR",
            )
        if self._process.returncode:  # whatever it was, here it is raised with its message
            return engine.compile_text(self._text, self._target)
        return self._image

    def stop(self) -> None:
        """End it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._thread.join()


def main() -> None:
    """The helper: a JSON text on standard input, the object on standard output."""
    given = json.loads(sys.stdin.buffer.read())
    image = engine.compile_text(given["text"], Target(**given["target"]))
    sys.stdout.buffer.write(image)


if __name__ == "__main__":
    main()
