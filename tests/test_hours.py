"""The pages for newcomers: every command and program runs, in order, in one empty folder each."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.floors import ROOT

PAGES = ("first_hour", "second_hour")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


def run(command, folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", *command], cwd=folder, env=environment,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def hours(tmp_path_factory):
    """Of each page: (kind, text, what was printed) of each block, and the folder afterwards."""
    return {page: _hour(page, tmp_path_factory.mktemp(page)) for page in PAGES}


def _hour(page, folder):
    done = []
    for kind, text in BLOCK.findall((ROOT / f"docs/{page}.md").read_text()):
        printed = ""
        if kind == "sh":
            lines = [shlex.split(line) for line in text.splitlines()]
            assert all(words[0] == "tito" for words in lines)
            printed = "".join(
                run(["-m", "tinytorch.cli.main", *words[1:]], folder) for words in lines
            )
        elif kind == "python":
            printed = run(["-c", text], folder)
        done.append((kind, text, printed))
    return done, folder


@pytest.mark.parametrize("page", PAGES)
def test_every_program_prints_what_the_page_says(hours, page):
    """Ground truth: the text block after each program."""
    blocks, _ = hours[page]
    programs = [i for i, (kind, _, _) in enumerate(blocks) if kind == "python"]
    assert len(programs) >= 2
    for i in programs:
        assert blocks[i + 1][0] == "text"
        assert blocks[i][2] == blocks[i + 1][1]


def test_every_verb_is_shown(hours):
    """Ground truth: the verbs of tito but for doctor; what they leave in the folder."""
    blocks, folder = hours["first_hour"]
    commands = "".join(text for kind, text, _ in blocks if kind == "sh")
    assert all(f"tito {verb}" in commands for verb in ("train", "evaluate", "curve", "predict"))
    assert "--resume" in commands
    assert (folder / "runs/digits-cnn/model.safetensors").exists()
    assert (folder / "curve.svg").exists()
    blocks, folder = hours["second_hour"]
    assert any("tito generate" in text for kind, text, _ in blocks if kind == "sh")
    said = [printed for kind, _, printed in blocks if kind == "sh"][-1]
    assert "The import statement" in said and "tokens a second" in said
    assert (folder / "runs/python-gpt/tokenizer.json").exists()


def test_programs_are_as_short_as_promised(hours):
    """Ground truth: ten lines to load a model, fifteen for a loop beside its imports."""
    blocks, _ = hours["first_hour"]
    load, loop = (text for kind, text, _ in blocks if kind == "python")
    assert len([line for line in load.splitlines() if line]) <= 10
    own = [x for x in loop.split("\nimages,")[0].splitlines() if x and "import" not in x]
    assert len(own) <= 15
