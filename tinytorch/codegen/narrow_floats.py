"""Conversions to and from bfloat16 and float16 that no instruction of the processor does.

Knows IR text and bits. LLVM would call a library function for each lane; here `fptrunc` and `fpext`
lines become calls of small vector functions made of integer instructions, appended to the module.
Rounding to bfloat16 is spelled out even where the processor has an instruction: `vcvtneps2bf16`
takes subnormal numbers for 0 (Intel SDM, volume 2). Only what goes into a dot product of bfloat16,
which does the same, is rounded by it: lines that end in FLUSHES.
"""

from __future__ import annotations

import re

from tinytorch.codegen.builder import FLUSHES, Function, Value, lanes, mangle, vector
from tinytorch.codegen.target import Target

_LINE = re.compile(
    r"= (fptrunc|fpext) (<\d+ x \w+>|\w+) (\S+) to "
    r"(<\d+ x (?:half|bfloat|float|double)>|half|bfloat|float|double)(" + FLUSHES + ")?"
)


def spell_out(text: str, target: Target) -> str:
    """The module with every conversion the target lacks replaced."""
    lacking: set[str] = set()
    if not target.has_bf16_dot:
        lacking.add("bfloat")
    if target.name == "vector128" and target.architecture == "x86_64":  # F16C came with AVX
        lacking.add("half")
    if not any(name in text for name in (*lacking, "bfloat")):
        return text
    needed: dict[str, Function] = {}

    def replace(match: re.Match[str]) -> str:
        op, source, value, to, flushes = match.groups()
        narrow = (to if op == "fptrunc" else source).rstrip(">").split()[-1]
        # bfloat16 is widened by bits everywhere: LLVM 22 compares bfloat16 for AVX-512 by a node it
        # cannot select, and ends the process
        if narrow not in lacking and (narrow != "bfloat" or flushes):
            return match[0]
        name = f"tinytorch.{op}.{mangle(source)}.{mangle(to)}"
        if name not in needed:
            one = op == "fptrunc" and narrow not in lacking and source == "<16 x float>"
            needed[name] = _checked(name) if one else _conversion(name, op, narrow, source, to)
        return f'= call {to} @"{name}"({source} {value})'

    text = _LINE.sub(replace, text)
    declared = {d for f in needed.values() for d in f.declarations}
    fresh = sorted(d for d in declared if d not in text)
    return "\n".join([*fresh, text, *(f.finish() for f in needed.values())]) + "\n"


def _conversion(name: str, op: str, narrow: str, source: str, to: str) -> Function:
    f = Function(name, [("x", source)], to, "alwaysinline nounwind", "private")
    n = lanes(source)
    if op == "fpext":
        wide = _bfloat_to_float if narrow == "bfloat" else _half_to_float
        f.ret(_wider(f, wide(f, f.x, n), to))
        return f
    x = _narrower(f, f.x, n)
    bits = (_round_bfloat if narrow == "bfloat" else _round_half)(f, x, n)
    f.ret(f.bitcast(bits, to))
    return f


def _checked(name: str) -> Function:
    """By the instruction if no lane is subnormal: 0.5 ns for 16 numbers, where bits take 1.5."""
    f = Function(name, [("x", "<16 x float>")], "<16 x bfloat>", "alwaysinline nounwind", "private")
    subnormal = f.call(
        "<16 x i1>", "llvm.x86.avx512.fpclass.ps.512", f.x, f.const("i32", 0x20), stem="subnormal"
    )
    some = f.compare("ne", f.bitcast(subnormal, "i16"), f.const("i16", 0))
    some = f.call("i1", "llvm.expect.i1", some, f.const("i1", 0))
    f.branch_if(some, "by.bits", "by.instruction")
    f.block("by.bits")
    f.ret(f.bitcast(_round_bfloat(f, f.x, 16), "<16 x bfloat>"))
    f.block("by.instruction")
    f.ret(f.define("<16 x bfloat>", f"fptrunc <16 x float> {f.x.text} to <16 x bfloat>"))
    return f


def _narrower(f: Function, x: Value, n: int) -> Value:
    return (
        f.define(vector(n, "float"), f"fptrunc {x.type} {x.text} to {vector(n, 'float')}")
        if "double" in x.type
        else x
    )


def _wider(f: Function, x: Value, to: str) -> Value:
    return f.define(to, f"fpext {x.type} {x.text} to {to}") if "double" in to else x


def _round_bfloat(f: Function, x: Value, n: int) -> Value:
    """Nearest, ties to even: add 0x7fff and the last kept bit, drop 16 bits; NaN: the quiet one."""
    wide, short = vector(n, "i32"), vector(n, "i16")
    bits = f.bitcast(x, wide)
    odd = f.op("and", f.op("lshr", bits, f.const(wide, 16)), f.const(wide, 1))
    rounded = f.op("lshr", f.add(bits, f.add(odd, f.const(wide, 0x7FFF))), f.const(wide, 16))
    rounded = f.select(f.compare("ne", x, x), f.const(wide, 0x7FC0), rounded)
    return f.convert(rounded, short)


def _round_half(f: Function, x: Value, n: int) -> Value:
    """Nearest, ties to even, in three ranges: overflow and NaN, denormals, normal numbers.

    A denormal half is a multiple of 2^-24: adding 0.5 to |x| puts those multiples in the last bits
    of the sum, rounded by the addition itself.
    """
    wide, short = vector(n, "i32"), vector(n, "i16")
    bits = f.bitcast(x, wide)
    sign = f.op("and", bits, f.const(wide, -(1 << 31)))
    size = f.op("xor", bits, sign)
    magnitude = f.bitcast(size, x.type)
    big = f.select(f.compare("ne", x, x), f.const(wide, 0x7E00), f.const(wide, 0x7C00))
    tiny = f.sub(f.bitcast(f.add(magnitude, f.const(x.type, 0.5)), wide), f.const(wide, 126 << 23))
    odd = f.op("and", f.op("lshr", size, f.const(wide, 13)), f.const(wide, 1))
    moved = f.add(f.add(size, f.const(wide, ((15 - 127) << 23) + 0xFFF)), odd)
    normal = f.op("lshr", moved, f.const(wide, 13))
    out = f.select(f.compare("lt", size, f.const(wide, 113 << 23)), tiny, normal)  # 2^-14
    out = f.select(f.compare("ge", size, f.const(wide, (127 + 16) << 23)), big, out)  # 2^16
    return f.convert(f.op("or", out, f.op("lshr", sign, f.const(wide, 16))), short)


def _bfloat_to_float(f: Function, x: Value, n: int) -> Value:
    """The bits are the upper half. After `fpext` LLVM would round in bfloat, which it cannot."""
    wide = f.convert(f.bitcast(x, vector(n, "i16")), vector(n, "i32"), signed=False)
    return f.bitcast(f.op("shl", wide, f.const(wide.type, 16)), vector(n, "float"))


def _half_to_float(f: Function, x: Value, n: int) -> Value:
    """Exponent and fraction moved into place and scaled by 2^112 (exact, denormals too)."""
    wide, real = vector(n, "i32"), vector(n, "float")
    bits = f.convert(f.bitcast(x, vector(n, "i16")), wide, signed=False)
    sign = f.op("shl", f.op("and", bits, f.const(wide, 0x8000)), f.const(wide, 16))
    size = f.op("shl", f.op("and", bits, f.const(wide, 0x7FFF)), f.const(wide, 13))
    scaled = f.mul(f.bitcast(size, real), f.const(real, 2.0**112))
    whole = f.bitcast(scaled, wide)
    special = f.compare("ge", size, f.const(wide, 0x7C00 << 13))
    whole = f.select(special, f.op("or", size, f.const(wide, 0xFF << 23)), whole)
    return f.bitcast(f.op("or", whole, sign), real)
