"""Who may import whom. Ground truth: the table of docs/floors.md."""

import graphlib
import sys

import pytest

from tests.floors import PACKAGE, ROOT, TABLE, files, import_graph, imports, module, table

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
    assert not problems, "docs/floors.md says who may import whom:\n" + "\n".join(problems)


def test_every_folder_has_a_row():
    """Ground truth: the folders that hold Python files."""
    folders = {p.relative_to(PACKAGE).parts[0] for p in files() if p.parent != PACKAGE}
    assert folders <= set(TABLE), f"rows of docs/floors.md: {sorted(folders - set(TABLE))}"


def test_the_floors_are_acyclic():
    """Ground truth: "may import" names lower floors only, which graphlib confirms."""
    for folder, row in TABLE.items():
        assert all(TABLE[name].floor < row.floor for name in row.may_import), folder
    order = graphlib.TopologicalSorter({f: r.may_import for f, r in TABLE.items()}).static_order()
    assert set(order) == set(TABLE)


def cycle(sources: dict[str, str]) -> list[str]:
    """Files that import each other in a circle, the first again at the end; none: empty."""
    try:
        graphlib.TopologicalSorter(import_graph(sources)).prepare()
    except graphlib.CycleError as error:
        return error.args[1][::-1]
    return []


def test_no_file_imports_itself_by_way_of_others():
    """Ground truth: graphlib over the imports of every file, those inside functions and under
    TYPE_CHECKING too. A `__main__.py` is a program of its own, which nobody imports."""
    sources = {module(p): p.read_text() for p in files() if p.name != "__main__.py"}
    found = cycle(sources)
    assert not found, (
        "a circle of imports: " + " -> ".join(found) + "; move what both ends need to a file below "
        "them (docs/floors.md)"
    )


@pytest.mark.parametrize(
    "back",
    [
        "from tinytorch.nn import above",
        "import tinytorch.nn.above",
        "from tinytorch.nn.above import Above",
        "def f():\n    from tinytorch.nn.above import Above",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tinytorch.nn.above",
    ],
)
def test_a_circle_of_files_is_seen(back):
    """Ground truth: two files made by hand, the lower of which imports the upper."""
    sources = {"tinytorch.nn.above": "from tinytorch.nn.below import Below"}
    assert not cycle({**sources, "tinytorch.nn.below": "import numpy"})
    found = cycle({**sources, "tinytorch.nn.below": back})
    assert set(found) == {"tinytorch.nn.above", "tinytorch.nn.below"}
    assert found[0] == found[-1]


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
