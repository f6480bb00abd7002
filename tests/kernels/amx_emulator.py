"""AMX tiles on a processor that has none: its instructions as native functions.

Ground truth: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, TILEZERO,
TILELOADD, TILELOADDT1, TILESTORED, TDPBF16PS, TDPBSSD and its siblings: a tile register holds 16
rows of 64 bytes; TDPBF16PS adds, for each of 16 x 16 float32 sums, 16 products of the even numbers
of a pair and then of the odd ones; TDPBxyD adds 64 products of bytes to each int32 sum, wrapping,
the bytes of the first operand signed (x = S) or unsigned (U), those of the second as y says.
LDTILECFG says how many rows, and bytes of a row, a tile has: what lies beyond them is 0 after a
load, and is not stored; products of such zeros change no sum. Registers and configuration are
memory of the module, so only one thread may run the code; before it says so all tiles are full.
"""

import re

from tinytorch.codegen.builder import Function
from tinytorch.codegen.engine import module_text

PREFIX = "emulated.amx."
_TILE = 1024  # bytes


def _register(f, number):
    """Where a tile register lies."""
    wide = f.convert(number, "i64", signed=False)
    first = f.define("ptr", f"getelementptr i8, ptr @{PREFIX}registers, i64 0", "first")
    return f.at(first, f.mul(wide, f.index(_TILE)), "i8")


def _function(name, parameters):
    return Function(f"{PREFIX}{name}", parameters, linkage="internal")


def _configured(f, number):
    """(rows, mask of the words of a row) of a tile register."""
    wide = f.convert(number, "i64", signed=False)
    config = f.define("ptr", f"getelementptr i8, ptr @{PREFIX}config, i64 0", "config")
    rows = f.load(f.at(config, f.add(wide, f.index(48)), "i8"), "i8")
    bytes = f.load(f.at(config, f.add(f.mul(wide, f.index(2)), f.index(16)), "i8"), "i16", align=1)
    words = f.div(f.convert(bytes, "i64", signed=False), f.index(4))
    return f.convert(rows, "i64", signed=False), f.mask_below(16, words)


def _zero():
    f = _function("tilezero", [("t", "i8")])
    with f.loop("row", 0, _TILE, 64) as at:
        f.store(f.const("<16 x i32>", 0), f.at(_register(f, f.t), at.index, "i8"))
    return f


def _move(name):
    f = _function(name, [("t", "i8"), ("place", "ptr"), ("apart", "i64")])
    rows, mask = _configured(f, f.t)
    if "load" in name:
        f.call("void", f"{PREFIX}tilezero", f.t)
    with f.loop("row", 0, rows) as row:
        inside = f.at(_register(f, f.t), f.mul(row.index, f.index(64)), "i8")
        outside = f.at(f.place, f.mul(row.index, f.apart), "i8")
        source, to = (outside, inside) if "load" in name else (inside, outside)
        value = f.load(source, "<16 x i32>", align=1, mask=mask)
        f.store(value, to, align=1, mask=mask)
    return f


def _configure():
    f = _function("ldtilecfg", [("config", "ptr")])
    to = f.define("ptr", f"getelementptr i8, ptr @{PREFIX}config, i64 0", "to")
    f.store(f.load(f.config, "<16 x i32>", align=1), to, align=1)
    return f


def _pairs(f, a, b, total):
    half, upper = f.const("<16 x i32>", 16), f.const("<16 x i32>", -65536)
    for even in (True, False):
        x, y = (f.op("shl", v, half) if even else f.op("and", v, upper) for v in (a, b))
        x, y = f.bitcast(x, "<16 x float>"), f.bitcast(y, "<16 x float>")
        total = f.add(total, f.mul(x, y))
    return total


def _bytes(signs):
    def add(f, a, b, total):
        for byte in range(4):
            up, down = f.const("<16 x i32>", 24 - 8 * byte), f.const("<16 x i32>", 24)
            x, y = (
                f.op("ashr" if sign == "s" else "lshr", f.op("shl", v, up), down)
                for sign, v in zip(signs, (a, b), strict=True)
            )
            total = f.add(total, f.mul(x, y))
        return total

    return add


def _product(name, type, add):
    f = _function(name, [("c", "i8"), ("a", "i8"), ("b", "i8")])
    with f.loop("m", 0, 16) as m, f.loop("k", 0, 16) as k:
        sums = f.at(_register(f, f.c), f.mul(m.index, f.index(64)), "i8")
        at = f.add(f.mul(m.index, f.index(64)), f.mul(k.index, f.index(4)))
        a = f.splat(f.load(f.at(_register(f, f.a), at, "i8"), "i32"), 16)
        b = f.load(f.at(_register(f, f.b), f.mul(k.index, f.index(64)), "i8"), "<16 x i32>")
        f.store(add(f, a, b, f.load(sums, f"<16 x {type}>")), sums)
    return f


def emulated_text(kernels) -> str:
    """The module of kernels that use AMX tiles, with calls of the emulation instead."""
    text = module_text(kernels)
    lines = [line for line in text.split("\n") if not line.startswith("declare void @llvm.x86.")]
    text = re.sub(r'@"llvm\.x86\.(ldtile|tile|td)', rf'@"{PREFIX}\1', "\n".join(lines))
    products = [_product("tdpbf16ps", "float", _pairs)]
    products += [_product(f"tdpb{s}d", "i32", _bytes(s)) for s in ("ss", "su", "us", "uu")]
    moves = [_move(name) for name in ("tileloadd64", "tileloaddt164", "tilestored64")]
    functions = [_zero(), *moves, *products, _configure()]
    registers = f"@{PREFIX}registers = internal global [{8 * _TILE} x i8] zeroinitializer, align 64"
    full = ", ".join(
        f"i8 {x}" for x in [1, *[0] * 15, *[64, 0] * 8, *[0] * 16, *[16] * 8, *[0] * 8]
    )
    config = f"@{PREFIX}config = internal global [64 x i8] [{full}], align 64"
    return "\n".join([config, registers, text, *(f.finish() for f in functions)])
