"""progress.py, history.py, metrics.py: what is shown and kept."""

import io
import json

import pytest

import tinytorch as tt
from tinytorch.base.errors import ShapeError
from tinytorch.training import History, accuracy
from tinytorch.training.metrics import Averages
from tinytorch.training.progress import LiveLine, PlainLines, best_for_output


def test_plain_lines_one_an_epoch(capsys):
    """Ground truth: written by hand."""
    lines = PlainLines()
    lines.begin_epoch(2, 5, 10)
    lines.batch(1, Averages())
    lines.end_epoch({"epoch": 2, "loss": 0.5, "val_accuracy": 0.975, "seconds": 1.0})
    lines.close()
    assert capsys.readouterr().out == "epoch 2/5  loss 0.5  val_accuracy 97.50 %  1.0 s\n"


def test_live_line_leaves_the_same_lines(capsys):
    """Ground truth: the plain line, once the bar is gone."""
    line = LiveLine()
    averages = Averages()
    averages.add({"loss": 1.0}, 1)
    line.begin_epoch(1, 1, 3)
    for i in (1, 2, 3):
        line.batch(i, averages)
    line.end_epoch({"epoch": 1, "loss": 0.5})
    line.close()
    assert "epoch 1/1  loss 0.5" in capsys.readouterr().out


def test_a_pipe_gets_plain_lines(capsys):
    """Ground truth: pytest's captured output is no terminal."""
    assert type(best_for_output()) is PlainLines


def test_history_as_columns_table_and_file(tmp_path):
    """Ground truth: written by hand."""
    history = History()
    history.add({"epoch": 1, "loss": 0.5})
    history.add({"epoch": 2, "loss": 0.25, "accuracy": 1.0})
    assert history["accuracy"] == [1.0] and len(history) == 2 and list(history) == history.rows
    assert str(history) == "epoch  loss  accuracy\n    1   0.5         -\n    2  0.25         1"
    history.save(tmp_path / "run.jsonl")
    lines = (tmp_path / "run.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == history.rows
    assert History().last == {}


def test_averages_of_nothing_are_nothing():
    """Ground truth: there is no batch to average."""
    assert Averages().means() == {}


def test_accuracy_wants_rows_and_labels():
    """Ground truth: its docstring."""
    with pytest.raises(ShapeError, match="accuracy: output and target"):
        accuracy(tt.zeros(2, 3), tt.zeros(3, dtype="int64"))


def test_on_a_terminal_no_old_bar_stays_below_a_line(monkeypatch):
    """Ground truth: what a terminal of 80 columns is sent after an epoch: one line, no bar."""
    from rich.console import Console

    text = io.StringIO()
    monkeypatch.setattr(
        "rich.progress.get_console",
        lambda: Console(file=text, force_terminal=True, width=80, color_system=None),
    )
    line, averages = LiveLine(), Averages()
    averages.add({"loss": 1.0}, 1)
    line.begin_epoch(1, 2, 3)
    line.batch(2, averages)
    row = {"epoch": 1, **{f"val_part_{i}_accuracy": 0.5 for i in range(5)}}
    line.end_epoch(row)
    after = text.getvalue().rpartition("val_part_0_accuracy")[2]
    assert "val_part_4_accuracy 50.00 %" in text.getvalue().replace("\n", "|")
    assert "2/3" not in after and "━" not in after
    line.close()
