"""Who may import whom. Ground truth: the table of docs/floors.md."""

import graphlib
import sys

import pytest

from tests.floors import PACKAGE, ROOT, TABLE, files, imports, table

ANYWHERE = {"numpy"} | set(sys.stdlib_module_names)
# What __init__.py hands on may come from anywhere below the command line.
TOP = set(TABLE) - {"cli"}


def wrong(here: str | None, source: str) -> list[str]:
    """What a file in folder `here` (None: the top) imports and may not."""
    found = []
    allowed = TOP if here is None else TABLE[here].may_import | {here}
    outside = set() if here is None else TABLE[here].outside
    for name, line in imports(source):
        first, _, rest = name.partition(".")
        if name.startswith("."):
            found.append(f"{line} relative import {name}")
        elif first == "tinytorch":
            to = rest.split(".")[0]
            # The command line stands on everything, so also on the names handed on at the top.
            if to not in allowed and not (here == "cli" and not to):
                found.append(f"{line} imports {name}")
        elif first not in ANYWHERE | outside:
            found.append(f"{line} imports {name} from outside")
    return found


def test_no_folder_imports_from_a_higher_floor():
    """Ground truth: "may import" and "outside" of the folder's row; every import counts."""
    problems = []
    for path in files():
        inside = path.relative_to(PACKAGE).parts
        here = inside[0] if len(inside) > 1 else None
        if path.name == "__main__.py":  # a program of its own, which stands on the whole package
            here = "cli"
        problems += [f"{path.relative_to(ROOT)}:{p}" for p in wrong(here, path.read_text())]
    assert not problems, "\n".join(problems)


def test_every_folder_has_a_row():
    """Ground truth: the folders that hold Python files."""
    folders = {p.relative_to(PACKAGE).parts[0] for p in files() if p.parent != PACKAGE}
    assert folders <= set(TABLE)


def test_the_floors_are_acyclic():
    """Ground truth: "may import" names lower floors only, which graphlib confirms."""
    for folder, row in TABLE.items():
        assert all(TABLE[name].floor < row.floor for name in row.may_import), folder
    order = graphlib.TopologicalSorter({f: r.may_import for f, r in TABLE.items()}).static_order()
    assert set(order) == set(TABLE)


@pytest.mark.parametrize(
    ("here", "source"),
    [
        ("tensor", "def f():\n    from tinytorch.nn import Linear"),
        ("tensor", "import tinytorch.compiler.graph.graph"),
        ("tensor", "import tinytorch as tt"),
        ("tensor", "from tinytorch import nn"),
        ("tensor", "from tinytorch import no_grad"),
        ("tensor", "import importlib\nimportlib.import_module('tinytorch.nn')"),
        ("tensor", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tinytorch.nn"),
        ("tensor", "from .buffer import Buffer"),
        ("base", "import llvmlite.binding"),
        ("compiler", "import llvmlite"),
        ("nn", "import torch"),
        (None, "from tinytorch.cli import main"),
    ],
)
def test_the_test_sees_each_way_to_break_it(here, source):
    """Ground truth: hand-made violations, one of each kind."""
    assert len(wrong(here, source)) == 1


def test_the_table_is_read_as_written():
    """Ground truth: two rows written by hand."""
    rows = table("| 0 | `a/` | - | - | x |\n| 1 | `b/` | floors 0-0 | llvmlite, PIL | y |\n")
    assert rows["b"].may_import == {"a"} and rows["b"].outside == {"llvmlite", "PIL"}
    assert rows["a"].may_import == frozenset() and rows["a"].floor == 0
