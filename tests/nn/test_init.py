"""init.py: moments of the distributions."""

import os
from pathlib import Path

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn import init

SHAPE = (
    200,
    300,
)  # 60,000 numbers: the variance is known to 1 % (one deviation is sqrt(2 / n) = 0.6 %)


@pytest.mark.parametrize(
    ("make", "variance"),
    [
        (lambda: init.uniform(SHAPE, 0.5), 0.25 / 3),
        (lambda: init.normal(SHAPE, 0.02), 0.0004),
        (lambda: init.kaiming_uniform(SHAPE), 2 / 300),
        (lambda: init.kaiming_uniform(SHAPE, a=5**0.5), 1 / 900),
        (lambda: init.kaiming_normal(SHAPE), 2 / 300),
        (lambda: init.xavier_uniform(SHAPE), 2 / 500),
    ],
)
def test_variance(make, variance):
    """Closed form: each paper's formula; 4 deviations."""
    tt.manual_seed(1)
    x = make().numpy().astype(np.float64)
    assert x.shape == SHAPE
    assert x.var() == pytest.approx(variance, rel=0.024)
    assert abs(x.mean()) < 4 * (variance / x.size) ** 0.5


def test_layers_start_as_in_pytorch():
    """Closed form: uniform in +-1/sqrt(fan), variance 1 / (3 fan); embeddings normal."""
    tt.manual_seed(2)
    for layer, fan in ((nn.Linear(300, 200), 300), (nn.Conv2d(64, 128, 3), 576)):
        weight = layer.weight.detach().numpy()
        assert np.abs(weight).max() <= fan**-0.5
        assert weight.var() == pytest.approx(1 / (3 * fan), rel=0.024)
        assert np.abs(layer.bias.detach().numpy()).max() <= fan**-0.5
    assert nn.Embedding(300, 200).weight.detach().numpy().var() == pytest.approx(1.0, rel=0.024)


def test_the_seed_decides():
    """Invariant: equal seeds, equal weights."""
    weights = []
    for seed in (5, 5, 6):
        tt.manual_seed(seed)
        weights.append(nn.Linear(4, 4).weight.tolist())
    assert weights[0] == weights[1] != weights[2]


def test_a_vector_has_no_fans():
    """Ground truth: (outputs, inputs, ...)."""
    with pytest.raises(ShapeError, match="no inputs to count"):
        init.kaiming_uniform((3,))


@pytest.mark.parametrize("name", sorted(init.INITIALISERS))
def test_every_name_gives_its_shape(name):
    """Ground truth: the shape asked for; float32; another seed, other numbers."""
    tt.manual_seed(0)
    first = init.initialiser(name)((8, 4, 3, 3))
    tt.manual_seed(1)
    second = init.initialiser(name)((8, 4, 3, 3))
    assert first.shape == (8, 4, 3, 3) and first.dtype is tt.float32
    assert np.array_equal(first.numpy(), second.numpy()) is (name in ("zeros", "ones"))


@pytest.mark.parametrize(
    ("make", "variance"),
    [
        (lambda: init.xavier_normal(SHAPE), 2 / 500),
        (lambda: init.xavier_uniform(SHAPE, gain=3.0), 18 / 500),
        (lambda: init.lecun_normal(SHAPE), 1 / 300),
        (lambda: init.kaiming_normal(SHAPE, mode="fan_out"), 2 / 200),
        # a normal cut off at +-2 has variance 1 - 4 phi(2) / (2 Phi(2) - 1) = 0.77374
        (lambda: init.truncated_normal(SHAPE, 0.1), 0.0077374),
        (lambda: init.orthogonal(SHAPE), 1 / 300),
        (lambda: nn.init.kaiming_normal_(tt.zeros(*SHAPE), nonlinearity="relu"), 2 / 300),
        (lambda: nn.init.kaiming_uniform_(tt.zeros(*SHAPE), a=5**0.5), 1 / 900),
        (lambda: nn.init.xavier_uniform_(tt.zeros(*SHAPE)), 2 / 500),
        (lambda: nn.init.xavier_normal_(tt.zeros(*SHAPE), gain=2.0), 8 / 500),
        (lambda: nn.init.normal_(tt.zeros(*SHAPE), std=0.3), 0.09),
        (lambda: nn.init.uniform_(tt.zeros(*SHAPE), -1.0, 1.0), 1 / 3),
    ],
)
def test_variance_of_the_others(make, variance):
    """Closed form: each paper's formula; 4 deviations."""
    tt.manual_seed(1)
    x = make().numpy().astype(np.float64)
    assert x.var() == pytest.approx(variance, rel=0.024)
    assert abs(x.mean()) < 4 * (variance / x.size) ** 0.5


def test_truncated_normal_stays_within_its_bound():
    """Closed form: |x| <= 2 std, and it is not clipped: nothing piles up there."""
    tt.manual_seed(0)
    x = np.abs(init.truncated_normal((100_000,), 0.5).numpy())
    assert x.max() <= 1.0 and (x == x.max()).sum() < 5
    y = nn.init.trunc_normal_(tt.zeros(1000), mean=3.0, std=1.0, a=2.0, b=4.0).numpy()
    assert y.min() >= 2.0 and y.max() <= 4.0


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (4, 2, 3, 3)])
def test_orthogonal_keeps_lengths(shape):
    """Invariant: W W^T = gain^2 I or W^T W = gain^2 I; float32 rounding of 18 terms."""
    tt.manual_seed(0)
    w = init.orthogonal(shape, gain=2.0).numpy().reshape(shape[0], -1)
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-5)


def test_every_orthogonal_matrix_is_equally_likely():
    """Symmetry: W and -W are equally likely. The first element of 2 x 2 ones has variance 1/2: the
    mean of 400 lies within 5 deviations, 0.18. Without moving the signs over it is near -0.64."""
    tt.manual_seed(0)
    mean = np.mean([init.orthogonal((2, 2)).numpy()[0, 0] for _ in range(400)])
    assert abs(mean) < 0.18


def test_a_network_gets_other_first_values_by_name():
    """Ground truth: matrices change, biases become zero, scales of norms stay."""
    tt.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 4))
    old = net[3].weight.numpy().copy()
    assert nn.initialise(net.to("float64"), "orthogonal") is net
    assert net[3].weight.dtype is tt.float64 and net[3].weight.requires_grad
    assert not np.array_equal(net[3].weight.detach().numpy(), old)
    assert net[0].bias.tolist() == [0.0] * 8
    assert net[1].weight.tolist() == [1.0] * 8
    nn.initialise(net, "ones", biases=None)
    assert net[0].weight.detach().numpy().min() == 1.0


def test_he_keeps_the_signal_through_a_deep_relu_network():
    """Effect (row S4-26): after 20 layers of 256, He's deviation stays near 1, 0.01's vanishes."""
    tt.manual_seed(0)
    spread = {}
    for name in ("he_normal", "small_normal"):
        x = tt.randn(64, 256)
        for _ in range(20):
            x = tt.relu(x @ init.initialiser(name)((256, 256)).T)
        spread[name] = float((x * x).mean().item() ** 0.5)
    # E[x^2] keeps its value 1; its relative error grows by sqrt(5 / 256) a layer, 0.6 after 20
    assert 0.3 < spread["he_normal"] < 3.0
    assert spread["small_normal"] < 1e-10  # (0.02 sqrt(256 / 2))^20 = 2e-13


def test_mistakes_in_names_are_named():
    """Ground truth: the tables."""
    with pytest.raises(SettingError, match="no such initialiser"):
        init.initialiser("he")
    with pytest.raises(SettingError, match="no such nonlinearity"):
        init.gain("swoosh")
    with pytest.raises(SettingError, match="no such mode"):
        init.kaiming_normal((3, 3), mode="fan")
    with pytest.raises(SettingError, match="mean - a"):
        nn.init.trunc_normal_(tt.zeros(3), a=-5.0, b=2.0)


def test_simple_fills():
    """Closed form."""
    x = tt.zeros(2, 2)
    assert nn.init.constant_(x, 7.0) is x and x.tolist() == [[7.0, 7.0]] * 2
    assert nn.init.eye_(x).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert nn.init.ones_(x).tolist() == [[1.0, 1.0]] * 2
    assert nn.init.zeros_(x).tolist() == [[0.0, 0.0]] * 2
    assert nn.init.orthogonal_(x).shape == (2, 2)
    assert nn.init.calculate_gain("tanh") == pytest.approx(5 / 3)


def test_uniform_numbers_lie_between_0_and_1_unless_said():
    """Closed form: mean 1/2, deviation 1 / sqrt(12); five standard errors of 4,000."""
    x = nn.init.uniform_(tt.zeros(4000)).numpy()
    assert x.min() >= 0.0 and x.max() < 1.0
    assert abs(x.mean() - 0.5) < 5 / np.sqrt(12 * 4000)


def test_without_draws_no_memory_is_touched():
    """Ground truth: what the system counts: 400 MB of weights take less than 40 MB of memory; the
    same layers otherwise draw, and a layer made after the block does."""

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not say how much memory is in use")
    before = resident()
    with init.without_draws():
        layer = nn.Linear(10_000, 10_000, bias=False)
    assert resident() - before < 40e6
    assert layer.weight.requires_grad and layer.weight.shape == (10_000, 10_000)
    assert nn.Linear(100, 100).weight.detach().numpy().std() > 0.01
