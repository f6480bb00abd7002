"""The tables: a column for each kind of machine, a dash for what was not measured."""

from benchmarks import table
from benchmarks.asked import Asked

KEPT = {
    "AVX-512 with AMX": {
        "processor": {"name": "Intel", "has": ["avx512f", "avx512_bf16", "amx_bf16"]},
        "threads": 2, "date": "2026-11-20T10:00:00", "commit": "aaaaaaa",
        "versions": {"torch": "2.13.0", "jax": None},
    },
    "AVX-512 with BF16": {
        "processor": {"name": "AMD", "has": ["avx512f", "avx512_bf16"]},
        "threads": 2, "date": "2026-11-27T10:00:00", "commit": "bbbbbbb",
        "versions": {"torch": "2.13.0"},
    },
}  # fmt: skip


def made(name: str, kind: str, ratio: float) -> dict:
    """A row of a made-up measurement."""
    found = {"ratio": ratio, "low": ratio - 0.1, "high": ratio + 0.1, "peer": "eager, unlocked"}
    return {
        "name": name,
        "seconds": {"ours": 0.001, "eager, unlocked": 0.001 * ratio},
        "ratios": {"eager, unlocked": found},
        "against": {"unlocked": found},
        "machine": KEPT[kind],
    }


ROWS = {
    ("mlp", "a", "AVX-512 with AMX"): made("a", "AVX-512 with AMX", 2.0),
    ("mlp", "a", "AVX-512 with BF16"): made("a", "AVX-512 with BF16", 1.5),
    ("mlp", "b", "AVX-512 with AMX"): made("b", "AVX-512 with AMX", 1.0),
}


def cells(text: str) -> list[list[str]]:
    """A Markdown table as lists of strings, without the line of dashes."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "--:" not in
            line]  # fmt: skip


def test_each_kind_of_machine_has_a_column_and_what_was_not_measured_a_dash():
    """Ground truth: the rows above, written out by hand."""
    notes = table.Footnotes()
    wanted = [Asked("mlp", "a", 1.8), Asked("mlp", "b", 1.0), Asked("mlp", "c", 1.0)]
    text = table.asked_table("made", wanted, ROWS, notes)
    assert cells(text) == [
        ["made", "asked", "AVX-512 with BF16", "AVX-512 with AMX"],
        ["a", ">= 1.80", "1.50 [1.40, 1.60] does not hold (1)", "2.00 [1.90, 2.10] holds (2)"],
        ["b", ">= 1", "-", "1.00 [0.90, 1.10] holds (2)"],
        ["c", ">= 1", "-", "-"],
    ]
    first, second = notes.text().split("\n\n")
    assert first == "(1) AMD, 2 threads, 2026-11-27, torch 2.13.0; commit bbbbbbb."
    assert second == "(2) Intel, 2 threads, 2026-11-20, torch 2.13.0; commit aaaaaaa."


def test_a_third_kind_has_a_column_once_something_was_measured_on_it():
    """Ground truth: the kinds of the rows, the two that are asked about first."""
    avx2 = made("a", "AVX-512 with AMX", 1.0) | {"machine": {"processor": {"has": ["avx2"]}}}
    assert table.kinds(ROWS) == list(table.ALWAYS)
    assert table.kinds(ROWS | {("mlp", "a", "AVX2"): avx2}) == [*table.ALWAYS, "AVX2"]


def test_times_are_of_one_kind_of_machine():
    """Ground truth: 1 ms of ours, 1.5 ms of the peer, unlocked only; no rows, no table."""
    text = table.timed_table("AVX-512 with BF16", ROWS, table.Footnotes())
    assert cells(text)[1:] == [["a", "1.00 ms", "", "", "1.50 ms", "1.50 [1.40, 1.60]", "(1)"]]
    assert table.timed_table("AVX2", ROWS, table.Footnotes()) == ""


def test_the_short_table_has_every_row_that_it_names():
    """Ground truth: FEW against what was asked."""
    names = [line[0] for line in cells(table.small_table())[1:]]
    assert sorted(names) == sorted(table.FEW)
