"""What is said of the size of the package, and of the order in which to read it, is counted.

Ground truth: `code_lines` of tests/test_sizes.py. A number may be a little off, so that a page does
not change with every line; `python -m tests.test_reading` writes those of today.
"""

import ast
import re
from pathlib import Path
from statistics import median

import pytest

import tinytorch.compiler
from tests.floors import PACKAGE, ROOT, files
from tests.test_sizes import CODE_LINES_A_FILE, code_lines

README, COMPILER = ROOT / "README.md", PACKAGE / "compiler" / "__init__.py"
OF_ALL, OF_A_FILE = 0.05, 0.1  # how far a number may be off
HOUR = 1500  # lines of code with their explanations: 25 a minute
WRITE = "run: python -m tests.test_reading"

# What the README says -> how it is counted from the lines of each file.
SAID = {
    r"about ([\d,]+) files": len,
    r"files, ([\d,]+) lines of code": lambda lines: round(sum(lines), -2),
    r"half of them under ([\d,]+)": lambda lines: int(median(lines)),
}
SPINE = r"(\w+) files of ([\d,]+)\s+lines"
WORDS = "no one two three four five six seven eight nine ten eleven twelve".split()
IN_ORDER = r"^(    (\S+\.py)\s+\[)\s*(\d+)\]"


def lines_of(path: Path) -> int:
    return code_lines(ast.parse(path.read_text()))


def reading_order(docstring: str) -> dict[str, int]:
    """File -> lines of code, as the list with brackets says."""
    return {name: int(n) for _, name, n in re.findall(IN_ORDER, docstring, re.M)}


def number(text: str) -> int:
    return int(text.replace(",", ""))


def test_the_reading_order_of_the_compiler_is_true():
    """Ground truth: the files, and their lines counted; all of it is an hour."""
    order = reading_order(COMPILER.read_text())
    counted = {name: lines_of(PACKAGE / "compiler" / name) for name in order}
    wrong = {n: (s, counted[n]) for n, s in order.items() if abs(s - counted[n]) > OF_A_FILE * s}
    assert not wrong, f"tinytorch/compiler/__init__.py (said, counted): {wrong}; {WRITE}"
    assert next(iter(order)) == "pipeline.py" and sum(counted.values()) <= HOUR
    then = tinytorch.compiler.__doc__.partition("Then,")[2]
    named = re.findall(r"([\w/]+(?:\.py|/))(?=[,; ])", then)
    inside = [p.relative_to(PACKAGE).as_posix() for p in (PACKAGE / "compiler").rglob("*")]
    missing = [n for n in named if not any(p.endswith(f"/{n.rstrip('/')}") for p in inside)]
    assert len(named) >= 9 and not missing, f"tinytorch/compiler/__init__.py: {missing}"


@pytest.mark.parametrize("pattern", SAID)
def test_the_readme_says_how_large_it_is(pattern):
    """Ground truth: counting the package."""
    found = re.search(pattern, README.read_text())
    assert found, f"README.md: {pattern}"
    said, real = number(found[1]), SAID[pattern]([lines_of(p) for p in files()])
    assert abs(said - real) <= OF_ALL * real, f"README.md says {found[0]!r}, it is {real}; {WRITE}"


def test_the_readme_says_the_limit_and_the_hour():
    """Ground truth: tests/test_sizes.py, and the reading order above."""
    text, order = README.read_text(), reading_order(COMPILER.read_text())
    assert f"at most {CODE_LINES_A_FILE} lines of code" in text
    found = re.search(SPINE, text)
    assert found and WORDS.index(found[1]) == len(order), "README.md: the files of the spine"
    total = sum(order.values())
    assert abs(number(found[2]) - total) <= OF_ALL * total, f"it is {total}; {WRITE}"


def counted_anew() -> tuple[str, str]:
    """The compiler's docstring and the README with the numbers of today."""
    counted: list[int] = []

    def line(m: re.Match) -> str:
        counted.append(lines_of(PACKAGE / "compiler" / m[2]))
        return f"{m[1]}{counted[-1]:3d}]"

    compiler, text = re.sub(IN_ORDER, line, COMPILER.read_text(), flags=re.M), README.read_text()
    for pattern, count in SAID.items():
        real = f"{count([lines_of(p) for p in files()]):,}"
        text = re.sub(pattern, lambda m, real=real: m[0].replace(m[1], real), text)
    spine = f"{WORDS[len(counted)]} files of {sum(counted):,}"
    return compiler, re.sub(r"\w+ files of [\d,]+(?=\s+lines)", spine, text)


def test_numbers_are_written_where_they_are_read():
    """Ground truth: the texts of today: nothing changes but numbers."""
    for old, new in zip((COMPILER.read_text(), README.read_text()), counted_anew(), strict=True):
        assert re.sub(r"[\d, ]+", "0", old) == re.sub(r"[\d, ]+", "0", new)


if __name__ == "__main__":
    for path, text in zip((COMPILER, README), counted_anew(), strict=True):
        path.write_text(text)
