"""Every parameter of the folders below layers and training says what it takes.

An untyped parameter hides what a function knows of the floors above it. Ground truth: the syntax
trees of the files, and the settings of pyright, which scripts/check runs.
"""

import ast
import tomllib

import pytest

from tests.floors import PACKAGE, ROOT

FOLDERS = ("primitives", "codegen", "tensor", "kernels", "compiler")

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def untyped(source: str) -> list[str]:
    """`line function(parameter)` of every parameter without an annotation; a lambda has none."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, FUNCTION):
            a = node.args
            every = [*a.posonlyargs, *a.args, a.vararg, *a.kwonlyargs, a.kwarg]
            found += [
                f"{x.lineno} {node.name}({x.arg})"
                for x in every
                if x is not None and x.annotation is None and x.arg not in ("self", "cls")
            ]
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_parameter_has_a_type(folder):
    """Ground truth: the syntax tree of each file, nested functions included."""
    found = []
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        name = path.relative_to(ROOT)
        found += [f"{name}:{where}" for where in untyped(path.read_text())]
    assert not found, "say what these parameters take:\n" + "\n".join(found)


def test_pyright_reads_these_folders_strictly():
    """Ground truth: the list `strict` of pyproject.toml, section tool.pyright."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pyright"]
    wanted = {f"tinytorch/{folder}" for folder in FOLDERS}
    assert set(settings["strict"]) == wanted, "pyproject.toml, tool.pyright.strict"
    assert "pyright" in (ROOT / "scripts/check").read_text()


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def f(a, b: int, *c, d, **e): ...", "acde"),
        ("class A:\n    def f(self, a): ...", "a"),
        ("def f() -> None:\n    def g(a: int, b): ...", "b"),
        ("async def f(a, /): ...", "a"),
        ("x = lambda a: a", ""),
    ],
)
def test_the_test_sees_each_way(source, names):
    """Ground truth: functions made by hand, one of each kind."""
    assert sorted(n[-2] for n in untyped(source)) == sorted(names)
