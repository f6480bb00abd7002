"""What a model of a processor's ports says of an inner loop: llvm-mca, where it is installed.

Knows assembly as text; never what it computes. The model assumes that every load hits the first
cache, so what it says is the most that the instructions allow: where a version is far below, it
waits for memory.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

LLVM_MCA = "llvm-mca"
TURNS = 200  # of the loop, in the model
# Models of Debian 12's llvm-mca, version 14: none of Zen 5; Zen 3's has no 512-bit registers.
_MODELS = (("%zmm", "icelake-server"), ("", "znver3"))
_LANES = {"zmm": 16, "ymm": 8, "xmm": 4}


@dataclass(frozen=True)
class Said:
    """What the model says of one turn of a loop.

    Args:
        model: of which processor.
        cycles: a turn, in the long run.
        flops: float32 operations of a turn.
    """

    model: str
    cycles: float
    flops: int

    @property
    def rate(self) -> float:
        """Operations a cycle."""
        return self.flops / self.cycles


def inner_loop(assembly: str) -> list[str]:
    """The instructions of the loop of one block that computes most.

    Args:
        assembly: as LLVM writes it for x86-64: a label, instructions, a jump back to the label.
    """
    loops: list[list[str]] = []
    label, block = "", list[str]()
    for line in assembly.split("\n"):
        if begun := re.match(r"(\.L\w+):", line):
            label, block = begun[1], []
        elif line.startswith("\t") and not line.startswith("\t."):
            block.append(line.split("#")[0].strip())
            if re.match(rf"j\w+\s+{re.escape(label)}$", block[-1]) and label:
                loops.append(block)
    computing = [loop for loop in loops if flops_of(loop)]
    return max(computing, key=flops_of, default=[])


def flops_of(instructions: list[str]) -> int:
    """Additions and multiplications of float32 numbers in them."""
    total = 0
    for text in instructions:
        name = text.split()[0]
        if found := re.match(r"v?(fmadd|fnmadd|add|mul|sub)\w*?(ps|ss)$", name):
            registers = re.findall(r"%([xyz]mm)\d", text)
            lanes = 1 if found[2] == "ss" else _LANES[registers[-1]]
            total += lanes * (2 if "madd" in found[1] else 1)
    return total


def ask(assembly: str) -> Said | None:
    """What the model says of the inner loop; None without llvm-mca, or without a loop."""
    loop = inner_loop(assembly)
    program = shutil.which(LLVM_MCA)
    if not loop or program is None:
        return None
    text = "\n".join(loop)
    model = next(m for sign, m in _MODELS if sign in text)
    done = subprocess.run(
        [program, f"-mcpu={model}", f"-iterations={TURNS}"], input=text, capture_output=True,
        text=True, timeout=60, check=True,
    )  # fmt: skip
    return Said(model, cycles_of(done.stdout), flops_of(loop))


def cycles_of(report: str) -> float:
    """Cycles of a turn, in llvm-mca's summary.

    >>> cycles_of("Iterations:        100\\nTotal Cycles:      1403\\n")
    14.03
    """
    found = {
        name: int(n) for name, n in re.findall(r"^(Iterations|Total Cycles): +(\d+)$", report, re.M)
    }
    return found["Total Cycles"] / found["Iterations"]
