"""Reports: bytes, operations and times of two models."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import compression, nn
from tinytorch.base.errors import ArgumentTypeError, SettingError


def test_operations_are_those_of_the_formula():
    """Closed form: 2 N C K H W k^2 of a convolution, 2 N C K of a linear layer."""
    conv = nn.Conv2d(3, 5, 3, padding=1, bias=False)
    assert compression.flops_of(conv, tt.zeros(2, 3, 8, 8)) == 2 * 2 * 3 * 5 * 8 * 8 * 9
    assert compression.flops_of(nn.Linear(7, 3, bias=False), tt.zeros(4, 7)) == 2 * 4 * 7 * 3


def test_a_report_compares():
    """Ground truth: bytes by hand; the model beside itself; a shape that differs."""
    model, small = nn.MLP([64, 128, 10]), nn.MLP([64, 16, 10])
    x = np.random.default_rng(0).standard_normal((2, 64), np.float32)
    found = compression.report(model, small, x, runs=2)
    sizes = [4 * sum(p.size for p in m.parameters()) for m in (model, small)]
    assert found.bytes == tuple(sizes) and found.milliseconds[0] > 0
    assert found.flops[0] > 7 * found.flops[1] and found.difference > 1e-3
    assert model.training
    text = str(found)
    assert f"{sizes[0] / sizes[1]:.2f}" in text and "answers differ" in text
    assert compression.report(model, model, x, runs=1).difference == 0.0
    assert compression.report(model, nn.MLP([64, 3]), x, runs=1).difference is None


def test_a_report_says_which_sparse_weights_are_multiplied_whole():
    """Ground truth: by hand: the second layer is too small; operations count numbers of the first,
    which are a tenth."""
    model = nn.MLP([512, 256, 10], bias=False)
    small = compression.store_sparse(compression.prune(model, 0.9, scope="layer"))
    found = compression.report(model, small, tt.zeros(1, 512), runs=1)
    assert list(found.whole) == ["layers.1.weight"]
    assert "layers.1.weight is multiplied whole: fewer than" in str(found)
    assert found.flops[0] - found.flops[1] == 2 * (512 * 256 - small.layers[0].weight.values.size)


def test_bad_input_is_named():
    """Ground truth: no model, no runs."""
    with pytest.raises(ArgumentTypeError, match="this is no model"):
        compression.report(nn.MLP([4, 2]), None, tt.zeros(1, 4))
    with pytest.raises(SettingError, match="runs"):
        compression.report(nn.MLP([4, 2]), nn.MLP([4, 2]), tt.zeros(1, 4), runs=0)
