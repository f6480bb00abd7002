"""History: what each epoch of a training run measured.

Knows rows of numbers, never models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path


class History:
    """Rows of numbers by name, one for each epoch, oldest first.

    `stopped` is True if the run was interrupted before its last epoch ended.

    Example:
        >>> history = History()
        >>> history.add({"epoch": 1, "loss": 0.5})
        >>> history.add({"epoch": 2, "loss": 0.25})
        >>> history["loss"], history.last["loss"]
        ([0.5, 0.25], 0.25)
    """

    def __init__(self):
        self.rows: list[dict[str, float]] = []
        self.stopped = False

    def add(self, row: dict[str, float]) -> None:
        """Append one epoch."""
        self.rows.append(row)

    @property
    def last(self) -> dict[str, float]:
        """The newest row; empty before the first epoch ends."""
        return self.rows[-1] if self.rows else {}

    def __getitem__(self, name: str) -> list[float]:
        return [row[name] for row in self.rows if name in row]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(self.rows)

    def save(self, path: str | Path) -> None:
        """Write JSON lines, one epoch each."""
        Path(path).write_text(
            "".join(json.dumps(row) + "\n" for row in self.rows), encoding="utf-8"
        )

    def __str__(self) -> str:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        table = [names, *([_short(row.get(name)) for name in names] for row in self.rows)]
        widths = [max(len(line[i]) for line in table) for i in range(len(names))]
        return "\n".join(
            "  ".join(x.rjust(w) for x, w in zip(line, widths, strict=True)) for line in table
        )


def _short(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4g}"
