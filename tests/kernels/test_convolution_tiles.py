"""Convolutions of bfloat16 by AMX tiles, emulated where the processor has none."""

from dataclasses import replace

import numpy as np
import pytest

from tests.kernels.lowered_runner import AMX, WITHOUT_AMX, element_strides, run_lowered
from tests.kernels.test_convolution import PAD, CountingStore, channels_last
from tinytorch.base.dtypes import bfloat16, float32, round_to_bfloat16
from tinytorch.codegen.kernel import Operand
from tinytorch.codegen.target import amx_permitted
from tinytorch.kernels.convolution_rows import ConvolutionSpec
from tinytorch.kernels.convolution_tiles import (
    lower_convolution_by_tiles,
    lower_weights_by_tiles,
    pieces,
    suits_tile_weights,
    suits_tiles,
    tile_starts,
)
from tinytorch.kernels.register_tile import PAIRS
from tinytorch.primitives import TABLE

THREADS = (1, 2, 3) if amx_permitted() else (1,)
NONE = ((0, 0), (0, 0))
# N, C, H, W, O, (KH, KW), stride, padding
CASES = [
    (3, 32, 9, 16, 32, (3, 3), (1, 1), PAD),  # whole tiles
    (2, 16, 8, 32, 16, (3, 3), (1, 1), PAD),  # a line of the window ends within a tile
    (9, 8, 8, 8, 48, (3, 3), (1, 1), PAD),  # tiles of 8 pixels, blocks of several pictures
    (2, 3, 6, 38, 16, (5, 5), (1, 1), ((2, 2), (2, 2))),  # tiles that overlap, an odd channel
    (1, 18, 5, 70, 16, (1, 1), (1, 1), NONE),  # more than four tiles in a row
    (2, 20, 9, 12, 80, (3, 2), (2, 2), ((1, 0), (0, 0))),  # lines a stride apart
    (3, 40, 4, 4, 32, (3, 3), (1, 1), PAD),  # 16 pixels of a picture
    (1, 6, 7, 13, 16, (4, 3), (3, 2), PAD),
]


def spec_of(x, w, size, stride, padding, words=None) -> ConvolutionSpec:
    (top, _), (left, _) = padding
    image = Operand(bfloat16, element_strides(x))
    return ConvolutionSpec(
        image, x.shape, top, left, (1, 1), size, w[2:], stride, w[0], words
    )  # fmt: skip


def forward(x, w, stride, padding, size, step=(1, 1)):
    """What the kernel gives for bfloat16 pictures (N, C, H, W) and filters (O, C, KH, KW)."""
    o, c = w.shape[:2]
    spec = replace(spec_of(x, w.shape, size, stride, padding, PAIRS), step=step)
    assert suits_tiles(AMX, spec) and not suits_tiles(WITHOUT_AMX, spec)
    parts = []
    for phase in spec.phases:
        taps = w[:, :, phase.tap[0] :: step[0], phase.tap[1] :: step[1]]
        assert taps.shape[2:] == phase.window
        part = np.zeros((*phase.window, -(-c // 2), -(-o // 16) * 16, 2), np.uint16)
        for channel in range(c):
            part[:, :, channel // 2, :o, channel % 2] = taps[:, channel].transpose(1, 2, 0)
        parts.append(part.reshape(-1))
    packed = np.concatenate(parts)
    rows = x.shape[0] * size[0] * size[1]
    lowered = lower_convolution_by_tiles(AMX, spec, CountingStore(Operand(float32, (o, 1))))
    made = []
    for threads in THREADS:
        out = np.zeros((rows, o), np.float32)
        run_lowered(AMX, lowered, {"x": x, "w": packed, "out": out}, (threads,))
        made.append(out)
    assert all(m.tobytes() == made[0].tobytes() for m in made)
    return made[0].reshape(x.shape[0], *size, o).transpose(0, 3, 1, 2)


def weights(g, x, shape, stride, padding):
    """The gradient of filters of a shape, of a cotangent and pictures of bfloat16."""
    o, c, kh, kw = shape
    spec = spec_of(x, shape, g.shape[2:], stride, padding)
    places = Operand(bfloat16, element_strides(g))
    assert suits_tile_weights(AMX, spec, places)
    lowered = lower_weights_by_tiles(AMX, spec, places, CountingStore(Operand(float32, (o, 1))))
    made = []
    for threads in THREADS:
        out = np.zeros((kh * kw * c, o), np.float32)
        run_lowered(AMX, lowered, {"x": x, "g": g, "out": out}, (threads,))
        made.append(out)
    assert all(m.tobytes() == made[0].tobytes() for m in made)
    return made[0].reshape(kh, kw, c, o).transpose(3, 2, 0, 1)


def small(shape, seed):
    """Whole numbers, whose sums of products float32 holds."""
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


@pytest.mark.parametrize("layout", [channels_last, np.ascontiguousarray])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_exact(case, layout):
    """Ground truth: the definition, of whole numbers; the same bits for any team, each output
    handed on once."""
    n, c, h, w, o, window, stride, padding = case
    how = {"stride": stride, "padding": padding, "dilation": (1, 1), "groups": 1}
    x, filters = small((n, c, h, w), 0), small((o, c, *window), 1)
    exact = TABLE["convolution"].numpy(x, filters, **how)
    x16, w16 = layout(round_to_bfloat16(x)), round_to_bfloat16(filters)
    got = forward(x16, w16, stride, padding, exact.shape[2:])
    np.testing.assert_array_equal(got, exact)
    if exact.shape[3] % 2:
        return
    g = small(exact.shape, 2)
    rule = TABLE["convolution_weight_gradient"].numpy
    exact = rule(g, x, weight_shape=filters.shape, **how)
    got = weights(channels_last(round_to_bfloat16(g)), x16, filters.shape, stride, padding)
    np.testing.assert_array_equal(got, exact)


STRIDED = [
    *(case for case in CASES if case[6] != (1, 1)),
    (2, 16, 12, 64, 20, (3, 3), (2, 2), PAD),  # whole tiles and ends of lines, by phase
    (2, 6, 5, 7, 8, (1, 1), (2, 2), NONE),  # three of four phases see nothing
    (1, 4, 2, 3, 6, (2, 2), (3, 4), PAD),  # fewer pixels than steps
]


@pytest.mark.parametrize("case", STRIDED, ids=str)
def test_gradient_of_pictures_by_phases(case):
    """Ground truth: the definition, of whole numbers, an infinity among them: no zero between
    pixels is multiplied, so no number becomes NaN."""
    n, c, h, w, o, window, stride, padding = case
    how = {"stride": stride, "padding": padding, "dilation": (1, 1), "groups": 1}
    filters = 1 + np.abs(small((o, c, *window), 1))
    g = small(TABLE["convolution"].numpy(small((n, c, h, w), 0), filters, **how).shape, 2)
    g[0, 0, 0, 0] = np.inf
    rule = TABLE["convolution_input_gradient"].numpy
    exact = rule(g, filters, input_shape=(n, c, h, w), **how)
    turned = round_to_bfloat16(filters.transpose(1, 0, 2, 3)[..., ::-1, ::-1])
    around = [(k - 1 - p[0], 0) for k, p in zip(window, padding, strict=True)]
    g16 = channels_last(round_to_bfloat16(g))
    got = forward(g16, turned, (1, 1), around, (h, w), step=stride)
    np.testing.assert_array_equal(got, exact)


@pytest.mark.parametrize("case", CASES[:4], ids=str)
def test_what_is_no_number_stays_where_windows_see_it(case):
    """Ground truth: the definition. An infinity and a NaN in one picture: what windows beside them
    give is as without."""
    n, c, h, w, o, window, stride, padding = case
    how = {"stride": stride, "padding": padding, "dilation": (1, 1), "groups": 1}
    x, filters = small((n, c, h, w), 0), 1 + np.abs(small((o, c, *window), 1))
    x[0, c - 1, 3, w - 2], x[-1, 0, h - 1, 0] = np.inf, np.nan
    with np.errstate(invalid="ignore"):
        exact = TABLE["convolution"].numpy(x, filters, **how)
    x16 = channels_last(round_to_bfloat16(x))
    got = forward(x16, round_to_bfloat16(filters), stride, padding, exact.shape[2:])
    np.testing.assert_array_equal(got, exact)
    g = 1 + np.abs(small(exact.shape, 2))
    with np.errstate(invalid="ignore"):
        rule = TABLE["convolution_weight_gradient"].numpy
        exact = rule(g, x, weight_shape=filters.shape, **how)
    got = weights(channels_last(round_to_bfloat16(g)), x16, filters.shape, stride, padding)
    assert np.isfinite(exact).any() and not np.isfinite(exact).all()
    np.testing.assert_array_equal(got, exact)


def test_which_gradients_it_suits():
    """Closed form: whole tiles of filters, an even width, channels innermost without gaps."""

    def suits(o, width, layout=channels_last, target=AMX, to=round_to_bfloat16):
        x, g = to(small((2, 4, 6, width), 0)), layout(to(small((2, o, 6, width), 1)))
        kind = bfloat16 if to is round_to_bfloat16 else float32
        spec = spec_of(x, (o, 4, 3, 3), (6, width), (1, 1), PAD)
        return suits_tile_weights(target, spec, Operand(kind, element_strides(g)))

    assert suits(16, 8) and suits(48, 2)
    assert not suits(24, 8) and not suits(16, 7)
    assert not suits(16, 8, np.ascontiguousarray) and not suits(16, 8, target=WITHOUT_AMX)
    assert not suits(16, 8, to=np.asarray)


def test_tiles_and_pieces_cover_an_axis():
    """Ground truth: every place at least once, within the axis; pieces each once."""
    for n in range(1, 80):
        starts, high = tile_starts(n), min(n, 16)
        assert {x + k for x in starts for k in range(high)} == set(range(n))
        assert len(starts) == -(-n // 16)
        for size in range(1, 5):
            found = [
                p.start + i * p.size + k
                for p in pieces(n, size) for i in range(p.count) for k in range(p.size)
            ]  # fmt: skip
            assert found == list(range(n))
