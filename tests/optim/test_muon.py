"""muon.py: what a polynomial does to singular values."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import SettingError
from tinytorch.optim import Muon
from tinytorch.optim.muon import COEFFICIENTS, orthogonal


def polynomial(values: np.ndarray, steps: int) -> np.ndarray:
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        values = a * values + b * values**3 + c * values**5
    return values


@pytest.mark.parametrize("shape", [(4, 4), (3, 6), (7, 2)])
def test_singular_values_go_through_the_polynomial(shape):
    """Ground truth: NumPy's singular values; the polynomial applied to each, vectors unchanged.

    Five steps multiply roundings of 1e-16 by at most 3.4445**5 = 485.
    """
    x = np.random.default_rng(0).standard_normal(shape)
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    expected = (u * polynomial(s / np.linalg.norm(x), 5)) @ vt
    np.testing.assert_allclose(orthogonal(tt.Tensor(x), 5).numpy(), expected, atol=1e-12)


def test_zeros_stay_zeros():
    """Closed form: 0 divided by the smallest length is 0."""
    assert not orthogonal(tt.zeros(2, 3), 5).numpy().any()


@pytest.mark.parametrize("through", [lambda f: f, tt.compile], ids=["eager", "compiled"])
def test_the_size_of_a_gradient_does_not_matter(through):
    """Invariant: the step is that of the same direction, also where squares do not fit float32."""
    x = np.array([[1.0, 2.0], [3.0, -4.0]], np.float32)
    step = through(lambda x: orthogonal(x, 5))
    found = [step(tt.Tensor(x * np.float32(size))).numpy() for size in (1.0, 1e25)]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)  # 500 roundings of 6e-8


@pytest.mark.parametrize("nesterov", [False, True])
def test_ten_steps_equal_the_paper(nesterov):
    """Ground truth: Jordan's rule in NumPy: singular values through the polynomial, by SVD."""
    rng = np.random.default_rng(1)
    w, pull = rng.standard_normal((5, 3)), rng.standard_normal((5, 3))
    tensor = tt.Tensor(w, requires_grad=True)
    muon = Muon([tensor], lr=0.1, weight_decay=0.2, momentum=0.9, nesterov=nesterov)
    m = np.zeros_like(w)
    for _ in range(10):
        muon.zero_grad()
        ((tensor - pull) ** 2).sum().backward()
        muon.step()
        g = 2 * (w - pull)
        m = 0.9 * m + 0.1 * g
        x = 0.9 * m + 0.1 * g if nesterov else m
        u, s, vt = np.linalg.svd(x, full_matrices=False)
        step = (u * polynomial(s / np.linalg.norm(x), 5)) @ vt
        w = w * (1 - 0.1 * 0.2) - 0.1 * np.sqrt(5 / 3) * step
    # Ten steps, each with 500 roundings of 1e-16 at most, which the next ones do not amplify much.
    np.testing.assert_allclose(tensor.detach().numpy(), w, rtol=1e-11, atol=1e-12)


def test_a_convolution_is_a_matrix_of_its_filters():
    """Ground truth: the same numbers as a matrix."""
    rng = np.random.default_rng(2)
    w, g = rng.standard_normal((4, 3, 2, 2)), rng.standard_normal((4, 3, 2, 2))
    four, two = tt.Tensor(w, requires_grad=True), tt.Tensor(w.reshape(4, 12), requires_grad=True)
    four.grad, two.grad = tt.Tensor(g), tt.Tensor(g.reshape(4, 12))
    Muon([four]).step()
    Muon([two]).step()
    assert np.array_equal(four.detach().numpy().reshape(4, 12), two.detach().numpy())


def test_vectors_are_refused():
    """Ground truth: a vector has no singular values worth the name."""
    with pytest.raises(SettingError, match="Muon moves matrices"):
        Muon([tt.zeros(3, requires_grad=True)])
    with pytest.raises(SettingError, match="ns_steps is not a whole number"):
        Muon(ns_steps=0)


@pytest.mark.parametrize("through", [lambda f: f, tt.compile], ids=["eager", "compiled"])
def test_a_table_is_moved_whole(through):
    """Ground truth: the same gradient as a whole array: rows that were not read decay, and all
    rows share one polynomial."""
    found = []
    for sparse in (True, False):
        table = tt.Tensor(np.arange(12.0).reshape(4, 3) / 7, requires_grad=True)
        muon = Muon([table], lr=0.1, weight_decay=0.5)
        ids = tt.tensor([2, 0, 2])

        def step(ids, table=table, muon=muon, sparse=sparse):
            rows = tt.nn.functional.embedding(ids, table, sparse=sparse)
            (rows * rows).sum().backward()
            muon.step()
            muon.zero_grad()

        call = through(step)
        call(ids)
        call(ids)
        found.append(table.detach().numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)
    assert not np.allclose(found[0][1], np.arange(3.0, 6.0) / 7)
