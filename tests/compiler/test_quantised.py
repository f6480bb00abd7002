"""Small quantised networks: compiled as eager. Ground truth: the composition, run by NumPy.

Integers are exact. Between two products numbers are rounded to int8, so that a difference in the
last place of a float would show as a whole step: scales are powers of two, which keeps them exact.
"""

import numpy as np
import pytest

import tinytorch as tt


def of_bytes(shape, seed, dtype=np.int8):
    limits = np.iinfo(dtype)
    draw = np.random.default_rng(seed)
    return tt.Tensor(draw.integers(limits.min, limits.max + 1, shape).astype(dtype))


def rounded(sums, scale, low=-128):
    """int32 sums as int8 (uint8 for low = 0): scaled, rounded, cut off."""
    high = low + 255
    return tt.clip(tt.round(sums.to("float32") * scale), low, high)


def product(x, w):
    return x.to("int32") @ w.to("int32").mT


def kernels(f):
    """The kernels of the last program, each once."""
    return {t.symbol.rpartition("_")[0] for t in f._last.program.plan.tasks}


@pytest.mark.parametrize("rows", [1, 33])
def test_mlp(rows):
    """uint8 activations after ReLU, int8 weights, biases; two layers."""
    x = of_bytes((rows, 100), 0)
    w1, w2 = of_bytes((64, 100), 1), of_bytes((10, 64), 2)
    bias = tt.Tensor(np.arange(64, dtype=np.int32) * 100)

    def f(x):
        hidden = rounded(product(x, w1) + bias, 2.0**-12, low=0).to("uint8")
        return product(hidden, w2).to("float32") * 2.0**-10

    compiled = tt.compile(f)
    np.testing.assert_array_equal(compiled(x).numpy(), f(x).numpy())
    assert kernels(compiled) <= {"gemm", "pack_a", "pack_b", "column_sums"}


def test_cnn():
    """A first layer of 3 channels, one of 16 with a stride; a zero point is the padding's 0."""
    x, w1, w2 = of_bytes((2, 3, 9, 9), 0), of_bytes((16, 3, 3, 3), 1), of_bytes((20, 16, 3, 3), 2)

    def convolution(x, w, stride):
        return tt.nn.functional.conv2d(x.to("int32"), w.to("int32"), stride=stride, padding=1)

    def f(x):
        hidden = rounded(convolution(x, w1, 1), 2.0**-11, low=0).to("uint8")
        return convolution(hidden, w2, 2)

    compiled = tt.compile(f)
    np.testing.assert_array_equal(compiled(x).numpy(), f(x).numpy())
    assert not compiled._last.program.host_calls


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("tokens", [1, 20])
def test_gpt_block(bits, tokens):
    """Attention and MLP of a block whose four weights have few bits, in groups of 32; float32
    within the rounding of sums of at most 256 products of numbers up to 4 (Higham 2002, 3.5)."""
    d, heads, group = 64, 2, 32
    draw = np.random.default_rng(3)

    def weight(rows, columns):
        n = columns // group
        scale = tt.Tensor((draw.random((rows, n, 1, 1)) / 2 ** (bits + 2)).astype(np.float32))
        if bits == 8:
            w = of_bytes((rows, n, 1, group), 4)
            return lambda: (w.to("float32") * scale).reshape(rows, columns)
        w = of_bytes((rows, n, 1, group // 2), 5, np.uint8)

        def number():
            half = (tt.arange(2).reshape(2, 1) * 4).to("uint8")
            low = tt.bitwise_and(tt.bitwise_right_shift(w, half), tt.Tensor(np.uint8(15)))
            return ((low.to("float32") - 8) * scale).reshape(rows, columns)

        return number

    qkv, out, up, down = weight(3 * d, d), weight(d, d), weight(4 * d, d), weight(d, 4 * d)

    def f(x):
        q, k, v = (
            y.reshape(1, tokens, heads, d // heads).swapaxes(1, 2)
            for y in tt.split(x @ qkv().mT, d, dim=-1)
        )
        y = tt.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + y.swapaxes(1, 2).reshape(1, tokens, d) @ out().mT
        return x + tt.nn.functional.gelu(x @ up().mT) @ down().mT

    x = tt.Tensor(draw.standard_normal((1, tokens, d)).astype(np.float32))
    compiled = tt.compile(f)
    found, wanted = compiled(x).numpy(), f(x).numpy()
    assert np.abs(found - wanted).max() <= 256 * 2**-23 * 4 * np.abs(wanted).max()
