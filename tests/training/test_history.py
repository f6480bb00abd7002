"""history.py: pictures and files of curves."""

import math
import xml.etree.ElementTree as ElementTree

import pytest

from tinytorch.base.errors import DataError, FileFormatError
from tinytorch.training import History
from tinytorch.training.history import svg_plot, text_plot


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
