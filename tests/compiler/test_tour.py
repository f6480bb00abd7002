"""The tour of `python -m tinytorch.compiler`.

Ground truth: the list of passes; a file of a user, which is run; the numbers that a step leaves.
"""

import subprocess
import sys

import numpy as np
import pytest

import tinytorch as tt
from tests.floors import ROOT
from tinytorch.base.errors import CompileError
from tinytorch.compiler.__main__ import READING, SOURCE, example, main, of_file, tour
from tinytorch.compiler.pipeline import PASSES

FILE = """
import tinytorch as tt

w = tt.Tensor([1.0, 2.0])


@tt.compile
def step(x):
    w.assign_(w + x)
    return (w * w).sum()


@tt.compile
def never_called(x):
    return x


plain = len
if __name__ == "__main__":
    step(tt.Tensor([3.0, 4.0]))
"""


def test_every_stage_is_met_in_order():
    """Ground truth: compiler/pipeline.py; each has a sentence on how to read it."""
    assert list(READING) == ["capture", *(p.name for p in PASSES)]
    step, inputs = example()
    step(*inputs)
    text = "\n".join(tour(step, 60))
    heads = [f"--- {i} of {len(PASSES)}: {name} (" for i, name in enumerate(READING)]
    places = [text.index(head) for head in heads]
    assert places == sorted(places)
    for p in PASSES:
        assert f"{p.meaning}\n{READING[p.name]}" in text
    assert "define void" in text and "\nmachine: " in text


def test_all_lines_if_asked():
    """By hand: 0 cuts nothing, 3 keeps three of the recorded program."""
    step, inputs = example()
    step(*inputs)
    whole = str(step.stages()["capture"])
    assert whole in "\n".join(tour(step, 0))
    short = "\n".join(tour(step, 3))
    kept = whole.split("\n")
    assert "\n".join(kept[:3]) + f"\n... {len(kept) - 3} more lines" in short
    assert kept[3] + "\n" + kept[4] not in short


def test_a_file_of_the_user(tmp_path, capsys):
    """Ground truth: the file's own operations and line; page and trace are there."""
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    page, trace = tmp_path / "a.html", tmp_path / "a.json"
    main([f"{path}:step", "--page", str(page), "--trace", str(trace)])
    said = capsys.readouterr().out
    assert "def program(" in said and "wrote " in said and SOURCE not in said
    assert "mine.py:9" in page.read_text() and "traceEvents" in trace.read_text()
    step = of_file(f"{path}:step")
    (w,) = step._last.binding.tensors
    np.testing.assert_array_equal(w.numpy(), [4.0, 6.0])
    assert isinstance(w, tt.Tensor)


@pytest.mark.parametrize(
    ("name", "got"),
    [(":never_called", "not called"), (":plain", "builtin"), (":no", "nothing"), ("", "nothing")],
)
def test_what_cannot_be_shown_is_said(tmp_path, name, got):
    """Ground truth: the four parts of an error, by hand."""
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    with pytest.raises(CompileError) as caught:
        of_file(f"{path}{name}" if name else "step")
    assert got in caught.value.got and caught.value.fix


def test_it_runs_as_a_module():
    """Ground truth: a fresh process, with warnings as errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tinytorch.compiler", "--lines", "5"],
        capture_output=True, text=True, timeout=300, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(SOURCE) and "--- explain" in done.stdout
