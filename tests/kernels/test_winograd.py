"""3 x 3 filters with 16 products for 36: against the definition in float64, within the bound that
the module states, on every target this machine runs."""

from dataclasses import replace

import numpy as np
import pytest

from tests.compiler.graph_runner import GraphRun, new_graph
from tests.kernels.lowered_runner import run_lowered
from tests.kernels.test_convolution import CountingStore, channels_last, numbers, operand
from tinytorch.base.dtypes import float32
from tinytorch.codegen.kernel import Operand
from tinytorch.codegen.target import Target, runnable_names
from tinytorch.kernels.convolution import ConvolutionSpec
from tinytorch.kernels.winograd import FEWEST_TILES, MOST_FILTERS, lower_winograd, suits_winograd
from tinytorch.primitives import TABLE

TARGETS = runnable_names()
G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
B = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]).T
A = np.array([[1, 1, 1, 0], [0, 1, -1, -1]]).T
HOW = {"stride": (1, 1), "dilation": (1, 1), "groups": 1}
# N, C, H, W, O, padding: even and odd sizes, blocks of rows, several panels, wide zeros
CASES = [
    (2, 16, 8, 8, 16, ((1, 1), (1, 1))),
    (1, 32, 9, 7, 48, ((1, 1), (1, 1))),
    (3, 16, 12, 9, 80, ((0, 2), (1, 0))),
    (1, 64, 34, 16, 32, ((1, 1), (3, 2))),
]


def spec_of(x, o, padding) -> ConvolutionSpec:
    (top, bottom), (left, right) = padding
    size = (x.shape[2] + top + bottom - 2, x.shape[3] + left + right - 2)
    return ConvolutionSpec(operand(x), x.shape, top, left, (1, 1), size, (3, 3), (1, 1), o)


def run(target, x, w, padding, threads=(1,)):
    """What the kernel gives for pictures (N, C, H, W) and filters (O, C, 3, 3)."""
    spec, o = spec_of(x, w.shape[0], padding), w.shape[0]
    assert suits_winograd(target, spec)
    n, (height, width) = x.shape[0], spec.size
    out = np.zeros((n * height * width, o), np.float32)
    u = np.einsum("ai,bj,ocij->abco", G, G, w.astype(float)).astype(np.float32, order="C")
    packed = np.ascontiguousarray(w.transpose(2, 3, 1, 0))
    lowered = lower_winograd(target, spec, CountingStore(Operand(float32, (o, 1))))
    run_lowered(target, lowered, {"x": x, "w": packed, "u": u, "out": out}, threads)
    return out.reshape(n, height, width, o).transpose(0, 3, 1, 2)


def magnitudes(x, w, padding):
    """|A^T| [sum over channels of (|G| |g| |G^T|) * (|B^T| |d| |B|)] |A| of every output."""
    (top, _), (left, _) = padding
    height, width = spec_of(x, 1, padding).size
    down, across = -(-height // 2), -(-width // 2)
    whole = np.zeros((*x.shape[:2], 2 * down + 2, 2 * across + 2))
    part = np.abs(x.astype(float))[..., : whole.shape[2] - top, : whole.shape[3] - left]
    whole[..., top : top + part.shape[2], left : left + part.shape[3]] = part
    d = np.lib.stride_tricks.sliding_window_view(whole, (4, 4), (2, 3))[:, :, ::2, ::2]
    v = np.einsum("ia,ncyxij,jb->ncyxab", np.abs(B), d, np.abs(B))
    u = np.einsum("ai,ocij,bj->ocab", np.abs(G), np.abs(w.astype(float)), np.abs(G))
    y = np.einsum("ncyxab,ocab,ai,bj->noyixj", v, u, np.abs(A), np.abs(A))
    return y.reshape(x.shape[0], w.shape[0], 2 * down, 2 * across)[..., :height, :width]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize("layout", [channels_last, np.ascontiguousarray])
def test_within_the_bound(case, target, layout):
    """Ground truth: the definition in float64, and Note [error] of the module; the same bits for
    any team, each output handed on once."""
    target = replace(Target.named(target), has_amx=False)
    n, c, h, w, o, padding = CASES[case]
    x, filters = layout(numbers((n, c, h, w), case)), numbers((o, c, 3, 3), case + 50)
    exact = TABLE["convolution"].numpy(
        x.astype(float), filters.astype(float), padding=padding, **HOW
    )
    made = [run(target, x, filters, padding, (threads,)) for threads in (1, 2, 3)]
    assert made[0].tobytes() == made[1].tobytes() == made[2].tobytes()
    bound = (c + 11) * 2.0**-24 * magnitudes(x, filters, padding)
    error = np.abs(made[0] - exact)
    assert (error <= bound).all()
    assert error.max() > 0


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 3e38])
def test_what_is_no_number_stays_where_windows_see_it(bad, target):
    """Ground truth: the definition. The corner of a tile is seen by one of its four outputs."""
    x, w = channels_last(numbers((2, 16, 16, 16), 0)), numbers((32, 16, 3, 3), 1)
    # of the definition, in float32, twice as much: it rounds as often
    bound = 2 * (16 + 11) * 2.0**-24 * magnitudes(x, w, ((1, 1), (1, 1)))
    x[0, 3, 5, 6] = bad
    with np.errstate(all="ignore"):
        exact = TABLE["convolution"].numpy(x, w, padding=((1, 1), (1, 1)), **HOW)
    got = run(Target.named(target), x, w, ((1, 1), (1, 1)))
    seen = np.zeros(got.shape, bool)
    seen[0, :, 4:7, 5:8] = True
    assert np.isfinite(got[~seen]).all()
    np.testing.assert_array_equal(np.isnan(got), np.isnan(exact))
    assert (np.abs(got[~seen] - exact[~seen]) <= bound[~seen]).all()
    if bad == 3e38:
        np.testing.assert_allclose(got[seen], exact[seen], rtol=1e-5)


def test_which_convolutions_it_suits():
    """Closed form: 3 x 3 windows side by side, whole vectors of channels, enough tiles of which few
    lie outside, filters that stay in the cache."""
    target = replace(Target.named("avx512", "x86_64"), has_amx=False)

    def suits(n=1, c=16, h=8, w=8, o=16, **more) -> bool:
        x = np.empty((n, c, h, w), np.float32)
        return suits_winograd(target, replace(spec_of(x, o, ((1, 1), (1, 1))), **more))

    assert suits() and suits(c=64, o=MOST_FILTERS // 64)
    assert not suits(c=64, o=MOST_FILTERS // 64 + 16)
    assert not suits(c=17) and not suits(o=24) and not suits(n=0)
    assert not suits(stride=(2, 1)) and not suits(step=(1, 2)) and not suits(window=(3, 1))
    assert not suits(pairs=True)
    assert not suits(h=FEWEST_TILES // 2 - 2) and suits(h=7, w=7)
    assert suits(h=3, w=16) and not suits(h=3, w=17) and not suits(h=1, w=100)


@pytest.mark.parametrize("target", TARGETS)
def test_compiled_with_what_follows(target):
    """Ground truth: float64 definitions of convolution, bias, tanh, and the gradient of pictures,
    whose filters are turned; numbers of size 1 under filters of 0.1, at most 32 x 9 terms."""
    x, w, bias = numbers((2, 32, 10, 12), 0), numbers((16, 32, 3, 3), 1), numbers((1, 16, 1, 1), 2)
    w *= np.float32(0.1)
    how = {"padding": ((1, 1), (1, 1)), **HOW}
    graph, (image, filters, more) = new_graph(x, w, bias)
    (product,) = graph.add(TABLE["convolution"], (image, filters), how)
    (moved,) = graph.add(TABLE["add"], (product, more), {})
    (out,) = graph.add(TABLE["tanh"], (moved,), {})
    by_input = {"input_shape": x.shape, **how}
    (back,) = graph.add(TABLE["convolution_input_gradient"], (out, filters), by_input)
    graph.results = [out, back]
    run = GraphRun(graph, Target.named(target))
    got = run(x, w, bias)
    again = run(x, w, bias, threads=3)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(got, again, strict=True))
    wide = [a.astype(float) for a in (x, w, bias)]
    exact = np.tanh(TABLE["convolution"].numpy(wide[0], wide[1], **how) + wide[2])
    np.testing.assert_allclose(got[0], exact, rtol=0, atol=1e-5)
    exact = TABLE["convolution_input_gradient"].numpy(exact, wide[1], **by_input)
    np.testing.assert_allclose(got[1], exact, rtol=0, atol=1e-5)
