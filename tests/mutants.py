"""One-line changes of the package: which there are, how they are drawn, what is known of them.

Knows Python's syntax and scripts/mutants.toml; never how tests are run (scripts/mutants).

A change is one operator, comparison or constant written otherwise: `+` for `-`, `<=` for `<`, `or`
for `and`, `not in` for `in`, True for False, a number one greater. Left out, with the reason:

    annotations, __all__, TYPE_CHECKING     not executed, or a list that a test of its own reads
    what `raise` makes, and f-strings       texts for people; their phrases are asserted elsewhere
    strict= of zip                          lengths that agree by construction: True is a safeguard
    samples and error samples of a row      inputs of the tests themselves
    `if __name__ == "__main__"`             demonstrations
"""

from __future__ import annotations

import ast
import random
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

EXPLAINED = Path(__file__).resolve().parents[1] / "scripts" / "mutants.toml"
REASONS = ("equal", "speed", "machine")  # means the same; only as fast; seen on other machines

BINARY: dict[type, tuple[str, str]] = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"), ast.Mod: ("%", "*"), ast.Pow: ("**", "*"),
    ast.LShift: ("<<", ">>"), ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&"), ast.BitXor: ("^", "|"),
}  # fmt: skip
COMPARED: dict[type, tuple[str, str]] = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"), ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"), ast.NotIn: ("not in", "in"),
}  # fmt: skip
JOINED: dict[type, tuple[str, str]] = {ast.And: ("and", "or"), ast.Or: ("or", "and")}
SAMPLES = {"Sample", "ErrorSample", "sample", "refused", "one", "two", "of_dtype"}
SHOWN = 48  # characters of each side of an operator


@dataclass(frozen=True)
class Change:
    """One piece of one line written otherwise.

    Args:
        file: below the package, with slashes.
        line: its number, from 1.
        start: where the piece begins in the line, in bytes of UTF-8.
        end: where it ends.
        new: what stands there instead.
        what: `before -> after`, for people and for scripts/mutants.toml.
        text: the line without the blanks around it.
    """

    file: str
    line: int
    start: int
    end: int
    new: str
    what: str
    text: str

    def applied(self, source: str) -> str:
        """The source with this change."""
        lines = source.encode().split(b"\n")
        old = lines[self.line - 1]
        lines[self.line - 1] = old[: self.start] + self.new.encode() + old[self.end :]
        return b"\n".join(lines).decode()


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """The node and what is below it, but for what the docstring above leaves out."""
    if isinstance(node, (ast.Raise, ast.JoinedStr)):
        return
    if isinstance(node, (ast.Assign, ast.AugAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(ast.unparse(t) == "__all__" for t in targets):
            return
    if isinstance(node, ast.If) and ast.unparse(node.test) in (
        "TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'",
    ):  # fmt: skip
        for part in node.orelse:
            yield from executed(part)
        return
    if isinstance(node, ast.Call) and ast.unparse(node.func) in SAMPLES:
        return
    yield node
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns"):
            continue
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, ast.keyword) and left_out(node, part):
                continue
            if isinstance(part, ast.AST):
                yield from executed(part)


def left_out(call: ast.AST, keyword: ast.keyword) -> bool:
    """Whether an argument given by name is a safeguard, or an input of tests."""
    if keyword.arg == "strict" and isinstance(call, ast.Call):
        return ast.unparse(call.func) == "zip"
    return keyword.arg in ("samples", "errors")


def pairs(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr, tuple[str, str]]]:
    """(left, right, (operator, another)) of each operator of a node that stands between two."""
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        yield node.left, node.right, BINARY[type(node.op)]
    elif isinstance(node, ast.AugAssign) and type(node.op) in BINARY:
        yield node.target, node.value, BINARY[type(node.op)]
    elif isinstance(node, ast.BoolOp):
        for left, right in zip(node.values, node.values[1:], strict=False):
            yield left, right, JOINED[type(node.op)]
    elif isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        for left, right, op in zip(sides, sides[1:], node.ops, strict=False):
            yield left, right, COMPARED[type(op)]


def short(text: str) -> str:
    """A side of an operator on one line, its middle left out where it is long."""
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} ... {text[-SHOWN // 2 :]}"


def changes(file: str, source: str) -> list[Change]:
    """Every change of a file, in the order of its lines."""
    lines = source.encode().split(b"\n")
    found: set[Change] = set()

    def text(node: ast.expr) -> str:
        """What stands in the file, on one line (ast.get_source_segment reads it all each time)."""
        first, last = node.lineno - 1, (node.end_lineno or 0) - 1
        rows = lines[first : last + 1]
        rows[-1] = rows[-1][: node.end_col_offset]
        rows[0] = rows[0][node.col_offset :]
        return short(b" ".join(rows).decode())

    def note(line: int, start: int, end: int, new: str, what: str) -> None:
        found.add(Change(file, line, start, end, new, what, lines[line - 1].decode().strip()))

    for node in executed(ast.parse(source)):
        for left, right, (old, new) in pairs(node):
            # the operator stands alone on the way from one operand to the other
            line, start = left.end_lineno or 0, left.end_col_offset or 0
            while line <= right.lineno:
                end = right.col_offset if line == right.lineno else None
                gap = lines[line - 1][start:end].partition(b"#")[0]
                if (at := gap.find(old.encode())) >= 0:
                    a, b = text(left), text(right)
                    what = f"{a} {old} {b} -> {a} {new} {b}"
                    note(line, start + at, start + at + len(old), new, what)
                    break
                line, start = line + 1, 0
        if isinstance(node, ast.Constant) and type(node.value) in (bool, int, float):
            new = written_otherwise(node.value)
            what = f"{text(node)} -> {new}"
            note(node.lineno, node.col_offset, node.end_col_offset or 0, new, what)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            operand, at = text(node.operand), node.col_offset
            note(node.lineno, at, at + 3, "   ", f"not {operand} -> {operand}")
    return sorted(found, key=lambda c: (c.line, c.start, c.end))


def written_otherwise(value: bool | int | float) -> str:
    """Another constant: the other truth, a number one greater (a huge float: twice)."""
    if isinstance(value, bool):
        return str(not value)
    return repr(value + 1 if value + 1 != value else value * 2)


def draw(among: list[Change], number: int, seed: int) -> list[Change]:
    """`number` lines drawn at random, each as likely, and one change of each; in their order."""
    lines: dict[tuple[str, int], list[Change]] = {}
    for change in among:
        lines.setdefault((change.file, change.line), []).append(change)
    choose = random.Random(seed)
    drawn = choose.sample(sorted(lines), min(number, len(lines)))
    return [choose.choice(lines[place]) for place in sorted(drawn)]


@dataclass(frozen=True)
class Explained:
    """What is known of a change that no test can, or need, notice.

    Args:
        file: below the package.
        text: the line, without the blanks around it.
        what: `before -> after`, as a run prints it.
        reason: one of REASONS.
        why: a sentence.
    """

    file: str
    text: str
    what: str
    reason: str
    why: str

    def fits(self, change: Change) -> bool:
        """Whether it is about this change."""
        return (self.file, self.text, self.what) == (change.file, change.text, change.what)


def explained(text: str | None = None) -> list[Explained]:
    """The list of scripts/mutants.toml."""
    entries = tomllib.loads(EXPLAINED.read_text() if text is None else text).get("explained", [])
    return [Explained(**entry) for entry in entries]
