"""A page can be built for every folder, and the examples on the pages are run."""

import ast
import doctest
import importlib.machinery
import importlib.util
import re

import pytest

from tests.floors import PACKAGE, ROOT

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@pytest.fixture(scope="module")
def maker():
    path = str(ROOT / "scripts/make_folder_pages")
    loader = importlib.machinery.SourceFileLoader("make_folder_pages", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def test_every_folder_has_a_page_and_every_file_a_row(maker):
    """Ground truth: the files of the package."""
    pages = maker.pages()
    for folder in maker.folders():
        text = pages[f"{folder}.md"]
        paths = {p.relative_to(PACKAGE / folder) for p in (PACKAGE / folder).rglob("*.py")}
        names = {p.as_posix() for p in paths if p.name != "__init__.py"}
        assert {name for name in names if f"[{name}](" not in text} == set()


def test_every_example_shown_is_one_that_runs(maker):
    """Ground truth: pytest runs the doctests of all docstrings (addopts); the examples on the
    pages are among them, line by line."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            text = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
            for example in doctest.DocTestParser().get_examples(text or ""):
                found.update(line.strip() for line in example.source.splitlines())
    shown = 0
    for name, text in maker.pages().items():
        for line in re.findall(r"^>>> (.*)$", text, re.M):
            assert line.strip() in found, (name, line)
            shown += 1
    assert shown > 100
    options = (ROOT / "pyproject.toml").read_text()
    assert "--doctest-modules" in options and '"tinytorch"' in options


def test_a_docstring_becomes_markdown(maker):
    """Ground truth: written by hand: prose, formula, arguments, example, text after sections."""
    text = maker.described(
        "A <b>, x_i and *rest.\n\n    y = 2 * x\n\nArgs:\n    x: one\n        more.\n"
        "    *rest: all.\n"
        "\nReturns:\n    (N,).\n\nExample:\n    >>> 1\n    1\n\nThe end."
    )
    assert text == (
        "A \\<b>, x_i and \\*rest.\n\n```text\ny = 2 * x\n```\n\nArgs:\n\n- `x`: one more.\n"
        "- `*rest`: all.\n\nReturns: (N,).\n\n```python\n>>> 1\n1\n```\n\nThe end."
    )
