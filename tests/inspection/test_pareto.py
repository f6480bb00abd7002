"""pareto.py: the front against its definition."""

import numpy as np
import pytest

from tinytorch.base.errors import ArgumentError, ShapeError
from tinytorch.inspection import draw_pareto_front, pareto_front


def test_the_front_is_what_nobody_beats():
    """The slow definition: two loops; few different numbers, so that there are many equals."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        c, q = rng.integers(0, 6, (2, rng.integers(1, 20)))
        slow = [
            i for i in range(len(c))
            if not any(c[j] <= c[i] and q[j] >= q[i] and (c[j] < c[i] or q[j] > q[i])
                       for j in range(len(c)))
        ]  # fmt: skip
        found = pareto_front(c, q)
        assert sorted(found) == slow and np.all(np.diff(c[found]) >= 0)


def test_costs_and_qualities_belong_together():
    """Ground truth: the docstring."""
    with pytest.raises(ShapeError, match="2 costs, 1 qualities"):
        pareto_front([1, 2], [1])
    with pytest.raises(ArgumentError, match="not all finite"):
        pareto_front([1, np.nan], [1, 2])
    with pytest.raises(ArgumentError, match="1 names"):
        draw_pareto_front([1, 2], [1, 2], ["a"])


def test_a_front_is_drawn_through_its_points():
    """Ground truth: four models by hand, one of them beaten."""
    figure = draw_pareto_front([100, 25, 30, 50], [0.94, 0.9, 0.89, 0.93], list("abcd"), cost="ms")
    axes = figure.axes[0]
    front, beaten = axes.lines
    assert front.get_xydata().tolist() == [[25, 0.9], [50, 0.93], [100, 0.94]]
    assert beaten.get_xydata().tolist() == [[30, 0.89]]
    assert [t.get_text() for t in axes.texts] == list("abcd")
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "ms", "accuracy")
    assert draw_pareto_front([0, 1], [1, 2]).axes[0].get_xscale() == "linear"


def test_names_of_one_place_stand_beside_each_other():
    """Ground truth: three models by hand, two of them alike."""
    figure = draw_pareto_front(
        [20, 20, 30], [0.9, 0.9, 0.8], ["pruned", "pruned, int8 left out", "c"]
    )
    assert [t.get_text() for t in figure.axes[0].texts] == ["pruned, pruned, int8 left out", "c"]
