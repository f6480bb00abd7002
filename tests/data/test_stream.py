"""Streams of random numbers: fixed by their names, and of the distributions they say.

Limits on averages: five standard errors, so that a right program fails once in two million; the
seeds are fixed, so it does so never or always.
"""

import numpy as np
import pytest

from tinytorch.data.stream import AUGMENTATION, ORDER, SPLIT, Stream

N = 20_000


def within(values, mean, deviation):
    values = np.asarray(values, float)
    assert abs(values.mean() - mean) < 5 * deviation / np.sqrt(len(values))


def philox(counter, key):
    """Four words of Philox4x64-10 (Salmon et al. 2011, section 4.3), in Python."""
    mask, (k0, k1) = 2**64 - 1, key
    c0, c1, c2, c3 = counter
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (b >> 64) ^ c1 ^ k0, b & mask, (a >> 64) ^ c3 ^ k1, a & mask
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
    return [c0, c1, c2, c3]


def test_words_are_philox():
    """Ground truth: the paper's rounds in Python's whole numbers; counting begins at 1."""
    want = philox((1, 3, AUGMENTATION, 0), (1, 2)) + philox((2, 3, AUGMENTATION, 0), (1, 2))
    assert Stream(1, 2, 3).words(8).tolist() == want


def test_names_do_not_share_words():
    """Ground truth: 64-bit words of different names are equal once in 2**64."""
    names = [(s, e, b, p) for s in (0, 1) for e in (0, 1) for b in (0, 1)
             for p in (ORDER, AUGMENTATION, SPLIT)]  # fmt: skip
    words = np.concatenate([Stream(*name).words(50) for name in names])
    assert len(np.unique(words)) == len(words)


def test_uniform_and_chance():
    """Ground truth: mean and deviation of the uniform distribution."""
    u = Stream(0).uniform(N, 2.0, 4.0)
    assert u.min() >= 2 and u.max() < 4
    within(u, 3, 2 / np.sqrt(12))
    within((u - 3) ** 2, 1 / 3, np.sqrt(1 / 5 - 1 / 9))
    within(Stream(1).chance(0.3, N), 0.3, np.sqrt(0.21))


@pytest.mark.parametrize("below", [1, 2, 7, 2**31 - 1])
def test_whole(below):
    """Ground truth: bounds, and the mean of the discrete uniform distribution."""
    x = Stream(2).whole(below, N)
    assert x.dtype == np.int64 and x.min() >= 0 and x.max() < below
    within(x, (below - 1) / 2, np.sqrt((float(below) ** 2 - 1) / 12) + 1e-12)
    if below < 10:
        assert set(x) == set(range(below))


def test_permutation():
    """Ground truth: each number once; each equally likely to come first."""
    assert sorted(Stream(3).permutation(50)) == list(range(50))
    first = [Stream(seed).permutation(4)[0] for seed in range(2000)]
    for i in range(4):
        within(np.array(first) == i, 1 / 4, np.sqrt(3 / 16))


@pytest.mark.parametrize("shape", [0.2, 1.0, 3.5])
def test_gamma(shape):
    """Ground truth: mean and variance of the gamma distribution are its shape."""
    stream = Stream(4)
    x = np.array([stream.gamma(shape) for _ in range(4000)])
    within(x, shape, np.sqrt(shape))
    # the fourth central moment of the gamma distribution is 3 a**2 + 6 a
    within((x - shape) ** 2, shape, np.sqrt(3 * shape**2 + 6 * shape - shape**2))


@pytest.mark.parametrize(("a", "b"), [(0.2, 0.2), (1.0, 1.0), (2.0, 5.0), (1e-4, 1e-4)])
def test_beta(a, b):
    """Ground truth: mean a / (a + b) and its standard deviation; values in [0, 1]."""
    stream = Stream(5)
    x = np.array([stream.beta(a, b) for _ in range(2000)])
    assert x.min() >= 0 and x.max() <= 1
    within(x, a / (a + b), np.sqrt(a * b / (a + b + 1)) / (a + b))
