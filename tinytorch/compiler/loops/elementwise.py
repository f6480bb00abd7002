"""How each elementwise primitive becomes instructions: one row for each name in the table.

Knows IR values and number types, never loops. A value of dtype float16 or bfloat16 travels as a
float32 that was rounded to the narrow type: each operation computes in float32 and rounds, which
for + - * / and sqrt equals the narrow operation exactly (float32 has more than 2p + 2 bits; S.
Figueroa, "When is double rounding innocuous?", 1995). Reductions combine two parts by such a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite

from tinytorch.base.dtypes import DType, bfloat16, bool_, float16, float32, float64
from tinytorch.base.errors import CompileError
from tinytorch.codegen import vector_math
from tinytorch.codegen.builder import INTS, Function, Value, element, lanes, vector
from tinytorch.primitives.primitive import TABLE

Values = Sequence[Value]  # the operands of an operation
Rule = Callable[[Function, Values, DType], Value]


def register_type(dtype: DType) -> str:
    """The IR type that a number of this dtype has in a register."""
    return "float" if dtype in (float16, bfloat16) else dtype.llvm


def signed(dtype: DType) -> bool:
    """Whether integer instructions for this dtype are the signed ones."""
    return dtype.kind == "i"


def from_memory(f: Function, value: Value, dtype: DType) -> Value:
    """A loaded value as its register form."""
    return f.convert(value, register_type(dtype))


def to_memory(f: Function, value: Value, dtype: DType) -> Value:
    """A register value in the form it is stored in."""
    if dtype is bfloat16:  # it was rounded when it was made: the lower half of its bits is 0
        n = lanes(value.type)
        upper = f.op("lshr", f.bitcast(value, vector(n, "i32")), f.const(vector(n, "i32"), 16))
        return f.bitcast(f.convert(upper, "i16"), vector(n, dtype.llvm))
    return f.convert(value, dtype.llvm)


def round_to(f: Function, value: Value, dtype: DType) -> Value:
    """Round a float32 register value to a narrow float type, kept as float32."""
    if dtype in (float16, bfloat16):
        return f.convert(f.convert(value, dtype.llvm), "float")
    return value


def convert(f: Function, value: Value, source: DType, target: DType) -> Value:
    """The `cast` primitive: floats round to nearest, float to integer saturates, integers wrap."""
    if source is target:
        return value
    if source.is_float and target.is_float:
        if source is float64 and target is float16:
            return round_to(f, _odd(f, value), target)
        value = f.convert(value, register_type(target))
        if source is float64 and target is bfloat16:
            # else LLVM rounds once, by a library function that is not there
            value = f.intrinsic("arithmetic.fence", value.type, value)
        return round_to(f, value, target)
    if source.is_float:
        return f.convert(value, target.llvm, signed=target.kind == "i")
    if target.is_float:
        return round_to(f, f.convert(value, register_type(target), signed=signed(source)), target)
    return f.convert(value, target.llvm, signed=signed(source))


def _odd(f: Function, x: Value) -> Value:
    """Float64 as float32, rounded to odd: what is rounded once more is then as if rounded once.

    Source: Boldo & Melquiond 2008, "Emulation of FMA and correctly rounded sums: proved algorithms
    using rounding to odd"; it holds where the first type has two more bits than the second.
    """
    n = lanes(x.type)
    near = f.convert(x, vector(n, "float"))
    size, given = (f.intrinsic("fabs", x.type, v) for v in (f.convert(near, x.type), x))
    bits = f.bitcast(near, vector(n, "i32"))
    one, zero = f.const(bits.type, 1), f.const(bits.type, 0)
    down = f.select(f.compare("gt", size, given), f.const(bits.type, -1), zero)
    step = f.select(f.compare("lt", size, given), one, down)
    even = f.compare("eq", f.op("and", bits, one), zero)
    return f.bitcast(f.add(bits, f.select(even, step, zero)), near.type)


def _zero(f: Function, v: Value) -> Value:
    return f.const(v.type, 0)


def _binary(name: str) -> Rule:
    return lambda f, a, d: getattr(f, name)(*a)


def _math(name: str) -> Rule:
    return lambda f, a, d: getattr(vector_math, name)(f, a[0])


def _compare(how: str) -> Rule:
    return lambda f, a, d: f.compare(how, a[0], a[1], signed=signed(d))


def _bits(name: str) -> Rule:
    return lambda f, a, d: f.op(name, a[0], a[1])


def _abs(f: Function, a: Values, d: DType) -> Value:
    if d.is_float:
        return f.intrinsic("fabs", a[0].type, a[0])
    if d.kind != "i":
        return a[0]
    return f.select(f.compare("lt", a[0], _zero(f, a[0])), f.neg(a[0]), a[0])


def _sign(f: Function, a: Values, d: DType) -> Value:
    x, zero = a[0], _zero(f, a[0])
    if d is bool_:
        return x
    one = f.const(x.type, 1)
    positive = f.select(f.compare("gt", x, zero, signed(d)), one, zero)
    if d.kind == "u":
        return positive
    out = f.select(f.compare("lt", x, zero), f.const(x.type, -1), positive)
    return f.select(_is_nan(f, a, d), x, out) if d.is_float else out


def _is_nan(f: Function, a: Values, d: DType) -> Value:
    if not d.is_float:
        return f.const(vector(lanes(a[0].type), "i1"), 0)
    return f.compare("ne", a[0], a[0])


def _is_inf(f: Function, a: Values, d: DType) -> Value:
    if not d.is_float:
        return f.const(vector(lanes(a[0].type), "i1"), 0)
    return f.compare("eq", _abs(f, a, d), f.const(a[0].type, float("inf")))


def _is_finite(f: Function, a: Values, d: DType) -> Value:
    if not d.is_float:
        return f.const(vector(lanes(a[0].type), "i1"), 1)
    return f.compare("lt", _abs(f, a, d), f.const(a[0].type, float("inf")))


def _signbit(f: Function, a: Values, d: DType) -> Value:
    one = f.intrinsic("copysign", a[0].type, f.const(a[0].type, 1.0), a[0])
    return f.compare("lt", one, _zero(f, one))


def _nonzero(f: Function, v: Value) -> Value:
    return v if element(v.type) == "i1" else f.compare("ne", v, _zero(f, v))


def _logical(name: str) -> Rule:
    return lambda f, a, d: f.op(name, _nonzero(f, a[0]), _nonzero(f, a[1]))


def _not(f: Function, a: Values, d: DType) -> Value:
    v = _nonzero(f, a[0])
    return f.op("xor", v, f.const(v.type, 1))


def _bitwise_not(f: Function, a: Values, d: DType) -> Value:
    return f.op("xor", a[0], f.const(a[0].type, 1 if d is bool_ else -1))


def _safe_divisor(f: Function, a: Values, d: DType) -> tuple[Value, Value]:
    """(is zero, a divisor that cannot trap): 1 for 0, and for -1 below the smallest integer."""
    x, y = a
    zero = f.compare("eq", y, _zero(f, y))
    bad = zero
    if signed(d):
        smallest = f.const(x.type, -(1 << (INTS[element(x.type)] - 1)))
        overflow = f.op(
            "and", f.compare("eq", x, smallest), f.compare("eq", y, f.const(y.type, -1))
        )
        bad = f.op("or", zero, overflow)
    return zero, f.select(bad, f.const(y.type, 1), y)


def _floor_div_float(f: Function, x: Value, y: Value) -> Value:
    """(x - fmod(x, y)) / y, less 1 where the remainder's sign is wrong, rounded to an integer."""
    one, zero = f.const(x.type, 1.0), _zero(f, x)
    rest = f.rem(x, y)
    ratio = f.div(f.sub(x, rest), y)
    wrong = f.op("xor", f.compare("lt", rest, zero), f.compare("lt", y, zero))
    wrong = f.op("and", f.compare("ne", rest, zero), wrong)
    ratio = f.select(wrong, f.sub(ratio, one), ratio)
    low = f.intrinsic("floor", x.type, ratio)
    near = f.select(f.compare("gt", f.sub(ratio, low), f.const(x.type, 0.5)), f.add(low, one), low)
    plain = f.div(x, y)
    near = f.select(
        f.compare("eq", ratio, zero), f.intrinsic("copysign", x.type, zero, plain), near
    )
    return f.select(f.compare("eq", y, zero), plain, near)


def _floor_div(f: Function, a: Values, d: DType) -> Value:
    if d.is_float:
        return _floor_div_float(f, *a)
    zero, y = _safe_divisor(f, a, d)
    x = a[0]
    q = f.div(x, y, signed=signed(d))
    if signed(d):
        rest = f.sub(x, f.mul(q, y))
        opposite = f.compare("lt", f.op("xor", rest, y), _zero(f, x))
        down = f.op("and", f.compare("ne", rest, _zero(f, x)), opposite)
        q = f.select(down, f.sub(q, f.const(q.type, 1)), q)
    return f.select(zero, _zero(f, q), q)


def _remainder(f: Function, a: Values, d: DType) -> Value:
    if d.is_float:
        x, y = a
        rest = f.rem(x, y)
        wrong = f.op(
            "and",
            f.compare("ne", rest, _zero(f, x)),
            f.op("xor", f.compare("lt", rest, _zero(f, x)), f.compare("lt", y, _zero(f, y))),
        )
        rest = f.select(wrong, f.add(rest, y), rest)
        signed_zero = f.intrinsic("copysign", x.type, _zero(f, x), y)
        return f.select(f.compare("eq", rest, _zero(f, x)), signed_zero, rest)
    zero, y = _safe_divisor(f, a, d)
    q = _floor_div(f, (a[0], y), d)
    rest = f.sub(a[0], f.mul(q, y))
    return f.select(zero, _zero(f, rest), rest)


def _shift(op: str) -> Rule:
    def rule(f: Function, a: Values, d: DType) -> Value:
        x, by = a
        bits = INTS[element(x.type)]
        wide = f.compare("ge", by, f.const(by.type, bits), signed=False)  # a negative count too
        name = "ashr" if op == "lshr" and signed(d) else op
        last = f.const(by.type, bits - 1)
        shifted = f.op(name, x, f.select(wide, last, by))
        if name == "ashr":
            return shifted  # all bits become the sign
        return f.select(wide, _zero(f, x), shifted)

    return rule


def _mul(f: Function, a: Values, d: DType) -> Value:
    x, y = a
    return f.op("and", x, y) if d is bool_ else f.mul(x, y)


def _add(f: Function, a: Values, d: DType) -> Value:
    x, y = a
    return f.op("or", x, y) if d is bool_ else f.add(x, y)


def _extreme(name: str, of_bool: str) -> Rule:
    def rule(f: Function, a: Values, d: DType) -> Value:
        if d is bool_:
            return f.op(of_bool, a[0], a[1])
        if d.is_float:
            return getattr(f, name)(*a)
        how = "lt" if name == "minimum" else "gt"
        return f.select(f.compare(how, a[0], a[1], signed(d)), a[0], a[1])

    return rule


def _rounding(name: str) -> Rule:
    intrinsic = {"round": "roundeven"}.get(name, name)
    return lambda f, a, d: f.intrinsic(intrinsic, a[0].type, a[0]) if d.is_float else a[0]


def _pow(f: Function, a: Values, d: DType) -> Value:
    return vector_math.pow(f, a[0], a[1]) if d.is_float else _whole_pow(f, a[0], a[1], d)


def _whole_pow(f: Function, x: Value, e: Value, d: DType) -> Value:
    """Repeated squaring, wrapping; a negative power is 1 / x^|e| cut to an integer, 1 / 0 is 0."""
    one, zero = f.const(x.type, 1), _zero(f, x)
    negative = f.compare("lt", e, zero) if signed(d) else None
    if negative is not None:
        e = f.select(negative, f.op("and", e, one), e)
    out, square, bits = one, x, INTS[element(x.type)]
    for bit in range(bits):
        on = f.compare(
            "ne", f.op("and", e, f.const(e.type, 1 << bit if bit < bits - 1 else -(1 << bit))), zero
        )
        out = f.select(on, f.mul(out, square), out)
        square = f.mul(square, square)
    if negative is not None:
        unit = f.op("or", f.compare("eq", x, one), f.compare("eq", x, f.const(x.type, -1)))
        lost = f.op("and", negative, f.op("xor", unit, f.const(unit.type, 1)))
        out = f.select(lost, zero, out)
    return out


def _absorb(f: Function, a: Values, d: DType) -> Value:
    p, g = a
    lost = f.op("and", f.compare("ne", p, p), f.compare("eq", g, _zero(f, g)))
    return f.select(lost, _zero(f, p), p)


def _reciprocal(f: Function, a: Values, d: DType) -> Value:
    return f.div(f.const(a[0].type, 1.0), a[0])


# the rows that take few bits out of a word, by a mask and from its upper end
MASKS, SHIFTS = frozenset({"bitwise_and"}), frozenset({"shift_right"})
SELECT = "where"  # the row that gives one of two operands, by a condition
# name -> instructions. `d` is the dtype of the first numeric operand.
RULES: dict[str, Rule] = {
    "neg": _binary("neg"), "abs": _abs, "sign": _sign, "reciprocal": _reciprocal,
    "exp": _math("exp"), "log": _math("log"), "sqrt": _math("sqrt"), "rsqrt": _math("rsqrt"),
    "sin": _math("sin"), "cos": _math("cos"), "tanh": _math("tanh"), "erf": _math("erf"),
    "gelu": _math("gelu"), "gelu_slope": _math("gelu_slope"),
    "floor": _rounding("floor"), "ceil": _rounding("ceil"), "round": _rounding("round"),
    "signbit": _signbit,
    "isnan": _is_nan, "isinf": _is_inf, "isfinite": _is_finite,
    "add": _add, "sub": _binary("sub"), "mul": _mul, "div": _binary("div"), "pow": _pow,
    "floor_div": _floor_div, "remainder": _remainder,
    "maximum": _extreme("maximum", "or"), "minimum": _extreme("minimum", "and"),
    "equal": _compare("eq"), "not_equal": _compare("ne"), "less": _compare("lt"),
    "less_equal": _compare("le"), "greater": _compare("gt"), "greater_equal": _compare("ge"),
    "logical_and": _logical("and"), "logical_or": _logical("or"), "logical_not": _not,
    "bitwise_and": _bits("and"), "bitwise_or": _bits("or"), "bitwise_xor": _bits("xor"),
    "bitwise_not": _bitwise_not, "shift_left": _shift("shl"), "shift_right": _shift("lshr"),
    "absorb": _absorb, "where": lambda f, a, d: f.select(a[0], a[1], a[2]),
}  # fmt: skip


def has_instructions(name: str) -> bool:
    """Whether `emit` can compute the primitive of that name."""
    return name in RULES or name == "cast"


def emit(
    f: Function, name: str, arguments: Sequence[Value], ins: Sequence[DType], out: DType
) -> Value:
    """Instructions of elementwise primitive `name` on register values of dtypes `ins`."""
    if name == "cast":
        return convert(f, arguments[0], ins[0], out)
    value = RULES[name](f, arguments, ins[0])
    return value if TABLE[name].exact else round_to(f, value, out)


# Reductions: how they start, combine and end. The order is fixed by the code, so a result never
# depends on threads. Sums of float16 and bfloat16 accumulate in float32 and are rounded once.


def accumulator(dtype: DType) -> DType:
    """The type in which results of `dtype` are added up, and parts of them kept."""
    return float32 if dtype in (float16, bfloat16) else dtype


def identity(f: Function, kind: str, dtype: DType, type: str) -> Value:
    """What combining with leaves a value unchanged."""
    scalar = element(type)
    _, start = _combination(kind)
    if isfinite(start):
        return f.const(type, int(start))
    sign = -1 if start < 0 else 1
    if scalar in INTS:
        if dtype is bool_:
            return f.const(type, 0 if sign < 0 else 1)
        bits = INTS[scalar]
        low, high = (
            (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
            if dtype.kind == "i"
            else (0, (1 << bits) - 1)
        )
        return f.const(type, low if sign < 0 else high)
    return f.const(type, sign * float("inf"))


def combine(f: Function, kind: str, dtype: DType, a: Value, b: Value) -> Value:
    """One step: a (so far) with b (new). A NaN stays for max and min."""
    row, _ = _combination(kind)
    return RULES[row](f, (a, b), dtype)


def _combination(kind: str) -> tuple[str, float]:
    """The elementwise row that combines two parts, and what a reduction begins with."""
    found = TABLE[kind].combines
    if found is None:
        raise CompileError.own_fault(
            "a row is reduced that is no reduction", got=kind, rule="the row says what combines"
        )
    return found


def tree(f: Function, kind: str, dtype: DType, v: Value) -> Value:
    """All lanes of a vector combined, halves first."""
    while lanes(v.type) > 1:
        half = lanes(v.type) // 2
        low = f.shuffle(v, v, range(half), "low")
        high = f.shuffle(v, v, range(half, 2 * half), "high")
        if half == 1:
            low, high = f.extract(v, 0), f.extract(v, 1)
        v = combine(f, kind, dtype, low, high)
    return v
