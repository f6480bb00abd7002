"""Attention kernels against the definition in float64 NumPy, on every target this machine runs."""

import ctypes
import mmap

import numpy as np
import pytest

from tests.kernels.attention_reference import (
    SHAPES,
    TARGETS,
    bound,
    definition,
    forward,
    heads,
)
from tinytorch.kernels.attention import lower_attention


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_is_the_definition(target, causal, shape):
    """Ground truth: softmax(scale q k^T) v in float64."""
    q, k, v, _ = heads(shape)
    out, lse, _ = forward(target, q, k, v, causal)
    exact, exact_lse, _ = definition(q, k, v, causal, shape[-1] ** -0.5)
    assert np.abs(out - exact).max() <= bound(q, k, v, np.float32)
    seen = np.isfinite(exact_lse)
    assert np.array_equal(lse[~seen], exact_lse[~seen].astype(np.float32))
    np.testing.assert_allclose(lse[seen], exact_lse[seen], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_scales_that_need_no_rounding(target, scale):
    """Ground truth: as above; the bound grows with the logits."""
    q, k, v, _ = heads((2, 3, 50, 50, 24), size=0.1)
    out, _, _ = forward(target, q, k, v, False, scale=scale)
    exact, _, _ = definition(q, k, v, False, scale)
    assert np.abs(out - exact).max() <= bound(q, k, v, np.float32) * scale * 24**0.5


def test_elements_that_are_apart_and_rows_a_page_apart():
    """Ground truth: the same numbers laid out densely give the same bits."""
    q, k, v, _ = heads((1, 2, 33, 40, 8))
    dense, _, _ = forward(TARGETS[0], q, k, v, True)
    apart = [np.repeat(x, 3, axis=3)[..., ::3] for x in (q, k, v)]
    page = [np.pad(x, ((0, 0),) * 3 + ((0, 1016),))[..., :8] for x in (q, k, v)]
    for other in (apart, page):
        out, _, _ = forward(TARGETS[0], *other, True)
        assert np.array_equal(out, dense)


def test_nan_is_not_hidden():
    """Invariant: a NaN in a visible row of k reaches every query that sees it, and no other."""
    q, k, v, _ = heads((1, 1, 40, 40, 8))
    k[0, 0, 20, 3] = np.nan
    out, _, _ = forward(TARGETS[0], q, k, v, True)
    assert np.isnan(out[0, 0, 20:]).all() and np.isfinite(out[0, 0, :20]).all()


def test_equal_attentions_share_their_code():
    """A kernel's name is a hash of its code."""
    q, k, v, _ = heads((1, 1, 9, 9, 4))
    specs = [forward(TARGETS[0], q, k, v, causal)[2] for causal in (True, True, False)]
    names = [lower_attention(TARGETS[0], s).steps[0].kernel.name for s in specs]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_nothing_is_read_behind_the_last_row(target):
    """Ground truth: mmap(2), mprotect(2): who reads the page behind k and v ends the process."""
    page = mmap.PAGESIZE
    held = []

    def at_the_end(x):
        memory = mmap.mmap(-1, 2 * page)
        held.append(memory)
        whole = np.frombuffer(memory, np.uint8)
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        assert protect(ctypes.c_void_p(whole.ctypes.data + page), page, 0) == 0
        place = whole[page - x.nbytes : page].view(x.dtype).reshape(x.shape)
        place[...] = x
        return place

    q, k, v = (np.ones((1, 1, n, 5), np.float32) for n in (3, 7, 7))
    for causal in (False, True):
        out, _, _ = forward(target, q, at_the_end(k), at_the_end(v), causal)
        np.testing.assert_allclose(out, 1, rtol=1e-6)
