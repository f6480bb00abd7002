"""normalization.py: invariants, closed forms, errors."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn import functional as F

RNG = np.random.default_rng(0)


def test_group_norm_of_one_group_is_a_layer_norm_and_of_c_groups_an_instance_norm():
    """Invariant: Wu and He 2018, section 3."""
    x = RNG.standard_normal((3, 4, 5, 6)) * 3 + 1
    one = F.group_norm(tt.Tensor(x), 1).numpy()
    np.testing.assert_allclose(one, F.layer_norm(tt.Tensor(x), (4, 5, 6)).numpy(), rtol=1e-12)
    each = F.group_norm(tt.Tensor(x), 4).numpy()
    expected = (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(each, expected, rtol=1e-10, atol=1e-12)


def test_group_norm_weighs_channels():
    """Closed form: weight and bias of channel c act on channel c."""
    x = RNG.standard_normal((2, 4, 3))
    plain = F.group_norm(tt.Tensor(x), 2).numpy()
    w, b = np.arange(4.0), np.arange(4.0) * 10
    found = F.group_norm(tt.Tensor(x), 2, tt.Tensor(w), tt.Tensor(b)).numpy()
    np.testing.assert_allclose(found, plain * w[:, None] + b[:, None], rtol=1e-13)


def test_rms_norm_has_unit_mean_square_and_no_idea_of_the_mean():
    """Invariant: mean square 1; a scaled input gives the same, a shifted one does not."""
    x = RNG.standard_normal((3, 50)) + 2.0
    out = F.rms_norm(tt.Tensor(x), 50).numpy()
    np.testing.assert_allclose((out**2).mean(-1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(F.rms_norm(tt.Tensor(x * 7), 50).numpy(), out, rtol=1e-12)
    assert np.abs(F.rms_norm(tt.Tensor(x + 1.0), 50).numpy() - out).max() > 0.1


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e25])
def test_normalize_gives_length_one_whatever_the_scale(scale):
    """Invariant: squares of 1e25 overflow float32, those of 1e-30 vanish; lengths do neither."""
    x = (RNG.standard_normal((4, 5)) * scale).astype(np.float32)
    out = F.normalize(tt.Tensor(x), dim=-1, eps=1e-38).numpy()
    np.testing.assert_allclose((out**2).sum(-1), 1.0, rtol=1e-6)


def test_normalize_leaves_zeros_and_their_gradient_is_finite():
    """Closed form: 0 / eps = 0, slope 1 / eps."""
    for p in (2.0, 3.0):
        x = tt.Tensor(np.zeros((2, 3)), requires_grad=True)
        out = F.normalize(x, p, eps=1e-3)
        assert np.array_equal(out.detach().numpy(), np.zeros((2, 3)))
        out.sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), 1e3)


def test_batch_norm_of_rows_and_of_signals():
    """Ground truth: each channel over everything else."""
    rows, signals = RNG.standard_normal((8, 3)), RNG.standard_normal((4, 3, 5))
    for x, axes in ((rows, (0,)), (signals, (0, 2))):
        out = nn.BatchNorm1d(3).to("float64")(tt.Tensor(x)).detach().numpy()
        expected = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
        np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)


def test_running_statistics_without_momentum_are_the_plain_mean():
    """Closed form: after three batches the mean of their means and of their variances."""
    norm = nn.BatchNorm1d(2, momentum=None).to("float64")
    batches = [RNG.standard_normal((6, 2)) for _ in range(3)]
    for x in batches:
        norm(tt.Tensor(x))
    means, variances = (
        [f(x) for x in batches] for f in (lambda x: x.mean(0), lambda x: x.var(0, ddof=1))
    )
    np.testing.assert_allclose(norm.running_mean.numpy(), np.mean(means, 0), rtol=1e-12)
    np.testing.assert_allclose(norm.running_var.numpy(), np.mean(variances, 0), rtol=1e-12)


def test_a_refused_batch_does_not_count():
    """Invariant: after an error the statistics are as they were."""
    norm = nn.BatchNorm1d(3)
    with pytest.raises(ShapeError, match="needs two numbers"):
        norm(tt.zeros(1, 3))
    assert norm.num_batches_tracked.item() == 0
    norm(tt.zeros(2, 3))
    assert norm.num_batches_tracked.item() == 1


def test_batch_norm_without_statistics_uses_the_batch_always():
    """Ground truth: train and eval agree; there is nothing to save."""
    norm = nn.BatchNorm2d(3, affine=False, track_running_stats=False)
    x = tt.Tensor(RNG.standard_normal((2, 3, 4, 4)).astype(np.float32))
    assert np.array_equal(norm.train()(x).numpy(), norm.eval()(x).numpy())
    assert norm.state_dict() == {}


def test_group_norm_of_samples_without_places():
    """Closed form: of (N, C) each group of a row is normalised: (1, 3) -> (-1, 1)."""
    found = nn.GroupNorm(2, 4, eps=0.0, affine=False)(tt.Tensor([[1.0, 3.0, 5.0, 5.5]]))
    np.testing.assert_allclose(found.numpy(), [[-1.0, 1.0, -1.0, 1.0]], rtol=1e-5)
    with pytest.raises(ShapeError, match="GroupNorm: input has the wrong shape"):
        nn.GroupNorm(2, 4)(tt.ones(4))


def test_batch_norm_moves_its_running_statistics_towards_the_batch():
    """Closed form: numbers 0 and 2: mean 1, unbiased variance 2; momentum 0.1."""
    norm = nn.BatchNorm2d(1)
    norm(tt.Tensor(np.array([0.0, 2.0], np.float32).reshape(2, 1, 1, 1)))
    assert norm.running_mean.item() == pytest.approx(0.1)
    assert norm.running_var.item() == pytest.approx(0.9 + 0.2)
    assert norm.num_batches_tracked.item() == 1
    norm.eval()(tt.ones(1, 1, 2, 2))
    assert norm.num_batches_tracked.item() == 1


def test_norms_keep_their_digits_far_from_zero():
    """Closed form: 1e4 +- 1 normalises to +-1; one-pass variances lose it in float32."""
    x = np.array([9999.0, 10001.0], np.float32)
    assert nn.LayerNorm(2)(tt.Tensor(x[None])).detach().numpy() == pytest.approx(
        np.array([[-1.0, 1.0]]), abs=1e-4
    )
    out = nn.BatchNorm2d(1)(tt.Tensor(x.reshape(2, 1, 1, 1))).detach().numpy().ravel()
    assert out == pytest.approx([-1.0, 1.0], abs=1e-4)


def test_cosine_similarity():
    """Closed form: 1 for multiples, -1 for opposites, 0 at right angles, 0 for zeros."""
    a = tt.Tensor([[1.0, 0.0], [1.0, 2.0], [1.0, 1.0], [0.0, 0.0]])
    b = tt.Tensor([[5.0, 0.0], [-2.0, -4.0], [1.0, -1.0], [1.0, 1.0]])
    assert F.cosine_similarity(a, b).numpy() == pytest.approx([1.0, -1.0, 0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (lambda: nn.LayerNorm(4, eps=-1.0), "eps is outside its range"),
        (lambda: nn.BatchNorm2d(4, momentum=2), "momentum is outside its range"),
        (lambda: nn.GroupNorm(3, 4), "the channels cannot be split"),
        (lambda: nn.GroupNorm(0, 4), "num_groups is not a whole number"),
        (lambda: nn.RMSNorm(4, eps=-1e-3), "eps is outside"),
        (lambda: nn.RMSNorm((4, 0)), "normalized_shape is not a whole number"),
        (lambda: nn.BatchNorm1d(3, track_running_stats=None), "track_running_stats is a yes or no"),
    ],
)
def test_bad_settings_are_named(make, phrase):
    """Ground truth: the ranges in the docstrings."""
    with pytest.raises(SettingError, match=phrase):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "phrase"),
    [
        (lambda: nn.LayerNorm(4), (2, 3), "last axes are not those of the layer"),
        (lambda: nn.BatchNorm2d(4), (2, 3, 5, 5), "C = num_features = 4"),
        (lambda: nn.BatchNorm2d(3), (1, 3, 1, 1), "needs two numbers for each channel"),
        (lambda: nn.GroupNorm(2, 4), (2, 6, 3), "C = num_channels = 4"),
        (lambda: nn.BatchNorm1d(3), (2, 3, 4, 4), r"\(N, C\) or \(N, C, T\)"),
        (lambda: nn.BatchNorm1d(3), (1, 3), "needs two numbers for each channel"),
        (lambda: nn.RMSNorm(4), (2, 3), r"rms_norm: the last axes[\s\S]*RMSNorm\(\(3,\)\)"),
    ],
)
def test_bad_shapes_are_named(layer, shape, phrase):
    """Ground truth: the shapes in the docstrings."""
    with pytest.raises(ShapeError, match=phrase):
        layer()(tt.zeros(*shape))
    with pytest.raises(ShapeError, match="cannot be split into groups"):
        F.group_norm(tt.zeros(2, 6), 4)


def test_an_empty_batch_passes_through():
    """Ground truth: the shapes of the docstrings, with N = 0."""
    assert nn.GroupNorm(2, 4)(tt.zeros(0, 4, 6, 6)).shape == (0, 4, 6, 6)
