"""Sums end at lengths: compiled once = eager at every length, NaN beyond; no mask is left."""

import numpy as np
import pytest

import tinytorch as tt
from tests.compiler.compiled import targets
from tests.compiler.lengths import check, floats, plant, wholes
from tinytorch import nn
from tinytorch.base.dtypes import bfloat16, float32
from tinytorch.base.lengths import Length
from tinytorch.compiler.graph.axes import Axis, Part
from tinytorch.compiler.plan.ends import can_end

F = nn.functional
T, B = tt.dim("T", max=128), tt.dim("B", max=6)
TARGETS = targets()


def gradients(f, *inputs):
    """The gradients of the sum of f's squares."""
    places = tuple(range(len(inputs)))
    return tt.grad(lambda *x: (f(*x) ** 2).sum(), argnums=places)(*inputs)


def nodes_of(compiled, stage, name):
    graph = compiled.stages()[stage].graph
    return [node for node in graph.nodes if node.primitive.name == name]


W = floats(7, 16, 24)


def weights(x):
    """The gradient of a weight: a sum over all rows of all sequences."""
    return gradients(lambda w: (x @ w).tanh(), W)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("shapes", "given", "lengths"),
    [
        ({"x": (None, T)}, lambda n: (floats(n, 3, n, 16, low=-0.1, high=0.1),), (128, 5, 64, 1)),
        ({"x": (B,)}, lambda n: (floats(n, n, 128, 16, low=-0.1, high=0.1),), (6, 1, 4)),
        ({"x": (B, T)}, lambda n: (floats(n, n, 21 * n, 16, low=-0.1, high=0.1),), (6, 1, 4)),
    ],
)
def test_the_gradient_of_a_weight_sums_over_the_rows_there_are(
    target, threads, shapes, given, lengths
):
    """Ground truth: eager, sums of up to 768 products near 1e-2: 768 * 6e-8 of their size."""
    compiled = check(
        weights, given, shapes, lengths, tolerance=1e-4, target=target.name, threads=threads
    )
    assert any(node.ends for node in nodes_of(compiled, "end sums", "matmul"))
    assert not nodes_of(compiled, "end sums", "where")


def test_short_runs_are_masked():
    """Invariant: runs of 9 places are no whole turns; nothing ends there, the mask stays."""
    short = tt.dim("T", max=9)
    given = lambda n: (floats(n, 3, n, 16),)  # noqa: E731
    compiled = check(weights, given, {"x": (None, short)}, (9, 4), tolerance=1e-4)
    assert not any(node.ends for node in nodes_of(compiled, "end sums", "matmul"))


def test_which_axes_can_end():
    """Closed form: the first places, or runs of a multiple of 64, at least 128."""
    length = Length.of(T)
    assert can_end(Axis((Part(128, length), Part(3, 3))))
    assert can_end(Axis((Part(3, 3), Part(128, length))))
    assert not can_end(Axis((Part(3, 3), Part(100, Length.of(tt.dim("S", max=100))))))
    assert not can_end(Axis((Part(129, length + 1),)))


def test_bytes_do_not_end():
    """Ground truth: NumPy; what is added to signed bytes would be added up beyond the length."""
    x = floats(3, 6, 130, low=-9, high=9).astype("int8")
    y = floats(4, 130, 20, low=-9, high=9).astype("int8")
    s = tt.dim("S", max=130)

    def product(x, y):
        return x.astype("int32") @ y.astype("int32")

    f = tt.compile(product, dynamic_shapes={"x": (None, s), "y": (s,)})
    for n in (130, 70, 3):
        wanted = x[:, :n].numpy().astype(np.int32) @ y[:n].numpy().astype(np.int32)
        np.testing.assert_array_equal(f(x[:, :n], y[:n]).numpy(), wanted)
    assert not any(node.ends for node in nodes_of(f, "end sums", "matmul"))


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", [float32, bfloat16], ids=lambda d: d.name)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("heads", [1, 3])
def test_the_gradient_of_attention_over_fewer_queries_and_sequences(target, dtype, causal, heads):
    """Ground truth: eager; with one head of few sequences the keys are shared out in runs."""

    def attend(q, k, v):
        def f(*x):
            q, k, v = (y.astype(dtype) for y in x)
            return F.scaled_dot_product_attention(q, k, v, is_causal=causal).astype(float32)

        return gradients(f, q, k, v)

    # narrow numbers have 8 bits: weights and their changes are rounded to them
    tolerance = 2e-4 if dtype is float32 else 0.1
    settings = {"tolerance": tolerance, "target": target.name}
    of_batch = {name: (B,) for name in "qkv"}
    check(attend, lambda n: tuple(floats(n + i, n, heads, 20, 8) for i in range(3)), of_batch,
          (6, 1, 4), **settings)  # fmt: skip
    if causal:
        of_time = {name: (None, None, T) for name in "qkv"}
        check(attend, lambda n: tuple(floats(n + i, 2, heads, n, 8) for i in range(3)), of_time,
              (128, 5, 65), **settings)  # fmt: skip


FILTERS = floats(9, 16, 16, 3, 3, low=-0.1, high=0.1)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("size", "window"), [(8, {"padding": 1}), (6, {"stride": 2}), (4, {"padding": 1})]
)
def test_gradients_of_filters_and_pooling_over_fewer_pictures(
    target, precision, threads, size, window
):
    """Ground truth: eager; 8 x 8 pixels by Winograd's products, several pictures at a time."""

    def step(x):
        def f(w):
            with tt.precision(precision):
                y = F.conv2d(x, w, **window)
            return F.max_pool2d(y, 2)

        return gradients(f, FILTERS)

    tolerance = 2e-4 if precision == "float32" else 0.05
    given = lambda n: (floats(n, n, 16, size, size, low=-0.5, high=0.5),)  # noqa: E731
    compiled = check(
        step, given, {"x": (B,)}, (6, 1, 4), tolerance, target=target.name, threads=threads
    )
    assert all(n.ends for n in nodes_of(compiled, "end sums", "convolution_weight_gradient"))


@pytest.mark.parametrize("window", [{"dilation": 2}, {"groups": 2}, {"groups": 16}])
def test_filters_that_rules_rewrite(window):
    """Ground truth: eager; what cannot end keeps its masks."""
    filters = floats(9, 16, 16 // window.get("groups", 1), 3, 3, low=-0.1, high=0.1)

    def step(x):
        return gradients(lambda w: F.conv2d(x, w, **window), filters)

    check(
        step, lambda n: (floats(n, n, 16, 7, 7, low=-0.5, high=0.5),), {"x": (B,)}, (6, 1, 4), 2e-4
    )


def test_pictures_that_are_no_number_are_left_out():
    """Ground truth: eager, with an infinity in a picture: Winograd's sums are made anew, and what
    they read of pictures beyond would make NaN of infinities."""
    x = floats(1, 6, 16, 8, 8, low=-0.5, high=0.5).numpy()
    x[1, 3, 4, 5] = np.inf

    def step(x, z):
        def loss(w):
            return (F.conv2d(x, w, padding=1) * z.sigmoid()).sum()

        return tt.grad(loss)(FILTERS)

    compiled = tt.compile(step, dynamic_shapes={"x": (B,), "z": (B,)})
    for n in (6, 2, 3):
        given = tt.Tensor(x[:n].copy()), floats(2, n, 16, 8, 8)
        wanted, got = step(*given), compiled(*given)
        assert np.isinf(wanted.numpy()[:, 3]).all()
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), 2e-3, 1e-3)
        plant(compiled)


def test_tokens_of_a_vocabulary_and_their_labels():
    """Ground truth: eager; the gradient of a table adds rows up."""
    table = floats(5, 11, 16)

    def step(tokens, labels):
        return gradients(
            lambda t: F.cross_entropy(F.embedding(tokens, t) @ t.T, labels).reshape(1), table
        )

    given = lambda n: (wholes(n, 11, n), wholes(n + 1, 11, n))  # noqa: E731
    check(step, given, {"tokens": (T,), "labels": (T,)}, (128, 3, 77), 1e-4)
