"""history.py: what is shown, lines and files of a history, pictures of curves."""

import io
import json
import math
import xml.etree.ElementTree as ElementTree

import pytest

import tinytorch as tt
from tinytorch.base.errors import DataError, FileFormatError, ShapeError
from tinytorch.training import History, accuracy
from tinytorch.training.history import LiveLine, PlainLines, best_for_output, svg_plot, text_plot
from tinytorch.training.metrics import Averages


def curve(*losses: float) -> History:
    history = History()
    for epoch, loss in enumerate(losses, 1):
        history.add({"epoch": epoch, "loss": loss, "accuracy": 1 - loss})
    return history


def test_every_point_is_where_it_belongs():
    """Ground truth: a straight line of 5 points on a grid of 5 x 5 is its diagonal."""
    lines = text_plot({"x": [(i, -i) for i in range(5)]}, width=5, height=5).splitlines()
    assert [line[6:] for line in lines[:5]] == ["*", " *", "  *", "   *", "    *"]
    assert lines[0].startswith("   0 |") and lines[4].startswith("  -4 |")


def test_one_point_and_flat_curves_are_drawn():
    """Ground truth: a range of nothing cannot be divided by: it is widened to 1."""
    for points in ([(1, 2.0)], [(1, 2.0), (2, 2.0)], [(1, 1.0), (1, 2.0)]):
        assert "*" in text_plot({"loss": points})
        assert "nan" not in svg_plot({"loss": points})


def test_the_picture_is_xml_with_the_points_in_their_places():
    """Ground truth: a parser; corners of the drawing for the extreme points."""
    text = svg_plot({"a<b": [(0, 0.0), (1, 1.0)], "c": [(0, 1.0)]}, "50 % & more")
    root = ElementTree.fromstring(text)
    lines = [x for x in root if x.tag.endswith("polyline")]
    assert [x.get("points") for x in lines] == ["70.0,350.0 620.0,30.0", "70.0,30.0"]
    assert {"a<b", "50 % & more"} <= {x.text for x in root}


def test_a_picture_that_begins_late_uses_its_whole_width():
    """Ground truth: the middle of a straight line is the middle of the drawing."""
    text = svg_plot({"loss": [(2, 4.0), (4, 2.0), (6, 0.0)]})
    (line,) = [x for x in ElementTree.fromstring(text) if x.tag.endswith("polyline")]
    assert line.get("points") == "70.0,30.0 345.0,190.0 620.0,350.0"


def test_numbers_that_are_not_finite_are_left_out():
    """Ground truth: the other points alone."""
    assert text_plot({"l": [(1, 1.0), (2, math.nan), (3, 2.0)]}) == text_plot(
        {"l": [(1, 1.0), (3, 2.0)]}
    )
    for draw in (text_plot, svg_plot):
        with pytest.raises(DataError, match="nothing to plot"):
            draw({"loss": [(1, math.inf)]})


def test_a_history_draws_its_losses(tmp_path):
    """Ground truth: the columns that end in "loss", or those that are named."""
    history = curve(0.9, 0.5, 0.3)
    assert "* loss" in history.plot() and "accuracy" not in history.plot()
    assert "* accuracy" in history.plot("accuracy", width=20, height=4)
    history.save_plot(tmp_path / "run.svg", "loss", "accuracy")
    assert (tmp_path / "run.svg").read_text().count("<polyline") == 2


def test_a_file_of_lines_comes_back(tmp_path):
    """Ground truth: what was saved; nan, which JSON has not, as null."""
    history = curve(0.5, math.nan, 0.25)
    history.save(tmp_path / "h.jsonl")
    assert "null" in (tmp_path / "h.jsonl").read_text()
    back = History.load(tmp_path / "h.jsonl")
    assert back["loss"][::2] == [0.5, 0.25] and math.isnan(back["loss"][1])
    assert back.last == history.last and type(back.last["epoch"]) is int
    assert back.best("loss")["epoch"] == 3 and back.best("loss", largest=True)["epoch"] == 1
    assert back.best("speed") == {} and History().best("loss") == {}


@pytest.mark.parametrize("line", ["[1]", "{", '{"a": "b"}', "null", '"text"'])
def test_a_damaged_history_is_refused(line):
    """Ground truth: a line is an object of numbers."""
    with pytest.raises(FileFormatError, match="not a history"):
        History.from_json('{"loss": 1}\n' + line)


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
