"""Few rows times weights of few bits. Ground truth: the definition in float64, integers exact."""

import numpy as np
import pytest

from tests.kernels.lowered_runner import FEWER_BYTES, VECTOR_TARGETS, run_lowered
from tinytorch.base.dtypes import float16, float32, int8, uint8
from tinytorch.codegen.kernel import Lowered, Operand, StoreEpilogue
from tinytorch.kernels.grouped_dots import GroupedSpec, grouped_dots

TARGETS = {**FEWER_BYTES, **VECTOR_TARGETS}
EXTREMES = {8: (-128, 127), 4: (-8, 7)}


def packed(w, group):
    """Numbers of 4 bits as bytes: the first half of each group in the low bits."""
    n, k = w.shape
    parts = (w + 8).astype(np.uint8).reshape(n, k // group, 2, group // 2)
    return (parts[:, :, 0] | parts[:, :, 1] << 4).reshape(n, k // 2)


def product(target, shape, bits, group, *, extreme, threads=(1,), narrow=True):
    """(found, wanted, what rounding a lane's sums once for each group allows)."""
    m, n, k = shape
    groups = -(-k // group)
    rng = np.random.default_rng(m + n + k)
    low, high = EXTREMES[bits]
    w = np.zeros((n, groups * group), np.int64)
    w[:, :k] = rng.choice((low, high), (n, k)) if extreme else rng.integers(low, high + 1, (n, k))
    x = (rng.choice((-128, 127), (m, k)) if extreme else rng.integers(-128, 128, (m, k))).astype(
        "i1"
    )
    scale = rng.standard_normal((n, groups)).astype(np.float16 if narrow else np.float32)
    stored = packed(w, group) if bits == 4 else w.astype(np.int8)
    spec = GroupedSpec(
        m, n, k, bits, group, Operand(int8, (k, 1)),
        Operand(uint8 if bits == 4 else int8, (stored.shape[1], 1)),
        Operand(float16 if narrow else float32, (groups, 1)),
    )  # fmt: skip
    out = np.full((m, n), np.nan, np.float32)
    kernel = grouped_dots(target, spec, StoreEpilogue(Operand(float32, (n, 1))))
    buffers = {"x": x, "weight": stored, "scale": scale, "out": out}
    run_lowered(target, Lowered.of(kernel), buffers, threads)
    wide = np.zeros((m, groups * group), np.int64)
    wide[:, :k] = x
    x, w = wide.reshape(m, groups, group), w.reshape(n, groups, group)
    exact, sizes = (
        (np.einsum("mgi,ngi->mng", *ab) * s).sum(-1)
        for ab, s in (((x, w), scale.astype(float)), ((abs(x), abs(w)), abs(scale.astype(float))))
    )
    return out, exact, (groups + 8) * 2.0**-24 * sizes


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("bits, group", [(4, 32), (4, 64), (4, 128), (8, 32), (8, 64), (8, 128)])
def test_is_the_definition(target, bits, group):
    """Sums of a group are exact, also of the ends of the ranges, where instructions that saturate
    would show; those of a lane are rounded once for each group. Whole groups, parts of turns, a
    ragged row, more columns than a panel, up to eight rows."""
    for i, shape in enumerate([(1, 5, 512), (2, 33, 320), (8, 17, 96), (3, 1, 45), (1, 40, 1)]):
        found, wanted, bound = product(TARGETS[target], shape, bits, group, extreme=i % 2 == 0)
        assert (np.abs(found - wanted) <= bound).all(), shape


def test_scales_of_float32_and_threads():
    """Scales of float32; the same bits whatever the number of threads."""
    target = next(iter(VECTOR_TARGETS.values()))
    first = None
    for threads in ((1,), (2,), (3,)):
        found, wanted, bound = product(
            target, (2, 700, 256), 4, 32, extreme=False, threads=threads, narrow=False
        )
        assert (np.abs(found - wanted) <= bound).all()
        first = found if first is None else first
        np.testing.assert_array_equal(found, first)
