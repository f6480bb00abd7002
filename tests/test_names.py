"""Names: classes are unique in their folder, words have one meaning, and nobody has private ones.

Ground truth: the syntax trees of the package, and docs/glossary.md.
"""

import ast
import io
import re
import tokenize
from collections import defaultdict

import pytest

from tests.floors import PACKAGE, ROOT, files

GLOSSARY = ROOT / "docs" / "glossary.md"
FOLDERS = ("compiler", "kernels", "codegen")  # whose classes are named in words of the glossary

# Words of class names that say the same here as everywhere: numbers, parts, roles, machines.
PLAIN = set(
    """
    assignment attention change choice circle compiled constant convolution coordinate copy dot
    draft eager ending escapes forward function given head image in key left line marker memory
    moment native observer once origin outputs overlap part picture placed places probe product
    recompile rectangle right shares sum table turns walk warning weights
    """.split()
)
# Words that mean something to one author alone, in prose or names; what is written instead.
PRIVATE = {
    r"\bhom(es|ing|ed)\b": "memory, buffers (assign_buffers)",
    r"\bhosting\b": "host call",
    r"\bown[ _-]kernels?\b": "library call",
    r"\barithmetic of school\b": "long division",
    r"\bkeep(s|ing)?( \w+){0,3} company\b": "say what stands together",
    r"\bleaves? that company\b": "say what is given up",
    r"\bthe dead\b": "what is no longer needed",
    r"\bthe living\b": "what is still needed",
    r"\b(an|the|this|each) along\b": "axis operation (axis_ops)",
}
PRIVATE_NAMES = {"homes", "hosting", "own_kernels", "along"}  # of variables, arguments, functions


def words(name: str) -> list[str]:
    """The words of a class name: `_AmxWriter` is amx, writer."""
    return [w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*|[a-z]+", name)]


def classes(folder: str) -> list[tuple[str, str]]:
    """(name, file) of every class of a folder, rooms and nested ones included."""
    return [
        (node.name, path.relative_to(PACKAGE).as_posix())
        for path in sorted((PACKAGE / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]


def twice(names: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Names that stand more than once, with their files."""
    found = defaultdict(list)
    for name, file in names:
        found[name].append(file)
    return {name: where for name, where in found.items() if len(where) > 1}


def glossary(text: str) -> list[tuple[list[str], str, str]]:
    """(forms of the word, what it means, file) of each line of the table."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| `([^|`]+)` \|$", text, re.M)
    return [([w.strip() for w in forms.split(",")], means, where) for forms, means, where in rows]


@pytest.mark.parametrize("folder", sorted(p.parent.name for p in PACKAGE.glob("*/__init__.py")))
def test_class_names_are_unique_in_their_folder(folder):
    """Ground truth: the syntax trees; the rooms of a folder count as one."""
    found = twice(classes(folder))
    assert not found, f"one of each pair needs another name (docs/glossary.md): {found}"


def test_a_name_that_stands_twice_is_seen():
    """Ground truth: three classes by hand."""
    assert twice([("A", "a.py"), ("B", "a.py"), ("A", "b/c.py")]) == {"A": ["a.py", "b/c.py"]}


def test_the_glossary_is_sorted_and_says_each_word_once():
    """Ground truth: the table itself; every line is read, every file is there."""
    text = GLOSSARY.read_text()
    rows = glossary(text)
    assert len(rows) == len(re.findall(r"^\|", text, re.M)) - 2, "a line is not `| a | b | `c` |`"
    first = [forms[0].lower() for forms, _, _ in rows]
    assert first == sorted(first), "docs/glossary.md is in the order of the alphabet"
    every = [form.lower() for forms, _, _ in rows for form in forms]
    assert not {w for w in every if every.count(w) > 1}, "stands twice in docs/glossary.md"
    gone = [where for _, _, where in rows if not (PACKAGE / where).is_file()]
    assert not gone, f"docs/glossary.md names files that are not there: {gone}"


def test_classes_are_named_in_words_of_the_glossary():
    """Ground truth: docs/glossary.md; words that mean the same everywhere are in PLAIN."""
    known = {
        w.lower()
        for forms, _, _ in glossary(GLOSSARY.read_text())
        for form in forms
        for w in re.split(r"[ -]", form)
    }
    strange = [
        f"tinytorch/{file}: {name} ({word})"
        for folder in FOLDERS
        for name, file in classes(folder)
        for word in words(name)
        if word not in known | PLAIN and word.removesuffix("s") not in known | PLAIN
    ]
    assert not strange, "give the word a line in docs/glossary.md:\n" + "\n".join(strange)


def prose(source: str) -> str:
    """Comments and texts of a file, each on one line."""
    kinds = {tokenize.COMMENT, tokenize.STRING}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    texts = (t.string.lstrip("# ") for t in tokens if t.type in kinds)
    return " ".join(" ".join(texts).split())


def private(source: str) -> list[str]:
    """Private words of a Python source, in prose and in names."""
    text = prose(source)
    found = [m[0] for pattern in PRIVATE for m in re.finditer(pattern, text, re.I)]
    for node in ast.walk(ast.parse(source)):
        names = [getattr(node, field, None) for field in ("id", "arg", "name", "attr")]
        found += [n for n in names if isinstance(n, str) and n.lower() in PRIVATE_NAMES]
    return found


def test_no_private_words():
    """Ground truth: the two lists, in all of the package and in the pages that say what is true.

    What was, docs/log.md and CHANGELOG.md, keeps its words.
    """
    found = {}
    for path in files():
        name = path.relative_to(PACKAGE).as_posix()
        if words := private(path.read_text()):
            found[f"tinytorch/{name}"] = sorted(set(words))
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]:
        text = " ".join(page.read_text().split())
        hits = [m[0] for p in PRIVATE for m in re.finditer(p, text, re.I)]
        if page.name != "log.md" and hits:
            found[str(page.relative_to(ROOT))] = hits
    instead = ", ".join(PRIVATE.values())
    assert not found, f"words of the field (docs/glossary.md; {instead}) in place of: {found}"


@pytest.mark.parametrize(
    "source",
    [
        '"""The homes of values."""',
        "# it keeps its data company",
        "homes = 1",
        "def own_kernels(): ...",
        "x = f(along=1)",
        '"""The dead make room\n    for what comes."""',
    ],
)
def test_private_words_are_seen(source):
    """Ground truth: sources made by hand, one of each kind."""
    assert private(source)
