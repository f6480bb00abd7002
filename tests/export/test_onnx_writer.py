"""export/onnx_writer.py: names, constants, what is dropped, and sizes of the batch."""

import numpy as np
import onnx
import pytest

import tinytorch as tt
from tests.export.test_onnx import near, pictures, run
from tinytorch import export, nn
from tinytorch.export.onnx_writer import Batch, merged
from tinytorch.primitives import TABLE
from tinytorch.tensor.dispatch import apply


def operators(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def test_sizes_of_two_batches_are_one_with_a_name():
    """Ground truth: sizes written out by hand, for 2 and for 3 samples."""
    assert merged((4, 2, (6, "x")), (6, 2, (9, "x")), (2, 3)) == (Batch(2), 2, (Batch(3), "x"))
    assert np.isnan(merged(np.nan, np.nan, (2, 3)))
    for one, two in ((3, 4), (2, 2.5), ("a", "b"), ((2,), (2, 3)), (0, 3), (True, False)):
        with pytest.raises(ValueError):
            merged(one, two, (2, 3))


def test_a_bias_joins_its_product_unless_that_is_read_elsewhere(tmp_path):
    """Ground truth: onnxruntime; the product without bias is an output of its own."""
    layer = nn.Linear(4, 4).eval()
    x = pictures(4)(3)
    export.onnx(layer, tmp_path / "a.onnx", x)
    assert operators(tmp_path / "a.onnx") == ["Gemm", "Identity"]

    def both(x):
        y = x @ layer.weight.T
        return y + layer.bias, y[:] * 2.0

    export.onnx(both, tmp_path / "b.onnx", x)
    assert "Add" in operators(tmp_path / "b.onnx")
    with tt.no_grad():
        wanted = [y.numpy() for y in both(tt.Tensor(x))]
    for got, want in zip(run(str(tmp_path / "b.onnx"), x), wanted, strict=True):
        near(got, want)


def test_a_view_of_a_product_is_not_its_sum(tmp_path):
    """Ground truth: onnxruntime. A slice that keeps everything is another value, not another name:
    a bias that joined it would have joined the product too."""
    layer = nn.Linear(4, 4).eval()
    x = pictures(4)(3)

    def both(x):
        y = x @ layer.weight.T
        z = apply(TABLE["slice"], (y,), {"start": (0, 0), "stop": (3, 4), "step": (1, 1)})
        return z + layer.bias, y * 2.0

    export.onnx(both, tmp_path / "b.onnx", x)
    with tt.no_grad():
        wanted = [y.numpy() for y in both(tt.Tensor(x))]
    for got, want in zip(run(str(tmp_path / "b.onnx"), x), wanted, strict=True):
        near(got, want)


def test_what_nothing_reads_is_not_written_and_equal_constants_are_one(tmp_path):
    """Ground truth: counting operators."""
    unused = nn.Linear(4, 4)

    def function(x):
        unused(x)
        return x * 2.0 + 2.0

    export.onnx(function, tmp_path / "a.onnx", pictures(4)(2))
    assert sorted(operators(tmp_path / "a.onnx")) == ["Add", "Constant", "Identity", "Mul"]
    assert not onnx.load(tmp_path / "a.onnx").graph.initializer


def test_shapes_in_which_the_batch_stands_twice(tmp_path):
    """Ground truth: onnxruntime, for another number of samples than was recorded."""
    place = tmp_path / "a.onnx"

    def function(x):
        n = x.shape[0]
        table = (x @ x.T).reshape(n, 1, n) + tt.arange(n, dtype=tt.float32)
        return table, -tt.broadcast_to(x[:, :1].reshape(n, 1), (n, n)), tt.zeros(n, 2), x * n

    export.onnx(function, place, pictures(4)(2), batch="N")
    x = pictures(4)(5)
    with tt.no_grad():
        wanted = [y.numpy() for y in function(tt.Tensor(x))]
    for got, want in zip(run(str(place), x), wanted, strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_names_are_once(tmp_path):
    """Ground truth: a weight that is called as the input is."""
    net = nn.Module()
    net.input = nn.Parameter([1.0, 2.0])
    net.forward = lambda x: x + net.input
    export.onnx(net, tmp_path / "a.onnx", pictures(2)(1))
    graph = onnx.load(tmp_path / "a.onnx").graph
    assert [i.name for i in graph.input] == ["input"]
    assert len(graph.initializer) == 1 and graph.initializer[0].name != "input"
    near(
        run(str(tmp_path / "a.onnx"), pictures(2)(3)[:1])[0],
        pictures(2)(3)[:1] + np.array([1, 2], np.float32),
    )
