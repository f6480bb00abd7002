"""Rounded activations and products of bytes, as functions of Tensors."""

import numpy as np

import tinytorch as tt
from tinytorch.primitives.grouped import pack_groups
from tinytorch.tensor.quantized import bytes_times_bytes, few_bits, grouped_linear, of_groups


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_few_bits_is_within_half_a_step():
    """Closed form: a number rounded to a multiple of a scale is off by half of it; the largest of
    each row becomes 127; eager = compiled, bit for bit."""
    x = numbers(6, 50)
    for call in (few_bits, tt.compile(few_bits)):
        q, scale = (t.numpy() for t in call(tt.Tensor(x)))
        assert (q.dtype, q.shape, scale.dtype, scale.shape) == (
            np.int8,
            x.shape,
            np.float32,
            (6, 1),
        )
        assert (np.abs(q).max(1) == 127).all()
        assert (np.abs(q * scale - x) <= 0.5001 * scale).all()
    first = few_bits(tt.Tensor(x))[0].numpy()
    np.testing.assert_array_equal(tt.compile(few_bits)(tt.Tensor(x))[0].numpy(), first)


def test_few_bits_over_several_axes():
    """Closed form: one scale for each picture."""
    x = numbers(2, 3, 4, 5)
    q, scale = few_bits(tt.Tensor(x), (1, 2, 3))
    np.testing.assert_allclose(scale.numpy().ravel(), np.abs(x).reshape(2, -1).max(1) / 127, 1e-6)
    assert np.abs(q.numpy()).reshape(2, -1).max(1).tolist() == [127, 127]


def test_few_bits_of_zeros_and_of_tiny_numbers():
    """Closed form: zeros give zeros; numbers whose reciprocal overflows are off by their size."""
    q, scale = few_bits(tt.zeros(2, 4))
    assert not q.numpy().any() and not scale.numpy().any()
    x = np.float32(1e-40)
    q, scale = few_bits(tt.full((1, 4), float(x)))
    assert np.abs(q.numpy() * scale.numpy() - x).max() <= x


def test_bytes_times_bytes_is_exact():
    """Ground truth: NumPy's integers, at the ends of the range and for sums beyond 2^24."""
    rng = np.random.default_rng(0)
    for k in (7, 1500):
        q, w = (rng.choice([-128, 127], (n, k)).astype(np.int8) for n in (3, 5))
        wanted = q.astype(np.int64) @ w.astype(np.int64).T
        found = bytes_times_bytes(tt.Tensor(q), tt.Tensor(w))
        assert found.dtype is tt.int32
        np.testing.assert_array_equal(found.numpy(), wanted)


def test_grouped_linear_is_a_product_with_its_numbers():
    """Ground truth: float64 products of what `of_groups` says the weight stands for."""
    rng = np.random.default_rng(0)
    w, q = (
        rng.integers(-8, 8, (5, 100)),
        tt.Tensor(rng.integers(-127, 128, (2, 3, 100)), dtype="int8"),
    )
    stored, scale = tt.Tensor(pack_groups(w, 4, 64)), tt.Tensor(numbers(5, 2).astype(np.float16))
    plain = of_groups(stored, scale, 4, 64, 100).numpy().astype(np.float64)
    each = np.repeat(scale.numpy().astype(np.float64), 64, axis=1)[:, :100]
    np.testing.assert_array_equal(plain, w * each)
    found = grouped_linear(q, stored, scale, 4, 64).numpy()
    np.testing.assert_allclose(found, q.numpy() @ plain.T, rtol=1e-5, atol=1e-2)
