"""What a capstone found: the journey step by step, and the ablation: each step alone and left out.

Knows which sets of steps are compared, and how findings are kept; a workshop makes and measures.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tinytorch.base import files
from tinytorch.capstone.measurement import Measurement
from tinytorch.capstone.profile import Bottleneck
from tinytorch.capstone.workshop import Workshop

FILE = "findings.json"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """A set of steps and what was measured of it.

    Args:
        label: what the set is compared for.
        steps: that were done.
        found: what was measured.
    """

    label: str
    steps: tuple[str, ...]
    found: Measurement


@dataclass
class Findings:
    """Everything a run found out.

    Args:
        challenge: its settings.
        seed: of the run.
        machine: in words.
        bottlenecks: of the baseline, the longest first.
        after: of the final model.
        journey: the baseline, then one step more in each row.
        ablation: the baseline, each step alone, each left out, all together.
        package: what was measured of the package; empty: none was written.
        figures: what is seen -> the file in the run's folder; empty: none was drawn.
    """

    challenge: dict[str, Any]
    seed: int
    machine: str
    bottlenecks: list[Bottleneck] = field(default_factory=list)
    after: list[Bottleneck] = field(default_factory=list)
    journey: list[Row] = field(default_factory=list)
    ablation: list[Row] = field(default_factory=list)
    package: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)

    @property
    def baseline(self) -> Measurement:
        """The first row."""
        return self.journey[0].found

    @property
    def final(self) -> Measurement:
        """The last row of the journey."""
        return self.journey[-1].found

    def save(self, folder: Path) -> None:
        """Write them into a folder, as JSON."""
        with files.replacing(folder / FILE) as file:
            file.write((json.dumps(asdict(self), indent=1) + "\n").encode())


def journey(workshop: Workshop, say: Say) -> list[Row]:
    """The baseline, then one step more in each row, in order.

    Args:
        workshop: makes and measures.
        say: is told a sentence after each step.
    """
    rows = [Row("baseline", (), workshop.measure())]
    first = rows[0].found
    say(f"baseline: {described(first)}")
    done: tuple[str, ...] = ()
    for step in workshop.challenge.steps:
        done = (*done, step)
        found = workshop.measure(done)
        rows.append(Row(f"+ {step}", done, found))
        say(f"{step}: {found.speedup(first):.1f}x faster than the baseline; {described(found)}")
    return rows


def ablation(workshop: Workshop, say: Say) -> list[Row]:
    """The baseline, each step alone, all but each, and all together.

    Args:
        workshop: makes and measures.
        say: is told each row.
    """
    every = workshop.challenge.steps
    sets = [("baseline", ())]
    sets += [(f"{step} alone", (step,)) for step in every]
    sets += [(f"all but {step}", tuple(s for s in every if s != step)) for step in every]
    sets += [("all", every)]
    rows: list[Row] = []
    for label, steps in sets:
        rows.append(Row(label, steps, workshop.measure(steps)))
        say(f"ablation, {label}: {described(rows[-1].found)}")
    return rows


def described(found: Measurement) -> str:
    """A measurement as a part of a sentence.

    Example:
        >>> described(Measurement(75.5, 1.25, 3_000_000, 1_500_000, 2_000_000, "0" * 12))
        '75.50 %, 1.250 ms, 1.50 MB, 2.00 MFLOP'
    """
    return (
        f"{found.accuracy:.2f} %, {found.milliseconds:.3f} ms, {found.bytes / 1e6:.2f} MB, "
        f"{found.flops / 1e6:.2f} MFLOP"
    )
