"""The table of docs/floors.md, and the imports of a file: what the structure tests ask about."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tinytorch"


@dataclass(frozen=True)
class Row:
    floor: int
    may_import: frozenset[str]
    outside: frozenset[str]
    answers: str


def table(text: str) -> dict[str, Row]:
    """The rows of the table by folder; "floors 0-5" becomes the folders on these floors."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if re.match(r"\|\s*\d+\s*\|", line)
    ]
    floors = {row[1].strip("`/"): int(row[0]) for row in cells}
    out = {}
    for floor, folder, may_import, outside, answers in cells:
        if upto := re.fullmatch(r"floors 0-(\d+)", may_import):
            names = {f for f, n in floors.items() if n <= int(upto[1])}
        else:
            names = set(may_import.split(", ")) - {"-"}
        out[folder.strip("`/")] = Row(
            int(floor), frozenset(names), frozenset(set(outside.split(", ")) - {"-"}), answers
        )
    return out


TABLE = table((ROOT / "docs" / "floors.md").read_text())


def files() -> list[Path]:
    """Every Python file of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def module(path: Path) -> str:
    """The dotted name of a file of the package; a folder's __init__.py has the folder's."""
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


def import_graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """Which modules each module imports, of those given (dotted name -> source)."""
    graph = {}
    for here, source in sources.items():
        graph[here] = set()
        for name, _ in imports(source):
            while name and name not in sources:  # a name inside a module
                name = name.rpartition(".")[0]
            graph[here] |= {name} - {"", here}
    return graph


def imports(source: str):
    """(full module name, line) of every import: also inside functions, under TYPE_CHECKING, and
    through importlib with a name written out. `from a import b` gives "a.b"."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func).split(".")[-1]
            name = node.args[0]
            if called in {"import_module", "__import__"} and isinstance(name, ast.Constant):
                yield str(name.value), node.lineno
