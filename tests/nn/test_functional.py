"""functional.py and classification.py: closed forms, extremes, errors."""

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
    with pytest.raises(ShapeError, match="linear: input and weight"):
        F.linear(tt.zeros(2, 3), tt.zeros(4, 5))
    with pytest.raises(SettingError, match="gelu: approximate"):
        F.gelu(tt.zeros(2), "sigmoid")


def test_gelu_against_the_normal_distribution():
    """Ground truth: math.erf in float64; the tanh formula stays within 5e-4 of it."""
    x = np.linspace(-6, 6, 41)
    exact = np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x])
    assert F.gelu(tt.Tensor(x)).numpy() == pytest.approx(exact, abs=1e-13)
    assert F.gelu(tt.Tensor(x), "tanh").numpy() == pytest.approx(exact, abs=5e-4)


def naive_attention(q, k, v, mask):
    scores = q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
    powers = np.exp(scores - scores.max(-1, keepdims=True)) * mask
    return powers / np.maximum(powers.sum(-1, keepdims=True), 1e-300) @ v


@pytest.mark.parametrize(("t", "s"), [(4, 4), (2, 5), (1, 3)])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_as_primitive_and_as_composition(t, s, causal):
    """Ground truth: the formula in NumPy, float64; sums of 5 terms, so 1e-12 is ample."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, 3, n, 4)) for n in (t, s, s))
    mask = np.tril(np.ones((t, s)), s - t) if causal else np.ones((t, s))
    expected = naive_attention(q, k, v, mask)
    tensors = [tt.Tensor(x) for x in (q, k, v)]
    fused = F.scaled_dot_product_attention(*tensors, is_causal=causal)
    np.testing.assert_allclose(fused.numpy(), expected, rtol=1e-12, atol=1e-12)
    masked = F.scaled_dot_product_attention(*tensors, attn_mask=tt.Tensor(mask > 0))
    np.testing.assert_allclose(masked.numpy(), expected, rtol=1e-12, atol=1e-12)
    added = F.scaled_dot_product_attention(
        *tensors, attn_mask=tt.zeros(s, dtype="float64"), is_causal=causal
    )
    np.testing.assert_allclose(added.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_attention_takes_any_leading_axes():
    """Invariant: heads are independent."""
    q = tt.Tensor(np.random.default_rng(0).standard_normal((2, 2, 3, 4, 5)))
    five = F.scaled_dot_product_attention(q, q, q)
    four = F.scaled_dot_product_attention(q[0], q[0], q[0])
    two = F.scaled_dot_product_attention(q[0, 1, 2], q[0, 1, 2], q[0, 1, 2])
    np.testing.assert_allclose(five.numpy()[0], four.numpy(), rtol=1e-14)
    np.testing.assert_allclose(four.numpy()[1, 2], two.numpy(), rtol=1e-14)
    with pytest.raises(ShapeError, match="leading axes differ"):
        F.scaled_dot_product_attention(q, q[:, :, :2], q[:, :, :2])
    shared = F.scaled_dot_product_attention(q, q[0], q[0, :, :1])  # they broadcast
    alone = F.scaled_dot_product_attention(q[1, 1], q[0, 1], q[0, 1, :1].broadcast_to(3, 4, 5))
    np.testing.assert_allclose(shared.numpy()[1, 1], alone.numpy(), rtol=1e-14)


def test_a_query_that_sees_nothing_gets_zeros_and_a_finite_gradient():
    """Ground truth: an empty weighted sum."""
    q = tt.Tensor(np.random.default_rng(0).standard_normal((1, 1, 2, 3)), requires_grad=True)
    mask = tt.Tensor(np.array([[True, True], [False, False]]))
    out = F.scaled_dot_product_attention(q, q, q, attn_mask=mask)
    assert out.detach().numpy()[0, 0, 1].tolist() == [0.0, 0.0, 0.0]
    out.sum().backward()
    assert np.isfinite(q.grad.numpy()).all()


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
