"""Docstrings agree with what they describe."""

import ast
import re

from tests.floors import PACKAGE, ROOT, files

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def described(docstring: str) -> list[str] | None:
    """Argument names in the Args section, or None where there is no such section."""
    lines = docstring.expandtabs().splitlines()
    starts = [i for i, line in enumerate(lines) if line.strip() == "Args:"]
    if not starts:
        return None
    start = starts[0]
    depth = len(lines[start]) - len(lines[start].lstrip())
    names: list[str] = []
    inner = None
    for line in lines[start + 1 :]:
        if not line.strip():
            break
        here = len(line) - len(line.lstrip())
        if here <= depth:
            break
        inner = here if inner is None else inner
        if here == inner and (m := re.match(r"\s*([*\w, ]+):(\s|$)", line)):
            names += [name.strip().lstrip("*") for name in m[1].split(",")]
    return names


def parameters(node: ast.AST) -> list[str]:
    a = node.args
    every = [*a.posonlyargs, *a.args, a.vararg, *a.kwonlyargs, a.kwarg]
    return [x.arg for x in every if x is not None and x.arg not in ("self", "cls")]


def fields(node: ast.ClassDef, beside: dict[str, ast.ClassDef]) -> list[str]:
    """What builds an object: the arguments of __init__, or the fields of a dataclass.

    Args:
        node: the class.
        beside: the classes of its file: from one of them it may have its __init__.
    """
    for item in node.body:
        if isinstance(item, FUNCTION) and item.name == "__init__":
            return parameters(item)
    own = [
        item.target.id
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    ]
    bases = [b.id for b in node.bases if isinstance(b, ast.Name) and b.id in beside]
    return own + [name for base in bases for name in fields(beside[base], beside)]


def documented():
    """(where, docstring, real names) of every function and class with a docstring."""
    for path in files():
        tree = ast.parse(path.read_text())
        beside = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef)}
        for node in ast.walk(tree):
            if not isinstance(node, (*FUNCTION, ast.ClassDef)):
                continue
            text = ast.get_docstring(node, clean=False)
            if text:
                names = fields(node, beside) if isinstance(node, ast.ClassDef) else parameters(node)
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", text, names


# Folders whose names users type; elsewhere an obvious argument may stay without a line.
FOR_USERS = {
    "data", "inspection", "models", "nn", "optim", "storage", "tensor", "text", "training",
}  # fmt: skip


def test_described_arguments_exist():
    """Ground truth: the signature."""
    wrong = []
    for where, text, names in documented():
        stale = set(described(text) or ()) - set(names)
        if stale:
            wrong.append(f"{where}: {sorted(stale)}")
    assert not wrong, "\n".join(wrong)


def test_arguments_for_users_are_all_described():
    """Ground truth: the signature, where a docstring has a list of arguments at all."""
    wrong = []
    for where, text, names in documented():
        listed = described(text)
        if where.split("/")[1] in FOR_USERS and listed is not None and set(names) - set(listed):
            wrong.append(f"{where}: {sorted(set(names) - set(listed))}")
    assert not wrong, "\n".join(wrong)


def test_modules_say_in_one_sentence_what_they_are():
    """Ground truth: the first paragraph of the module's docstring ends a sentence."""
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text()))
        first = (text or "").split("\n\n")[0].rstrip()
        if not first.rstrip(")").endswith((".", "?", ":")):
            wrong.append(str(path.relative_to(ROOT)))
    assert not wrong, f"their first paragraph ends no sentence: {wrong}"


def test_arguments_are_found_as_written():
    """Ground truth: a docstring written by hand."""
    text = "One.\n\n    Args:\n        x, y: two.\n            more: of it.\n        *rest: all."
    assert described(text) == ["x", "y", "rest"]
    assert described("None here.") is None
