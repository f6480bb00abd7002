"""The tables of speed, made from the kept rows: `python -m benchmarks table`.

Knows what was asked, the kept rows, and the markers in docs/speed.md (every row) and README.md (a
few); measures nothing. A kind of machine is a column: a row measured there on an earlier day stays,
and a number in brackets says on which machine, day and commit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import RESULTS, show
from benchmarks.asked import TABLES, Asked
from benchmarks.kept_rows import kept
from benchmarks.machine import KINDS, OTHER_KIND, kind

ROOT = RESULTS.parent.parent
BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"
# What the README shows of what was asked: a small step, a large one in both precisions, pictures,
# and the product under them.
FEW = (
    "mlp float32",
    "cnn float32",
    "resnet20 float32",
    "vit float32",
    "gpt float32",
    "gpt bf16",
    "matmul 1000 float32",
    "matmul 2000 bf16",
)
# These kinds have a column even before anything was measured on them.
ALWAYS = ("AVX-512 with BF16", "AVX-512 with AMX")
# Cases whose rows are compared with PyTorch both ways; docs/speed.md has all their times.
TIMED = (
    "mlp", "gpt", "cnn", "resnet", "vit", "lstm", "matmul", "chain", "attention", "convolution",
    "inference",
)  # fmt: skip
NOT_MEASURED = "-"


@dataclass
class Footnotes:
    """The circumstances of rows, numbered in the order in which they are met."""

    lines: list[str] = field(default_factory=list)

    def mark(self, row: dict) -> str:
        """The number of a row's circumstances, in brackets."""
        machine = row["machine"]
        versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v)
        line = (
            f"{machine['processor']['name']}, {machine['threads']} threads, "
            f"{machine['date'][:10]}, {versions}; commit {machine['commit']}."
        )
        if line not in self.lines:
            self.lines.append(line)
        return f"({self.lines.index(line) + 1})"

    def text(self) -> str:
        """All of them."""
        return "\n\n".join(f"({i}) {line}" for i, line in enumerate(self.lines, 1))


Rows = dict[tuple[str, str, str], dict]  # by case, name and kind of machine


def all_rows() -> Rows:
    """Every kept row that the tables can show."""
    cases = {asked.case: None for table in TABLES.values() for asked in table}
    return {
        (case, row["name"], kind(row["machine"])): row
        for case in dict.fromkeys((*TIMED, *cases))
        for row in kept(case)
    }


def kinds(rows: Rows) -> list[str]:
    """The kinds of machines that have a column."""
    met = {k for _, _, k in rows} | set(ALWAYS)
    return [*ALWAYS, *(k for k in (*KINDS, OTHER_KIND) if k in met and k not in ALWAYS)]


def asked_table(title: str, wanted: list[Asked], rows: Rows, notes: Footnotes) -> str:
    """What was asked, and what each kind of machine found, as Markdown."""
    columns = kinds(rows)
    lines = [[title, "asked", *columns], ["---", "--:", *("--:" for _ in columns)]]
    for asked in wanted:
        found = (rows.get((asked.case, asked.row, column)) for column in columns)
        cells = [_cell(asked, row, notes) for row in found]
        lines.append([asked.name(), asked.bound_text(), *cells])
    return markdown(lines)


def _cell(asked: Asked, row: dict | None, notes: Footnotes) -> str:
    text = row and asked.found_text(row)
    return f"{text} {notes.mark(row)}" if row and text else NOT_MEASURED


def timed_table(column: str, rows: Rows, notes: Footnotes) -> str:
    """Every row of TIMED measured on a kind of machine, with the peers' times, as Markdown."""
    head = ["", "TinyTorch", "peer as installed", "faster by", "unlocked", "faster by", ""]
    lines = [head, ["---", *("--:" for _ in head[1:])]]
    for (case, name, where), row in rows.items():
        if case not in TIMED or where != column:
            continue
        cells = [name, show.time(row["seconds"]["ours"])]
        for way in ("as installed", "unlocked"):
            found = row["against"].get(way)
            cells += (
                [show.time(row["seconds"][found["peer"]]), show.ratio(found)] if found else ["", ""]
            )
        lines.append([*cells, notes.mark(row)])
    return markdown(lines) if len(lines) > 2 else ""


def markdown(lines: list[list[str]]) -> str:
    """A table with its columns one under the other; the second line says how they are aligned."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def asked_tables() -> str:
    """The tables of what was asked, each with every row."""
    rows, notes = all_rows(), Footnotes()
    tables = [asked_table(title, wanted, rows, notes) for title, wanted in TABLES.items()]
    return "\n\n".join([*tables, notes.text()])


def whole_page() -> str:
    """What was asked, and the times of both sides on each kind of machine."""
    rows, notes = all_rows(), Footnotes()
    parts = [asked_table(title, wanted, rows, notes) for title, wanted in TABLES.items()]
    for column in kinds(rows):
        times = timed_table(column, rows, notes)
        parts += [f"Times, {column}:", times] if times else []
    return "\n\n".join([*parts, notes.text()])


def small_table() -> str:
    """The rows of FEW."""
    rows, notes = all_rows(), Footnotes()
    wanted = [a for table in TABLES.values() for a in table if a.name() in FEW]
    return "\n\n".join([asked_table("faster than PyTorch by", wanted, rows, notes), notes.text()])


PAGES: dict[Path, Callable[[], str]] = {
    ROOT / "docs" / "speed.md": whole_page,
    ROOT / "README.md": small_table,
}


def section(page: str) -> str:
    """What stands between the markers."""
    return page.partition(BEGIN)[2].partition(END)[0].strip()


def main(write: bool) -> None:
    """Print the tables of what was asked, or write all tables into the pages."""
    if not write:
        print(asked_tables())
        return
    for path, made in PAGES.items():
        head, _, rest = path.read_text().partition(BEGIN)
        path.write_text(f"{head}{BEGIN}\n{made()}\n{END}{rest.partition(END)[2]}")
