"""The chapter names of the course, and the slow twins that only they have."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.core import spatial, training
from tinytorch.core.attention import attention_naive, attention_optimized
from tinytorch.core.grid import blocks_for, kernel
from tinytorch.core.kernels import fused_relu_add
from tinytorch.core.layers import Dense, DenseOptimized, dense_uses, matmul_naive
from tinytorch.data import ArrayDataset

CHAPTERS = (
    "activations attention dataloader dense grid kernels layers matmul networks optimizers spatial "
    "tensor text training"
).split()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_hands_on_what_it_lists(chapter):
    """Ground truth: its own list."""
    module = importlib.import_module(f"tinytorch.core.{chapter}")
    for name in getattr(module, "__all__", ()):
        assert getattr(module, name) is not None


def test_course_names_are_the_same_objects():
    """Ground truth: identity."""
    assert spatial.Conv2D is tt.nn.Conv2d and spatial.MaxPool2D is tt.nn.MaxPool2d


def test_dense_learns_the_same_with_three_loops():
    """Ground truth: the framework's own product; sums of at most 12 terms, in float64."""
    tt.manual_seed(0)
    x = tt.Tensor(np.random.default_rng(0).standard_normal((4, 3)), requires_grad=True)
    layer = Dense(3, 2)
    layer.to("float64")
    found = []
    for product in (None, matmul_naive):
        layer.zero_grad()
        x.grad = None
        with dense_uses(product):
            (layer(x) ** 2).sum().backward()
        found.append([t.numpy() for t in (x.grad, layer.weight.grad, layer.bias.grad)])
    # each side is within (12 + 2) * 2^-53 of the sum of its terms' sizes, 12 times 2 out x at most
    most = max(float(t.abs().max().item()) for t in (x, layer.weight))
    bound = 2 * 14 * 2**-53 * 12 * 2 * (3 * most * most + most) * max(most, 1)
    for fast, slow in zip(*found, strict=True):
        np.testing.assert_allclose(slow, fast, rtol=0, atol=bound)


def test_dense_optimized_has_the_guides_first_values():
    """Row S3-11. Ground truth: the guide (normal, deviation 0.1; zeros)."""
    tt.manual_seed(0)
    layer = DenseOptimized(400, 300)
    weight = layer.weight.numpy()
    # 120,000 samples: the deviation of their deviation is 0.1 / sqrt(240000) = 0.0002
    assert weight.shape == (400, 300) and abs(weight.std() - 0.1) < 0.001
    assert not layer.bias.numpy().any()


def test_dense_optimized_learns():
    """Ground truth: finite differences, to second order."""
    layer = DenseOptimized(4, 3)

    def loss(x, w):
        layer.weight = w
        return (layer(x) ** 3).sum()

    rng = np.random.default_rng(0)
    x, w = (tt.Tensor(rng.standard_normal(s)) for s in ((2, 4), (4, 3)))
    assert tt.gradcheck(loss, [x, w])


@pytest.mark.parametrize("shape", [(5, 8), (3, 5, 8), (2, 3, 5, 8)])
def test_optimized_attention_is_the_naive_one(shape):
    """Row S0-23. Ground truth: three operations in float64; gradients too."""
    rng = np.random.default_rng(0)
    found = []
    for function in (attention_naive, attention_optimized):
        rng = np.random.default_rng(0)
        q, k, v = (tt.Tensor(rng.standard_normal(shape), requires_grad=True) for _ in range(3))
        function(q, k, v).sum().backward()
        plain = function(*(t.detach() for t in (q, k, v)))
        found.append([plain.numpy(), q.grad.numpy(), k.grad.numpy(), v.grad.numpy()])
    for naive, optimized in zip(*found, strict=True):
        # float64: products of 8 terms and sums of 5, all of size 1: 100 roundings of 1.1e-16
        np.testing.assert_allclose(optimized, naive, rtol=0, atol=2e-14 * max(1, abs(naive).max()))


@pytest.mark.parametrize("shape", [(0,), (7,), (3, 1000)])
def test_fused_relu_add_and_its_gradient(shape):
    """Row S4-84. Ground truth: closed form; exact, each number is added once."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, *shape)).astype(np.float32)
    x, y = tt.Tensor(a, requires_grad=True), tt.Tensor(b, requires_grad=True)
    out = fused_relu_add(x, y)
    out.sum().backward()
    np.testing.assert_array_equal(out.detach().numpy(), np.maximum(a + b, 0))
    for t in (x, y):
        np.testing.assert_array_equal(t.grad.numpy(), (a + b > 0).astype(np.float32))


@kernel
def _product(block, a, b, out):
    """Tiles of both matrices in shared memory, one thread for each element of the result."""
    size = block.size[0]
    total = block.shared(size, size, dtype=out.dtype)
    tile_a, tile_b = (block.shared(size, size, dtype=out.dtype) for _ in range(2))
    row, column = block.y, block.x
    for at in range(0, a.shape[1], size):
        inner = at + block.thread[0], at + block.thread[1]
        inside_a = (row < a.shape[0]) & (inner[0] < a.shape[1])
        inside_b = (inner[1] < b.shape[0]) & (column < b.shape[1])
        tile_a[...] = tile_b[...] = 0
        tile_a[inside_a] = a[row[inside_a], inner[0][inside_a]]
        tile_b[inside_b] = b[inner[1][inside_b], column[inside_b]]
        total += tile_a @ tile_b
    inside = (row < out.shape[0]) & (column < out.shape[1])
    out[row[inside], column[inside]] = total[inside]


@pytest.mark.parametrize("sizes", [(1, 1, 1), (16, 16, 16), (17, 5, 33)])
def test_a_tiled_product_over_a_grid(sizes):
    """Row S4-86. Ground truth: NumPy's product; whole numbers, so exact."""
    m, k, n = sizes
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 9, (m, k)), rng.integers(-9, 9, (k, n))
    out = np.zeros((m, n), int)
    _product[(blocks_for(n, 8), blocks_for(m, 8)), (8, 8)](a, b, out)
    np.testing.assert_array_equal(out, a @ b)


@kernel
def _block_sums(block, x, out):
    """A tree: half of the threads add the other half's numbers, and again."""
    numbers = block.shared(block.size[0], dtype=x.dtype)
    inside = block.x < len(x)
    numbers[inside] = x[block.x[inside]]
    half = block.size[0] // 2
    while half:
        numbers[:half] += numbers[half : 2 * half]
        half //= 2
    out[block.index[0]] = numbers[0]


def test_a_reduction_in_shared_memory():
    """Row S4-86. Ground truth: the sum of whole numbers."""
    x = np.arange(1000)
    out = np.zeros(blocks_for(1000, 256), int)
    _block_sums[blocks_for(1000, 256), 256](x, out)
    assert out.sum() == 499_500 and out[0] == 255 * 128


@pytest.mark.parametrize(
    ("launch", "says"),
    [(3, "how is it launched"), ((1, 2048), "do not fit"), (((1, 1), 8), "do not fit"),
     (((1,) * 4, (1,) * 4), "one to three axes"), ((0, 8), "grid")],
)  # fmt: skip
def test_a_launch_that_makes_no_sense_is_refused(launch, says):
    """Ground truth: the message."""
    with pytest.raises(ValueError, match=says):
        _block_sums[launch]


def test_layers_of_one_number():
    """Closed form: one input and one output are a layer."""
    layer = DenseOptimized(1, 1)
    assert layer(tt.ones(2, 1)).shape == (2, 1)


def test_a_data_set_is_shuffled_into_batches():
    """Closed form: each sample once, and not in the order in which they lie (20! orders)."""
    tt.manual_seed(0)
    numbers = np.arange(40, dtype=np.float32)
    batches = training._batches(ArrayDataset(numbers, numbers))
    order = np.concatenate([x for x, _ in batches])
    assert sorted(order) == list(numbers) and list(order) != list(numbers)
