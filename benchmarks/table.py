"""The tables of speed, made from the kept results: `python -m benchmarks.table`.

Knows the JSON files of results/ and the markers in docs/speed.md (every row) and README.md (a few);
measures nothing. With `--write` the tables replace what stands between the markers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.__main__ import RESULTS, _time

ROOT = RESULTS.parent.parent
BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"
CASES = ("mlp", "gpt", "cnn", "matmul", "attention")
# What the README shows: a small step, a large one in both precisions, the product under them.
FEW = ("mlp float32", "gpt float32", "gpt bf16", "matmul 1000 float32", "matmul 2000 bf16")


def rows() -> list[dict]:
    """All kept measurements against a peer, in the order of CASES."""
    found = []
    for case in CASES:
        path = RESULTS / f"{case}.json"
        if path.exists():
            found += json.loads(path.read_text())["rows"]
    return found


def ratio(against: dict) -> str:
    """How much faster, with its interval."""
    return f"{against['ratio']:.2f} [{against['low']:.2f}, {against['high']:.2f}]"


def machines(shown: list[dict]) -> str:
    """A line for each machine and day that rows were measured on, with the commits measured."""
    commits: dict[str, list[str]] = {}
    for machine in (row["machine"] for row in shown):
        versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v)
        where = f"{machine['processor']['name']}, {machine['threads']} threads"
        found = commits.setdefault(f"{where}, {machine['date'][:10]}, {versions}", [])
        if machine["commit"] not in found:
            found.append(machine["commit"])
    return "\n\n".join(f"{line}; commit {', '.join(c)}." for line, c in commits.items())


def table() -> str:
    """Every row, as Markdown."""
    lines = [
        "| | TinyTorch | PyTorch as installed | faster by | unlocked | faster by |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows():
        cells = [row["name"], _time(row["seconds"]["ours"])]
        for kind in ("as installed", "unlocked"):
            against = row["against"].get(kind)
            peer = [_time(row["seconds"][against["peer"]]), ratio(against)] if against else ["", ""]
            cells += peer
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\n" + machines(rows())


def small_table() -> str:
    """The rows of FEW against PyTorch as installed, as Markdown."""
    found = {row["name"]: row for row in rows()}
    lines = ["| | TinyTorch | PyTorch | faster by |", "|---|--:|--:|--:|"]
    for name in FEW:
        row, against = found[name], found[name]["against"]["as installed"]
        times = (row["seconds"]["ours"], row["seconds"][against["peer"]])
        lines.append("| " + " | ".join([name, *map(_time, times), ratio(against)]) + " |")
    return "\n".join(lines) + "\n\n" + machines([found[name] for name in FEW])


PAGES: dict[Path, Callable[[], str]] = {
    ROOT / "docs" / "speed.md": table,
    ROOT / "README.md": small_table,
}


def section(page: str) -> str:
    """What stands between the markers."""
    return page.partition(BEGIN)[2].partition(END)[0].strip()


def main() -> None:
    """Print the tables, or write them."""
    for path, made in PAGES.items():
        if "--write" not in sys.argv:
            print(f"{path.name}\n\n{made()}\n")
            continue
        page = path.read_text()
        head, _, rest = page.partition(BEGIN)
        path.write_text(f"{head}{BEGIN}\n{made()}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
