"""3 x 3 filters with 16 products for 36: against the definition in float64, within the bound that
the module states, on every target this machine runs."""

from dataclasses import replace

import numpy as np
import pytest

import tinytorch as tt
from tests.compiler.graph_runner import GraphRun, new_graph
from tests.kernels.lowered_runner import AVX512, run_lowered
from tests.kernels.test_convolution import CountingStore, channels_last, numbers, operand
from tinytorch.base.dtypes import bfloat16, float32
from tinytorch.codegen.kernel import Operand
from tinytorch.codegen.target import Target, runnable_names
from tinytorch.kernels.convolution_rows import ConvolutionSpec
from tinytorch.kernels.register_tile import PAIRS
from tinytorch.kernels.winograd import (
    FEWEST_TILES,
    MANY_TILES,
    MOST_FILTERS,
    NEAR_FILTERS,
    lower_winograd,
    lower_winograd_gradient,
    suits_winograd,
    suits_winograd_gradient,
)
from tinytorch.primitives import TABLE

TARGETS = runnable_names()
G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
B = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]).T
A = np.array([[1, 1, 1, 0], [0, 1, -1, -1]]).T
HOW = {"stride": (1, 1), "dilation": (1, 1), "groups": 1}
# N, C, H, W, O, padding: even and odd sizes, blocks of rows, several panels, wide zeros, blocks
# done together
CASES = [
    (2, 16, 8, 8, 16, ((1, 1), (1, 1))),
    (1, 32, 9, 7, 48, ((1, 1), (1, 1))),
    (3, 16, 12, 9, 80, ((0, 2), (1, 0))),
    (1, 64, 34, 16, 32, ((1, 1), (3, 2))),
    (130, 16, 7, 8, 16, ((1, 1), (1, 1))),
    (192, 16, 4, 4, 16, ((1, 1), (1, 1))),
]


def spec_of(x, o, padding) -> ConvolutionSpec:
    """Of pictures (N, C, H, W)."""
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
    lie outside, filters that stay in the second cache, or the third where many tiles use them."""
    target = replace(AVX512, has_amx=False)

    def suits(n=1, c=16, h=8, w=8, o=16, **more) -> bool:
        x = np.empty((n, c, h, w), np.float32)
        return suits_winograd(target, replace(spec_of(x, o, ((1, 1), (1, 1))), **more))

    assert suits() and suits(c=64, o=NEAR_FILTERS // 64)
    assert not suits(c=64, o=NEAR_FILTERS // 64 + 16)
    many = MANY_TILES // 16
    assert suits(n=many, c=64, o=MOST_FILTERS // 64)
    assert not suits(n=many, c=64, o=MOST_FILTERS // 64 + 16)
    assert not suits(n=many - 1, c=64, o=MOST_FILTERS // 64)
    assert suits(n=4 * many, h=4, w=4) and not suits(n=4 * many - 1, h=4, w=4)
    assert not suits(c=17) and not suits(o=24) and not suits(n=0)
    assert not suits(stride=(2, 1)) and not suits(step=(1, 2)) and not suits(window=(3, 1))
    assert not suits(words=PAIRS)
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


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("count", [130, 129, 3])
def test_pictures_beyond_a_length_change_nothing(count, target):
    """Ground truth: the first pictures of a whole batch, to the last bit, though two pictures are
    one piece of work and what lies beyond is no number."""
    x, w = numbers((130, 16, 8, 8), 0), numbers((16, 16, 3, 3), 1)

    def both(x, w):
        return tt.nn.functional.conv2d(tt.nn.functional.conv2d(x, w, padding=1), w, padding=1)

    shapes = {"x": {0: tt.dim("n", 130)}}
    compiled = tt.compile(both, target=target, dynamic_shapes=shapes)
    compiled(tt.Tensor(np.full_like(x, np.nan)), tt.Tensor(w))
    whole = compiled(tt.Tensor(x), tt.Tensor(w)).numpy()
    compiled(tt.Tensor(np.full_like(x, np.nan)), tt.Tensor(w))
    got = compiled(tt.Tensor(x[:count]), tt.Tensor(w)).numpy()
    assert got.tobytes() == whole[:count].tobytes()
    exact = both(tt.Tensor(x[:count].astype(float)), tt.Tensor(w.astype(float))).numpy()
    np.testing.assert_allclose(got, exact, rtol=0, atol=1e-4 * np.abs(exact).max())


# ---- the gradient of the filters

SQUARE = ((1, 1), (1, 1))
# N, C, H, W, O, padding: one block, several pictures in a matrix, several blocks of a picture
GRADIENTS = [
    (1, 16, 8, 8, 16, SQUARE),
    (6, 32, 8, 8, 48, SQUARE),
    (3, 16, 14, 9, 80, ((0, 2), (1, 2))),
    (2, 64, 34, 16, 32, ((1, 1), (3, 1))),
]


def gradient(target, x, g, padding, threads=(1,)):
    """What the kernels give: (O, C, 3, 3)."""
    c, o = x.shape[1], g.shape[1]
    spec = spec_of(x, o, padding)
    assert suits_winograd_gradient(target, spec, operand(g))
    out = np.zeros((9 * c, o), np.float32)
    store = CountingStore(Operand(float32, (o, 1)))
    lowered = lower_winograd_gradient(target, spec, operand(g), store)
    run_lowered(target, lowered, {"x": x, "g": g, "out": out}, threads)
    return out.reshape(3, 3, c, o).transpose(3, 2, 0, 1)


def gradient_magnitudes(x, g, padding):
    """|G^T| [sum over tiles of (|A| |D| |A^T|) * (|B^T| |d| |B|)] |G| of every number."""
    (top, bottom), (left, right) = padding
    whole = np.pad(np.abs(x.astype(float)), ((0, 0), (0, 0), (top, bottom), (left, right)))
    d = np.lib.stride_tricks.sliding_window_view(whole, (4, 4), (2, 3))[:, :, ::2, ::2]
    v = np.einsum("ia,ncyxij,jb->ncyxab", np.abs(B), d, np.abs(B))
    n, o, height, width = g.shape
    q = np.abs(g.astype(float)).reshape(n, o, height // 2, 2, width // 2, 2)
    q = np.einsum("ai,noyixj,bj->noyxab", np.abs(A), q, np.abs(A))
    s = np.einsum("ncyxab,noyxab->ocab", v, q)
    return np.einsum("ai,ocab,bj->ocij", np.abs(G), s, np.abs(G))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", range(len(GRADIENTS)))
@pytest.mark.parametrize("layout", [channels_last, np.ascontiguousarray])
def test_gradient_within_the_bound(case, target, layout):
    """Ground truth: the definition in float64: 2 roundings of d and of D, one of the product, one a
    tile, 16 of the parts, 4 of the end; the same bits for any team."""
    target = replace(Target.named(target), has_amx=False)
    n, c, h, w, o, padding = GRADIENTS[case]
    x, size = layout(numbers((n, c, h, w), case)), spec_of(np.empty((n, c, h, w)), o, padding).size
    g = channels_last(numbers((n, o, *size), case + 50))
    rule = TABLE["convolution_weight_gradient"].numpy
    exact = rule(
        g.astype(float), x.astype(float), weight_shape=(o, c, 3, 3), padding=padding, **HOW
    )
    made = [gradient(target, x, g, padding, (threads,)) for threads in (1, 2, 3)]
    assert made[0].tobytes() == made[1].tobytes() == made[2].tobytes()
    terms = n * size[0] * size[1] // 4 + 25
    error = np.abs(made[0] - exact)
    assert (error <= terms * 2.0**-24 * gradient_magnitudes(x, g, padding)).all()
    assert error.max() > 0


@pytest.mark.parametrize("target", TARGETS)
def test_gradients_that_are_no_number_are_those_of_the_definition(target):
    """Ground truth: the definition. Of a pixel in the corner four taps see nothing but one: the
    others stay numbers, and infinities infinite; what lies around the picture is 0 times it."""
    x, g = channels_last(numbers((2, 16, 8, 8), 0)), channels_last(numbers((2, 32, 8, 8), 1))
    x[0, 3, 0, 0], x[1, 5, 4, 4], g[1, 7, 2, 7] = np.inf, np.nan, -np.inf
    how = {"weight_shape": (32, 16, 3, 3), "padding": SQUARE, **HOW}
    with np.errstate(all="ignore"):
        exact = TABLE["convolution_weight_gradient"].numpy(g, x, **how)
    got = gradient(Target.named(target), x, g, SQUARE)
    finite = np.isfinite(exact)
    np.testing.assert_array_equal(got[~finite], exact[~finite])
    assert finite[0, 3].sum() == 5 and np.isinf(exact[0, 3]).sum() == 4
    # 128 terms in float32, in both
    np.testing.assert_allclose(got[finite], exact[finite], rtol=0, atol=2 * 137 * 2.0**-24 * 900)


def test_which_gradients_it_suits():
    """Closed form: as forward, even sizes, float32 only."""
    target, g = replace(AVX512, has_amx=False), Operand(float32, (1, 1, 1, 1))
    spec = spec_of(np.empty((1, 16, 8, 8), np.float32), 16, SQUARE)
    assert suits_winograd_gradient(target, spec, g)
    for size in ((7, 8), (8, 7)):
        assert not suits_winograd_gradient(target, replace(spec, size=size), g)
    assert not suits_winograd_gradient(target, replace(spec, stride=(2, 1)), g)
    assert not suits_winograd_gradient(target, spec, replace(g, dtype=bfloat16))
    narrow = replace(spec, image=replace(spec.image, dtype=bfloat16))
    assert not suits_winograd_gradient(target, narrow, g)


@pytest.mark.parametrize(("pictures", "size", "channels", "pieces"), [
    (1, 32, 16, 4), (1, 32, 32, 8), (1, 8, 64, 2), (64, 8, 64, 64), (64, 32, 16, 128),
])  # fmt: skip
def test_few_pictures_are_cut_into_pieces(pictures, size, channels, pieces):
    """Ground truth: by hand: 2.1 and 8.4 million operations in pieces of half a million, up to 8;
    8 tiles stay together; of many pictures each is one piece, or two that fit the cache."""
    x = np.zeros((pictures, channels, size, size), np.float32)
    spec = spec_of(channels_last(x), channels, ((1, 1), (1, 1)))
    lowered = lower_winograd(AVX512, spec, CountingStore(Operand(float32, (channels, 1))))
    assert lowered.steps[-1].kernel.tiles == pieces
