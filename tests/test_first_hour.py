"""The page for newcomers: every command and program runs, in order, in one empty folder."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.floors import ROOT

PAGE = (ROOT / "docs/first_hour.md").read_text()
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
def hour(tmp_path_factory):
    """(kind, text, what was printed) of each block, and the folder afterwards."""
    folder = tmp_path_factory.mktemp("hour")
    done = []
    for kind, text in BLOCK.findall(PAGE):
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


def test_every_program_prints_what_the_page_says(hour):
    """Ground truth: the text block after each program."""
    blocks, _ = hour
    programs = [i for i, (kind, _, _) in enumerate(blocks) if kind == "python"]
    assert len(programs) == 2
    for i in programs:
        assert blocks[i + 1][0] == "text"
        assert blocks[i][2] == blocks[i + 1][1]


def test_every_verb_is_shown(hour):
    """Ground truth: the verbs of tito but for doctor; what they leave in the folder."""
    blocks, folder = hour
    commands = "".join(text for kind, text, _ in blocks if kind == "sh")
    assert all(f"tito {verb}" in commands for verb in ("train", "evaluate", "curve", "predict"))
    assert "--resume" in commands
    assert (folder / "runs/digits-cnn/model.safetensors").exists()
    assert (folder / "curve.svg").exists()


def test_programs_are_as_short_as_promised(hour):
    """Ground truth: ten lines to load a model, fifteen for a loop beside its imports."""
    blocks, _ = hour
    load, loop = (text for kind, text, _ in blocks if kind == "python")
    assert len([line for line in load.splitlines() if line]) <= 10
    own = [x for x in loop.split("\nimages,")[0].splitlines() if x and "import" not in x]
    assert len(own) <= 15
