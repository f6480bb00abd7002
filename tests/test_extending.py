"""What docs/extending.md says is carried out on a copy of the package.

Ground truth: the page: its blocks go where they say, its commands and checks run there, and the
files that differ afterwards are those it lists.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.floors import ROOT

PAGE = ROOT / "docs" / "extending.md"
# How many files somebody new may have to open, and to change.
LIMITS = {
    "An elementwise primitive": (12, 4),
    "An optimizer": (6, 4),
    "A rewrite rule": (6, 2),
}
COPIED = ("tinytorch", "tests", "scripts", "docs", "benchmarks", "pyproject.toml", "README.md")

LEFT_OUT = shutil.ignore_patterns("__pycache__", "results")


@dataclass(frozen=True)
class Example:
    """One section of the page: its two lists and its blocks, as (language, text)."""

    title: str
    opened: tuple[str, ...]
    changed: tuple[str, ...]
    blocks: tuple[tuple[str, str], ...]


def listed(section: str, word: str) -> tuple[str, ...]:
    """The files of a list such as "Opened (2): `a.py`, `b.py` (why)."; their number is checked."""
    found = re.search(rf"^{word} \((\d+)\): (.*?)^$", section, re.M | re.S)
    assert found, f"docs/extending.md: a section without a list {word!r}"
    names = tuple(re.findall(r"`([\w/.]+\.\w+)`", found[2]))
    assert len(set(names)) == int(found[1]), f"docs/extending.md: {found[0]}"
    return names


def examples(text: str) -> list[Example]:
    """The sections of the page."""
    found = []
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        title = section.partition("\n")[0]
        blocks = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.M | re.S)
        found.append(
            Example(title, listed(section, "Opened"), listed(section, "Changed"), tuple(blocks))
        )
    return found


EXAMPLES = examples(PAGE.read_text())


def put(root: Path, block: str) -> None:
    """Write a block where its first line says."""
    head, _, body = block.partition("\n")
    found = re.fullmatch(r'# ([\w/.]+): (new|at the end|(before|after) the line with "(.*)")', head)
    assert found, f"docs/extending.md: this does not say where the block goes: {head}"
    path = root / found[1]
    if found[2] == "new":
        assert not path.exists(), path
        path.write_text(body)
        return
    lines = path.read_text().splitlines(keepends=True)
    if found[2] == "at the end":
        lines.append(body)
    else:
        places = [i for i, line in enumerate(lines) if found[4] in line]
        assert len(places) == 1, f"{found[1]}: {len(places)} lines with {found[4]!r}"
        if found[3] == "before" and re.search(r"^(def|class) ", body, re.M):
            body += "\n\n"  # as between any two of a file
        lines.insert(places[0] + (found[3] == "after"), body)
    path.write_text("".join(lines))


def run(root: Path, command: list[str]) -> None:
    """Run a command in the copy; it must succeed, a run of tests having run some."""
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTEST_ADDOPTS": "-p no:cacheprovider"}
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def texts(root: Path) -> dict[str, bytes]:
    """Every file that a person could have changed."""
    return {
        p.relative_to(root).as_posix(): p.read_bytes()
        for name in COPIED
        for p in ([root / name] if (root / name).is_file() else sorted((root / name).rglob("*")))
        if p.is_file() and "__pycache__" not in p.parts and ".hypothesis" not in p.parts
    }


@pytest.mark.parametrize("example", EXAMPLES, ids=[e.title for e in EXAMPLES])
def test_the_example_works_and_changes_what_it_says(example, tmp_path):
    """Ground truth: the page's own commands and checks, and the copy before and after."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name,
                tmp_path / name,
                ignore=shutil.ignore_patterns("__pycache__", "results"),
            )
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    before = texts(tmp_path)
    checked = False
    for language, block in example.blocks:
        if language == "sh":
            for line in block.splitlines():
                run(tmp_path, [sys.executable if w == "python" else w for w in shlex.split(line)])
        elif block.startswith("# check\n"):
            run(tmp_path, [sys.executable, "-W", "error", "-c", block])
            checked = True
        else:
            put(tmp_path, block)
    assert checked, f"docs/extending.md: {example.title!r} has no block that begins with `# check`"
    after = texts(tmp_path)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == set(example.changed)
    for name in example.opened:
        assert name in after, f"docs/extending.md names {name}, which is not there"


@pytest.mark.parametrize("title", LIMITS)
def test_few_files_are_opened_and_changed(title):
    """Ground truth: counting the lists, which the test above compares with what happens."""
    example = next(e for e in EXAMPLES if e.title == title)
    opened, changed = LIMITS[title]
    assert len(example.opened) <= opened and len(example.changed) <= changed


def test_a_block_goes_where_it_says(tmp_path):
    """Ground truth: a file of three lines, by hand."""
    (tmp_path / "a.py").write_text("one\ntwo\nthree\n")
    put(tmp_path, '# a.py: after the line with "two"\n2.5\n')
    put(tmp_path, '# a.py: before the line with "ne"\n0\n')
    put(tmp_path, "# a.py: at the end\n4\n")
    assert (tmp_path / "a.py").read_text() == "0\none\ntwo\n2.5\nthree\n4\n"
    with pytest.raises(AssertionError, match="2 lines with"):
        put(tmp_path, '# a.py: after the line with "o"\n6\n')
