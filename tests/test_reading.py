"""What is said of the size of the package, and of the order in which to read it, is counted.

Ground truth: `code_lines` of tests/test_sizes.py. A number may be a little off, so that a page does
not change with every line.
"""

import ast
import re
from statistics import median

import pytest

import tinytorch.compiler
from tests.floors import PACKAGE, ROOT, files
from tests.test_sizes import CODE_LINES_A_FILE, code_lines

README = (ROOT / "README.md").read_text()
OF_ALL, OF_A_FILE = 0.25, 0.25  # how far numbers may be off; 0.05 and 0.1 once files stay put
HOUR = 1500  # lines of code with their explanations: 25 a minute


def lines_of(path) -> int:
    return code_lines(ast.parse(path.read_text()))


def reading_order(docstring: str) -> dict[str, int]:
    """File -> lines of code, as the list with brackets says."""
    return {
        name: int(n) for name, n in re.findall(r"^\s+(\S+\.py)\s+\[\s*(\d+)\]", docstring, re.M)
    }


def test_the_reading_order_of_the_compiler_is_true():
    """Ground truth: the files, and their lines counted; all of it is an hour."""
    order = reading_order(tinytorch.compiler.__doc__)
    counted = {name: lines_of(PACKAGE / "compiler" / name) for name in order}
    wrong = {
        n: (said, counted[n])
        for n, said in order.items()
        if abs(said - counted[n]) > OF_A_FILE * said
    }
    assert not wrong, f"tinytorch/compiler/__init__.py says (said, counted): {wrong}"
    assert next(iter(order)) == "pipeline.py" and sum(order.values()) <= HOUR
    named = re.findall(
        r"[\w/]+(?:\.py|/)(?=[,; ])", tinytorch.compiler.__doc__.partition("Then,")[2]
    )
    missing = [
        n for n in named if not list((PACKAGE / "compiler").rglob(n.rstrip("/").rpartition("/")[2]))
    ]
    assert len(named) >= 9 and not missing


@pytest.mark.parametrize(
    ("pattern", "counted"),
    [
        (r"([\d,]+) files", lambda lines: len(lines)),
        (r"([\d,]+) lines of code", sum),
        (r"half of them under ([\d,]+)", median),
    ],
    ids=["files", "lines", "median"],
)
def test_the_readme_says_how_large_it_is(pattern, counted):
    """Ground truth: counting the package."""
    found = re.search(pattern, README)
    assert found, f"README.md: {pattern}"
    said, real = int(found[1].replace(",", "")), counted([lines_of(p) for p in files()])
    assert abs(said - real) <= OF_ALL * real, f"README.md says {found[0]!r}; counted: {real}"


def test_the_readme_says_the_limit_and_the_hour():
    """Ground truth: tests/test_sizes.py, and the reading order above."""
    assert f"at most {CODE_LINES_A_FILE} lines of code" in README
    order = reading_order(tinytorch.compiler.__doc__)
    found = re.search(r"(\w+) files of ([\d,]+)\s+lines", README)
    words = ("no one two three four five six seven eight nine ten eleven twelve").split()
    assert found and words.index(found[1]) == len(order), "README.md: the files of the spine"
    assert abs(int(found[2].replace(",", "")) - sum(order.values())) <= OF_ALL * sum(order.values())
