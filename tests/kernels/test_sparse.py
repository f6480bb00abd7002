"""Products with a sparse matrix. Ground truth: the whole matrix, zeros and all, in float64."""

import numpy as np
import pytest

from tests.kernels.lowered_runner import VECTOR_TARGETS, run_lowered, untouched
from tinytorch.base.dtypes import OF_NUMPY, float32
from tinytorch.codegen.kernel import Operand, StoreEpilogue
from tinytorch.kernels import sparse
from tinytorch.kernels.sparse import SparseSpec, lower_sparse


def compressed(w, columns=np.int32):
    """The numbers of a matrix that are not 0, their columns, and where rows start."""
    rows, places = np.nonzero(w)
    starts = np.searchsorted(rows, np.arange(len(w) + 1)).astype(np.int32)
    return w[rows, places], places.astype(columns), starts


def product(target, m, w, *, turned=False, columns=np.int32, threads=(1,)):
    """(found, wanted, what rounding each sum allows); x lies as (M, K), or as (K, M)."""
    n, k = w.shape
    values, places, starts = compressed(w, columns)
    x = np.random.default_rng(m).standard_normal((m, k)).astype(np.float32)
    held = np.ascontiguousarray(x.T) if turned else x
    spec = SparseSpec(
        m, n, k, len(values), Operand(float32, (1, m) if turned else (k, 1)), float32,
        OF_NUMPY[np.dtype(columns)], OF_NUMPY[starts.dtype],
    )  # fmt: skip
    lowered = lower_sparse(target, spec, StoreEpilogue(Operand(float32, (m, 1))))
    out = untouched((n, m), np.float32)
    buffers = {"x": held, "values": values, "columns": places, "starts": starts, "out": out}
    run_lowered(target, lowered, buffers, threads)
    wide, matrix = x.astype(float), w.astype(float)
    return out.T, wide @ matrix.T, (k + 8) * 2.0**-24 * (abs(wide) @ abs(matrix).T)


def matrix(n, k, density=0.3):
    """Random numbers in random places; a row of none, a row of all."""
    random = np.random.default_rng(n + k)
    w = random.standard_normal((n, k)) * (random.random((n, k)) < density)
    w[0], w[-1] = 0.0, 1.0
    return w.astype(np.float32)


@pytest.mark.parametrize("target", VECTOR_TARGETS)
@pytest.mark.parametrize("m", [1, 2, 3, 8, 24, 64, 71, 200])
def test_is_the_product_with_the_whole_matrix(target, m):
    """One row, parts of a vector, several vectors, panels that are not full; x as it lies and
    turned; rows of the matrix with no number, with few, with all."""
    for turned, columns in ((False, np.int32), (True, np.int16)):
        found, wanted, bound = product(
            VECTOR_TARGETS[target], m, matrix(21, 45), turned=turned, columns=columns
        )
        assert (np.abs(found - wanted) <= bound).all()


def test_tiles_and_threads(monkeypatch):
    """Many tiles of rows, panels and parts of the copy, the last one shorter than a vector: the
    same bits by 1, 2 and 3 threads."""
    monkeypatch.setattr(sparse, "TILE_ELEMENTS", 1 << 8)
    target, first = next(iter(VECTOR_TARGETS.values())), None
    for threads in (1, 2, 3):
        found, wanted, bound = product(
            target, 40, matrix(130, 2 * sparse.DEPTH + 3), threads=(threads,)
        )
        assert (np.abs(found - wanted) <= bound).all()
        first = found if first is None else first
        np.testing.assert_array_equal(found, first)


def test_what_is_counted():
    """Closed form: two operations a number and row; each array once, the matrix once a panel."""
    target = next(iter(VECTOR_TARGETS.values()))
    spec = SparseSpec(1, 10, 20, 50, Operand(float32, (20, 1)), float32, float32, float32)
    kernel = lower_sparse(target, spec, StoreEpilogue(Operand(float32, (1, 1)))).steps[0].kernel
    assert kernel.flops == 100 and kernel.bytes == 8 * 50 + 4 * 10 + 4 * (20 + 10)
