"""Documents that run, facts that agree, and a calm voice."""

import io
import re
import subprocess
import sys
import tokenize
import tomllib

import tinytorch
from tests.floors import PACKAGE, ROOT, TABLE, files

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
# Words that praise or wave at things. Lists of them in the rules (this file) do not count.
BANNED = ("simply", "just", "magic", "powerful", "blazing", "lightning-fast", "seamless", "awesome")
# A path into somebody's home or temporary files; built in pieces so that this line is none.
MACHINE = re.compile(r"(?<![\w.~$}/])/(?:" + "|".join(["root", "home", "Users", "tmp"]) + r")/\w")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def is_text(path) -> bool:
    """Whether a file is one of ours to read: not a folder, not what a tool left behind."""
    return path.is_file() and b"\0" not in path.read_bytes()[:4096]


def sources():
    """Everything we wrote for people or machines to read, without this file and what we quote."""
    kinds = ("*.py", "*.md", "*.toml", "*.txt")
    folders = (PACKAGE, ROOT / "docs", ROOT / "benchmarks", ROOT / "tests", ROOT / "scripts")
    found = {p for folder in folders for kind in kinds for p in folder.rglob(kind)}
    found |= {
        p for p in [*ROOT.glob("*"), *ROOT.glob("scripts/*"), ROOT / ".ci/run"] if p.is_file()
    }
    left_out = {"__pycache__", "snippets", "test_docs.py"}
    measured = ".coverage"  # written while the tests are counted
    return sorted(
        p for p in found if not left_out & set(p.parts) and not p.name.startswith(measured)
    )


def test_the_programs_of_the_readme_print_what_it_says():
    """Ground truth: a fresh process; a python block's output is the text block after it."""
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    programs = [i for i, (kind, _) in enumerate(blocks) if kind == "python"]
    assert programs
    for i in programs:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", blocks[i][1]],
            capture_output=True, text=True, timeout=300, cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert blocks[i + 1][0] == "text", "a program is followed by its output"
        assert done.stdout == blocks[i + 1][1]


def test_the_readme_names_every_folder_as_the_floors_do():
    """Ground truth: docs/floors.md for the folders that exist."""
    text = (ROOT / "README.md").read_text()
    for folder in {p.relative_to(PACKAGE).parts[0] for p in files() if p.parent != PACKAGE}:
        row = TABLE[folder]
        line = f"| {row.floor} | `{folder}/` | {row.answers} |"
        assert line in text, f"README.md, the map, as docs/floors.md: {line}"


def test_versions_agree():
    """Ground truth: pyproject.toml; the CHANGELOG's first entry is this version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert tinytorch.__version__ == project["version"]
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert first and first[1] == project["version"]


def test_every_dependency_is_locked():
    """Ground truth: the names in pyproject.toml, runtime and extras; no addresses in the lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    lock = (ROOT / "requirements.lock").read_text()
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)$", lock, re.M))
    names = {re.match(r"[\w.-]+", requirement)[0] for requirement in wanted}
    assert names <= set(locked), f"run scripts/lock: {sorted(names - set(locked))}"
    assert "://" not in lock and "@" not in lock


def prose(path) -> str:
    """What a file says to people: of Python the comments and texts, of other files everything."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        return text
    kinds = {tokenize.COMMENT, tokenize.STRING}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return "\n".join(token.string for token in tokens if token.type in kinds)


def test_a_calm_voice():
    """Ground truth: the words of BANNED, at the top of this file."""
    pattern = re.compile(r"\b(" + "|".join(BANNED) + r")\b", re.I)
    found = {str(p.relative_to(ROOT)): pattern.findall(prose(p)) for p in sources()}
    assert not {name: words for name, words in found.items() if words}


def test_no_exclamation_and_no_emoji():
    """Ground truth: characters: a word that ends in "!", or a pictograph. ("!=" is an operator.)"""
    loud = re.compile(r"[a-z]!(?![=\w\[])|[\U0001F300-\U0001FAFF\u2728\u2705\u274c]", re.I)
    assert not [str(p.relative_to(ROOT)) for p in PAGES if loud.search(p.read_text("utf-8"))]


def test_no_machines_paths():
    """Ground truth: no file names a folder of the machine it was written on."""
    named = [
        f"{p.relative_to(ROOT)}: {m[0]}"
        for p in sources()
        if (m := MACHINE.search(p.read_text("utf-8"))) and "tests" not in p.relative_to(ROOT).parts
    ]
    assert not named


def test_only_documents_of_the_repository_are_named():
    """Ground truth: somebody who has this checkout and nothing else can look up what is named."""
    elsewhere = re.compile(r"\b(issue \d+\b|house style|STYLE\.md|DESIGN\.md)")
    old = {"log.md", "CHANGELOG.md"}  # what was said at the time
    named = [
        f"{p.relative_to(ROOT)}: {m[0]}"
        for p in sources()
        if p.name not in old and "results" not in p.parts and (m := elsewhere.search(prose(p)))
    ]
    assert not named, f"name a file of the repository instead: {named}"


def test_links_lead_somewhere():
    """Ground truth: the files of this checkout, for every relative link of every page."""
    broken = []
    for page in PAGES:
        prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)#:]+)\)", prose):
            if not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert not broken


def test_files_that_pages_name_are_there():
    """Ground truth: the files of this checkout. A path may begin below the root, the package or the
    tests; that of a new file of docs/extending.md is told by its block."""
    new = set(re.findall(r"^# ([\w/.]+): new$", (ROOT / "docs/extending.md").read_text(), re.M))
    gone = []
    for page in [p for p in PAGES if p.name not in ("log.md", "CHANGELOG.md")]:
        for name in set(re.findall(r"`([\w/]*\w+\.py)`", page.read_text("utf-8"))) - new:
            places = [top / name for top in (ROOT, PACKAGE, ROOT / "tests")]
            inside = [*PACKAGE.rglob(name), *(ROOT / "tests").rglob(name)]
            if not inside and not any(place.exists() for place in places):
                gone.append(f"{page.relative_to(ROOT)}: {name}")
    assert not gone, f"these files have moved or gone: {gone}"


def test_decisions_are_numbered():
    """Ground truth: the file names, from 001 on without a gap."""
    names = sorted(p.name for p in (ROOT / "docs" / "decisions").glob("*.md"))
    assert [name[:4] for name in names] == [f"{i:03d}-" for i in range(1, len(names) + 1)]
