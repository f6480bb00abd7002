"""Random Tensors: streams, and moments of the distributions.

The bounds on sample moments: with n samples a mean lies within 5 standard errors of its expectation
with probability 1 - 6e-7 (normal tail), and the seeds are fixed, so a pass stays a pass.
"""

import math

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import DTypeError, SettingError

N = 40_000


def generator(seed=3):
    return tt.Generator(seed)


def test_manual_seed_repeats_everything():
    """Invariant: same seed, same numbers; another seed, others."""
    draws = []
    for seed in (1, 1, 2):
        tt.manual_seed(seed)
        draws.append([tt.rand(3).tolist(), tt.randn(3).tolist(), tt.permutation(9).tolist()])
    assert draws[0] == draws[1] != draws[2]


def test_the_state_counts_blocks_of_four():
    """Philox: n numbers move the counter by ceil(n / 4), the key stays."""
    g = tt.Generator(2**40 + 5)
    assert g.state.tolist() == [5, 256, 0, 0]
    tt.rand(9, generator=g)
    assert g.state.tolist() == [5, 256, 3, 0]
    tt.rand(4, generator=g)
    assert g.state.tolist() == [5, 256, 4, 0]
    assert g.manual_seed(7).state.tolist() == [7, 0, 0, 0]


def test_rand_takes_the_high_bits():
    """Definition: bits >> 8, times 2^-24."""
    bits = generator().bits((5,)).numpy()
    assert np.array_equal(
        tt.rand(5, generator=generator()).numpy(), (bits >> 8) * np.float32(2**-24)
    )


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_uniform_moments(dtype):
    """Uniform: mean 1/2, variance 1/12; standard errors sqrt(1/12/N) and sqrt(1/180/N)."""
    x = tt.rand(N, dtype=dtype, generator=generator()).numpy().astype(np.float64)
    assert x.min() >= 0 and (x.max() < 1 or dtype == "float16")
    assert abs(x.mean() - 0.5) < 5 * math.sqrt(1 / 12 / N)
    assert abs(x.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / N)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal_moments(dtype):
    """Normal: standard errors of the first four moments are sqrt(1, 2, 15, 96)/sqrt(N)."""
    x = tt.randn(N + 1, dtype=dtype, generator=generator()).numpy().astype(np.float64)
    for power, expected, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((x**power).mean() - expected) < 5 * math.sqrt(spread / N)
    half = len(x) // 2  # the two numbers of a pair are independent
    assert abs((x[:half] * x[half : 2 * half]).mean()) < 5 / math.sqrt(half)


def test_randint_is_uniform():
    """Chi-squared with 6 degrees of freedom: above 40 with probability 5e-7."""
    x = tt.randint(-3, 4, (N,), generator=generator()).numpy()
    counts = np.bincount(x + 3, minlength=7)
    assert len(counts) == 7 and ((counts - N / 7) ** 2 / (N / 7)).sum() < 40
    assert tt.randint(5, (2, 2)).shape == (2, 2)


def test_bernoulli_and_dropout_mask():
    """Binomial: standard error sqrt(p (1 - p) / N); the mask has mean 1."""
    assert abs(tt.bernoulli(0.3, (N,), generator()).numpy().mean() - 0.3) < 5 * math.sqrt(0.21 / N)
    assert tt.bernoulli(1.0, 9).all().item() and not tt.bernoulli(0.0, 9).any().item()
    mask = tt.dropout_mask((N,), 0.25, generator=generator()).numpy()
    assert set(np.unique(mask)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(mask.mean() - 1) < 5 * math.sqrt(0.25 / 0.75 / N)
    assert tt.dropout_mask(4, 1.0).tolist() == [0.0] * 4


def test_permutation_is_one_and_uniform():
    """Every number once; the first is uniform (chi-squared, 3 degrees: above 33 with 3e-7)."""
    assert sorted(tt.permutation(100).tolist()) == list(range(100))
    g = generator()
    counts = np.bincount([tt.permutation(4, g)[0].item() for _ in range(400)], minlength=4)
    assert ((counts - 100) ** 2 / 100).sum() < 33
    assert tt.permutation(0).shape == (0,)


def test_categorical_follows_the_softmax():
    """Binomial: probabilities 1/4 and 3/4."""
    logits = tt.Tensor([0.0, math.log(3.0)]).broadcast_to(N, 2)
    assert abs(tt.categorical(logits, generator()).numpy().mean() - 0.75) < 5 * math.sqrt(
        0.1875 / N
    )


@pytest.mark.parametrize(
    ("call", "error", "phrase"),
    [
        (lambda: tt.manual_seed(-1), SettingError, "cannot be a seed"),
        (lambda: tt.manual_seed(2**64), SettingError, "cannot be a seed"),
        (lambda: tt.rand(2, dtype="int64"), DTypeError, "floating-point type"),
        (lambda: tt.randint(3, 3), SettingError, "no such range"),
        (lambda: tt.bernoulli(1.5, 2), SettingError, "not a probability"),
    ],
)
def test_wrong_settings_are_named(call, error, phrase):
    """Ground truth: the messages."""
    with pytest.raises(error, match=phrase):
        call()


def test_drawing_inside_no_grad_and_grad_changes_nothing():
    """Invariant: random numbers are never recorded, and the state is no leaf."""
    g = generator()
    assert not tt.rand(2, generator=g).requires_grad and not g.state.requires_grad


def test_threads_share_a_generator():
    """Invariant: eight threads draw the numbers of one stream, each exactly once."""
    import sys
    import threading

    shared, drawn = generator(), []

    def draw():
        for _ in range(50):
            drawn.append(tuple(shared.bits((4,)).tolist()))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=draw) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    alone = generator()
    assert set(drawn) == {tuple(alone.bits((4,)).tolist()) for _ in range(400)}


def test_copies_of_a_generator_go_on_alike():
    """Invariant: a copy or a pickled one draws what the original draws; none moves another."""
    import copy
    import pickle

    original = generator()
    original.bits((3,))
    others = [copy.deepcopy(original), pickle.loads(pickle.dumps(original))]
    expected = original.bits((5,)).tolist()
    assert [other.bits((5,)).tolist() for other in others] == [expected, expected]
