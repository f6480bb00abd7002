"""Where the time of one answer goes: kernels of a model's program, the longest first.

Knows times and limits as the compiler measures them, and which step helps against which limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinytorch.base.amounts import time_text
from tinytorch.capstone.challenge import CIFAR10
from tinytorch.capstone.measurement import module_of
from tinytorch.compiler.compile import Compiled
from tinytorch.compiler.compile import compile as compiled
from tinytorch.nn.module import evaluating
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.tensor import Tensor

# What helps where a limit of the machine is what takes the time; see docs/optimising.md.
HELPS = {
    "fp32": "less arithmetic: pruning with distillation",
    "memory": "fewer bytes: quantisation, then pruning",
    "cache": "fewer bytes between layers: quantisation, larger kernels by the compiler",
    "start": "fewer and larger kernels: several pictures at once",
    "python": "several pictures at once; the library, which needs no Python",
}


@dataclass(frozen=True)
class Bottleneck:
    """A part of the time of one answer.

    Args:
        what: the operations of a kernel, or what lies around them.
        seconds: in one answer.
        share: of the whole answer, in [0, 1].
        limit: what sets the least time: "fp32", "memory", "cache", "start", "python", ...
        reached: the least time over the time taken; 0 where nothing is known.
        helps: which steps make less of it.
    """

    what: str
    seconds: float
    share: float
    limit: str
    reached: float
    helps: str

    def __str__(self) -> str:
        return f"{self.share:6.1%}  {time_text(self.seconds):>9}  {self.what}: {self.helps}"


def profile_system(model: Any, example: Any = None) -> list[Bottleneck]:
    """What an answer of a model consists of, the longest first.

    The model is compiled (a compiled one is taken as it is), each kernel timed and compared with
    what this machine can do; barriers and Python are parts like the others.

    Args:
        model: a Module, or what `apply_acceleration` or `tt.compile` made of one.
        example: an input; default one test picture of CIFAR-10.

    Returns:
        parts by time; their shares sum to 1.

    Raises:
        ArgumentTypeError: there is no module.
        DataError: no example, and the official files of CIFAR-10 are not there.

    Cost: compiles the model, some twenty runs, and once in a process two seconds of measuring the
    machine.

    Example:
        >>> import tinytorch as tt
        >>> found = profile_system(tt.nn.Linear(256, 256), tt.zeros(1, 256))
        >>> found[0].seconds >= found[-1].seconds, round(sum(b.share for b in found), 6)
        (True, 1.0)
    """
    module = module_of("profile_system", model)
    given = CIFAR10.part(False)[0][0][None] if example is None else example
    x = given if isinstance(given, Tensor) else Tensor(np.asarray(given))
    program = model if isinstance(model, Compiled) else compiled(module, freeze=True)
    with no_grad(), evaluating(module):
        program(x)
        found = program.profile(x)
    parts = [
        (kernel.label, kernel.seconds, kernel.limit, kernel.least / kernel.seconds)
        for kernel in found.kernels
        if kernel.seconds
    ]
    parts += [
        ("barriers between kernels", found.run.between * 1e-9, "start", 0.0),
        ("Python and waking threads", found.run.around * 1e-9, "python", 0.0),
    ]
    whole = sum(seconds for _, seconds, _, _ in parts)
    ranked = sorted(parts, key=lambda part: part[1], reverse=True)
    return [
        Bottleneck(what, seconds, seconds / whole, limit, reached, HELPS.get(limit, HELPS["fp32"]))
        for what, seconds, limit, reached in ranked
    ]
