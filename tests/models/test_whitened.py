"""whitened.py: what the first filters make of patches, what a new network hands on, errors."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.compression import flops_of
from tinytorch.models.whitened import (
    PATCH,
    SMALLEST_VARIANCE,
    Group,
    WhitenedCNN,
    whitening_filters,
)
from tinytorch.nn import functional as F

RNG = np.random.default_rng(0)
# neighbours and channels alike, as in pictures
ROUGH = RNG.standard_normal((40, 3, 13, 13))
SMOOTH = sum(ROUGH[:, :, i : i + 12, j : j + 12] for i in (0, 1) for j in (0, 1))
SMOOTH = (SMOOTH + SMOOTH.mean(1, keepdims=True)).astype(np.float32)


def test_patches_are_made_independent():
    """Closed form: the covariance of what the filters give is diag(d / (d + eps)), of which the
    least d here is 0.4; opposites follow; the same filters whatever the sign of a direction."""
    filters = whitening_filters(SMOOTH)
    assert filters.shape == (24, 3, PATCH, PATCH) and filters.dtype == np.float32
    found = F.conv2d(tt.Tensor(SMOOTH), tt.Tensor(filters)).numpy().transpose(1, 0, 2, 3)
    rows = found.reshape(24, -1).astype(float)
    covariance = rows[:12] @ rows[:12].T / rows.shape[1]
    assert np.abs(covariance - np.eye(12)).max() < SMALLEST_VARIANCE / 0.2
    assert np.array_equal(filters[12:], -filters[:12])
    flat = filters[:12].reshape(12, -1)
    assert (flat[np.arange(12), np.abs(flat).argmax(1)] > 0).all()
    assert np.array_equal(whitening_filters(-SMOOTH), filters)


@pytest.mark.parametrize(("channels_in", "channels"), [(3, 5), (5, 3)])
def test_a_new_group_hands_on_what_it_gets(channels_in, channels):
    """Closed form: the first filters give the channels themselves: their maxima, normalised, GELU,
    normalised, GELU."""
    group = Group(channels_in, channels)
    x = RNG.standard_normal((4, channels_in, 6, 8)).astype(np.float32)
    count = min(channels_in, channels)
    kept = x[:, :count].reshape(4, count, 3, 2, 4, 2).max(axis=(3, 5)).astype(float)
    for _ in range(2):
        kept = kept - kept.mean(axis=(0, 2, 3), keepdims=True)
        kept /= np.sqrt((kept**2).mean(axis=(0, 2, 3), keepdims=True))
        kept *= 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (kept + 0.044715 * kept**3)))
    got = group(tt.Tensor(x)).detach().numpy()[:, : min(count, channels)]
    # the second convolution of (5, 3) hands on all, that of (3, 5) the first five: its own
    np.testing.assert_allclose(got, kept, rtol=0, atol=1e-5)


def test_what_is_trained():
    """Ground truth: the recipe: neither the first filters nor scales of norms; the head is brought
    to deviation one; operations and weights as the docstring says."""
    net = WhitenedCNN()
    frozen = {n for n, p in net.named_parameters() if not p.requires_grad}
    assert frozen == {"whiten.weight"} | {
        f"groups.{i}.norm{j}.weight" for i in range(3) for j in (1, 2)
    }
    assert net.head.weight.numpy().std(ddof=1) == pytest.approx(1.0, abs=1e-5)
    assert not net.whiten.bias.numpy().any()
    for widths, weights, operations in (
        ((64, 256, 256), 1.97, 294), ((32, 128, 128), 0.50, 82), ((16, 64, 64), 0.13, 25),
    ):  # fmt: skip
        net = WhitenedCNN(widths).eval()
        assert round(sum(p.size for p in net.parameters()) / 1e6, 2) == weights
        assert round(flops_of(net, tt.zeros(1, 3, 32, 32)) / 1e6) == operations


def test_errors_are_named():
    """Ground truth: the documented ranges."""
    for widths in ((8, 8), 8, "888"):
        with pytest.raises(SettingError, match="three groups"):
            WhitenedCNN(widths)
    with pytest.raises(SettingError, match="WhitenedCNN: widths"):
        WhitenedCNN((8, 0, 8))
    for shape in ((4, 1, 8, 8), (3, 8, 8), (4, 3, 1, 8)):
        with pytest.raises(ShapeError, match="whiten_from"):
            WhitenedCNN((2, 2, 2)).whiten_from(np.zeros(shape, np.float32))
