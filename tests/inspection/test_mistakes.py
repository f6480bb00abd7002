"""mistakes.py: counted by hand; drawn as counted."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import ArgumentError, SettingError, ShapeError
from tinytorch.inspection import (
    Mistake,
    confusion_matrix,
    draw_confusion_matrix,
    draw_worst_mistakes,
    worst_mistakes,
)

TRUTH, SAID = [0, 0, 0, 1, 2, 2], [0, 0, 1, 1, 1, 2]
COUNTS = [[2, 1, 0], [0, 1, 0], [0, 1, 1]]  # rows are the truth


def test_a_matrix_is_counted():
    """Ground truth: six samples counted by hand; the rows are the truth."""
    assert confusion_matrix(TRUTH, SAID).tolist() == COUNTS
    assert confusion_matrix(tt.Tensor(TRUTH), tt.Tensor(SAID)).tolist() == COUNTS
    found = confusion_matrix([0], [0], classes=3)
    assert found.shape == (3, 3) and found.sum() == found[0, 0] == 1


def test_scores_are_answers_by_their_largest():
    """Ground truth: logits made from the answers; there are as many classes as logits."""
    scores = -np.square(np.arange(4)[None] - np.array(SAID)[:, None]).astype(np.float32)
    found = confusion_matrix(TRUTH, tt.Tensor(scores))
    assert found.shape == (4, 4) and found[:3, :3].tolist() == COUNTS


def test_random_answers_against_the_definition():
    """The slow definition: a loop over samples. Sums: samples, truths, answers."""
    rng = np.random.default_rng(0)
    truth, said = rng.integers(0, 5, (2, 300))
    slow = np.zeros((5, 5), int)
    for t, s in zip(truth, said, strict=True):
        slow[t, s] += 1
    found = confusion_matrix(truth, said)
    assert np.array_equal(found, slow)
    assert np.array_equal(found.sum(1), np.bincount(truth, minlength=5))
    assert np.allclose(confusion_matrix(truth, said, normalize="true").sum(1), 1)
    assert np.allclose(confusion_matrix(truth, said, normalize="pred").sum(0), 1)
    assert np.isclose(confusion_matrix(truth, said, normalize="all").sum(), 1)


def test_a_class_without_samples_has_shares_of_nothing():
    """Closed form: 0 / 0 is 0 here, as in scikit-learn."""
    assert confusion_matrix([0], [0], 2, "true").tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize(
    ("call", "kind", "phrase"),
    [
        (lambda: confusion_matrix([0, 1], [0]), ShapeError, "2 labels, 1 answers"),
        (lambda: confusion_matrix([0, 3], [0, 1], 3), ArgumentError, r"labels\[1\] = 3"),
        (lambda: confusion_matrix([0], [[0.1, np.nan]]), ArgumentError, "not all finite"),
        (lambda: confusion_matrix([0], [0], normalize="rows"), SettingError, "no such normalize"),
        (lambda: confusion_matrix([0], [0], 0), SettingError, "classes"),
        (lambda: worst_mistakes([0], [[1.0, -1.0]]), ArgumentError, "no probabilities"),
        (lambda: worst_mistakes([0], [[2.0, 3.0]]), ArgumentError, "row 0 adds up to 5"),
        (lambda: worst_mistakes([0, 1], [[0.5, 0.5]]), ShapeError, "2 labels"),
        (lambda: worst_mistakes([2], [[0.5, 0.5]]), ArgumentError, "from 0 to 1"),
        (lambda: draw_confusion_matrix([[1, 2]]), ShapeError, "no confusion matrix"),
        (lambda: draw_confusion_matrix([[1]], ["a", "b"]), ArgumentError, "2 names"),
        (
            lambda: draw_worst_mistakes(np.zeros((2, 1, 4, 4)), [Mistake(0, 0, 1, 0.9)]),
            ShapeError,
            "not the images of the mistakes",
        ),
    ],
)
def test_what_does_not_fit_is_named(call, kind, phrase):
    """Ground truth: the docstrings."""
    with pytest.raises(kind, match=phrase):
        call()


def test_the_surest_mistakes_come_first():
    """Ground truth: probabilities by hand; of equals the earlier; right answers never."""
    p = [[0.7, 0.3], [0.1, 0.9], [0.3, 0.7], [1.0, 0.0], [0.7, 0.3]]
    found = worst_mistakes([1, 0, 0, 0, 1], tt.Tensor(p))
    assert [(m.index, m.label, m.answer) for m in found] == [
        (1, 0, 1), (0, 1, 0), (2, 0, 1), (4, 1, 0),
    ]  # fmt: skip
    assert found[0].probability == pytest.approx(0.9, rel=2**-24)  # float32
    assert worst_mistakes([1, 0, 0, 0, 1], p, 1)[0].index == 1
    assert worst_mistakes([0], [[0.9, 0.1]]) == []


def test_a_matrix_is_drawn_with_its_numbers():
    """Ground truth: the matrix and the names; colours are shares of the rows."""
    figure = draw_confusion_matrix(COUNTS, ["cat", "dog", "elk"], title="three")
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.texts] == [str(n) for row in COUNTS for n in row]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["cat", "dog", "elk"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("answer", "truth", "three")
    drawn = np.array(axes.images[0].get_array())
    assert np.allclose(drawn, np.array(COUNTS) / [[3], [1], [2]])


def test_many_classes_are_drawn_without_numbers_and_in_given_axes():
    """Ground truth: the docstring."""
    axes = draw_confusion_matrix(np.eye(3)).axes[0]
    figure = draw_confusion_matrix(np.eye(100, dtype=int), axes=axes)
    assert figure is axes.figure and len(axes.texts) == 9  # those of the first


def test_mistakes_are_drawn_with_answer_and_truth():
    """Ground truth: two mistakes by hand, in colour; what is left of the row stays empty."""
    mistakes = [Mistake(4, 1, 0, 0.93), Mistake(2, 0, 1, 0.5)]
    images = np.linspace(0, 1, 2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    figure = draw_worst_mistakes(images, mistakes, ["cat", "dog"], columns=3)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["cat, 93 % sure\nit is dog", "dog, 50 % sure\nit is cat", ""]
    assert np.array_equal(figure.axes[1].images[0].get_array(), images[1].transpose(1, 2, 0))
