"""Observers: histograms that grow, three ways to choose a scale, what goes into each layer."""

import math

import numpy as np
import pytest

import tinytorch as tt
from tests.mistakes import mistakes
from tinytorch import nn
from tinytorch.base.errors import ArgumentTypeError, DataError, SettingError
from tinytorch.compression.observe import BINS, METHODS, ObservedWeight, Observer, batches_of


def normal(n=20000, seed=0):
    return np.random.default_rng(seed).standard_normal(n).astype(np.float32)


def error(x, limit, levels, low):
    """Mean squared error of the bytes that a limit stands for, by the formula."""
    step = limit / levels
    return np.square(np.clip(np.rint(x / step), low, levels) * step - x).mean()


def test_minmax():
    """Closed form: the largest size / 127; the largest / 255 where nothing is below 0."""
    observer = Observer("minmax")
    for part in ([0.5, 3.0], [1.0, 10.0], [0.0]):
        observer.observe(np.array(part, np.float32))
    rounding = observer.rounding()
    assert rounding.unsigned and rounding.step.item() == np.float32(10 / 255)
    assert observer.rounding(signed=True).step.item() == np.float32(10 / 127)
    observer.observe(np.array([-20.0], np.float32))
    rounding = observer.rounding()
    assert not rounding.unsigned and rounding.step.item() == np.float32(20 / 127)


def test_percentile():
    """Ground truth: NumPy's quantile of the sizes, to a bin; zeros are not counted."""
    x = normal()
    observer = Observer("percentile", 0.99)
    observer.observe(np.concatenate([x, np.zeros(50000, np.float32)]))
    exact = np.quantile(np.abs(x), 0.99)
    assert exact <= observer.limit(127) <= exact + 2 * np.abs(x).max() / BINS
    whole = Observer("percentile", 1.0)
    whole.observe(x)
    assert whole.limit(127) == np.abs(x).max()


@pytest.mark.parametrize("positive", [False, True])
def test_mse_is_the_best(positive):
    """Ground truth: the squared error of the numbers themselves, at 400 limits: the one that is
    chosen is within 2 % of the best, and of 4 bits a quarter better than the largest number's."""
    x = normal()
    x = np.maximum(x, 0) if positive else x
    levels, low = (15, 0) if positive else (7, -7)
    observer = Observer("mse")
    for part in np.split(x, 10):
        observer.observe(part)
    assert observer.rounding().unsigned == positive
    largest = np.abs(x).max()
    best = min(error(x, t, levels, low) for t in np.linspace(0.1, 1, 400) * largest)
    found = error(x, observer.limit(levels), levels, low)
    assert found <= 1.02 * best
    assert found < 0.75 * error(x, largest, levels, low)


@pytest.mark.parametrize("method", METHODS)
def test_a_histogram_that_grows(method):
    """Invariant: small numbers first or last make no difference, to a few bins."""
    x = normal() * np.geomspace(1e-3, 1, 20000).astype(np.float32)
    limits = []
    for order in (x, x[::-1]):
        observer = Observer(method, 0.999)
        for part in np.split(order, 20):
            observer.observe(tt.Tensor(part.copy()))
        assert observer.counts.sum() == observer.seen == 20000
        limits.append(observer.limit(127))
    assert limits[0] == pytest.approx(limits[1], rel=0.03)


def test_nothing_but_zeros_and_the_smallest_numbers():
    """Closed form: zeros become zeros; numbers whose step would be subnormal keep a normal one."""
    for method in METHODS:
        for x in (np.zeros(5, np.float32), np.full(5, 1e-44, np.float32)):
            observer = Observer(method)
            observer.observe(x)
            rounding = observer.rounding()
            assert math.isfinite(1 / rounding.step.item())
            assert not rounding(tt.Tensor(x)).numpy().any()
    observer.observe(np.zeros(0, np.float32))
    assert observer.seen == 5


def test_an_observed_weight_computes_as_before():
    """Ground truth: the layer itself, bit for bit; the observer has seen its input."""
    x = tt.Tensor(normal(2 * 3 * 6 * 6).reshape(2, 3, 6, 6))
    for layer, given in (
        (nn.Conv2d(3, 4, 3), x),
        (nn.Linear(6, 4), x),
        (nn.Conv1d(3, 2, 3), x[:, :, 0]),
    ):
        wanted = layer(given).detach().numpy()
        observer = Observer("minmax")
        layer.weight = ObservedWeight(layer.weight, observer)
        np.testing.assert_array_equal(layer(given).detach().numpy(), wanted)
        assert (observer.seen, observer.high) == (given.size, given.numpy().max())
    table = ObservedWeight(nn.Embedding(5, 3).weight, observer.again())
    assert table.rows(tt.tensor([1, 4])).shape == (2, 3) and table.observer.seen == 0
    assert table.part(slice(1, 3)).observer is table.observer


def test_inputs_of_batches():
    """Ground truth: the Trainer's rule: the last of several arrays is the target."""
    x, y = np.ones((2, 3), np.float32), np.zeros(2, np.int64)
    for given in ([(x, y)], [[x, y]], [x], [(x,)], x, tt.Tensor(x), ((x, y) for _ in range(1))):
        ((found,),) = batches_of("quantize", given)
        np.testing.assert_array_equal(found.numpy(), x)
    assert [len(inputs) for inputs in batches_of("quantize", [(x, x, y)])] == [2]


test_mistakes = mistakes(
    (lambda: Observer("max"), SettingError, "there is no such method"),
    (lambda: Observer("percentile", 1.5), SettingError, "share"),
    (lambda: Observer().observe(np.array([1, np.nan])), DataError, "not finite"),
    (lambda: list(batches_of("q", [])), DataError, "calibration without data"),
    (lambda: list(batches_of("q", [np.ones((0, 3))])), DataError, "calibration without data"),
    (lambda: list(batches_of("q", 3)), ArgumentTypeError, "not made of batches"),
    (lambda: list(batches_of("q", ["ab"])), ArgumentTypeError, "no batch to calibrate with"),
)
