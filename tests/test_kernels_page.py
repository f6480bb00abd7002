"""The page on kernels: its programs run, its excerpts stand in the files, its tables are kept."""

import re
import subprocess
import sys

from benchmarks.laboratory.tables import kept_results, with_tables
from tests.floors import ROOT

PAGE = ROOT / "docs/kernels.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


def test_the_tables_are_what_is_kept():
    """Ground truth: benchmarks/laboratory/results.json, printed by the program that makes them."""
    text = PAGE.read_text()
    assert with_tables(text, kept_results()) == text, "run: scripts/kernel_laboratory --page"
    assert text.count(": begin -->") == text.count(": end -->") == 6


def test_excerpts_stand_in_the_files():
    """Ground truth: the files they name, line for line."""
    excerpts = [b for kind, b in BLOCK.findall(PAGE.read_text()) if b.startswith("# benchmarks/")]
    assert len(excerpts) == 2
    for block in excerpts:
        head, _, lines = block.partition("\n")
        assert lines in (ROOT / head.removeprefix("# ")).read_text()


def test_programs_print_what_the_page_says(tmp_path):
    """Ground truth: a fresh process for each; a program's output is the text block after it. Times
    and widths of columns are the machine's."""
    blocks = BLOCK.findall(PAGE.read_text())
    programs = [
        (text, blocks[i + 1])
        for i, (kind, text) in enumerate(blocks)
        if kind == "python" and not text.startswith("# benchmarks/")
    ]
    assert len(programs) == 3
    for text, (kind, printed) in programs:
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{text}"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True,
            timeout=300, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert kind == "text" and done.stdout.split() == printed.split()
    assert {p.name for p in tmp_path.iterdir()} == {"step.json", "step.html"}
