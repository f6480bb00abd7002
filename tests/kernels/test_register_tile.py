"""Register tiles alone: FMA vectors and AMX tiles against NumPy, epilogues, choices of sizes."""

from dataclasses import replace

import numpy as np
import pytest

from tests.kernels.lowered_runner import (
    AMX,
    AVX2,
    NEON,
    PAIR_TARGETS,
    VECTOR_TARGETS,
    WITHOUT_AMX,
    run_body,
    run_kernel,
    untouched,
)
from tinytorch.base.dtypes import (
    float32,
    float64,
    from_bfloat16,
    round_to_bfloat16,
)
from tinytorch.codegen.engine import assembly_text, module_text
from tinytorch.codegen.kernel import Operand, StoreEpilogue, build, named_kernel
from tinytorch.kernels.register_tile import (
    AmxOperand,
    BlockProduct,
    EpilogueWriter,
    Left,
    Rectangle,
    RegisterTile,
    Right,
    Turns,
    amx_product,
    fastest_block,
    multiply_add,
    pair_block_product,
    product_block,
    rows_that_fit,
    sum_of_lanes,
    sums_of_lanes,
    words_of_bytes,
    words_of_pairs,
    write_micro_kernel,
)

every_target = pytest.mark.parametrize("target", VECTOR_TARGETS)


def whole(shape, seed=0, dtype=np.float32):
    """Small whole numbers: their products and sums are exact."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


# ---- vectors of sums


@every_target
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("add", [False, True])
def test_two_nested_loops(target, dtype, add):
    """Ground truth: the definition in NumPy, exact in whole numbers: rows find their numbers of a
    at offsets of any order, and b goes on from turn to turn through both loops."""
    target = VECTOR_TARGETS[target]
    type, lanes = (
        ("float", "double")[dtype is np.float64],
        target.lanes(float64 if dtype is np.float64 else float32),
    )
    offsets, (outer, inner), vectors = (3, 0, 7), (3, 4), 2
    columns = vectors * lanes
    tile = RegisterTile(
        type, lanes, vectors, offsets, (Turns(outer, 20), Turns(inner, 2)), columns + 5, (64,)
    )
    a, b = whole(100, 1, dtype), whole((outer * inner, columns + 5), 2, dtype)
    c = whole((3, columns + 3), 3, dtype)
    before = c.copy()

    def body(f, p):
        f.call("void", "@@.tile", p["a"], p["b"], p["c"])

    kernel = named_kernel(
        "tile", ("a", "b", "c"), body, tiles=1,
        helpers=lambda name: [write_micro_kernel(f"{name}.tile", tile, columns + 3, add)],
    )  # fmt: skip
    run_kernel(target, kernel, {"a": a, "b": b, "c": c})
    turns = [(y * 20 + x * 2, y * inner + x) for y in range(outer) for x in range(inner)]
    sums = np.array(
        [sum(a[at + offset] * b[turn, :columns] for at, turn in turns) for offset in offsets]
    )
    np.testing.assert_array_equal(c[:, :columns], sums + (before[:, :columns] if add else 0))
    np.testing.assert_array_equal(c[:, columns:], before[:, columns:])


@every_target
def test_masked_columns_are_not_read(target):
    """Ground truth: NumPy; what lies behind the last column is NaN, and sums there are 0."""
    target = VECTOR_TARGETS[target]
    lanes = target.lanes(float32)
    count, depth = lanes + 1, 5
    tile = RegisterTile("float", lanes, 2, (0, 5), (Turns(None, 1),), 2 * lanes)
    a, b = whole((2, 5), 1), whole((depth, 2 * lanes), 2)
    b[:, count:] = np.nan

    def body(f, p):
        f.call("void", "@@.tile", p["a"], p["b"], p["c"], f.index(depth), f.index(count))

    others = (("depth", "i64"), ("count", "i64"))
    kernel = named_kernel(
        "masked", ("a", "b", "c"), body, tiles=1,
        helpers=lambda n: [write_micro_kernel(f"{n}.tile", tile, 2 * lanes, False, True, others)],
    )  # fmt: skip
    c = untouched((2, 2 * lanes), np.float32)
    run_kernel(target, kernel, {"a": a, "b": b, "c": c})
    np.testing.assert_array_equal(c[:, :count], a @ b[:, :count])
    assert not c[:, count:].any()


@every_target
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3, 7), (14, 2, 9), (40, 5, 64)], ids=str)
@pytest.mark.parametrize("turned", [False, True])
def test_products_of_small_blocks(target, shape, turned):
    """Ground truth: NumPy, exact in whole numbers; the left side by rows or by columns, the right
    side with fewer columns than are computed, sums that begin somewhere."""
    target = VECTOR_TARGETS[target]
    lanes = target.lanes(float32)
    rows, vectors, depth = shape
    columns = vectors * lanes
    limit = columns - lanes // 2 if turned else None
    left, first = whole((rows, depth), 1), whole((rows, columns), 3)
    right = whole((depth, columns), 2)
    if limit:
        right[:, limit:] = np.nan
    stored = np.ascontiguousarray(left.T) if turned else left

    def body(f, p):
        def at(name, row, column):
            return f.at(p[name], f.add(f.mul(row, f.index(columns)), column), "float")

        def start(row, column):
            return f.load(at("first", row, column), f"<{lanes} x float>")

        def end(values, row, column):
            for i, line in enumerate(values):
                for j, x in enumerate(line):
                    to = f.add(column, f.index(j * lanes))
                    f.store(x, at("out", f.add(row, f.index(i)), to))

        side = Left(p["left"], *((1, rows) if turned else (depth, 1)))
        product = BlockProduct("float", lanes, target.registers)
        sizes = (rows, columns, depth)
        product.emit(
            f, sizes, side, Right(p["right"], columns, limit), end, start if turned else None
        )

    out = untouched((rows, columns), np.float32)
    run_body(target, body, {"left": stored, "right": right, "first": first, "out": out})
    expected = left @ right + (first if turned else 0)
    np.testing.assert_array_equal(out[:, :limit], expected[:, :limit])
    if limit:
        np.testing.assert_array_equal(out[:, limit:], first[:, limit:])


@every_target
def test_sum_of_a_vector(target):
    """Ground truth: the sum, exact in whole numbers; a scalar is its own."""
    target = VECTOR_TARGETS[target]
    lanes = target.lanes(float32)

    def body(f, p):
        f.store(sum_of_lanes(f, f.load(p["x"], f"<{lanes} x float>")), p["out"])
        second = f.at(p["out"], f.index(1), "float")
        f.store(sum_of_lanes(f, f.load(p["x"], "float")), second)

    x, out = whole(lanes, 4), np.zeros(2, np.float32)
    run_body(target, body, {"x": x, "out": out})
    assert out.tolist() == [x.sum(), x[0]]


# ---- sizes


def test_blocks_of_a_product():
    """Ground truth: the sizes that were measured (see `product_block`); few rows take more vectors,
    but no more than the registers or the columns."""
    assert product_block(1000, 1000, 16, 32) == (14, 2)
    assert product_block(1000, 1000, 8, 16) == (6, 2)
    assert product_block(1000, 10, 16, 32) == (14, 1)
    assert [product_block(m, 1000, 16, 32) for m in (1, 2, 3, 6)] == [
        (1, 8),
        (2, 8),
        (3, 8),
        (6, 4),
    ]
    assert [product_block(m, 1000, 8, 16) for m in (1, 3, 6)] == [(1, 8), (3, 3), (6, 2)]
    assert product_block(6, 20, 16, 32) == (6, 2) and product_block(0, 1, 16, 32) == (1, 1)


def test_rows_beside_vectors_fill_the_registers():
    """Ground truth: the sums, a row's number, the vectors, and a product where there is no FMA."""
    wide, narrow = WITHOUT_AMX, VECTOR_TARGETS["vector128"]
    assert [rows_that_fit(wide, v) for v in (1, 2, 3)] == [20, 14, 9]
    assert [rows_that_fit(AVX2, v) for v in (1, 2, 3)] == [14, 6, 4]
    assert [rows_that_fit(narrow, v) for v in (1, 2, 3)] == [13, 6, 3]
    assert rows_that_fit(replace(narrow, registers=2), 3) == 1


def test_the_fastest_block_by_the_estimate():
    """Ground truth: what the estimate chose when the kernels were tuned; its registers suffice."""
    blocks = [(64, 2, 64), (32, 4, 64), (7, 1, 5), (16, 3, 32), (17, 2, 8), (64, 1, 64), (5, 4, 16)]
    chosen = [(6, 2), (4, 2), (7, 1), (4, 3), (6, 2), (13, 1), (5, 2)]
    assert [fastest_block(16, *block) for block in blocks] == chosen
    chosen = [(13, 2), (11, 2), (7, 1), (8, 3), (9, 2), (16, 1), (5, 4)]
    assert [fastest_block(32, *block) for block in blocks] == chosen
    for registers in (16, 32):
        for rows in range(1, 70, 7):
            for vectors in range(1, 6):
                down, across = fastest_block(registers, rows, vectors, 32)
                assert down * across + across + 1 <= registers
                assert down <= rows and across <= vectors
                # as few rows as give that many tiles: none is much lower than the others
                assert -(-rows // -(-rows // down)) == down


# ---- AMX tiles


def pairs(b):
    """Rows of pairs: number (depth, column) beside (depth + 1, column)."""
    return np.ascontiguousarray(b.reshape(-1, 2, b.shape[1]).swapaxes(1, 2)).reshape(
        len(b) // 2, -1
    )


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("rows", [64, 32])
@pytest.mark.parametrize("target", PAIR_TARGETS, ids=lambda t: "amx" if t.has_amx else "dots")
def test_blocks_of_bfloat16(target, rows, add):
    """Ground truth: NumPy, exact in whole numbers; rows further apart than they are long."""
    columns, depth = 32, 96
    a, b = whole((rows, depth + 32), 1), whole((depth, columns), 2)
    c = whole((rows, columns + 16), 3)
    before = c.copy()
    stored_a, stored_b = round_to_bfloat16(a), round_to_bfloat16(pairs(b))

    def body(f, p):
        pair_block_product(
            f, target, (rows, columns, depth), (p["a"], 2 * (depth + 32)), (p["b"], 4 * columns),
            (p["c"], 4 * (columns + 16)), add,
        )  # fmt: skip

    run_body(target, body, {"a": stored_a, "b": stored_b, "c": c})
    expected = a[:, :depth] @ b + (before[:, :columns] if add else 0)
    np.testing.assert_array_equal(c[:, :columns], expected)
    np.testing.assert_array_equal(c[:, columns:], before[:, columns:])


@pytest.mark.parametrize("downs", [(0,), (0, 2048)])
@pytest.mark.parametrize("across", [1, 2])
@pytest.mark.parametrize("depth", [32, 64, 70])
def test_amx_tiles_with_a_rest(downs, across, depth):
    """Ground truth: NumPy, exact in whole numbers; the last, incomplete, turn of a lies apart."""
    turns = -(-depth // 32)
    padded = np.zeros((16 * len(downs), 32 * turns), np.float32)
    padded[:, :depth] = whole((len(padded), depth), 1)
    b = np.zeros((32 * turns, 16 * across), np.float32)
    b[:depth] = whole((depth, 16 * across), 2)
    # tiles of a in place: the rows of one, and somewhere behind them those of the other
    row = 2 * 32 * turns
    place = np.zeros(8192, np.uint16)
    for i, down in enumerate(downs):
        for r in range(16):
            start = (down * 2 + r * row) // 2
            place[start : start + 32 * turns] = round_to_bfloat16(padded[16 * i + r])
    rest = round_to_bfloat16(np.ascontiguousarray(padded[:, -32:].reshape(len(downs), 16, 32)))
    tiles_b = np.stack([
        round_to_bfloat16(pairs(b[32 * t : 32 * t + 32, 16 * j : 16 * j + 16]))
        for t in range(turns) for j in range(across)
    ])  # fmt: skip

    def body(f, p):
        last = AmxOperand(p["rest"], tuple(1024 * i for i in range(len(downs))), 64)
        amx_product(
            f, AmxOperand(p["a"], tuple(2 * d for d in downs), row, 64),
            AmxOperand(p["b"], tuple(1024 * j for j in range(across)), 64, 1024 * across),
            AmxOperand(p["c"], tuple(64 * (16 * i * across + j) for i in range(len(downs))
                                     for j in range(across)), 64 * across),
            f.index(depth), False, last if depth % 32 else None,
        )  # fmt: skip

    c = untouched((16 * len(downs), 16 * across), np.float32)
    run_body(AMX, body, {"a": place, "rest": rest, "b": tiles_b, "c": c})
    np.testing.assert_array_equal(c, padded @ b)


@pytest.mark.parametrize("target", PAIR_TARGETS, ids=lambda t: "amx" if t.has_amx else "dots")
def test_sums_of_bfloat16_are_float32(target):
    """Ground truth: numbers that bfloat16 holds exactly and their sum does not."""
    a = np.full((32, 32), 1.0 + 2**-7, np.float32)
    stored = round_to_bfloat16(a)
    assert (from_bfloat16(stored) == a).all()

    def body(f, p):
        pair_block_product(
            f, target, (32, 32, 32), (p["a"], 64), (p["b"], 128), (p["c"], 128), False
        )

    c = untouched((32, 32), np.float32)
    run_body(target, body, {"a": stored, "b": round_to_bfloat16(pairs(a)), "c": c})
    assert (c == 32 * (1.0 + 2**-7) ** 2).all()


@every_target
@pytest.mark.parametrize("count", [1, 2, 4])
def test_lanes_of_vectors_are_added_up(target, count):
    """Ground truth: NumPy, exact in whole numbers; one sum for each vector."""
    target = VECTOR_TARGETS[target]
    n = target.vector_bytes // 4
    x, out = whole((count, n), 1), untouched(count, np.float32)

    def body(f, p):
        places = [f.at(p["x"], f.index(i * n), "float") for i in range(count)]
        f.store(sums_of_lanes(f, [f.load(at, f"<{n} x float>") for at in places]), p["out"])

    run_body(target, body, {"x": x, "out": out})
    np.testing.assert_array_equal(out, x.sum(1))


# ---- instructions


def arm(*features):
    """A processor with these dot products, to write code for."""
    return replace(
        NEON, features=",".join(("+neon", *(f"+{x}" for x in features))),
        has_bf16_dot="bf16" in features, has_int8_dot="dotprod" in features,
        has_mixed_dot="i8mm" in features,
    )  # fmt: skip


ALL_DOTS = arm("dotprod", "i8mm", "bf16")
VNNI = replace(AVX2, features="+avx2,+fma,+f16c,+avxvnni", has_int8_dot=True)
SHORTS = replace(AVX2, features="+avx2,+fma,+f16c", has_int8_dot=False)


@pytest.mark.parametrize(("target", "unsigned", "instruction"), [
    (ALL_DOTS, "", "sdot"), (ALL_DOTS, "ab", "udot"), (ALL_DOTS, "a", "usdot"),
    (ALL_DOTS, "b", "usdot"), (arm("dotprod"), "a", "sdot"), (arm("dotprod"), "b", "udot"),
    (arm(), "", "smlal"), (VNNI, "", "vpdpbusd"), (VNNI, "b", "vpdpbusd"),
    (SHORTS, "a", "vpmaddwd"), (ALL_DOTS, None, "bfdot"),
])  # fmt: skip
def test_the_instruction_is_there(target, unsigned, instruction):
    """Ground truth: LLVM's assembly for a processor that has it; unsigned: None for bfloat16."""
    words = words_of_pairs(target) if unsigned is None else words_of_bytes(target, unsigned)
    n = target.vector_bytes // 4

    def body(f, p):
        x, y = (f.load(p[name], f"<{n} x i32>") for name in "xy")
        total = f.load(p["total"], f"<{n} x {words.sums}>")
        f.store(multiply_add(f, x, y, total, words), p["total"])

    text = module_text([build("code_under_test", ("x", "y", "total"), body, tiles=1)])
    assert f"\t{instruction}" in assembly_text(text, target)


def test_pairs_in_all_lanes_come_from_memory():
    """Ground truth: LLVM's assembly. With one vector of b each pair of a is multiplied once, by an
    instruction that reads it itself: a tile of reads of their own took 4 cycles where this takes
    3 (measured on Zen 4)."""
    bits = replace(WITHOUT_AMX, features="+avx512f,+avx512bf16", has_bf16_dot=True)
    loops, rows = (Turns(3, 40), Turns(8, 2)), tuple(range(0, 32, 2))
    tile = RegisterTile("float", 16, 1, rows, loops, 16, words=words_of_pairs(bits))

    def body(f, p):
        f.call("void", "@@.tile", p["a"], p["b"], p["c"])

    kernel = named_kernel(
        "tile", ("a", "b", "c"), body, tiles=1,
        helpers=lambda name: [write_micro_kernel(f"{name}.tile", tile, 16, False)],
    )  # fmt: skip
    text = assembly_text(module_text([kernel]), bits)
    assert "{1to16}" in text and "broadcast" not in text


@pytest.mark.parametrize("turned", "ab")
@pytest.mark.parametrize("target", [ALL_DOTS, arm("dotprod"), VNNI], ids=["all", "alike", "x86"])
def test_only_one_operand_gets_the_other_sign(target, turned):
    """Closed form: what an instruction takes differs from what is there in that operand alone."""
    for unsigned in ("", "a", "b", "ab"):
        words = words_of_bytes(target, unsigned, turned)
        kept = "b" if turned == "a" else "a"
        assert words.each == 2 or (kept in words.unsigned) == (kept in unsigned)
    assert words_of_pairs(arm("dotprod")) is None


# ---- epilogues


class Listener(StoreEpilogue):
    """Stores, and notes what it was asked to prefetch: adds 1 to "asked" at each place."""

    def prefetch(self, f, index, pointers):
        """Note it."""
        at = f.at(pointers["asked"], f.add(f.mul(index[-2], f.index(64)), index[-1]), "i32")
        f.store(f.add(f.load(at, "i32"), f.const("i32", 1)), at)


@every_target
@pytest.mark.parametrize("n, width, unrolled", [(40, 32, 32), (37, 37, 0), (3, 3, 0), (32, 16, 0)])
@pytest.mark.parametrize("ahead", [False, True])
def test_sums_reach_the_epilogue(target, n, width, unrolled, ahead):
    """Ground truth: the sums, at the rectangle's place, and nothing beside it."""
    target = VECTOR_TARGETS[target]
    lanes = target.lanes(float32)
    sums = whole((5, 48), 1)
    out, asked = untouched((2, 9, n), np.float32), np.zeros((9, 64), np.int32)
    epilogue = Listener(Operand(float32, (9 * n, n, 1)), ("out", "asked"))

    def body(f, p):
        writer = EpilogueWriter(epilogue, "float", lanes, n, unrolled, ahead)
        place = (f.index(x) for x in (2, 5, n - width, width))
        part = Rectangle((f.index(1),), *place)
        if not ahead:
            writer.prefetch(f, p, part, width)
        writer.emit(f, p, part, p["sums"], 48)

    run_body(target, body, {"sums": sums, "out": out, "asked": asked})
    expected = untouched((2, 9, n), np.float32)
    expected[1, 2:7, n - width :] = sums[:, :width]
    np.testing.assert_array_equal(out, expected)
    columns = range(n - width, n, lanes)
    wanted = np.zeros((9, 64), np.int32)
    rows = [min(2 + i + 4, 6) for i in range(5)] if ahead else range(2, 7)
    for row in rows:
        wanted[row, list(columns)] += 1
    np.testing.assert_array_equal(asked, wanted)
