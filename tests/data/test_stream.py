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


@pytest.mark.parametrize("word", [0, 1, 3, 4, 5, 11])
def test_any_word_can_be_gone_to(word):
    """Ground truth: the words of the stream from its beginning."""
    assert np.array_equal(
        Stream(5, 1, 2).go_to(word).words(8), Stream(5, 1, 2).words(20)[word:][:8]
    )


@pytest.mark.parametrize("below", [2**31, 2**31 + 1, 10**10, 2**62 - 1, 2**62])
def test_whole_numbers_beyond_31_bits(below, monkeypatch):
    """Ground truth: Python's whole numbers: the upper 63 bits times `below` over 2**63."""
    words = np.concatenate([Stream(6).words(500), np.array([0, 1, 2**64 - 1, 2**63], np.uint64)])
    monkeypatch.setattr(Stream, "words", lambda self, n: words)
    found = Stream(6).whole(below, len(words))
    assert found.tolist() == [(int(w) >> 1) * below >> 63 for w in words]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 16, 17, 1000])
def test_a_scattered_order_is_an_order(n):
    """Ground truth: each number once; a part of it is that part of the whole."""
    whole = Stream(3).scattered(n, 0, n)
    assert sorted(whole) == list(range(n))
    assert np.array_equal(Stream(3).scattered(n, n // 3, n - n // 4), whole[n // 3 : n - n // 4])


def test_a_scattered_order_is_random():
    """Ground truth: each number is equally likely at each place, and far out too."""
    first = np.array([Stream(seed).scattered(5, 2, 3)[0] for seed in range(3000)])
    for i in range(5):
        within(first == i, 1 / 5, 2 / 5)
    order = Stream(1).scattered(N, 0, N) / N
    within((order - 0.5) * (np.arange(N) / N - 0.5), 0.0, 1 / 12)
    far = Stream(1).scattered(10**10, 10**9, 10**9 + N) / 10**10
    within(far, 1 / 2, 1 / np.sqrt(12))
    assert len(set(Stream(s).scattered(10**10, 0, 1)[0] for s in range(50))) == 50
