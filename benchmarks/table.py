"""The table of speed in README.md, made from the kept results: `python -m benchmarks.table`.

Knows the JSON files of results/ and the markers in the README; measures nothing. With `--write` the
table replaces what stands between the markers.
"""

from __future__ import annotations

import json
import sys

from benchmarks.__main__ import RESULTS, _time

README = RESULTS.parent.parent / "README.md"
BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"
CASES = ("mlp", "gpt", "cnn", "matmul", "attention")


def rows() -> list[dict]:
    """All kept measurements against a peer, in the order of CASES."""
    found = []
    for case in CASES:
        path = RESULTS / f"{case}.json"
        if path.exists():
            found += json.loads(path.read_text())["rows"]
    return found


def table() -> str:
    """The table as Markdown."""
    lines = [
        "| | TinyTorch | PyTorch as installed | faster by | unlocked | faster by |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    machines = {}
    for row in rows():
        machine = row["machine"]
        machines[machine["processor"]["name"], machine["threads"], machine["date"][:10]] = machine
        cells = [row["name"], _time(row["seconds"]["ours"])]
        for kind in ("as installed", "unlocked"):
            against = row["against"].get(kind)
            if against is None:
                cells += ["", ""]
                continue
            cells.append(_time(row["seconds"][against["peer"]]))
            cells.append(f"{against['ratio']:.2f} [{against['low']:.2f}, {against['high']:.2f}]")
        lines.append("| " + " | ".join(cells) + " |")
    for (name, threads, date), machine in machines.items():
        versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v)
        lines += ["", f"{name}, {threads} threads, {date}, commit {machine['commit']}, {versions}."]
    return "\n".join(lines)


def section(readme: str) -> str:
    """What stands between the markers."""
    return readme.partition(BEGIN)[2].partition(END)[0].strip()


def main() -> None:
    """Print the table, or write it."""
    if "--write" not in sys.argv:
        print(table())
        return
    readme = README.read_text()
    head, _, rest = readme.partition(BEGIN)
    tail = rest.partition(END)[2]
    README.write_text(f"{head}{BEGIN}\n{table()}\n{END}{tail}")


if __name__ == "__main__":
    main()
