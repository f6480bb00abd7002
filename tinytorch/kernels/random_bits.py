"""Counter-based random bits in native code: Philox 4x32-10.

Knows counters and words, never generators. Source: Salmon, Moraes, Dror, Shaw, "Parallel random
numbers: as easy as 1, 2, 3", SC 2011, section 3 and table 2 (the constants).
"""

from __future__ import annotations

from tinytorch.codegen.builder import Function, Value
from tinytorch.codegen.kernel import Kernel, Pointers, Shares, ceil_div, lane_width, named_kernel
from tinytorch.codegen.target import Target

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # golden ratio and sqrt(3) - 1, as 32-bit fractions
ROUNDS = 10
BLOCKS_PER_TILE = 8192  # 128 KB of output, about 20 us


def random_bits(target: Target, n: int) -> Kernel:
    """n uint32 in flat order, and the state after them; buffers "state", "bits", "new".

    Element i is word i // nb of block i % nb with nb = ceil(n / 4): words of one kind lie side by
    side, so vectors of blocks give vectors of elements.
    """
    blocks = ceil_div(n, 4)
    width = lane_width(target, 4)
    shares = Shares(blocks, BLOCKS_PER_TILE)

    def body(f: Function, p: Pointers) -> None:
        key = [f.load(f.at(p["state"], f.index(i), "i32"), "i32", stem="key") for i in (0, 1)]
        low = f.load(f.at(p["state"], f.index(2), "i32"), "i32", stem="low")
        high = f.load(f.at(p["state"], f.index(3), "i32"), "i32", stem="high")
        counter = f.op(
            "or",
            f.convert(low, "i64", signed=False),
            f.op("shl", f.convert(high, "i64", signed=False), f.index(32)),
        )
        with f.when(f.compare("eq", f.tile, f.index(0)), "advance"):
            after = f.add(counter, f.index(blocks))
            for i, k in enumerate(key):
                f.store(k, f.at(p["new"], f.index(i), "i32"))
            f.store(f.convert(after, "i32"), f.at(p["new"], f.index(2), "i32"))
            upper = f.convert(f.op("lshr", after, f.index(32)), "i32")
            f.store(upper, f.at(p["new"], f.index(3), "i32"))
        keys = _key_schedule(f, key, width)
        with shares.loop(f, "block", width) as b:
            at = f.splat(f.add(counter, b.index), width)
            words = philox(f, f.add(at, f.step(width)), keys, width)
            for w, word in enumerate(words):
                place = f.add(b.index, f.index(w * blocks))
                # beyond the last block of this word lies the next word: leave it alone
                room = f.minimum(f.sub(f.index(blocks), b.index), f.sub(f.index(n), place))
                mask = f.mask_below(width, room)
                f.store(word, f.at(p["bits"], place, "i32"), mask=mask)

    return named_kernel(
        "random_bits", ("state", "bits", "new"), body, tiles=max(1, shares.tiles),
        flops=blocks * ROUNDS * 10, bytes=4 * n + 32, label="random_bits",
    )  # fmt: skip


def _key_schedule(f: Function, key: list[Value], width: int) -> list[tuple[Value, Value]]:
    keys: list[tuple[Value, Value]] = []
    for i in range(ROUNDS):
        keys.append((f.splat(key[0], width), f.splat(key[1], width)))
        if i < ROUNDS - 1:
            key = [f.add(k, f.const("i32", w)) for k, w in zip(key, WEYL, strict=True)]
    return keys


def philox(f: Function, counter: Value, keys: list[tuple[Value, Value]], width: int) -> list[Value]:
    """The four words of each block; counter holds 64-bit block numbers, one a lane."""
    words32 = f"<{width} x i32>"
    c0 = f.convert(counter, words32)
    c1 = f.convert(f.op("lshr", counter, f.const(counter.type, 32)), words32)
    c2 = c3 = f.const(words32, 0)
    for k0, k1 in keys:
        high0, low0 = _wide_product(f, c0, MULTIPLIERS[0], width)
        high1, low1 = _wide_product(f, c2, MULTIPLIERS[1], width)
        c0 = f.op("xor", f.op("xor", high1, c1), k0)
        c2 = f.op("xor", f.op("xor", high0, c3), k1)
        c1, c3 = low1, low0
    return [c0, c1, c2, c3]


def _wide_product(f: Function, x: Value, by: int, width: int) -> tuple[Value, Value]:
    """(upper, lower) 32 bits of x * by."""
    wide = f.convert(x, "i64", signed=False)
    product = f.mul(wide, f.const(wide.type, by))
    upper = f.op("lshr", product, f.const(wide.type, 32))
    return f.convert(upper, x.type), f.convert(product, x.type)
