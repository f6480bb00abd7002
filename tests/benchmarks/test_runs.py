"""Kept runs: each can be called, what they keep is whole, and the page shows it."""

import importlib
import inspect
import json
from pathlib import Path

import numpy as np
import pytest

import tinytorch as tt
from benchmarks import RESULTS, learning
from benchmarks.record import Record
from benchmarks.runs.__main__ import names
from benchmarks.runs_page import PAGE, page, records
from tests.floors import ROOT


@pytest.mark.parametrize("name", names())
def test_every_run_can_be_called(name):
    """Ground truth: the shape that the command expects, and a docstring that says what is asked."""
    module = importlib.import_module(f"benchmarks.runs.{name}")
    assert list(inspect.signature(module.run).parameters)[:2] == ["folder", "log"]
    assert module.__doc__ and module.__doc__.splitlines()[0].endswith((".", "?", "`."))


def test_what_was_asked_is_there():
    """Ground truth: what docs/runs.md has been about since its first version."""
    wanted = "document_model vit vae gan dropout augmentation optimizers normalisation accumulation"
    assert set(wanted.split()) <= set(names())


def test_kept_records_are_whole():
    """Ground truth: what another needs to do it again; pictures that are named exist."""
    assert records()
    for record in records():
        assert record["run"] in names() and record["rows"]
        machine = record["machine"]
        assert machine["processor"]["name"] and machine["commit"] and machine["date"]
        assert all((RESULTS / name).is_file() for name in record.get("pictures", ()))
    owned = {name for record in records() for name in record.get("pictures", ())}
    assert {p.name for p in RESULTS.glob("*.png")} == owned


def test_the_page_shows_the_records():
    """Ground truth: benchmarks/results/; if it differs, run python -m benchmarks.runs_page."""
    assert PAGE.read_text() == page()


def test_a_record_keeps_rows_claims_and_pictures(tmp_path, capsys):
    """Ground truth: what was said, read back from the file."""
    record = Record(tmp_path / "dropout.run.json", "Why?", {"seed": 0})
    record.row(epoch=1, loss=0.5)
    record.claim("it is small", "a book", "0.5", 0.5 < 1)
    record.picture("-x").write_bytes(b"")
    kept = record.keep()
    assert kept == json.loads((tmp_path / "dropout.run.json").read_text())
    assert kept["run"] == "dropout" and kept["rows"] == [{"epoch": 1, "loss": 0.5}]
    assert kept["claims"][0]["holds"] is True and kept["pictures"] == ["dropout-x.png"]
    assert "holds: it is small (a book): 0.5" in capsys.readouterr().out


def test_learning_learns_and_measures():
    """Ground truth: two points that a line separates; rates of half a cosine at 0, 1/2 and 1."""
    assert [learning.half_cosine(s) for s in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    tt.manual_seed(0)
    x = np.repeat(np.eye(2, dtype=np.float32), 8, 0)
    y = np.repeat(np.arange(2), 8)
    net = tt.nn.Linear(2, 2)
    sgd = tt.optim.SGD(net.parameters(), lr=1.0)
    rows = learning.learn(net, sgd, (x, y), (x, y), epochs=5, batch=4)
    assert rows[-1]["test_accuracy"] == 1.0 and rows[-1]["steps"] == 20
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_bytes_become_numbers():
    """Ground truth: 0, 51 and 255 of 255."""
    assert learning.as_numbers(np.array([0, 51, 255], np.uint8)).tolist() == pytest.approx(
        [0, 0.2, 1]
    )
    assert learning.as_numbers(np.ones(1)) is not None


def test_the_command_lists_the_runs():
    """Ground truth: the files of the folder."""
    files = {p.stem for p in Path(ROOT / "benchmarks/runs").glob("*.py")} - {"__init__", "__main__"}
    assert set(names()) == files
