"""What attention's kernels share: visited keys, the exponential, who takes which inputs."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.kernels.attention_reference import AttentionSpec
from tests.kernels.lowered_runner import (
    AMX,
    AVX2,
    NEON,
    PLAIN,
    VECTOR_TARGETS,
    WITHOUT_AMX,
    run_body,
)
from tinytorch.base.dtypes import bfloat16, float32, float64
from tinytorch.codegen.kernel import Operand
from tinytorch.codegen.vector_math import exp
from tinytorch.kernels.attention import lower_attention
from tinytorch.kernels.attention_gradient import AttentionGradientSpec, lower_attention_gradient
from tinytorch.kernels.attention_spec import (
    KeyWalk,
    exp2_nonpositive,
    exp2_of_pairs,
    log_of_sum,
    must_copy,
    visible,
)

TARGET = WITHOUT_AMX


def spec(batch, heads, queries, keys, size, causal=False, dtype=float32):
    """An attention of dense operands."""

    def dense(length):
        return Operand(dtype, (heads * length * size, length * size, size, 1))

    lse = Operand(float32, (heads * queries, queries, 1))
    out = replace(dense(queries), dtype=float64 if dtype is float64 else float32)
    return AttentionSpec(
        batch, heads, queries, keys, size, causal, 1.0, dense(queries), dense(keys), dense(keys),
        out, lse,
    )  # fmt: skip


def visited(walk, t, first, last):
    """For each key how often the walk visits it for a block of queries, masked or not."""

    def body(f, p):
        def visit(s, count, masked):
            with f.loop("key", 0, count) as key:
                at = f.at(
                    p["count"],
                    f.add(f.mul(f.add(s, key.index), f.index(2)), f.index(masked)),
                    "i32",
                )
                f.store(f.add(f.load(at, "i32"), f.const("i32", 1)), at)

        given = [f.load(f.at(p["given"], f.index(i), "i64"), "i64") for i in range(3)]
        walk.visit(f, *given, visit)

    count = np.zeros((walk.spec.keys + 200, 2), np.int32)
    run_body(TARGET, body, {"count": count, "given": np.array([t, first, last])})
    return count


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("queries, keys", [(70, 131), (131, 70), (64, 64), (64, 65), (5, 3)])
def test_keys_that_are_seen_are_visited_once(causal, padded, queries, keys):
    """Ground truth: query t sees keys s <= t + S - T. Each key that a query of the block sees is
    visited once, unmasked only if all see it; whole blocks that nobody sees are left out."""
    attention = spec(1, 1, queries, keys, 8, causal)
    block = 32 if not padded else 64
    walk = KeyWalk(attention, 64, 64, 64, True) if padded else KeyWalk.of(attention, block, 64)
    for t in range(0, queries, block):
        count = visited(walk, t, 0, keys)
        times = count.sum(1)
        shift = keys - queries
        anyone = min(t + block - 1 + shift, keys - 1) if causal else keys - 1
        everyone = t + shift if causal else keys - 1
        assert (times[: max(anyone + 1, 0)] == 1).all()
        assert (times <= 1).all() and not count[max(everyone + 1, 0) : keys, 0].any()
        assert not times[max(anyone, -1) + 1 + walk.small :].any()
        if not padded:
            assert not times[keys:].any()


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("queries, keys", [(96, 96), (150, 150), (70, 198), (198, 70)])
def test_only_squares_on_the_diagonal_are_masked(padded, queries, keys):
    """Ground truth: where the first query of a block is the first that sees some key that begins a
    block, all keys before that one are seen by the whole block, and those behind by some."""
    block = 64 if padded else 32
    attention = spec(1, 1, queries, keys, 8, True)
    walk = KeyWalk(attention, 64, 64, 64, True) if padded else KeyWalk.of(attention, block, 64)
    assert walk.exact
    for t in range(0, queries, block):
        masked = np.flatnonzero(visited(walk, t, 0, keys)[:keys, 1])
        first = t + keys - queries
        expected = range(first, min(first + block, keys)) if first >= 0 else []
        assert masked.tolist() == [*expected]


def test_squares_cover_what_is_seen_on_the_diagonal():
    """Ground truth: query i of a block on the diagonal sees its keys 0 .. i; squares of 16 queries
    multiply all of these and at most 15 more each."""
    walk = KeyWalk.of(spec(1, 1, 128, 128, 8, True), 64, 64)
    for count in (64, 40):
        across, down = np.zeros((count, 64), bool), np.zeros((count, 64), bool)
        for square in walk.squares(True, 16):
            first, queries = square
            across[first : first + walk.rows_of_square(square, count, True), first:] = True
            seen = walk.seen_of_square(square, count, True)
            down[:seen, first : first + queries] = True
        key, query = np.indices(across.shape)
        assert (across == (query >= key // 16 * 16)).all() and (across == down).all()
    assert walk.squares(False, 16) == [(0, 64)]


@pytest.mark.parametrize("causal", [False, True])
def test_runs_of_keys_visit_what_is_theirs(causal):
    """Ground truth: the runs together visit what one walk visits."""
    attention = spec(1, 1, 150, 300, 8, causal)
    walk = KeyWalk.of(attention, 64, 64)
    for t in (0, 64, 128):
        runs = [visited(walk, t, first, min(first + 128, 300)) for first in (0, 128, 256)]
        np.testing.assert_array_equal(sum(r.sum(1) for r in runs), visited(walk, t, 0, 300).sum(1))


@pytest.mark.parametrize("causal, padded", [(True, False), (True, True), (False, True)])
def test_the_last_key_seen(causal, padded):
    """Ground truth: t + S - T, and where keys are padded at most the last one; a key is visible up
    to it, whether it is known when the code is written or when it runs."""
    attention = spec(1, 1, 20, 23, 8, causal)
    walk = KeyWalk(attention, 64, 64, 64, padded)

    def body(f, p):
        seen = walk.last_seen(f, 16, f.index(8), f.index(4))
        f.store(seen, p["seen"])
        for i, key in enumerate((5, f.load(p["key"], "i64"))):
            there = f.convert(visible(f, seen, key), "i32", signed=False)
            f.store(there, f.at(p["there"], f.index(16 * i), "i32"))

    seen, there = np.zeros(16, np.int32), np.zeros((2, 16), np.int32)
    run_body(TARGET, body, {"seen": seen, "there": there, "key": np.array([5])})
    last = np.arange(8, 24) + 3 if causal else np.full(16, 22)
    last = (np.minimum(last, 22) if padded else last) - 4
    assert seen.tolist() == last.tolist()
    assert (there == (last >= 5)).all()


@pytest.mark.parametrize("target", VECTOR_TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_exponential(target, dtype):
    """Ground truth: NumPy in float64 (extended where there is more): two units in the last place
    from 2**-126 up, 2**-127 absolute below it; NaN stays NaN, minus infinity gives 0."""
    lanes = VECTOR_TARGETS[target].vector_bytes // np.dtype(dtype).itemsize
    smallest = -126 if dtype is np.float32 else -1022
    x = np.concatenate([
        -np.random.default_rng(0).uniform(0, -smallest, 4000), np.arange(0, smallest - 5, -1.0),
        [-0.0, 0.25, -np.inf, np.nan, smallest - 0.5, smallest - 1, smallest - 1.5, -1e30],
    ]).astype(dtype)  # fmt: skip
    x = np.pad(x, (0, -len(x) % lanes))
    type = f"<{lanes} x {'float' if dtype is np.float32 else 'double'}>"

    def body(f, p):
        with f.loop("i", 0, len(x), lanes) as i:
            scalar = type.split()[-1][:-1]
            value = exp2_nonpositive(f, f.load(f.at(p["x"], i.index, scalar), type))
            f.store(value, f.at(p["out"], i.index, scalar))

    out = np.zeros_like(x)
    run_body(VECTOR_TARGETS[target], body, {"x": x, "out": out})
    exact = np.exp2(x.astype(np.longdouble))
    normal = x >= smallest
    error = np.abs(out - exact)
    assert (error[normal] <= 2 * np.finfo(dtype).eps * exact[normal]).all()
    below = x < smallest
    assert (error[below] <= 2.0**-127 if dtype is np.float32 else error[below] <= 2.0**-1023).all()
    assert (out[x <= smallest - 1] == 0).all() and np.isnan(out[np.isnan(x)]).all()
    whole = normal & (x == np.round(x))
    assert (out[whole] == exact[whole]).all()


@pytest.mark.parametrize("target", [WITHOUT_AMX, AVX2, NEON], ids=lambda t: t.name)
def test_the_exponential_of_pairs(target):
    """Ground truth: exp2 in long double; numbers below the smallest normal one may be taken for 0,
    as dot products of bfloat16 take them. The other exponential declares its instructions alike."""
    x = np.concatenate([
        -np.random.default_rng(0).uniform(0, 126, 4000), np.arange(0, -160, -1.0),
        [-0.0, 0.25, -np.inf, np.nan, -126.5, -1e30, -3e38, -(2.0**23) - 1],
    ]).astype(np.float32)  # fmt: skip
    x = np.pad(x, (0, -len(x) % 16))

    def body(f, p):
        with f.loop("i", 0, len(x), 16) as i:
            value = f.load(f.at(p["x"], i.index, "float"), "<16 x float>")
            f.store(exp2_of_pairs(f, target, value), f.at(p["out"], i.index, "float"))
            f.store(exp(f, value), f.at(p["other"], i.index, "float"))

    out, other = np.zeros_like(x), np.zeros_like(x)
    run_body(target, body, {"x": x, "out": out, "other": other})
    exact = np.exp2(x.astype(np.longdouble))
    there = ~np.isnan(x)
    assert np.isnan(out[~there]).all()
    error = np.abs(out - exact)[there]
    assert (error <= np.maximum(2.0**-18 * exact[there], 2.0**-126)).all()
    assert (out[x < -150] == 0).all()


def test_log_of_a_sum():
    """Closed form: ln(total) + largest * ln 2."""

    def body(f, p):
        f.store(log_of_sum(f, f.const("double", -40.0), f.const("double", 3.0)), p["out"])

    out = np.zeros(1)
    run_body(TARGET, body, {"out": out})
    assert out[0] == pytest.approx(math.log(3) - 40 * math.log(2), rel=1e-15)


def test_rows_that_are_copied():
    """Ground truth: another type, numbers apart, rows a page apart; else they are read in place."""
    assert not must_copy(Operand(float32, (0, 0, 64, 1)), float32)
    assert must_copy(Operand(bfloat16, (0, 0, 64, 1)), float32)
    assert must_copy(Operand(float32, (0, 0, 64, 2)), float32)
    assert must_copy(Operand(float32, (0, 0, 1024, 1)), float32)
    assert not must_copy(Operand(float32, (0, 0, 512, 1)), float32)
    assert must_copy(Operand(float64, (0, 0, 512, 1)), float64)


def test_pairs_that_count():
    """Closed form: the lower triangle, with S - T more in each row, and none below zero."""
    assert spec(2, 3, 4, 6, 8).pairs == 6 * 24
    assert spec(2, 3, 4, 6, 8, causal=True).pairs == 6 * (3 + 4 + 5 + 6)
    assert spec(1, 1, 6, 4, 8, causal=True).pairs == 0 + 0 + 1 + 2 + 3 + 4


def names(target, attention):
    """The kernels of both directions, without their hashes, and the tiles of each."""
    g = replace(attention.q)
    gradient = AttentionGradientSpec(attention, g, attention.out, attention.out, attention.out)
    lowered = lower_attention(target, attention), lower_attention_gradient(target, gradient)
    return [
        [(s.kernel.name.rsplit("_", 1)[0], s.kernel.tiles) for s in one.steps] for one in lowered
    ]


def test_who_takes_which_inputs():
    """Ground truth: pairs are made of bfloat16 rows, for the gradient where there are many heads;
    few heads are cut in runs of keys, whose parts of g_q are added up."""
    narrow = spec(1, 4, 100, 100, 16, dtype=bfloat16)
    assert names(AMX, narrow) == [[("attention_pairs", 8)], [("attention_gradient_pairs", 4)]]
    few = spec(1, 3, 100, 100, 16, dtype=bfloat16)
    forward, gradient = names(AMX, few)
    assert forward == [("attention_pairs", 6)]
    assert [n for n, _ in gradient] == ["attention_gradient", "attention_gradient_sum"]
    assert names(PLAIN, narrow)[0][0][0] == "attention"
    pairs = replace(PLAIN, has_bf16_dot=True)
    assert names(pairs, narrow) == names(AMX, narrow)
    assert names(AMX, spec(1, 4, 100, 100, 16))[0][0][0] == "attention"
    # 64 or 256 tiles are enough: runs of query blocks
    assert names(AMX, spec(4, 8, 512, 64, 16, dtype=bfloat16))[0] == [("attention_pairs", 64)]
    assert names(TARGET, spec(4, 8, 512, 64, 16))[0] == [("attention", 256)]
    assert names(TARGET, spec(8, 8, 64, 300, 16))[1] == [("attention_gradient", 64)]
    assert names(TARGET, spec(1, 8, 64, 300, 16))[1][0] == ("attention_gradient", 24)
