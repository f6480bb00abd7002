"""The page of the kept runs, docs/runs.md: `python -m benchmarks.runs_page` writes it.

Knows the records in benchmarks/results/, never how they came about.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import RESULTS

PAGE = RESULTS.parents[1] / "docs/runs.md"
HEAD = """# Kept runs

Each line was measured by one command, `python -m benchmarks.runs NAME`, which keeps settings,
seeds, every number, machine, versions and commit in `benchmarks/results/NAME.run.json`. Sizes are
those that two cores manage in minutes; what that makes smaller than the paper stands in the record.
A claim that a small run contradicts stays on the page. Times: a machine with other work on it.
"""


def records() -> list[dict]:
    """What the runs kept, by name."""
    return [json.loads(p.read_text("utf-8")) for p in sorted(RESULTS.glob("*.run.json"))]


def section(record: dict) -> str:
    """One run: question, claims, pictures, circumstances."""
    machine = record["machine"]
    lines = [f"## {record['run']}", ""]
    if "question" in record:
        lines += [record["question"], ""]
    if claims := record.get("claims"):
        lines += ["| claim | source | here | |", "|---|---|---|---|"]
        for claim in claims:
            holds = "holds" if claim["holds"] else "**does not hold**"
            cells = (claim["says"], claim["source"], claim["found"], holds)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    for name in record.get("pictures", ()):
        lines += [f"![{Path(name).stem}](../benchmarks/results/{name})", ""]
    if not record.get("claims"):
        last = record["rows"][-1]
        lines += [", ".join(f"{k} {v:.4g}" for k, v in last.items() if _is_number(v)), ""]
    if settings := record.get("settings"):
        lines += [
            "With " + "; ".join(_setting(k, v) for k, v in settings.items() if v != "") + ".",
            "",
        ]
    took = f", {record['seconds']:.0f} s" if "seconds" in record else ""
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v and k != "torch")
    lines += [f"{machine['processor']['name']}, {machine['threads']} threads{took}, "
              f"{machine['date'][:10]}, commit {machine['commit']}, {versions}."]  # fmt: skip
    return "\n".join(lines) + "\n"


def _setting(name: str, value: object) -> str:
    """A setting in a few words; long ones are left to the record."""
    if isinstance(value, dict):
        return f"{name}: see the record"
    shown = ", ".join(map(str, value)) if isinstance(value, list) else value
    return f"{name} {shown}"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float))


def page() -> str:
    """The whole page."""
    return HEAD + "".join("\n" + section(record) for record in records())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
