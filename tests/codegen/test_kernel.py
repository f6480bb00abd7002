"""What a kernel is to those who schedule it, what becomes of a result in registers, and how work is
cut: shares of tiles, runs of a split, indices, arrays in scratch, kernel names."""

import ctypes

import numpy as np
import pytest

from tests.kernels.lowered_runner import AVX2, VECTOR_TARGETS, WITHOUT_AMX, run_body, run_kernel
from tinytorch.base.dtypes import float32, float64, int8
from tinytorch.codegen import engine
from tinytorch.codegen.builder import Function
from tinytorch.codegen.kernel import (
    LINE,
    Kernel,
    Operand,
    Pieces,
    Scratch,
    Shares,
    Split,
    StoreEpilogue,
    address,
    build,
    lane_width,
    named_kernel,
    offset_of,
    register_bytes,
    round_up,
    unravel,
)
from tinytorch.codegen.target import Target


def test_what_is_not_said_of_a_kernel_is_nothing():
    """Ground truth: no scratch, no arithmetic, no traffic, no label, where none was named."""
    made = build("k", [], lambda f, pointers: None, tiles=3)
    plain = Kernel("k", made.ir, made.declarations, (), 3)
    assert made == plain
    assert (plain.scratch, plain.flops, plain.bytes, plain.label) == (0, 0, 0, "")


def test_a_place_is_offset_and_strides():
    """Closed form: 7 + 2 * 10 + 3 * 0 + 4 * 1, worked out while the text is written."""
    f = Function("k", [])
    place = offset_of(f, Operand(float32, (10, 0, 1), offset=7), [*map(f.index, (2, 3, 4))])
    assert place.text == "31" and not f.lines


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_a_vector_is_stored_along_the_last_axis(stride, masked):
    """Ground truth: NumPy's strided views; converted to the output's number type; of a masked store
    the other lanes stay."""
    epilogue = StoreEpilogue(Operand(float64, (100, stride), offset=2))

    def body(f, pointers):
        x = f.load(pointers["x"], "<4 x float>")
        mask = f.mask_below(4, f.index(3)) if masked else None
        epilogue.emit(f, x, (f.tile, f.index(0)), mask, pointers)

    kernel = build("k", ["x", *epilogue.arguments], body, tiles=2)
    library = engine.load([engine.compile_text(engine.module_text([kernel]), Target.host())], ["k"])
    x, out = np.arange(1, 5, dtype=np.float32), np.zeros(200)
    table = (ctypes.c_void_p * 2)(x.ctypes.data, out.ctypes.data)
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)(library["k"])
    call(ctypes.addressof(table), 1, None)
    expected = np.zeros(200)
    kept = 3 if masked else 4
    expected[102 : 102 + kept * stride : stride] = x[:kept]
    np.testing.assert_array_equal(out, expected)


def test_equal_keys_are_equal_code():
    """Invariant: all that shapes the store is in the key."""
    keys = {
        StoreEpilogue(Operand(dtype, strides, offset)).key
        for dtype in (float32, float64)
        for strides in ((1,), (2,))
        for offset in (0, 1)
    }
    assert len(keys) == 8


TARGET = AVX2


@pytest.mark.parametrize("itemsize", [4, 8])
def test_arrays_do_not_overlap(itemsize):
    """Each is as long as asked, begins on a line, and ends before the next."""
    sizes = {"a": 5, "none": 0, "b": 300, "c": 16, "d": 1}
    scratch = Scratch("float", itemsize, 16, sizes)
    starts = [*scratch.offsets.values(), scratch.bytes]
    assert list(scratch.offsets) == list(sizes)
    for start, end, size in zip(starts[:-1], starts[1:], sizes.values(), strict=True):
        assert start % LINE == 0
        assert end - start >= size * itemsize
        assert end - start < size * itemsize + LINE


def test_arrays_of_scratch_keep_what_is_stored():
    """Ground truth: what was stored; a fill stops where it is told to."""

    def body(f, p):
        scratch = Scratch("float", 4, 8, {"a": 24, "b": 8})
        scratch.begin(f)
        scratch.fill("a", 24, 1.0)
        scratch.fill("b", 8, 2.0)
        scratch.fill("a", 16, 3.0)
        for i, (name, at) in enumerate((("a", 0), ("a", 8), ("a", 16), ("b", 0))):
            f.store(scratch.load(name, f.index(at)), f.at(p["out"], f.index(8 * i), "float"))

    out = np.zeros(32, np.float32)
    run_body(TARGET, body, {"out": out})
    assert out.tolist() == [3.0] * 16 + [1.0] * 8 + [2.0] * 8


@pytest.mark.parametrize("units, cost", [(1, 1), (7, 10), (1000, 100), (1000, 49_999), (9, 10**9)])
def test_shares_cover_all_units(units, cost):
    """Ground truth: counting; each unit is done once, tiles are as large as the budget lets them,
    but eight if there is work for eight."""
    shares = Shares.of(units, cost)
    assert shares.each == max(1, min(50_000 // cost, -(-units // 8)))
    assert (shares.tiles - 1) * shares.each < units <= shares.tiles * shares.each

    def body(f, p):
        with shares.loop(f, "unit") as unit:
            place = f.at(p["count"], unit.index, "i32")
            f.store(f.add(f.load(place, "i32"), f.const("i32", 1)), place)

    count = np.zeros(units + 1, np.int32)
    run_kernel(
        TARGET, named_kernel("count", ("count",), body, tiles=shares.tiles), {"count": count}
    )
    assert (count[:-1] == 1).all() and count[-1] == 0


def test_no_units_are_no_tiles():
    """Closed form."""
    assert Shares.of(0, 100).tiles == 0


@pytest.mark.parametrize("total, parts", [(10, 4), (10, 1), (10, 10), (12, 4)])
def test_runs_of_a_split(total, parts):
    """Ground truth: NumPy's array_split, at compile time and at run time."""
    split = Split(total, parts)
    expected = [len(run) for run in np.array_split(np.arange(total), parts)]
    assert list(split.sizes) == expected and split.largest == max(expected)

    def body(f, p):
        with split.loop(f, f.tile, "thing") as thing:
            f.store(f.tile, f.at(p["owner"], thing.index, "i64"))

    owner = np.full(total, -1)
    run_kernel(TARGET, named_kernel("own", ("owner",), body, tiles=parts), {"owner": owner})
    assert owner.tolist() == np.repeat(np.arange(parts), expected).tolist()


@pytest.mark.parametrize("total, size", [(10, 4), (3, 4), (12, 4), (5, 1)])
def test_runs_of_one_size(total, size):
    """Ground truth: counting; at compile time and at run time."""
    pieces = Pieces.of(total, size)
    expected = [min(size, total - start) for start in range(0, total, size)]
    assert list(pieces.sizes) == expected and pieces.largest == expected[0]
    assert pieces.sizes.count(pieces.base) == pieces.parts - pieces.longer or not pieces.longer

    def body(f, p):
        with pieces.loop(f, f.tile, "thing") as thing:
            f.store(f.tile, f.at(p["owner"], thing.index, "i64"))

    owner = np.full(total, -1)
    run_kernel(TARGET, named_kernel("own", ("owner",), body, tiles=pieces.parts), {"owner": owner})
    assert owner.tolist() == np.repeat(np.arange(pieces.parts), expected).tolist()


@pytest.mark.parametrize("sizes", [(5,), (2, 3), (4, 1, 6)])
def test_indices_of_a_flat_index(sizes):
    """Ground truth: NumPy's unravel_index."""

    def body(f, p):
        for axis, i in enumerate(unravel(f, f.tile, sizes)):
            at = f.add(f.mul(f.tile, f.index(len(sizes))), f.index(axis))
            f.store(i, f.at(p["out"], at, "i64"))

    count = int(np.prod(sizes))
    out = np.zeros((count, len(sizes)), np.int64)
    run_kernel(TARGET, named_kernel("unravel", ("out",), body, tiles=count), {"out": out})
    np.testing.assert_array_equal(out.T, np.unravel_index(np.arange(count), sizes))


def test_addresses():
    """Ground truth: NumPy's strides, negative and 0 among them, and the offset."""
    x = np.arange(60, dtype=np.float32)
    operand = Operand(float32, (-12, 0, 2), 40)

    def body(f, p):
        index = [f.index(i) for i in (3, 9, 4)]
        f.store(f.load(address(f, p["x"], operand, index), "float"), p["out"])

    out = np.zeros(1, np.float32)
    run_body(TARGET, body, {"x": x, "out": out})
    assert out[0] == x[40 - 36 + 8]


def test_lanes_of_a_vector():
    """Closed form: as many as the register holds, and a power of two below twice what is needed."""
    narrow, wide = VECTOR_TARGETS["vector128"], WITHOUT_AMX
    assert [lane_width(wide, 4, n) for n in (1, 2, 3, 8, 9, 16, 100)] == [1, 2, 4, 8, 16, 16, 16]
    assert lane_width(narrow, 8) == 2 and lane_width(wide, 1) == 64
    assert register_bytes(Operand(int8, (1,))) == 4  # int8 is looked at beside int32 positions
    assert [round_up(n, 16) for n in (0, 1, 16, 17)] == [0, 16, 16, 32]


def test_a_name_follows_from_the_code():
    """Invariant: equal code has one name, other code or other buffers another."""

    def store(number):
        return lambda f, p: f.store(f.const("float", number), next(iter(p.values())))

    def name(number, argument="out"):
        return named_kernel("store", (argument,), store(number), tiles=1).name

    assert name(1.0) == name(1.0)
    assert len({name(1.0), name(2.0), name(1.0, "other")}) == 3
