"""The measurements kept in results/CASE.json: one row for each measurement and kind of machine.

Knows those files; never how a row was measured. A row holds the machine it was measured on, so a
measurement on another kind of machine stands beside it, and one on the same kind takes its place.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import RESULTS
from benchmarks.machine import kind


def kept(case: str, folder: Path = RESULTS) -> list[dict]:
    """The rows of a case, of all kinds of machines; none were kept: empty."""
    path = folder / f"{case}.json"
    return json.loads(path.read_text())["rows"] if path.exists() else []


def keep(case: str, machine: dict, rows: list[dict], folder: Path = RESULTS) -> None:
    """Write results/CASE.json.

    Args:
        case: of which the rows are.
        machine: what they were measured on, as `machine.describe` gives it.
        rows: measured now. Of the rows kept before, those of another name or of another kind of
            machine stay.
    """
    if not rows:
        return
    folder.mkdir(exist_ok=True)
    now = [row | {"machine": machine} for row in rows]
    replaced = {_key(row) for row in now}
    stay = [row for row in kept(case, folder) if _key(row) not in replaced]
    text = json.dumps({"case": case, "rows": stay + now}, indent=1)
    (folder / f"{case}.json").write_text(text + "\n")


def _key(row: dict) -> tuple[str, str]:
    return row["name"], kind(row["machine"])
