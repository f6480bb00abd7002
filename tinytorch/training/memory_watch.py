"""MemoryWatch: how much memory a run takes, and whether it takes more and more.

Knows this process's size as the operating system reports it, never what lies in it.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinytorch.base import files
from tinytorch.base.checks import number, whole
from tinytorch.training.callback import Callback

if TYPE_CHECKING:
    from tinytorch.training.trainer import Trainer

MEGABYTE = 2**20
STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """Memory that this process holds now; where the system does not say, the most it ever held."""
    if STATM.exists():
        return int(files.contents(STATM, 4096).split()[1]) * os.sysconf("SC_PAGE_SIZE")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # Linux counts in KiB


class MemoryWatch(Callback):
    """Puts "memory_mb" into each row of the history, and reports memory that only grows.

    Looked at every `every` steps. If it grew by `growth_mb` over the last `looks` looks, and not
    one of them was below the one before, something is kept that should not be: a list of losses
    that are still on the tape, for example.

    Args:
        every: steps between looks, at least 1; default 20.
        looks: that must all show growth, at least 2; default 5.
        growth_mb: that is reported, in (0, inf); default 32, more than programs and caches take
            once a run is under way.
        tell: is given the text; default the trainer's progress display.

    Cost: about 10 us a look.

    Example:
        >>> said = []
        >>> watch = MemoryWatch(looks=3, growth_mb=10, tell=said.append)
        >>> for step, megabytes in enumerate([100, 100, 108, 116], 1):
        ...     watch.look(step, megabytes * 2**20)
        >>> said
        ['alert at step 4: memory grew by 16 MB within 3 looks and never fell: 116 MB']
    """

    def __init__(
        self, every: int = 20, looks: int = 5, growth_mb: float = 32.0,
        tell: Callable[[str], Any] | None = None,
    ):  # fmt: skip
        self.every = whole("MemoryWatch", "every", every, at_least=1)
        self.looks = whole("MemoryWatch", "looks", looks, at_least=2)
        self.growth = number("MemoryWatch", "growth_mb", growth_mb, "(0, inf)") * MEGABYTE
        self.tell = tell
        self.seen: list[int] = []  # the last looks, bytes
        self.peak = 0  # of the present epoch
        self.reported = False

    def begin_epoch(self, trainer: Trainer) -> None:
        """The epoch's largest number begins at the present one."""
        self.peak = resident_bytes()

    def after_batch(self, trainer: Trainer, values: dict[str, float]) -> None:
        """Look, every so many steps."""
        if trainer.steps % self.every == 0:
            if self.tell is None:
                self.tell = trainer.shown.message
            self.look(trainer.steps, resident_bytes())

    def end_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        """Put the largest number of the epoch into its row."""
        self.peak = max(self.peak, resident_bytes())
        row["memory_mb"] = round(self.peak / MEGABYTE, 1)

    def look(self, step: int, held: int) -> None:
        """Take one more number of bytes, and report growth without end, once."""
        self.peak = max(self.peak, held)
        self.seen = [*self.seen[-(self.looks - 1) :], held]
        rises = all(a <= b for a, b in zip(self.seen, self.seen[1:], strict=False))
        grown = self.seen[-1] - self.seen[0]
        if len(self.seen) < self.looks or not rises or grown < self.growth or self.reported:
            return
        self.reported = True
        if self.tell is not None:
            self.tell(
                f"alert at step {step}: memory grew by {grown // MEGABYTE} MB within {self.looks} "
                f"looks and never fell: {held // MEGABYTE} MB"
            )
