"""curves.py: points of histories by hand, and lines through them."""

import math

import numpy as np
import pytest

from tinytorch.base.errors import DataError
from tinytorch.inspection import draw_learning_curves, learning_curves
from tinytorch.training import History

ROWS = [
    {"epoch": 3, "loss": 2.0, "val_accuracy": 0.5, "seconds": 9.0},
    {"epoch": 4, "loss": math.nan, "val_accuracy": 0.75, "seconds": 9.0},
    {"epoch": 5, "loss": 1.0, "seconds": 9.0},
]


def test_histories_rows_and_columns_are_the_same_points():
    """Ground truth: three epochs by hand; the second loss is not finite, the last row shorter."""
    history = History()
    for row in ROWS:
        history.add(row)
    columns = {"epoch": [3, 4, 5], "loss": [2.0, math.nan, 1.0], "val_accuracy": [0.5, 0.75]}
    for given in (history, ROWS, columns):
        found = learning_curves(given)
        assert list(found) == ["loss", "val_accuracy"]
        assert found["loss"].tolist() == [[3, 2], [5, 1]]
        assert found["val_accuracy"].tolist() == [[3, 0.5], [4, 0.75]]
    assert list(learning_curves(ROWS, "seconds")) == ["seconds"]


@pytest.mark.parametrize("call", [
    lambda: learning_curves([]), lambda: learning_curves(ROWS, "los"),
    lambda: learning_curves([{"loss": math.inf}]), lambda: draw_learning_curves({}),
])  # fmt: skip
def test_nothing_to_draw_is_an_error(call):
    """Ground truth: the docstrings."""
    with pytest.raises(DataError):
        call()


def test_kinds_have_fields_and_curves_have_lines():
    """Ground truth: four curves by hand, of two kinds by the last words of their names."""
    points = np.array([[1.0, 3.0], [2.0, 4.0]])
    names = ["loss", "accuracy", "val_loss", "sgd loss"]
    figure = draw_learning_curves({name: points + i for i, name in enumerate(names)}, title="run")
    losses, accuracies = figure.axes
    assert [line.get_label() for line in losses.lines] == ["loss", "val_loss", "sgd loss"]
    assert [line.get_label() for line in accuracies.lines] == ["accuracy"]
    assert np.array_equal(losses.lines[1].get_xydata(), points + 2)
    assert (losses.get_ylabel(), losses.get_xlabel()) == ("loss", "epoch")
    assert draw_learning_curves({"loss": points[:1]}, axes=[losses]) is figure
    assert losses.lines[-1].get_marker() == "o"  # one point is no line
