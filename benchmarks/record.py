"""What a kept run writes down: question, settings, numbers, claims, machine.

Knows how findings are written, never what was trained.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.machine import describe


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper or of a document, and whether this run agrees.

    Args:
        says: the claim.
        source: where it stands.
        found: the numbers of this run.
        holds: whether they agree.
    """

    says: str
    source: str
    found: str
    holds: bool


class Record:
    """Gathers the findings of one run and keeps them in a file.

    Args:
        log: the file; its name tells the run's.
        question: what is asked.
        settings: sizes, rates, seeds: what another would need to do it again.
        command: what does it again; default that of a run of `benchmarks.runs`.
    """

    def __init__(self, log: Path, question: str, settings: dict, command: str | None = None):
        self.log, self.name = log, log.name.split(".")[0]
        self.command = command or f"python -m benchmarks.runs {self.name}"
        self.question, self.settings = question, settings
        self.rows: list[dict] = []
        self.claims: list[Claim] = []
        self.pictures: list[str] = []
        self.began = time.perf_counter()
        print(f"{question}\nsettings: {json.dumps(settings)}", flush=True)

    def row(self, **values: object) -> None:
        """Keep and print one line of numbers."""
        self.rows.append(values)
        print("  ".join(f"{k} {_short(v)}" for k, v in values.items()), flush=True)

    def claim(self, says: str, source: str, found: str, holds: bool) -> None:
        """Keep and print whether a claim agrees with the rows."""
        self.claims.append(Claim(says, source, found, bool(holds)))
        print(f"{'holds' if holds else 'does not hold'}: {says} ({source}): {found}", flush=True)

    def picture(self, suffix: str = "") -> Path:
        """Where a picture of this run belongs; it is named in the record."""
        path = self.log.with_name(self.name + suffix + ".png")
        self.pictures.append(path.name)
        return path

    def keep(self) -> dict:
        """Write the file."""
        import tinytorch as tt

        found = {
            "run": self.name,
            "command": self.command,
            "question": self.question,
            "settings": self.settings,
            "claims": [asdict(claim) for claim in self.claims],
            "pictures": self.pictures,
            "rows": self.rows,
            "seconds": round(time.perf_counter() - self.began, 1),
            "machine": describe(tt.num_threads()),
        }
        self.log.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return found


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
