"""The changes that scripts/mutants makes. Ground truth: sources and their changes, by hand."""

import ast
import importlib.machinery
import importlib.util
import sys

import pytest

from tests.floors import PACKAGE, ROOT, files
from tests.mutants import REASONS, Explained, changes, draw, explained


@pytest.mark.parametrize(
    ("source", "changed"),
    [
        ("x = a + b", {"a + b -> a - b": "x = a - b"}),
        ("x = a // (b)", {"a // b -> a * b": "x = a * (b)"}),
        ("x += y", {"x + y -> x - y": "x -= y"}),
        ("x = a <= b", {"a <= b -> a < b": "x = a < b"}),
        ("x = a is not b", {"a is not b -> a is b": "x = a is b"}),
        ("x = a in b", {"a in b -> a not in b": "x = a not in b"}),
        ("x = a and b or c", {
            "a and b -> a or b": "x = a or b or c",
            "a and b or c -> a and b and c": "x = a and b and c",
        }),
        ("x = not a", {"not a -> a": "x =     a"}),
        ("x = True", {"True -> False": "x = False"}),
        ("x = 1e-5", {"1e-5 -> 1.00001": "x = 1.00001"}),
        ("x = a[7] < b == 2", {
            "7 -> 8": "x = a[8] < b == 2",
            "a[7] < b -> a[7] <= b": "x = a[7] <= b == 2",
            "b == 2 -> b != 2": "x = a[7] < b != 2",
            "2 -> 3": "x = a[7] < b == 3",
        }),
        ("x = 'é' + a", {"'é' + a -> 'é' - a": "x = 'é' - a"}),
        ("x = (a  # + b\n    - c)", {"a - c -> a + c": "x = (a  # + b\n    + c)"}),
    ],
)  # fmt: skip
def test_each_kind_of_change(source, changed):
    """Ground truth: the changed sources, by hand."""
    assert {c.what: c.applied(source) for c in changes("file.py", source)} == changed


@pytest.mark.parametrize(
    "source",
    [
        '"""1 + 1"""',
        "__all__ = ['a'] + ['b']",
        "def f(x: int | None) -> int | None: ...",
        "raise ValueError(1 + 1)",
        "x = f'{a + 1}'",
        "x = zip(a, b, strict=True)",
        "x = Sample((1, 2))",
        "x = [*two(-90, 90)(), sample(1), refused(ValueError, 'text', 2)]",
        "x = Primitive(samples=[1])",
        "if TYPE_CHECKING:\n    x = 1",
        "if __name__ == '__main__':\n    x = 1",
        "# 1 + 1",
    ],
)
def test_what_is_left_out(source):
    """Ground truth: one source for each line of the table of tests/mutants.py."""
    assert not changes("file.py", source)


def test_a_change_is_python_and_another_program():
    """Ground truth: Python's parser, for 120 changes drawn over the whole package."""
    sources = {p.relative_to(PACKAGE).as_posix(): p.read_text() for p in files()}
    drawn = draw([c for s in sources.items() for c in changes(*s)], 120, seed=7)
    assert len({(c.file, c.line) for c in drawn}) == 120
    for change in drawn:
        before, after = sources[change.file], change.applied(sources[change.file])
        assert ast.dump(ast.parse(before)) != ast.dump(ast.parse(after)), change
        pairs = zip(before.splitlines(), after.splitlines(), strict=True)
        assert [i + 1 for i, (a, b) in enumerate(pairs) if a != b] == [change.line]


def test_the_same_seed_draws_the_same_changes():
    """Ground truth: two draws; another seed gives others."""
    made = changes("file.py", "\n".join(f"x = {i} + y" for i in range(100)))
    assert draw(made, 20, 3) == draw(made, 20, 3) != draw(made, 20, 4)
    assert len(draw(made, 1000, 3)) == 100


def test_what_is_explained_is_still_there():
    """Ground truth: the changes of the files that scripts/mutants.toml names."""
    gone = []
    for entry in explained():
        assert entry.reason in REASONS and entry.why.endswith("."), entry
        path = PACKAGE / entry.file
        made = changes(entry.file, path.read_text()) if path.exists() else []
        if not any(entry.fits(change) for change in made):
            gone.append(f"{entry.file}: {entry.what}")
    assert not gone, f"take out of scripts/mutants.toml, or name the line of today: {gone}"


def test_the_tests_that_the_script_asks_are_there():
    """Ground truth: the files; a contract that moved would no longer be asked."""
    text = (ROOT / "scripts/mutants").read_text()
    for name in {w.strip('",()') for w in text.split() if w.strip('",()').startswith("test_")}:
        assert (ROOT / "tests" / name).exists(), f"scripts/mutants names {name}"


@pytest.fixture(scope="module")
def script():
    """scripts/mutants as a module."""
    loader = importlib.machinery.SourceFileLoader("mutants_script", str(ROOT / "scripts/mutants"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.modules[loader.name] = module  # dataclasses look for it there
    loader.exec_module(module)
    yield module
    del sys.modules[loader.name]


def test_tests_that_execute_the_line_come_first(script):
    """Ground truth: a map by hand: the mirror, then its room, then others, each quick ones first;
    a line that no test is seen to execute is that of all which execute its file."""
    tests = {
        "tests/test_every_layer.py::a": 0.1, "tests/nn/test_norm.py::slow": 2.0,
        "tests/nn/test_norm.py::quick": 0.2, "tests/nn/test_linear.py::b": 0.1, "other": 0.0,
    }  # fmt: skip
    known = {"seconds": tests, "lines": {"nn/norm.py": {"1": [0, 1, 2, 3], "7": [1]}}}
    at_1, at_7, at_9 = (
        script.likely(known, changes("nn/norm.py", "\n" * (line - 1) + "x = 1")[0], "")
        for line in (1, 7, 9)
    )
    quick, slow = "tests/nn/test_norm.py::quick", "tests/nn/test_norm.py::slow"
    beside, contract = "tests/nn/test_linear.py::b", "tests/test_every_layer.py::a"
    assert at_1 == at_9 == [quick, slow, beside, contract] and at_7 == [slow]


def test_what_is_explained_is_counted_apart(script, monkeypatch):
    """Ground truth: three changes by hand: noticed, explained, open."""
    made = changes("nn/norm.py", "x = a + 1")
    entry = Explained("nn/norm.py", "x = a + 1", "1 -> 2", "equal", "A reason.")
    monkeypatch.setattr(script, "explained", lambda: [entry])
    said = []
    script.report(
        [script.Outcome(made[0], "a test", 1.0), *(script.Outcome(c, "", 1.0) for c in made)],
        said.append,
    )
    assert (
        "| nn | 3 | 1 | 1 | 1 |" in said
        and "| nn/norm.py:1 | `a + 1 -> a - 1` | `x = a + 1` |" in said
    )
    assert any(line.startswith("noticed: 33.3 %; explained: 1 equal") for line in said)
