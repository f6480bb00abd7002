"""Low rank and shared numbers: how far they are from the weight, and how small."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import compression, nn
from tinytorch.base.errors import SettingError
from tinytorch.compression.factorize import clustered
from tinytorch.models import CNN, GPT, GPTConfig, VisionTransformer
from tinytorch.nn.weight_forms import FactoredWeight, SharedWeight


def weight(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (16, 8, 3, 3)])
@pytest.mark.parametrize("rank", [1, 5])
def test_the_error_is_the_tail_of_the_singular_values(shape, rank):
    """Closed form (Eckart, Young): the squared distance is the sum of the squares left out."""
    layer = nn.Linear(*shape[::-1]) if len(shape) == 2 else nn.Conv2d(8, 16, 3)
    layer.weight.data = tt.Tensor(weight(*shape))
    small = compression.factorize(layer, rank)
    s = np.linalg.svd(weight(*shape).reshape(shape[0], -1).astype(np.float64), compute_uv=False)
    distance = np.square(small.weight.dense().detach().numpy() - weight(*shape)).sum()
    assert distance == pytest.approx(np.square(s[rank:]).sum(), rel=1e-4)
    assert small.weight.rank == rank


@pytest.mark.parametrize("energy", [0.5, 0.9])
def test_so_much_energy_is_kept_and_no_more(energy):
    """Closed form: the squares of the singular values that are kept reach the part asked for, and
    without the last one they do not."""
    layer = nn.Linear(64, 64)
    layer.weight.data = tt.Tensor(weight(64, 64) * np.exp(-np.arange(64, dtype=np.float32) / 5))
    r = compression.factorize(layer, energy=energy).weight.rank
    s = np.linalg.svd(layer.weight.detach().numpy().astype(np.float64), compute_uv=False) ** 2
    assert s[:r].sum() >= energy * s.sum() > s[: r - 1].sum()


def test_of_low_rank_nothing_is_lost():
    """Closed form: a weight of rank 3 is its product; a call takes fewer operations."""
    tt.manual_seed(0)
    model = nn.MLP([50, 40, 30])
    for layer in model.layers:
        n, k = layer.weight.shape
        layer.weight.data = tt.Tensor(weight(n, 3) @ weight(3, k, seed=1))
    small = compression.factorize(model, energy=1.0 - 1e-9)
    x = tt.Tensor(weight(4, 50))
    right = model(x).detach().numpy()
    np.testing.assert_allclose(
        small(x).detach().numpy(), right, rtol=0, atol=1e-5 * np.abs(right).max()
    )
    assert [layer.weight.rank for layer in small.layers] == [3, 3]
    assert compression.flops_of(small, x) < compression.flops_of(model, x) / 4


@pytest.mark.parametrize(
    ("make", "example"),
    [
        (lambda: CNN(8, 3, widths=(16, 16)), lambda: tt.Tensor(weight(2, 3, 8, 8))),
        (lambda: VisionTransformer(8, 4, 32, depth=1, heads=4), lambda: tt.ones(2, 3, 8, 8)),
        (lambda: GPT(GPTConfig(65, layers=1, heads=2, size=32, length=8, tied=True)),
         lambda: tt.zeros(2, 5, dtype="int64")),
    ],
)  # fmt: skip
def test_any_model_becomes_smaller_and_is_trained_on(make, example):
    """Ground truth: the model with the products themselves as weights; a gradient for each part."""
    tt.manual_seed(1)
    small, x = compression.factorize(make().eval(), 6), example()
    plain = compression.dense(small)
    assert any(isinstance(module, FactoredWeight) for module in small.modules())
    np.testing.assert_allclose(
        small(x).detach().numpy(), plain(x).detach().numpy(), rtol=1e-3, atol=1e-5
    )
    assert compression.bytes_of(small) < compression.bytes_of(plain)
    (small(x) ** 2).sum().backward()
    assert all(p.grad is not None for p in small.parameters())


def test_clusters_are_those_of_lloyd():
    """Invariant: each number belongs to the nearest mean, and each mean is that of its numbers."""
    x = weight(4000) ** 3
    book, codes = clustered(x, 16)
    assert len(book) == 16 and (np.diff(book) > 0).all()
    nearest = np.abs(x[:, None] - book).argmin(1)
    assert (nearest == codes).mean() > 0.999
    means = [x[codes == i].mean() for i in range(16) if (codes == i).any()]
    np.testing.assert_allclose(means, book[np.unique(codes)], rtol=0.05, atol=0.02)
    few = np.array([2.0, -1.0, 2.0, 0.5])
    book, codes = clustered(few, 8)
    np.testing.assert_array_equal(book[codes], few)  # no more numbers than clusters: exact


@pytest.mark.parametrize(("clusters", "bits"), [(2, 1), (4, 2), (16, 4), (200, 8)])
def test_bytes_of_shared_numbers(clusters, bits):
    """Closed form: bits for each place and 4 bytes for each number; more numbers, less error."""
    tt.manual_seed(0)
    layer = nn.Linear(128, 64, bias=False)
    small = compression.share_weights(layer, clusters).weight
    assert small.nbytes == 128 * 64 * bits // 8 + 4 * clusters + 16
    assert len(np.unique(small.dense().detach().numpy())) == clusters
    error = np.square(small.dense().detach().numpy() - layer.weight.detach().numpy()).mean()
    step = 2 / 128**0.5 / clusters  # of numbers spread evenly in +-1 / sqrt(128)
    assert error < 1.2 * step**2 / 12


def test_zeros_stay_zeros():
    """Invariant: sharing after pruning keeps the zeros, and no others appear."""
    small = compression.prune(nn.Linear(40, 30), 0.9)
    shared = compression.share_weights(small, 8)
    assert isinstance(shared.weight, SharedWeight)
    zeros = shared.weight.dense().detach().numpy() == 0
    np.testing.assert_array_equal(zeros, ~small.weight.mask.numpy())


def test_bad_input_is_named():
    """Ground truth: what cannot be done is said."""
    model = nn.MLP([64, 64, 10])
    with pytest.raises(SettingError, match="how much is kept"):
        compression.factorize(model)
    with pytest.raises(SettingError, match="how much is kept"):
        compression.factorize(model, 3, energy=0.5)
    with pytest.raises(SettingError, match="rank"):
        compression.factorize(model, 0)
    for energy in (0.0, 1.1):
        with pytest.raises(SettingError, match="energy"):
            compression.factorize(model, energy=energy)
    with pytest.raises(SettingError, match="no weight of this model"):
        compression.factorize(model, 64)
    for clusters in (1, 257, 2.5):
        with pytest.raises(SettingError, match="clusters"):
            compression.share_weights(model, clusters)
    with pytest.raises(SettingError, match="no weight of this model"):
        compression.share_weights(nn.ReLU())
