"""Convolution kernels against the definition in float64, on every target this machine runs."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from tests.compiler.graph_runner import GraphRun, assert_defined, new_graph
from tests.kernels.lowered_runner import (
    AVX2,
    AVX512,
    HERE,
    element_strides,
    run_body,
    run_lowered,
    untouched,
)
from tinytorch.base.dtypes import (
    bfloat16,
    float16,
    float32,
    from_bfloat16,
    int8,
    round_to_bfloat16,
    uint8,
)
from tinytorch.codegen.kernel import Operand, offset_of
from tinytorch.codegen.target import Target, runnable_names
from tinytorch.kernels.convolution import (
    KEPT_BYTES,
    TILE_FLOPS,
    lower_convolution,
    lower_weights,
    parts_of,
    rows_in_block,
    suits_weights,
    vector_parts,
)
from tinytorch.kernels.convolution_rows import ConvolutionSpec, PairRows, PictureRows, PixelRows
from tinytorch.primitives import TABLE

TARGETS = runnable_names()
PAD = ((1, 1), (1, 1))
# N, C, H, W, O, (KH, KW), stride, padding
CASES = [
    (2, 3, 9, 11, 16, (3, 3), (1, 1), PAD),
    (1, 1, 5, 4, 7, (3, 3), (1, 1), PAD),  # fewer filters than lanes
    (3, 17, 7, 7, 48, (3, 3), (1, 1), PAD),  # three vectors of filters, several rows in a tile
    (2, 5, 13, 10, 33, (3, 2), (2, 2), ((1, 0), (0, 1))),
    (2, 8, 6, 37, 80, (1, 1), (1, 1), ((0, 0), (0, 0))),
    (1, 4, 8, 9, 16, (5, 3), (2, 3), ((2, 1), (1, 2))),
    (2, 2, 6, 6, 32, (3, 3), (2, 2), ((0, 0), (0, 0))),  # the last row and column unread
]


def numbers(shape, seed):
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape).astype(np.float32)


def channels_last(x):
    """The same numbers with axis 1 innermost in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def operand(x):
    return Operand(float32, element_strides(x))


@dataclass(frozen=True)
class CountingStore:
    """Adds each number to what is there, so that one written twice shows; out (rows, O)."""

    out: Operand
    key: str = "add"
    arguments: tuple = ("out",)

    def emit(self, f, value, index, mask, pointers):
        place = f.at(pointers["out"], offset_of(f, self.out, index), "float")
        f.store(f.add(value, f.load(place, value.type, mask=mask)), place, mask=mask)

    def prefetch(self, f, index, pointers):
        """It reads what it has read."""


def expect_close(got, exact, terms, scale):
    """A sum of n products errs by at most n eps times the largest partial sum, here `scale`."""
    np.testing.assert_allclose(got, exact, rtol=0, atol=2**-23 * terms * scale)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize("layout", [channels_last, np.ascontiguousarray])
def test_forward_kernel(case, target, layout):
    """Ground truth: the definition in float64; each output is handed on once, for any team."""
    target = Target.named(target)
    n, c, h, w, o, window, stride, padding = CASES[case]
    x, filters = layout(numbers((n, c, h, w), case)), numbers((o, c, *window), case + 50)
    how = {"stride": stride, "padding": padding, "dilation": (1, 1), "groups": 1}
    exact = TABLE["convolution"].numpy(x.astype(float), filters.astype(float), **how)
    lanes = target.lanes(float32)
    packed = np.zeros((*window, c, -(-o // lanes) * lanes), np.float32)
    packed[..., :o] = filters.transpose(2, 3, 1, 0)
    spec = ConvolutionSpec(
        operand(x),
        x.shape,
        padding[0][0],
        padding[1][0],
        (1, 1),
        exact.shape[2:],
        window,
        stride,
        o,
    )
    rows = n * exact.shape[2] * exact.shape[3]
    lowered = lower_convolution(target, spec, CountingStore(Operand(float32, (o, 1))))
    made = []
    for threads in (1, 2, 3):
        out = np.zeros((rows, o), np.float32)
        run_lowered(target, lowered, {"x": x, "w": packed, "out": out}, (threads,))
        made.append(out.tobytes())
    assert made[0] == made[1] == made[2]
    got = out.reshape(n, *exact.shape[2:], o).transpose(0, 3, 1, 2)
    expect_close(got, exact, c * window[0] * window[1], 16)


@pytest.mark.parametrize("step", [(1, 1), (2, 2), (3, 1), (2, 4)], ids=str)
@pytest.mark.parametrize(
    ("window", "top", "left"), [((3, 3), 1, 1), ((1, 1), 0, 0), ((2, 5), 1, 3)]
)
def test_phases_of_a_gradient(step, window, top, left):
    """Closed form: of a picture spread by the step, the pixels an output sees at each tap; each is
    seen in one phase, at the tap and the pixel that it names, and nothing else is multiplied."""
    size, picture = (7, 6), (-(-7 // step[0]), -(-6 // step[1]))
    nothing = Operand(float32, (1, 1, 1, 1))
    spec = ConvolutionSpec(nothing, (1, 1, *picture), top, left, step, size, window, (1, 1), 1)
    seen = set()
    for y, x, i, j in np.ndindex(*size, *window):
        row, column = y + i - top, x + j - left
        if row % step[0] == 0 == column % step[1]:
            seen.add((y, x, i, j, row // step[0], column // step[1]))
    found, before = [], 0
    first, last = spec.seen
    for phase in spec.phases:
        assert phase.before == before
        before += phase.window[0] * phase.window[1]
        for y, x, i, j in np.ndindex(*phase.size, *phase.window):
            at = [(phase.first[d] + k * step[d], phase.tap[d] + t * step[d], phase.pixel[d] + k + t)
                  for d, k, t in ((0, y, i), (1, x, j))]  # fmt: skip
            found.append(tuple(int(v) for pair in zip(*at, strict=True) for v in pair))
            assert all(0 <= phase.pixel[d] + t - first[d] < last[d] for d, t in ((0, i), (1, j)))
    assert set(found) == seen and spec.flops == 2 * len(found) == 2 * len(seen)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", range(len(CASES)))
def test_weights_kernel(case, target):
    """Ground truth: the definition in float64; the same bits for any team."""
    target = Target.named(target)
    n, c, h, w, o, window, stride, padding = CASES[case]
    o = -(-o // 16) * 16  # whole vectors
    assert suits_weights(target, o)
    x = channels_last(numbers((n, c, h, w), case))
    how = {"stride": stride, "padding": padding, "dilation": (1, 1), "groups": 1}
    size = [
        (m + sum(p) - k) // s + 1
        for m, p, k, s in zip((h, w), padding, window, stride, strict=True)
    ]
    g = channels_last(numbers((n, o, *size), case + 9))
    rule = TABLE["convolution_weight_gradient"].numpy
    exact = rule(g.astype(float), x.astype(float), weight_shape=(o, c, *window), **how)
    spec = ConvolutionSpec(
        operand(x), x.shape, padding[0][0], padding[1][0], (1, 1), tuple(size), window, stride, o
    )
    places = c * window[0] * window[1]
    lowered = lower_weights(target, spec, operand(g), CountingStore(Operand(float32, (o, 1))))
    made = []
    for threads in (1, 2, 3):
        out = np.zeros((places, o), np.float32)
        run_lowered(target, lowered, {"x": x, "g": g, "out": out}, (threads,))
        made.append(out.tobytes())
    assert made[0] == made[1] == made[2]
    got = out.reshape(*window, c, o).transpose(3, 2, 0, 1)
    expect_close(got, exact, n * size[0] * size[1], 16)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", [0, 3, 5])
def test_compiled_with_what_follows(case, target):
    """Ground truth: float64 definitions of convolution, bias, tanh, and both gradients."""
    n, c, h, w, o, window, stride, padding = CASES[case]
    arrays = [numbers((n, c, h, w), case), numbers((o, c, *window), 50), numbers((1, o, 1, 1), 51)]
    how = {"stride": stride, "padding": padding, "dilation": (1, 1), "groups": 1}
    graph, (x, filters, bias) = new_graph(*arrays)
    (product,) = graph.add(TABLE["convolution"], (x, filters), how)
    (moved,) = graph.add(TABLE["add"], (product, bias), {})
    (out,) = graph.add(TABLE["tanh"], (moved,), {})
    by_input = {"input_shape": x.shape, **how}
    by_weight = {"weight_shape": filters.shape, **how}
    (g_x,) = graph.add(TABLE["convolution_input_gradient"], (out, filters), by_input)
    (g_w,) = graph.add(TABLE["convolution_weight_gradient"], (out, x), by_weight)
    graph.results = [out, g_x, g_w]
    run = GraphRun(graph, Target.named(target))
    assert not run.host_calls
    first = run(*arrays)
    for threads in (2, 3):
        again = run(*arrays, threads=threads)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(first, again, strict=True))
    wide = [a.astype(float) for a in arrays]
    exact = np.tanh(TABLE["convolution"].numpy(wide[0], wide[1], **how) + wide[2])
    terms = c * window[0] * window[1]
    expect_close(first[0], exact, terms, 16)
    gradients = (
        TABLE["convolution_input_gradient"].numpy(exact, wide[1], **by_input),
        TABLE["convolution_weight_gradient"].numpy(exact, wide[0], **by_weight),
    )
    for got, want in zip(first[1:], gradients, strict=True):
        # errors of the output (terms) are added up over all that a gradient sums
        expect_close(got, want, terms * np.sqrt(got.size + exact.size), 16)


@pytest.mark.parametrize("target", TARGETS)
def test_bfloat16_pictures(target):
    """Ground truth: the definition, whose products of bfloat16 are added up in float32 too."""
    n, c, h, w, o = 2, 8, 9, 8, 16
    how = {"stride": (1, 1), "padding": PAD, "dilation": (1, 1), "groups": 1, "dtype": float32}
    shapes = {"x": (n, c, h, w), "w": (o, c, 3, 3), "g": (n, o, h, w)}
    made = {k: round_to_bfloat16(numbers(s, i)) for i, (k, s) in enumerate(shapes.items())}
    rows = [
        ("convolution", "xw", {}),
        ("convolution_input_gradient", "gw", {"input_shape": shapes["x"]}),
        ("convolution_weight_gradient", "gx", {"weight_shape": shapes["w"]}),
    ]
    for name, inputs, more in rows:
        arrays = [made[k] for k in inputs]
        # two float32 sums of up to 144 products in different orders; relative to the largest
        assert_defined(
            name, arrays, {**how, **more}, Target.named(target), [bfloat16] * 2, False, 2e-5
        )


# H, W, C, O, window, stride, padding: what is summed along is even, or odd: then float32 does it
PAIRED = [
    (9, 8, 8, 16, (3, 3), (1, 1), PAD),
    (7, 9, 6, 16, (3, 2), (1, 1), PAD),  # an odd output: the gradient of the filters in float32
    (8, 12, 18, 48, (3, 3), (2, 2), PAD),  # phases of the stride, channels beyond a square
    (6, 10, 3, 16, (5, 5), (1, 1), ((2, 2), (2, 2))),  # odd channels: forward in float32
    (9, 16, 40, 32, (1, 1), (1, 3), ((0, 0), (0, 0))),
    (5, 33, 2, 16, (2, 4), (3, 2), ((1, 0), (1, 2))),
]


@pytest.mark.parametrize("layout", [channels_last, np.ascontiguousarray])
@pytest.mark.parametrize("case", PAIRED, ids=str)
@pytest.mark.parametrize("target", [HERE, replace(HERE, has_bf16_dot=False)], ids=["here", "plain"])
def test_bfloat16_in_pairs(target, case, layout):
    """Ground truth: the definition, exactly: whole numbers, whose sums float32 holds; with pairs if
    this processor multiplies them, and without."""
    h, w, c, o, window, stride, padding = case
    draw = np.random.default_rng(0)
    how = {"stride": stride, "padding": padding, "dilation": (1, 1), "groups": 1, "dtype": float32}
    x = draw.integers(-3, 4, (2, c, h, w)).astype(np.float32)
    weight = draw.integers(-3, 4, (o, c, *window)).astype(np.float32)
    out = TABLE["convolution"].numpy(x, weight, **how)
    g = draw.integers(-3, 4, out.shape).astype(np.float32)
    x, g = (layout(round_to_bfloat16(a)) for a in (x, g))
    weight = round_to_bfloat16(weight)
    rows = [
        ("convolution", (x, weight), {}),
        ("convolution_input_gradient", (g, weight), {"input_shape": x.shape}),
        ("convolution_weight_gradient", (g, x), {"weight_shape": weight.shape}),
    ]
    for name, arrays, more in rows:
        assert_defined(name, list(arrays), {**how, **more}, target, [bfloat16] * 2)


@pytest.mark.parametrize("layout", [channels_last, np.ascontiguousarray])
@pytest.mark.parametrize("phases, left", [(1, 0), (1, 2), (2, 1), (3, 4)])
@pytest.mark.parametrize("channels", [1, 16, 21])
def test_rows_with_pixels_innermost(layout, phases, left, channels):
    """Ground truth: NumPy's assignment into zeros, pixels of one phase side by side."""
    top, (h, w), width = 1, (4, 19), 23
    x = numbers((2, channels, h, w), 1)
    stored = layout(round_to_bfloat16(x))
    at = Operand(bfloat16, element_strides(stored))
    rows = PixelRows(at, x.shape, top, left, phases, 3, width)
    length = -(-width // phases)
    assert rows.length == length and rows.row == phases * channels * length
    whole = np.zeros((8, channels, width + left + w), np.uint16)
    whole[top : top + h, :, left : left + w] = np.moveaxis(stored[1], 0, 1)
    expected = np.zeros((8, phases, channels, length), np.uint16)
    for pixel in range(width):
        expected[:, pixel % phases, :, pixel // phases] = whole[:, :, pixel]
    for first in (0, 2):

        def body(f, p, first=first):
            rows.emit(f, p["x"], p["out"], f.index(1), f.index(first))

        out = untouched(3 * rows.row + 1, np.uint16)
        run_body(AVX512, body, {"x": stored, "out": out})
        got = out[:-1].reshape(3, phases, channels, length)
        # pixels behind the last one of a row are read by nobody
        seen = np.arange(length)[:, None] * phases + np.arange(phases) < width
        for phase in range(phases):
            kept = seen[:, phase]
            want = expected[first : first + 3, phase][..., kept]
            np.testing.assert_array_equal(got[:, phase][..., kept], want)
        assert out[-1] == 77
    assert rows.place(4) == 4 % phases * channels * length + 4 // phases


@pytest.mark.parametrize("layout", [channels_last, np.ascontiguousarray])
def test_pairs_of_a_cotangent(layout):
    """Ground truth: NumPy's reshape."""
    g = layout(round_to_bfloat16(numbers((2, 32, 4, 6), 1)))
    rows = PairRows(Operand(bfloat16, element_strides(g)), g.shape, 2)
    assert rows.size == 2 * 3 * 32

    def body(f, p):
        rows.emit(f, p["g"], p["out"], f.index(1), f.index(1))

    out = untouched(2 * rows.size + 1, np.uint16)
    run_body(AVX512, body, {"g": g, "out": out})
    expected = np.moveaxis(g[1, :, 1:3], 0, -1).reshape(2, 3, 2, 32).swapaxes(2, 3)
    np.testing.assert_array_equal(out[:-1].reshape(expected.shape), expected)
    assert out[-1] == 77


def test_parts_cover_an_axis():
    """Ground truth: every place once, pieces at most as long as asked, lengths differ by one."""
    for total in range(1, 60):
        for most in range(1, 20):
            parts = parts_of(total, most)
            places = [
                p.start + i * p.size + j
                for p in parts
                for i in range(p.count)
                for j in range(p.size)
            ]
            assert places == list(range(total)) and all(p.size <= most for p in parts)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layout", [channels_last, np.ascontiguousarray])
@pytest.mark.parametrize("channels", [1, 5, 16])
def test_rows_of_a_picture(target, layout, channels):
    """Ground truth: NumPy's assignment into zeros; edges, any layout."""
    target = Target.named(target)
    lanes, (top, left), (h, w), width = target.lanes(float32), (2, 1), (4, 6), 20
    x = layout(numbers((2, channels, h, w), 1))
    rows = PictureRows(operand(x), x.shape, top, left, 3, width, lanes)
    assert rows.row == width * channels and rows.size == 3 * rows.row
    whole = np.zeros((30, width, channels), np.float32)
    picture = np.moveaxis(x[1], 0, -1)
    whole[top : top + h, left : left + w] = picture
    for first in (0, 1, 3, 9):

        def body(f, p, first=first):
            rows.emit(f, p["x"], p["out"], f.index(1), f.index(first))

        out = untouched(rows.size + 1, np.float32)
        run_body(target, body, {"x": x, "out": out})
        np.testing.assert_array_equal(out[:-1], whole[first : first + 3].reshape(-1))
        assert out[-1] == 77


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layout", [channels_last, np.ascontiguousarray])
@pytest.mark.parametrize(("channels", "w"), [(3, 21), (4, 6), (7, 9), (18, 19), (2, 3)])
@pytest.mark.parametrize("to", [int8, uint8])
def test_rows_of_bytes(target, layout, channels, w, to):
    """Ground truth: NumPy's assignment into zeros, whole words of channels; as they are, or 128
    more. Squares of pixels and channels that do not come out even."""
    target = Target.named(target)
    x = layout(np.random.default_rng(1).integers(-128, 128, (2, channels, 4, w)).astype(np.int8))
    room, width, add = -(-channels // 4) * 4, w + 3, 128 if to is uint8 else 0
    at = Operand(int8, element_strides(x))
    lanes = target.lanes(float32)
    rows = PictureRows(at, x.shape, 1, 2, 3, width, lanes, to, room)
    whole = np.zeros((8, width, room), np.int64)
    whole[1:5, 2 : 2 + w, :channels] = np.moveaxis(x[1], 0, -1)
    out = untouched(3 * width * room + 1, np.uint8)

    def body(f, p):
        rows.emit(f, p["x"], p["out"], f.index(1), f.index(0))

    run_body(target, body, {"x": x, "out": out})
    np.testing.assert_array_equal(out[:-1], (whole[:3] + add).astype(np.uint8).reshape(-1))
    assert out[-1] == 77


@pytest.mark.parametrize("narrow", [np.float16, "bfloat16"])
def test_rows_of_a_narrow_picture(narrow):
    """Ground truth: both types are exact in float32; more pixels than the row has place for."""
    x = channels_last(numbers((1, 3, 4, 9), 2))
    if narrow == "bfloat16":
        stored, kind = round_to_bfloat16(x), bfloat16
        exact = from_bfloat16(np.ascontiguousarray(stored))
    else:
        stored, kind = x.astype(np.float16), float16
        exact = stored.astype(np.float32)
    at = Operand(kind, element_strides(stored))
    rows = PictureRows(at, x.shape, 0, 1, 2, 6, 8)
    out = untouched(rows.size, np.float32)

    def body(f, p):
        rows.emit(f, p["x"], p["out"], f.index(0), f.index(1))

    run_body(AVX2, body, {"x": stored, "out": out})
    expected = np.zeros((2, 6, 3), np.float32)
    expected[:, 1:] = np.moveaxis(exact[0, :, 1:3, :5], 0, -1)
    np.testing.assert_array_equal(out.reshape(2, 6, 3), expected)


def test_channels_in_vectors():
    """Ground truth: every vector once; three alone fit the registers, else pairs."""
    for vectors in range(1, 20):
        parts = vector_parts(vectors)
        places = [
            p.start + i * p.size + j for p in parts for i in range(p.count) for j in range(p.size)
        ]
        assert places == list(range(vectors))
        assert {p.size for p in parts} <= ({3} if vectors == 3 else {1, 2})


def test_blocks_of_rows_fit_scratch_and_a_tile():
    """Ground truth: the largest divisor of OH whose rows fit KEPT_BYTES, whose work is at most two
    tiles', and that leaves a piece for each quarter of a tile's work, up to 8; at least one row."""
    target = AVX512

    def block(channels, size, filters, image=1):
        dense = Operand(float32, (channels * size * size, 1, size * channels, channels))
        spec = ConvolutionSpec(
            dense,
            (image, channels, size, size),
            1,
            1,
            (1, 1),
            (size, size),
            (3, 3),
            (1, 1),
            filters,
        )
        found = rows_in_block(target, spec)
        work = spec.flops // image // size
        rows = [
            b for b in range(1, size + 1)
            if size % b == 0 and 4 * (b + 2) * (size + 2) * channels <= KEPT_BYTES
            and work * b <= 2 * TILE_FLOPS
            and image * size // b >= min(8, spec.flops // (TILE_FLOPS // 4))
        ]  # fmt: skip
        assert found == max(rows, default=1)
        return found

    assert block(3, 32, 16) == 32  # everything
    assert block(16, 32, 64) == block(16, 32, 64, image=9) == 4  # the work of a tile
    assert block(64, 30, 1) == 15 and block(64, 30, 1, 8) == 30  # the pieces
    assert block(512, 30, 1) == 2  # the bytes
    assert block(4096, 30, 1) == 1


def test_no_work_is_refused():
    """A convolution of no pictures is not asked for."""
    nothing = Operand(float32, (1, 1, 1, 1))
    spec = ConvolutionSpec(nothing, (0, 1, 3, 3), 0, 0, (1, 1), (1, 1), (3, 3), (1, 1), 4)
    with pytest.raises(ValueError, match="without work"):
        lower_convolution(AVX2, spec, CountingStore(Operand(float32, (4, 1))))
