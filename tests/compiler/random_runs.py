"""Random programs tried one after the other: which are not as defined, made small.

Knows how each of the two kinds is drawn and checked: graphs of primitives (random_programs.py) and
steps over the public API (random_steps.py). A program is known by its kind and number, whoever
tries it: the same number is the same program in every run, process and order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.compiler import random_programs, random_steps
from tests.compiler.random_programs import Checked
from tests.compiler.random_values import made_small

# who chooses, what is drawn, how it is checked
DRAWN: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Checked]]] = {
    "graphs": (random_programs.Writer, random_programs.program, random_programs.check),
    "steps": (random_steps.Author, random_steps.step, random_steps.check),
}
KINDS = tuple(DRAWN)


@dataclass
class Outcome:
    """What became of one program.

    Args:
        program: prints itself.
        fault: its kind in a few words, None if all is as defined.
        said: everything about the fault.
        operations: what it was made of.
        arrays, blind: how many were compared, and how many of those had bounds that said nothing.
    """

    program: Any
    fault: str | None = None
    said: str = ""
    made: Sequence[int] = ()
    operations: Counter[str] = field(default_factory=Counter)
    arrays: int = 0
    blind: int = 0


@dataclass
class Failure:
    """A program that is not as defined, as small as it could be made."""

    kind: str
    number: int
    target: str
    outcome: Outcome

    def __str__(self) -> str:
        found = self.outcome
        return f"{self.kind} {self.number}, {self.target}: {found.said}\n{found.program!r}"


def outcome(
    kind: str, target: str, number: int, seed: int = 0, replayed: Sequence[int] | None = None
) -> Outcome:
    """Draw the program of this number (or that of the choices given) and check it."""
    threads = 1 + number % 3
    writer, draw, check = DRAWN[kind]
    w = writer(f"{kind} {seed} {number}", replayed)
    out = Outcome(w, made=w.made)
    try:
        out.program = drawn = draw(w)
        seen = check(drawn, target, threads)
    except Exception as error:  # of a pass, or of the program's own calls
        out.said = f"{type(error).__name__}: {error}"
        out.fault = re.sub(r"\d+", "N", out.said)[:60]
        return out
    out.arrays, out.blind = seen.arrays, seen.blind
    out.operations = seen.operations
    if seen.wrong:
        out.said, out.fault = "\n".join(seen.wrong), "a difference"
    return out


def failures(
    kind: str, target: str, numbers: Iterable[int], seed: int = 0, seconds: float = 60
) -> tuple[list[Failure], Counter[str], Counter[str]]:
    """Try the programs of these numbers.

    Args:
        seconds: to spend on making one failure small.

    Returns:
        the failures, made small (of each fault but differences the first one only); counts of
        "programs", "arrays" and "blind"; counts of operations.
    """
    found: list[Failure] = []
    counts: Counter[str] = Counter()
    operations: Counter[str] = Counter()
    known: set[str] = set()
    for number in numbers:
        first = outcome(kind, target, number, seed)
        counts.update(programs=1, arrays=first.arrays, blind=first.blind)
        operations.update(first.operations)
        if first.fault is None or first.fault in known:
            continue
        if first.fault != "a difference":
            known.add(first.fault)

        def fails(made: Sequence[int], number=number, fault=first.fault) -> bool:
            try:
                return outcome(kind, target, number, seed, made).fault == fault
            except Exception:  # the drawing itself went another way
                return False

        small = made_small(first.made, fails, seconds)
        found.append(Failure(kind, number, target, outcome(kind, target, number, seed, small)))
    return found, counts, operations
