"""metrics.py: against counting by hand and against slow definitions."""

import math

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import IndexRangeError, SettingError, ShapeError
from tinytorch.nn import functional as F
from tinytorch.training import (
    ConfusionMatrix,
    Perplexity,
    Trainer,
    accuracy,
    mean_absolute_error,
    top_k,
)  # fmt: skip
from tinytorch.training.history import Silent
from tinytorch.training.metrics import Averages, default_metrics

RNG = np.random.default_rng(3)


def slow_top_k(output: np.ndarray, target: np.ndarray, k: int) -> float:
    """Sort the classes of each sample, earlier ones first among equals, and look."""
    right = 0
    for row, label in zip(output, target, strict=True):
        order = sorted(range(len(row)), key=lambda c: (-row[c], c))
        right += int(label in order[:k])
    return right / len(target)


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_top_k_is_what_sorting_says(k):
    """Ground truth: Python's sort; whole numbers, so that there are many equal ones."""
    output = RNG.integers(0, 3, (50, 5)).astype(np.float32)
    target = RNG.integers(0, 5, 50)
    found = top_k(k)(tt.Tensor(output), tt.Tensor(target)).item()
    assert found == pytest.approx(slow_top_k(output, target, k), abs=1e-6)
    if k == 1:
        assert accuracy(tt.Tensor(output), tt.Tensor(target)).item() == pytest.approx(found)


def test_equal_or_broken_numbers_are_not_right_by_chance():
    """Ground truth: of equal numbers the first is the largest; not-a-number is never right."""
    same = tt.zeros(4, 8)
    assert accuracy(same, tt.tensor([0, 1, 2, 3])).item() == 0.25
    assert top_k(2)(same, tt.tensor([0, 1, 2, 3])).item() == 0.5
    assert top_k(3)(same * math.nan, tt.tensor([0, 1, 2, 3])).item() == 0.0


def test_pixels_probabilities_and_ignored_labels():
    """Ground truth: NumPy, one number for each pixel."""
    output = RNG.standard_normal((3, 4, 5, 6)).astype(np.float32)
    target = RNG.integers(0, 4, (3, 5, 6))
    right = output.argmax(1) == target
    x, y = tt.Tensor(output), tt.Tensor(target)
    assert accuracy(x, y).item() == pytest.approx(right.mean())
    assert accuracy(x, y, ignore_index=2).item() == pytest.approx(right[target != 2].mean())
    mixed = np.eye(4, dtype=np.float32)[target].transpose(0, 3, 1, 2) * 0.8 + 0.05
    assert accuracy(x, tt.Tensor(mixed)).item() == pytest.approx(right.mean())
    assert top_k(1)(x, y).item() == pytest.approx(right.mean())


def test_shapes_that_do_not_belong_together_are_named():
    """Ground truth: the docstrings."""
    for metric, name in ((accuracy, "accuracy"), (top_k(2), "top_k")):
        with pytest.raises(ShapeError, match=f"{name}: output and target"):
            metric(tt.zeros(2, 3), tt.zeros(3, dtype="int64"))
    with pytest.raises(ShapeError, match="mean_absolute_error"):
        mean_absolute_error(tt.zeros(2, 1), tt.zeros(2))
    with pytest.raises(SettingError, match="k is not a whole number"):
        top_k(0)


def test_perplexity_is_of_the_whole_epoch():
    """Ground truth: exp of the cross-entropy of all samples at once, not a mean of exps."""
    x, y = RNG.standard_normal((20, 6)).astype(np.float32), RNG.integers(0, 6, 20)
    trainer = Trainer(
        nn.Linear(6, 6), tt.optim.SGD(), metrics={"perplexity": Perplexity(), "top2": top_k(2)},
        compile=False, progress=Silent(),
    )  # fmt: skip
    found = trainer.evaluate([(x[:3], y[:3]), (x[3:], y[3:])])
    loss = F.cross_entropy(trainer.model(tt.Tensor(x)), tt.Tensor(y)).item()
    assert found["perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
    assert Perplexity.finish(1e6) == math.inf
    row = trainer.train([(x[:3], y[:3]), (x[3:], y[3:])], 2).last
    assert row["perplexity"] == pytest.approx(math.exp(row["loss"]), rel=1e-5)


def test_the_metric_nobody_named():
    """Ground truth: accuracy with cross-entropy in every form, nothing with other losses."""
    assert list(default_metrics(F.cross_entropy)) == ["accuracy"]
    assert list(default_metrics(nn.CrossEntropyLoss(label_smoothing=0.1))) == ["accuracy"]
    assert default_metrics(nn.MSELoss()) == {}
    ignoring = default_metrics(nn.CrossEntropyLoss(ignore_index=1))["accuracy"]
    assert ignoring(tt.Tensor([[1.0, 0.0], [1.0, 0.0]]), tt.tensor([0, 1])).item() == 1.0


def test_compiled_metrics_are_eager_metrics():
    """Ground truth: eager."""
    x, y = tt.Tensor(RNG.standard_normal((9, 7)).astype(np.float32)), tt.tensor([1, 6] * 4 + [0])
    for metric in (accuracy, top_k(3), Perplexity(), Perplexity(ignore_index=6)):
        fast = tt.compile(lambda a, b, metric=metric: metric(a, b))
        assert fast(x, y).item() == pytest.approx(metric(x, y).item(), rel=1e-6)


def test_confusion_and_what_follows_from_it():
    """Ground truth: counted by hand: rows are right classes, columns answers."""
    matrix = ConfusionMatrix(3)
    matrix.add(tt.Tensor([[5.0, 1, 0], [0, 2, 1], [3, 2, 1]]), tt.tensor([0, 1, 1]))
    matrix.add(np.array([0, 1]), np.array([0, 1]))
    assert matrix.counts.tolist() == [[2, 0, 0], [1, 2, 0], [0, 0, 0]]
    assert matrix.accuracy() == pytest.approx(4 / 5)
    np.testing.assert_allclose(matrix.recall(), [1.0, 2 / 3, np.nan])
    np.testing.assert_allclose(matrix.precision(), [2 / 3, 1.0, np.nan])
    np.testing.assert_allclose(matrix.f1(), [4 / 5, 4 / 5, np.nan])
    assert str(matrix).splitlines()[2].split() == ["1", "1", "2", "0", "0.667"]
    with pytest.raises(IndexRangeError, match="no such class"):
        matrix.add(np.array([3]), np.array([0]))
    with pytest.raises(ShapeError, match="ConfusionMatrix"):
        matrix.add(np.zeros((2, 4)), np.array([0, 1]))


def test_averages_of_nothing_are_nothing():
    """Ground truth: there is no batch to average; a batch that counts nothing has no mean."""
    assert Averages().means() == {}
    averages = Averages()
    averages.add({"loss": math.nan}, 0.0)
    assert math.isnan(averages.means()["loss"])
    averages.add({"loss": 3.0}, 2.0)
    assert averages.means() == {"loss": 3.0}
