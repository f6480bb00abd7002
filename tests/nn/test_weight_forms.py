"""Forms of weights: what they stand for, in how many bytes, and how layers use them."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import ShapeError
from tinytorch.nn.weight_forms import packed, unpacked


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def sparse(*shape, density=0.1, seed=0):
    draw = np.random.default_rng(seed)
    return numbers(*shape, seed=seed) * (draw.random(shape) < density)


def masked(w):
    return nn.MaskedWeight(tt.Tensor(w), np.abs(w) > 0.5), w * (np.abs(w) > 0.5)


def factored(w):
    left = numbers(w.shape[0], 2, seed=1)
    right = numbers(2, *w.shape[1:], seed=2)
    return nn.FactoredWeight(tt.Tensor(left), tt.Tensor(right)), np.tensordot(left, right, 1)


def shared(w):
    codes = (np.abs(w) * 7).astype(int) % 5
    book = numbers(5, seed=3)
    return nn.SharedWeight(tt.Tensor(book), codes), book[codes]


def of_gaps(w):
    w = w * (np.abs(w) > 1.7)
    return nn.SparseWeight(w), w


def of_bits(w):
    w = w * (np.abs(w) > 0.7)
    return nn.SparseWeight(w), w


FORMS = {f.__name__: f for f in (masked, factored, shared, of_gaps, of_bits)}


@pytest.mark.parametrize("name", FORMS)
def test_layers_compute_with_what_a_form_stands_for(name):
    """Ground truth: the same layers with the numbers themselves, eager and compiled."""
    form, w = FORMS[name](numbers(12, 30))
    assert form.shape == (12, 30) and form.ndim == 2 and form.size == 360
    np.testing.assert_allclose(form.dense().detach().numpy(), w, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(form[2:4].detach().numpy(), w[2:4], rtol=1e-5, atol=1e-6)
    layer, table = nn.Linear(30, 12), nn.Embedding(12, 30)
    layer.weight = table.weight = form
    x, index = tt.Tensor(numbers(4, 30, seed=5)), tt.Tensor(np.array([[3, 0], [11, 3]]))
    right = x.numpy() @ w.T + layer.bias.detach().numpy()
    with tt.no_grad():
        for call in (layer, tt.compile(layer)):
            np.testing.assert_allclose(call(x).numpy(), right, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(table(index).numpy(), w[index.numpy()], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FORMS)
def test_convolutions_too(name):
    """Ground truth: the convolution with the numbers themselves."""
    form, w = FORMS[name](numbers(6, 4, 3, 3))
    layer, plain = nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.Conv2d(4, 6, 3, 2, 1)
    plain.weight = nn.Parameter(w.astype(np.float32))
    plain.bias, layer.weight = layer.bias, form
    x = tt.Tensor(numbers(2, 4, 7, 7))
    np.testing.assert_allclose(
        layer(x).detach().numpy(), plain(x).detach().numpy(), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", FORMS)
def test_saved_and_loaded(name, tmp_path):
    """Ground truth: what was saved, to the last bit."""
    form, _ = FORMS[name](numbers(12, 30))
    again, _ = FORMS[name](numbers(12, 30))
    tt.storage.save(tmp_path / "form.safetensors", form.state_dict())
    again.load_state_dict(tt.storage.load(tmp_path / "form.safetensors"))
    np.testing.assert_array_equal(again.dense().detach().numpy(), form.dense().detach().numpy())


@pytest.mark.parametrize("density", [0.0, 0.001, 0.05, 0.1, 0.2, 0.5, 1.0])
def test_the_fewer_bytes_are_stored(density):
    """Closed form: 4 z + n / 8 of a bitmap, 5 (z + long gaps) of gaps; and the numbers, exactly."""
    w = sparse(300, 77, density=density)
    form = nn.SparseWeight(w)
    np.testing.assert_array_equal(form.dense().numpy(), w)
    z, n = np.count_nonzero(w), w.size
    long = ((np.diff(np.flatnonzero(w), prepend=-1) - 1) // 255).sum()
    assert form.nbytes - 16 == min(4 * z + -(-n // 8), 5 * (z + long))
    assert form.sparsity == pytest.approx(1 - z / n)
    if density <= 0.1:
        assert form.kind == "gaps" and form.nbytes < 0.15 * 4 * n


def test_a_linear_layer_multiplies_by_the_numbers_where_that_is_faster():
    """Ground truth: the layer with the whole matrix; the rule of sizes, and the program: it holds
    no array of the matrix's size."""
    w = sparse(256, 512, density=0.1)
    layer, plain = nn.Linear(512, 256), nn.Linear(512, 256)
    layer.weight, plain.weight = nn.SparseWeight(w), nn.Parameter(w)
    plain.bias = layer.bias
    x = tt.Tensor(numbers(3, 512))
    with tt.no_grad():
        compiled = tt.compile(layer, freeze=True)
        for call in (layer, compiled):
            np.testing.assert_allclose(call(x).numpy(), plain(x).numpy(), rtol=1e-4, atol=1e-5)
    assert not layer.weight.whole and "sparse_matmul" in compiled.explain()
    assert all(v.spec.size < w.size for n in compiled.stages()["simplify"].graph.nodes
               for v in n.outputs)  # fmt: skip
    assert "places" in nn.SparseWeight(w[:127]).whole
    assert "eighth" in nn.SparseWeight(sparse(512, 512, density=0.3)).whole
    assert "filters" in nn.SparseWeight(sparse(64, 256, 3, 3)).whole


def test_a_convolution_of_one_pixel_does_too():
    """Ground truth: the convolution with all numbers; with a stride it makes them."""
    w = sparse(256, 512, 1, 1, density=0.1)
    x = tt.Tensor(numbers(2, 512, 3, 3))
    for stride in (1, 2):
        layer, plain = (nn.Conv2d(512, 256, 1, stride=stride) for _ in range(2))
        layer.weight, plain.weight = nn.SparseWeight(w), nn.Parameter(w)
        plain.bias = layer.bias
        with tt.no_grad():
            compiled = tt.compile(layer, freeze=True)
            np.testing.assert_allclose(compiled(x).numpy(), plain(x).numpy(), rtol=1e-4, atol=1e-5)
        assert ("sparse_matmul" in compiled.explain()) == (stride == 1)


def test_a_dense_weight_is_made_once():
    """Ground truth: what is derived; eager, to the last bit. Places are checked and scattered to
    before the first call alone."""
    layer, x = nn.Linear(30, 12), tt.Tensor(numbers(2, 30))
    layer.weight = nn.SparseWeight(sparse(12, 30))
    with tt.no_grad():
        compiled = tt.compile(layer, freeze=True)
        np.testing.assert_allclose(compiled(x).numpy(), layer(x).numpy(), rtol=1e-5, atol=1e-6)
    program = compiled.stages()["derive"]
    assert [t.shown for t in program.tasks[program.derived :]] == ["matmul+add"]


def test_masked_numbers_stay_zeros_whatever_an_optimizer_does():
    """Invariant: momentum and weight decay move the values, never what they stand for."""
    w = numbers(5, 8)
    layer = nn.Linear(8, 5)
    layer.weight = nn.MaskedWeight(tt.Tensor(w), np.abs(w) > 0.8)
    layer.weight.values.data = tt.Tensor(w)  # what is masked is no zero
    optimizer = tt.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    x = tt.Tensor(numbers(3, 8, seed=1))
    for _ in range(3):
        (layer(x) ** 2).sum().backward()
        grad = layer.weight.values.grad.numpy()
        assert (grad[np.abs(w) <= 0.8] == 0).all() and (grad != 0).any()
        optimizer.step()
        optimizer.zero_grad()
    held = layer.weight.dense().detach().numpy()
    assert (held[np.abs(w) <= 0.8] == 0).all() and layer.weight.sparsity > 0.4
    assert not np.allclose(held, w * (np.abs(w) > 0.8))


def test_few_numbers_are_trained_together():
    """Closed form: the gradient of a number is the sum over its places."""
    form = nn.SharedWeight([1.0, 2.0], np.array([[0, 1, 1]]))
    (form.linear(tt.Tensor([[3.0, 4.0, 5.0]]))).sum().backward()
    assert form.codebook.grad.tolist() == [3.0, 9.0]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_packing(bits):
    """Ground truth: the numbers that were packed."""
    n = np.random.default_rng(0).integers(0, 1 << bits, 37).astype(np.uint8)
    stored = packed(n, bits)
    assert stored.size == -(-37 * bits // 8)
    assert unpacked(tt.Tensor(stored), bits, 37).tolist() == n.tolist()


def test_what_does_not_fit_is_refused():
    """Ground truth: parts that contradict each other, as in a damaged file."""
    with pytest.raises(ShapeError, match="mask is not shaped"):
        nn.MaskedWeight(tt.zeros(2, 3), np.ones((3, 2), bool))
    with pytest.raises(ShapeError, match="two do not fit"):
        nn.FactoredWeight(tt.zeros(2, 3), tt.zeros(2, 3))
    with pytest.raises(ShapeError, match="not there"):
        nn.SharedWeight([1.0], np.array([0, 1]))
    one = np.ones(1, np.float32)
    for kind, places in (("gaps", [0]), ("gaps", [9]), ("gaps", [1, 1]), ("bitmap", [3]),
                         ("bitmap", [0, 1])):  # fmt: skip
        with pytest.raises(ShapeError, match="contradict each other"):
            nn.SparseWeight.stored((2, 2), kind, np.array(places, np.uint8), one)
    with pytest.raises(ShapeError, match="contradict each other"):
        nn.SparseWeight.stored((2, 2), "bitmap", np.array([16], np.uint8), one)
    with pytest.raises(ShapeError, match="codes are not those"):
        nn.SharedWeight.stored((2, 9), np.zeros(2, np.float32), np.zeros(2, np.uint8))
