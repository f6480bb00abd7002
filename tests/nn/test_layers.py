"""Layers' own errors and closed forms that the contract does not ask for."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import DTypeError, IndexRangeError, SettingError, ShapeError


def test_linear_names_its_features_and_the_cure():
    """Ground truth: the worked example of the style guide."""
    with pytest.raises(ShapeError, match=r"in_features = 784[\s\S]*x.reshape\(32, -1\)"):
        nn.Linear(784, 10)(tt.zeros(32, 28, 28))
    with pytest.raises(ShapeError, match="wrong number of features"):
        nn.Linear(3, 1)(tt.zeros(2, 4))


@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 0, 3), (2, 1, 2, 3)])
def test_linear_works_on_the_last_axis_of_any_shape(shape):
    """Ground truth: NumPy's matmul."""
    layer = nn.Linear(3, 2)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    expected = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    out = layer(tt.Tensor(x)).detach().numpy()
    assert out.shape == expected.shape
    np.testing.assert_allclose(
        out, expected, rtol=1e-5, atol=1e-6
    )  # 3 products of order 1, eps 6e-8


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (lambda: nn.Linear(0, 1), "in_features is not a whole number"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "in_channels cannot be split"),
        (lambda: nn.Conv2d(2, 4, (3, 3, 3)), "two image axes"),
        (lambda: nn.MaxPool2d(2, padding=2), "wider than half the window"),
        (lambda: nn.LayerNorm(4, eps=-1.0), "eps is outside its range"),
        (lambda: nn.BatchNorm2d(4, momentum=2), "momentum is outside its range"),
        (lambda: nn.Dropout(1.5), "p is outside its range"),
        (lambda: nn.GELU("fast"), "approximate has two values"),
        (lambda: nn.MultiHeadAttention(10, 3), "do not share the size evenly"),
        (lambda: nn.Embedding(3, 0), "embedding_dim is not a whole number"),
    ],
)
def test_bad_settings_are_named(make, phrase):
    """Ground truth: the ranges in the docstrings."""
    with pytest.raises(SettingError, match=phrase):
        make()


@pytest.mark.parametrize(
    ("layer", "x", "phrase"),
    [
        (lambda: nn.LayerNorm(4), (2, 3), "last axes are not those of the layer"),
        (lambda: nn.BatchNorm2d(4), (2, 3, 5, 5), "C = num_features = 4"),
        (lambda: nn.BatchNorm2d(3), (1, 3, 1, 1), "needs two numbers for each channel"),
        (lambda: nn.MultiHeadAttention(8, 2), (2, 8), r"\(B, T, C\) with C = d_model = 8"),
    ],
)
def test_bad_shapes_are_named(layer, x, phrase):
    """Ground truth: the shapes in the docstrings."""
    with pytest.raises(ShapeError, match=phrase):
        layer()(tt.zeros(*x))


def test_embedding_refuses_tokens_outside_its_table():
    """Ground truth: [0, V); -1 is a mistake, not the last row."""
    table = nn.Embedding(4, 2)
    for wrong in (4, -1):
        with pytest.raises(IndexRangeError, match=rf"token\[1\] = {wrong}, 1 of 2"):
            table(tt.tensor([0, wrong]))
    with pytest.raises(DTypeError, match="tokens are whole numbers"):
        table(tt.Tensor([0.5]))


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


def test_dropout_keeps_the_expectation_and_its_extremes():
    """Binomial: the share of zeros of 1e5 draws lies within 5 standard deviations, 0.008, of p."""
    tt.manual_seed(0)
    out = nn.Dropout(0.25)(tt.ones(100_000)).numpy()
    assert set(np.unique(out).tolist()) == {0.0, np.float32(1 / 0.75).item()}
    assert (out == 0).mean() == pytest.approx(0.25, abs=0.008)
    assert nn.Dropout(0.0)(tt.ones(3)).tolist() == [1.0] * 3
    assert nn.Dropout(1.0)(tt.ones(3)).tolist() == [0.0] * 3


def test_causal_attention_does_not_see_the_future():
    """Invariant: changing the last token changes no output before it."""
    layer = nn.MultiHeadAttention(8, 2, causal=True)
    x = np.random.default_rng(0).standard_normal((1, 5, 8)).astype(np.float32)
    changed = x.copy()
    changed[0, -1] += 1.0
    first, second = layer(tt.Tensor(x)).detach().numpy(), layer(tt.Tensor(changed)).detach().numpy()
    assert np.array_equal(first[:, :-1], second[:, :-1])
    assert not np.array_equal(first[:, -1], second[:, -1])
