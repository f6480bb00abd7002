"""How long a file, a function and a list of settings may be. Docstrings and comments are free."""

import ast

import pytest

from tests.floors import PACKAGE, ROOT, files

CODE_LINES_A_FILE = 500
CODE_LINES_A_FUNCTION = 60
SETTINGS = 5  # of an optimizer or a loss, beyond what it works on
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
# "path" or "path::function": why it is longer. Empty is right; each entry needs a reason here.
EXCEPTIONS: dict[str, str] = {}

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def code_lines(tree: ast.AST) -> int:
    """Lines on which a statement or an expression begins, those of docstrings left out."""
    docstrings = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, node.end_lineno + 1)
    }
    lines = {n.lineno for n in ast.walk(tree) if isinstance(n, (ast.stmt, ast.expr))}
    return len(lines - docstrings)


def test_files_and_functions_are_short():
    """Ground truth: counting. 500 and 60 lines are the house rule (docs/decisions/001)."""
    long = []
    for path in files():
        name = str(path.relative_to(ROOT))
        tree = ast.parse(path.read_text())
        if (n := code_lines(tree)) > CODE_LINES_A_FILE:
            long.append((name, n))
        for node in ast.walk(tree):
            if isinstance(node, FUNCTION) and (n := code_lines(node)) > CODE_LINES_A_FUNCTION:
                long.append((f"{name}::{node.name}", n))
    assert {name for name, _ in long} == set(EXCEPTIONS), (
        f"longer than {CODE_LINES_A_FILE} a file, {CODE_LINES_A_FUNCTION} a function: {long}; "
        "split by what it knows, or give a reason in EXCEPTIONS of tests/test_sizes.py"
    )


def test_no_file_is_named_for_nothing():
    """Ground truth: the list of names that say nothing."""
    everything = [p for top in (PACKAGE, ROOT / "tests") for p in top.rglob("*.py")]
    assert not [str(p) for p in everything if p.stem in BANNED_NAMES]


def settings_of(node: ast.ClassDef) -> int:
    for item in node.body:
        if isinstance(item, FUNCTION) and item.name == "__init__":
            given = [*item.args.posonlyargs, *item.args.args, *item.args.kwonlyargs]
            not_settings = {"self", "params", "parameters", "optimizer"}
            return len([a for a in given if a.arg not in not_settings])
    return 0


def test_optimizers_and_losses_have_few_settings():
    """Ground truth: counting constructor arguments; beyond five, objects are composed."""
    many = [
        (path.name, node.name)
        for folder in ("optim", "nn")
        for path in (PACKAGE / folder).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and (folder == "optim" or node.name.endswith("Loss"))
        and settings_of(node) > SETTINGS
    ]
    assert not many


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ('"""Text."""\n# comment\nx = 1\n', 1),
        ("x = [\n    1,\n    2,\n]\n", 3),
        ('def f():\n    """Text,\n    longer."""\n    return 1\n', 2),
    ],
)
def test_lines_are_counted_as_said(source, lines):
    """Ground truth: counting by hand."""
    assert code_lines(ast.parse(source)) == lines
