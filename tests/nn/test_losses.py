"""losses.py: closed forms, extremes, errors."""

import math

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import IndexRangeError, SettingError, ShapeError
from tinytorch.nn import functional as F


def test_cross_entropy_of_equal_logits_is_log_k():
    """Closed form."""
    assert F.cross_entropy(tt.zeros(3, 7), tt.tensor([0, 3, 6])).item() == pytest.approx(
        math.log(7)
    )


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_cross_entropy_is_stable_at_extreme_logits(size):
    """Closed form: the loss is the distance to the largest logit, the gradient softmax - label."""
    logits = tt.Tensor([[size, 0.0], [0.0, size]], requires_grad=True)
    loss = F.cross_entropy(logits, tt.tensor([0, 0]), reduction="none")
    expected = [max(0.0, -size), max(0.0, size)]
    assert loss.tolist() == expected
    loss.sum().backward()
    assert np.isfinite(logits.grad.numpy()).all()


def test_cross_entropy_shifts_with_nothing():
    """Invariant: adding a number to all logits of a row changes nothing but rounding."""
    x = np.random.default_rng(0).standard_normal((4, 5))
    labels = tt.tensor([0, 1, 2, 3])
    a = F.cross_entropy(tt.Tensor(x), labels).item()
    assert F.cross_entropy(tt.Tensor(x + 100.0), labels).item() == pytest.approx(a, rel=1e-12)


def test_cross_entropy_against_one_hot_probabilities_is_that_against_labels():
    """Invariant: a label is a probability of 1."""
    x = tt.Tensor(np.random.default_rng(0).standard_normal((4, 5)))
    labels = np.array([0, 1, 4, 4])
    for smoothing in (0.0, 0.3):
        a = F.cross_entropy(x, tt.Tensor(labels), label_smoothing=smoothing).item()
        b = F.cross_entropy(x, tt.Tensor(np.eye(5)[labels]), label_smoothing=smoothing).item()
        assert a == pytest.approx(b, rel=1e-12)


def test_classes_lie_on_axis_1():
    """Invariant: (N, K, L) is (N * L, K)."""
    x = np.random.default_rng(0).standard_normal((2, 5, 3))
    labels = np.array([[0, 1, 2], [4, 4, 0]])
    a = F.cross_entropy(tt.Tensor(x), tt.Tensor(labels)).item()
    flat = tt.Tensor(np.moveaxis(x, 1, -1).reshape(6, 5))
    assert a == pytest.approx(F.cross_entropy(flat, tt.Tensor(labels.ravel())).item(), rel=1e-12)


def test_ignored_labels_do_not_count():
    """Invariant: leaving the rows out."""
    x = np.random.default_rng(0).standard_normal((4, 5))
    a = F.cross_entropy(tt.Tensor(x), tt.tensor([1, -100, 2, -100]), ignore_index=-100).item()
    assert a == pytest.approx(
        F.cross_entropy(tt.Tensor(x[::2]), tt.tensor([1, 2])).item(), rel=1e-12
    )


@pytest.mark.parametrize("wrong", [-1, 5, 255])
def test_labels_outside_the_classes_are_refused(wrong):
    """Ground truth: [0, K)."""
    with pytest.raises(
        IndexRangeError, match=rf"label\[1\] = {wrong}, 1 of 2[\s\S]*0 <= label < 5"
    ):
        F.cross_entropy(tt.zeros(2, 5), tt.tensor([0, wrong]))


@pytest.mark.parametrize("loss", [nn.BCEWithLogitsLoss(), nn.BCELoss()])
@pytest.mark.parametrize("bad", [[7.0, 9.0], [-0.1, 1.0], [0.0, 1.01], [-1.0, 1.0]])
def test_targets_that_are_no_probabilities_are_refused(loss, bad):
    """Ground truth: the documented range (training.md: -25.9); NaN and the ends pass."""
    x = tt.Tensor([0.25, 0.5])
    with pytest.raises(SettingError, match="target holds numbers that are no probabilities"):
        loss(x, tt.Tensor(bad))
    assert np.isnan(loss(x, tt.Tensor([float("nan"), 1.0])).item())
    assert loss(x, tt.Tensor([0.0, 1.0])).item() > 0
    assert loss(x, tt.tensor([True, False]).astype("float32")).item() > 0


def test_inputs_that_are_no_probabilities_are_refused():
    """Ground truth: the documented range; PyTorch refuses them too."""
    for bad in ([1.2, 0.5], [-3.0, 0.5]):
        with pytest.raises(SettingError, match="input holds numbers that are no probabilities"):
            F.binary_cross_entropy(tt.Tensor(bad), tt.Tensor([1.0, 0.0]))


def test_mistaken_shapes_and_settings_are_named():
    """Ground truth: the docstring."""
    with pytest.raises(ShapeError, match="labels do not belong to the logits"):
        F.cross_entropy(tt.zeros(2, 5), tt.tensor([0, 1, 2]))
    with pytest.raises(ShapeError, match="probabilities do not belong"):
        F.cross_entropy(tt.zeros(2, 5), tt.zeros(2))
    with pytest.raises(SettingError, match="no such reduction"):
        F.cross_entropy(tt.zeros(2, 5), tt.tensor([0, 1]), reduction="average")
    with pytest.raises(SettingError, match="label_smoothing is outside"):
        F.cross_entropy(tt.zeros(2, 5), tt.tensor([0, 1]), label_smoothing=2.0)
    with pytest.raises(ShapeError, match="mse_loss"):
        F.mse_loss(tt.zeros(2, 1), tt.zeros(2))
