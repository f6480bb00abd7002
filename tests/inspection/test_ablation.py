"""ablation.py: gains computed by hand, and bars of their lengths."""

import pytest

from tinytorch.base.errors import ArgumentError, SettingError
from tinytorch.inspection import ablation_chart, draw_ablation_chart

VALUES = {"baseline": [0.5, 0.75], "flips": [0.75, 0.75], "averaging": [0.625, 1.0]}


def numbers(rows):
    return [(row.name, row.value, row.gain, row.deviation) for row in rows]


def test_steps_add_up():
    """Closed form: means and differences; two numbers x and y deviate by |x - y| / 2^0.5."""
    assert numbers(ablation_chart(VALUES)) == [
        ("baseline", 0.625, 0.0, None),
        ("flips", 0.75, 0.125, pytest.approx(0.25 / 2**0.5)),
        ("averaging", 0.8125, 0.0625, pytest.approx(0.375 / 2**0.5)),
    ]


def test_parts_are_left_out_of_a_whole():
    """Closed form, as above; each beside the first."""
    rows = ablation_chart(VALUES, against="first")
    assert [row.gain for row in rows] == [0.0, 0.125, 0.1875]


def test_what_a_seed_does_to_all_cancels():
    """Invariant: a number added to all steps of a seed changes no gain and no deviation."""
    shifted = {name: [a + 0.25, b - 0.125] for name, (a, b) in VALUES.items()}
    for a, b in zip(ablation_chart(VALUES), ablation_chart(shifted), strict=True):
        assert (a.gain, a.deviation) == (b.gain, b.deviation)


@pytest.mark.parametrize("values", [{}, {"a": [1.0, 2.0], "b": 1.0}])
def test_other_seeds_are_refused(values):
    """Ground truth: the docstring."""
    with pytest.raises(ArgumentError, match="not measured with the same seeds"):
        ablation_chart(values)
    with pytest.raises(SettingError, match="no such against"):
        ablation_chart({"a": 1.0}, against="last")
    with pytest.raises(ArgumentError, match="no row"):
        draw_ablation_chart([])


def test_bars_go_from_what_was_to_what_is():
    """Ground truth: the rows above."""
    axes = draw_ablation_chart(ablation_chart(VALUES), value="share", title="steps").axes[0]
    bars = [(bar.get_x(), bar.get_width()) for bar in axes.patches]
    assert bars == [(0.625, 0.0), (0.625, 0.125), (0.75, 0.0625)]
    assert [t.get_text() for t in axes.texts] == ["0.625", "0.75 (+0.125)", "0.8125 (+0.0625)"]
    assert [t.get_text() for t in axes.get_yticklabels()] == list(VALUES)
    assert (axes.get_xlabel(), axes.get_title()) == ("share", "steps")


def test_one_step_can_be_drawn():
    """Ground truth: a chart of one number, which has no bar."""
    assert draw_ablation_chart(ablation_chart({"all": 0.0}), axes=None).axes[0].texts
