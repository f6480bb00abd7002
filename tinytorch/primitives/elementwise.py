"""Elementwise rows: comparisons, logic and bits, selection, arithmetic, cast.

Knows one element of each operand at a time. Floats follow IEEE 754: NaN compares unequal to
everything. Integers wrap modulo 2 to their width, and one divided by 0 gives 0, for `floor_div` and
`remainder` both. A shift by the width or more leaves nothing but the sign; its count is read as
unsigned, so a negative one counts as too large. Functions of analysis are in transcendental.py.

`unary_row` and `binary_row` make such rows, here and there: from a name, NumPy's definition, the
gradient and a sentence come the function `tt.name`, the method and the contract test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from tinytorch.base.dtypes import (
    DTYPES,
    DType,
    as_dtype,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
)
from tinytorch.base.errors import ShapeError
from tinytorch.primitives.creation import full_like
from tinytorch.primitives.ieee import ieee, ieee_call, ieee_steps, select
from tinytorch.primitives.movement import fold_to
from tinytorch.primitives.primitive import (
    NOT_DIFFERENTIABLE,
    Array,
    Cotangents,
    ErrorSamples,
    OpClass,
    Operand,
    Primitive,
    Sample,
    Samples,
    Spec,
    dtype_of,
    flags,
    no_flops,
    numbers,
    of_dtype,
    one,
    refused,
    sample,
    strided,
    two,
    wrong_kind,
    wrong_pair,
)
from tinytorch.primitives.shapes import (
    ANY,
    BITS,
    BOOL,
    FLOAT,
    INTEGER,
    NUMBER,
    broadcast_shapes,
    check_kind,
    check_same_dtype,
)

Needs = tuple[bool, ...]  # which cotangents are wanted
BOTH = (True, True)  # of a rule of two operands, unless it is told


class UnaryRule(Protocol):
    """The gradient rule of a row of one operand that is told whether zeros are final."""

    def __call__(
        self, g: Operand, out: Operand, x: Operand, /, *, final: bool = False
    ) -> Cotangents:
        """The cotangent of x."""
        ...


def unary(name: str, kinds: str, out: DType | None = None) -> Callable[[Spec], Spec]:
    """Shape rule of an elementwise row of one operand; `out`: another dtype than the operand's."""

    def infer(x: Spec) -> Spec:
        if x.dtype.kind not in kinds:
            check_kind(name, "x", x, kinds)
        return x if out is None else Spec(x.shape, out)

    return infer


def binary(name: str, kinds: str, out: DType | None = None) -> Callable[[Spec, Spec], Spec]:
    """Shape rule of an elementwise row of two operands of one dtype, broadcast."""

    def infer(a: Spec, b: Spec) -> Spec:
        if a.dtype.kind not in kinds:
            check_kind(name, "a", a, kinds)
        if a.dtype is not b.dtype:
            check_same_dtype(name, ("a", "b"), (a, b))
        if a.shape == b.shape:
            return a if out is None else Spec(a.shape, out)
        return Spec(broadcast_shapes(name, ("a", "b"), (a.shape, b.shape)), out or a.dtype)

    return infer


def unary_row(
    name: str,
    kinds: str,
    numpy: Callable[[Array], Array],
    vjp: UnaryRule | Callable[[Operand, Operand, Operand], Cotangents] | str,
    doc: str,
    samples: Samples,
    out: DType | None = None,
    functions: tuple[str, ...] | None = None,
    methods: tuple[str, ...] | None = None,
    error_samples: ErrorSamples | None = None,
    **facts: Any,
) -> Primitive:
    """A row that computes each element from one.

    Args:
        name: of the row, and of its function and method unless those are given.
        kinds: the number types of the operand: FLOAT, NUMBER, ...
        numpy: the definition.
        vjp: the gradient rule.
        doc: one sentence; the docstring of the function too.
        samples: inputs for the contract test.
        out: the number type of the result, if it is not the operand's.
        functions, methods: see Primitive.
        error_samples: what is refused; default: a number type that is not among `kinds`.
        facts: what else the row says: `selects`, `expensive`, ...
    """
    refused = {FLOAT: "int32", BITS: "float32"}.get(kinds, "bool")
    functions = (name,) if functions is None else functions
    return Primitive(
        name, unary(name, kinds, out), numpy, vjp=vjp, **facts, functions=functions,
        methods=functions if methods is None else methods, samples=samples,
        error_samples=error_samples or wrong_kind(refused), kinds=kinds,
        op_class=OpClass.ELEMENTWISE,
        doc=doc,
    )  # fmt: skip  # fmt: skip


def binary_row(
    name: str,
    kinds: str,
    numpy: Callable[[Array, Array], Array],
    vjp: Callable[..., Cotangents] | str,
    doc: str,
    samples: Samples,
    out: DType | None = None,
    functions: tuple[str, ...] | None = None,
    methods: tuple[str, ...] | None = None,
    **facts: Any,
) -> Primitive:
    """A row that computes each element from two of one dtype, broadcast. Args: as `unary_row`."""
    whole, none = kinds in (BITS, INTEGER), kinds == ANY
    refused = "float32" if whole else None if none else "bool"
    wrong = (
        wrong_pair("int32", refused, "int8") if whole else wrong_pair("float32", refused, "float64")
    )
    functions = (name,) if functions is None else functions
    return Primitive(
        name, binary(name, kinds, out), numpy, vjp=vjp, **facts, functions=functions,
        methods=functions if methods is None else methods, samples=samples, error_samples=wrong,
        kinds=kinds, op_class=OpClass.ELEMENTWISE,
        doc=doc,
    )  # fmt: skip  # fmt: skip


# --- comparisons, logic, bits ---


def _ties() -> list[Sample]:
    """Pairs with equal elements among them, and the numbers that compare in their own ways."""
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0])
    whole = [numbers(9, low=-3, high=3, seed=s, dtype="int32") for s in (0, 1)]
    return [
        *two()(),
        sample(odd[:, None], odd[None, :]),
        sample(whole[0], whole[1]),
        sample(flags(5), flags(5, seed=1)),
    ]


def _comparison(name: str, ufunc: np.ufunc, doc: str, short: str = "", **facts: Any) -> Primitive:
    names = {"functions": (name, short), "methods": (short,)} if short else {}
    return binary_row(name, ANY, ufunc, NOT_DIFFERENTIABLE, doc, _ties, bool_, **{**names, **facts})


def _question(name: str, ufunc: np.ufunc, doc: str, **facts: Any) -> Primitive:
    odd = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0])
    return unary_row(
        name, FLOAT, ufunc, NOT_DIFFERENTIABLE, doc, lambda: [*one()(), sample(odd)], bool_,
        **facts,
    )  # fmt: skip


def _integers() -> list[Sample]:
    low, high = (numbers(5, low=0, high=h, dtype="uint32") for h in (2**32, 9))
    wide = numbers(5, low=-(2**60), high=2**60, dtype="int64")
    return [
        *of_dtype(two(-90, 90), "int8")(),
        sample(low, high),
        sample(wide, np.array([1, 62, 63, 64, -1])),
    ]


def _bitwise(name: str, ufunc: np.ufunc, doc: str, kinds: str = BITS, **facts: Any) -> Primitive:
    def samples() -> list[Sample]:
        return [*_integers(), *([sample(flags(5), flags(5, seed=1))] if kinds == BITS else [])]

    return binary_row(name, kinds, ufunc, NOT_DIFFERENTIABLE, doc, samples, methods=(), **facts)


# NumPy's comparisons clear the floating-point flags themselves: no warning to silence.
# The function `equal` of Tensors is another: it gives one answer.
equal = _comparison("equal", np.equal, "a == b.", functions=("eq",), methods=("eq",), commutes=True)
not_equal = _comparison("not_equal", np.not_equal, "a != b.", "ne", commutes=True)
less = _comparison("less", np.less, "a < b.", "lt")
less_equal = _comparison("less_equal", np.less_equal, "a <= b.", "le")
greater = _comparison("greater", np.greater, "a > b.", "gt")
greater_equal = _comparison("greater_equal", np.greater_equal, "a >= b.", "ge")
logical_and = _comparison(
    "logical_and", np.logical_and, "a and b, where anything but 0 is true.", commutes=True
)
logical_or = _comparison(
    "logical_or", np.logical_or, "a or b, where anything but 0 is true.", commutes=True
)
logical_not = unary_row(
    "logical_not", ANY, np.logical_not, NOT_DIFFERENTIABLE, "Whether x is 0.",
    lambda: [*one()(), sample(flags(5)), sample(np.array([0, 3], np.int8))], bool_,
    error_samples=lambda: [
        refused(TypeError, "not a number type", np.zeros(2, np.complex64))
    ],
)  # fmt: skip
isnan = _question("isnan", np.isnan, "Whether x is not a number.")
isinf = _question("isinf", np.isinf, "Whether x is infinite.")
isfinite = _question("isfinite", np.isfinite, "Whether x is neither infinite nor NaN.")
signbit = _question(
    "signbit", np.signbit, "Whether the sign of x is minus; that of -0.0 and of a NaN counts.",
    functions=(),
)  # fmt: skip
bitwise_and = _bitwise("bitwise_and", np.bitwise_and, "The bits set in both.", commutes=True)
bitwise_or = _bitwise("bitwise_or", np.bitwise_or, "The bits set in either.", commutes=True)
bitwise_xor = _bitwise(
    "bitwise_xor", np.bitwise_xor, "The bits set in one of them only.", commutes=True
)
bitwise_not = unary_row(
    "bitwise_not", BITS, np.bitwise_not, NOT_DIFFERENTIABLE,
    "Every bit turned over; of a bool, not x.",
    lambda: [
        sample(numbers(2, 3, low=-90, high=90, dtype="int8")),
        sample(flags(0)),
        sample(flags(3)),
    ],
    functions=("bitwise_not", "bitwise_invert"), methods=(),
)  # fmt: skip
shift_left = _bitwise(
    "shift_left", np.left_shift, "a * 2^b; 0 for b >= the width.", INTEGER,
    functions=("shift_left", "bitwise_left_shift"),
)  # fmt: skip
shift_right = _bitwise(
    "shift_right", np.right_shift,
    "a / 2^b rounded down; the sign fills, so b >= the width gives 0 or -1.", INTEGER,
    functions=("shift_right", "bitwise_right_shift"),
)  # fmt: skip


# --- selection ---


def _chosen(condition: Spec, a: Spec, b: Spec) -> Spec:
    check_kind("where", "condition", condition, BOOL)
    check_same_dtype("where", ("a", "b"), (a, b))
    shapes = (condition.shape, a.shape, b.shape)
    return Spec(broadcast_shapes("where", ("condition", "a", "b"), shapes), a.dtype)


def _where_vjp(
    g: Operand, out: Operand, condition: Operand, a: Operand, b: Operand,
    *, needs: Needs = (False, True, True),
) -> Cotangents:  # fmt: skip
    zero = full_like(g, 0.0)
    return (
        None,
        fold_to(where(condition, g, zero), tuple(a.shape)) if needs[1] else None,
        fold_to(where(condition, zero, g), tuple(b.shape)) if needs[2] else None,
    )


where = Primitive(
    "where", _chosen, select, vjp=_where_vjp, op_class=OpClass.ELEMENTWISE, selects=(1, 2),
    exact=True,
    samples=lambda: [
        sample(flags(), numbers(), numbers(seed=1)),
        sample(flags(2, 3), numbers(2, 3), numbers(2, 3, seed=1)),
        sample(flags(3), numbers(2, 1), numbers(seed=1)),
        sample(flags(4, 1, 1), numbers(5, 1), strided(3, seed=1)),
        sample(flags(0), numbers(1), numbers(0, seed=1)),
    ],
    error_samples=lambda: [
        refused(TypeError, "condition", numbers(2), numbers(2), numbers(2)),
        refused(TypeError, "different number", flags(2), numbers(2), numbers(2, dtype="float32")),
        refused(ValueError, "do not fit together", flags(2), numbers(3), numbers(3)),
    ],
    doc="a where condition is true, b elsewhere.",
)  # fmt: skip


def _fits(p: Spec, g: Spec) -> Spec:
    out = binary("absorb", FLOAT)(p, g)
    if out.shape != p.shape:
        raise ShapeError(
            "absorb: g does not broadcast to p",
            got=f"p {p.shape}, g {g.shape}",
            rule="p has the shape of the product",
            fix="broadcast p first",
        )
    return out


def _absorb(p: Array, g: Array) -> Array:
    """A sum of squares is NaN if and only if one of them is: the cheapest way to find out."""
    if p.dtype.char in "fd":
        flat = p.ravel("K")  # in the order of memory: a view of what has no gaps
        squares = ieee_call(np.dot, flat, flat)
        if squares == squares:
            return p
    return np.where(np.isnan(p) & (g == 0), np.zeros((), p.dtype), p)


def _absorb_vjp(c: Operand, out: Operand, p: Operand, g: Operand) -> Cotangents:
    """c where p was taken: it follows g by the product that p is."""
    lost = logical_and(isnan(p), equal(g, full_like(g, 0.0, ())))
    return where(lost, full_like(c, 0.0), c), None


absorb = Primitive(
    "absorb", _fits, _absorb, vjp=_absorb_vjp, op_class=OpClass.ELEMENTWISE, selects=(0,),
    samples=lambda: [
        sample(numbers(3), numbers(3, seed=1)),
        sample(numbers(2, 3), numbers(2, 1, seed=1)),
        sample(np.array([np.nan, np.nan, np.inf, 2.0]), np.array([0.0, 1.0, 0.0, -0.0])),
        sample(strided(3, 4), strided(3, 4, seed=1)),
        sample(numbers(0), numbers(0)),
    ],
    error_samples=lambda: [
        refused(TypeError, "does not take", flags(2), flags(2)),
        refused(ValueError, "does not broadcast", numbers(1), numbers(3)),
    ],
    doc="p, a product with the factor g; 0 where p is NaN and g is 0. See Primitive's Note.",
)  # fmt: skip


# --- arithmetic ---


def _zero(g: Operand, out: Operand, x: Operand) -> Cotangents:
    """The gradient of a staircase: zero wherever there is one, and final."""
    return (full_like(g, 0.0, tuple(x.shape)),)


def _no_slope(
    g: Operand, out: Operand, a: Operand, b: Operand, *, needs: Needs = BOTH
) -> Cotangents:
    return tuple(
        full_like(g, 0.0, tuple(x.shape)) if wanted else None
        for x, wanted in zip((a, b), needs, strict=True)
    )


def _add_vjp(
    g: Operand, out: Operand, a: Operand, b: Operand, *, needs: Needs = BOTH
) -> Cotangents:
    return (
        fold_to(g, tuple(a.shape)) if needs[0] else None,
        fold_to(g, tuple(b.shape)) if needs[1] else None,
    )


def _sub_vjp(
    g: Operand, out: Operand, a: Operand, b: Operand, *, needs: Needs = BOTH
) -> Cotangents:
    return (
        fold_to(g, tuple(a.shape)) if needs[0] else None,
        neg(fold_to(g, tuple(b.shape))) if needs[1] else None,
    )


def scaled(g: Operand, slope: Operand, final: bool) -> Operand:
    """g * slope; a final zero of g stays 0 whatever the slope (Note [zeros that are final])."""
    product = mul(g, slope)
    return absorb(product, g) if final else product


def divided(g: Operand, by: Operand, final: bool) -> Operand:
    """g / by, in the same way."""
    quotient = div(g, by)
    return absorb(quotient, g) if final else quotient


def _mul_vjp(
    g: Operand, out: Operand, a: Operand, b: Operand, *, needs: Needs = BOTH, final: bool = False
) -> Cotangents:
    """A single number without a gradient (x * 0.5) is not asked whether it is finite."""
    g_a = g_b = None
    if needs[0]:
        g_a = fold_to(scaled(g, b, final and (needs[1] or b.shape != ())), tuple(a.shape))
    if needs[1]:
        g_b = fold_to(scaled(g, a, final and (needs[0] or a.shape != ())), tuple(b.shape))
    return g_a, g_b


def _div_vjp(
    g: Operand, out: Operand, a: Operand, b: Operand, *, needs: Needs = BOTH, final: bool = False
) -> Cotangents:
    g_a = divided(g, b, final)
    return (
        fold_to(g_a, tuple(a.shape)) if needs[0] else None,
        fold_to(neg(scaled(g_a, out, final)), tuple(b.shape)) if needs[1] else None,
    )


def _remainder_vjp(
    g: Operand, out: Operand, a: Operand, b: Operand, *, needs: Needs = BOTH, final: bool = False
) -> Cotangents:
    return (
        fold_to(g, tuple(a.shape)) if needs[0] else None,
        fold_to(neg(scaled(g, floor_div(a, b), final)), tuple(b.shape)) if needs[1] else None,
    )


def _larger_vjp(
    g: Operand, out: Operand, a: Operand, b: Operand, *, needs: Needs = BOTH
) -> Cotangents:
    return _extreme_vjp(g, a, b, (less(a, b), less(b, a)), needs)


def _smaller_vjp(
    g: Operand, out: Operand, a: Operand, b: Operand, *, needs: Needs = BOTH
) -> Cotangents:
    return _extreme_vjp(g, a, b, (less(b, a), less(a, b)), needs)


def _extreme_vjp(
    g: Operand, a: Operand, b: Operand, lost: tuple[Operand, Operand], needs: Needs
) -> Cotangents:
    """Ties share the gradient in halves, as in PyTorch; beside a NaN both get all of it."""
    a_lost, b_lost = lost
    zero, shared = full_like(g, 0.0), where(equal(a, b), mul(g, full_like(g, 0.5)), g)
    return (
        fold_to(where(a_lost, zero, shared), tuple(a.shape)) if needs[0] else None,
        fold_to(where(b_lost, zero, shared), tuple(b.shape)) if needs[1] else None,
    )


_ONE, _TWO = one(), two()


def _of_one(
    name: str,
    numpy: Callable[[Array], Array],
    vjp: UnaryRule | Callable[[Operand, Operand, Operand], Cotangents],
    doc: str,
    kinds: str = NUMBER,
    samples: Samples = _ONE,
    **facts: Any,
) -> Primitive:
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 1e308, 5e-324])
    whole = [] if kinds == FLOAT else [sample(np.array([-128, -7, 0, 3, 127], np.int8))]
    return unary_row(
        name, kinds, numpy, vjp, doc, lambda: [*samples(), sample(odd), *whole], **facts
    )


def _of_two(
    name: str,
    numpy: np.ufunc,
    vjp: Callable[..., Cotangents],
    doc: str,
    kinds: str = NUMBER,
    samples: Samples = _TWO,
    **facts: Any,
) -> Primitive:
    if kinds != FLOAT:
        samples = _with_integers(samples, bools=kinds == ANY)
    return binary_row(name, kinds, ieee(numpy), vjp, doc, samples, **facts)


def _with_integers(make: Samples, bools: bool = False) -> Samples:
    """Samples of floats, of integers that overflow and divide by zero, of odd floats, of bools."""
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -2.5, 1e308, 5e-324])
    small = np.array([-128, -7, -1, 0, 1, 3, 127], np.int8)
    a, b = (numbers(6, low=0, high=h, seed=s, dtype="uint8") for h, s in ((255, 0), (9, 1)))
    return lambda: [
        *make(),
        sample(small[:, None], small[None, :]),
        sample(a, b),
        sample(np.array([2**31 - 1, -(2**31)], np.int32), np.array([2, -1], np.int32)),
        sample(odd[:, None], odd[None, :]),
        *([sample(flags(5), flags(5, seed=1))] if bools else []),
    ]


neg = _of_one(
    "neg", np.negative, lambda g, out, x: (neg(g),), "-x; unsigned integers wrap.",
    functions=("negative",), methods=("neg", "negative"),
)  # fmt: skip
sign = _of_one("sign", ieee(np.sign), _zero, "-1, 0 or 1; NaN stays NaN.", selects=(0,))
abs_ = _of_one(
    "abs", np.absolute, lambda g, out, x, *, final=False: (scaled(g, sign(x), final),),
    "|x|; the least integer wraps to itself.",
)  # fmt: skip
floor = _of_one(
    "floor", np.floor, _zero, "The largest whole number <= x.", FLOAT, functions=(), selects=(0,)
)
ceil = _of_one(
    "ceil", np.ceil, _zero, "The smallest whole number >= x.", FLOAT, functions=(), selects=(0,)
)
round_ = _of_one(
    "round", np.rint, _zero, "The nearest whole number, halves to even.", FLOAT,
    functions=(), selects=(0,),
)  # fmt: skip
reciprocal = _of_one(
    "reciprocal", ieee(np.reciprocal),
    lambda g, out, x, *, final=False: (neg(scaled(g, mul(out, out), final)),),
    "1 / x.", FLOAT, one(0.5, 3.0), selects=(0,), expensive=True,
)  # fmt: skip
add = _of_two(
    "add", np.add, _add_vjp, "a + b; of bools: a or b.", ANY, functions=(),
    commutes=True,  # its neutral number would be -0.0: -0.0 + 0.0 is 0.0
)  # fmt: skip
sub = _of_two("sub", np.subtract, _sub_vjp, "a - b.", functions=(), neutral=0)
mul = _of_two(
    "mul", np.multiply, _mul_vjp, "a * b; of bools: a and b.", ANY,
    functions=("multiply",), methods=("mul", "multiply"), commutes=True, neutral=1,
)  # fmt: skip
div = _of_two(
    "div", np.divide, _div_vjp, "a / b of floats.", FLOAT, two(-2.0, 2.0, 0.5, 3.0),
    functions=(), selects=(1,), expensive=True, neutral=1,
)  # fmt: skip
floor_div = _of_two(
    "floor_div", np.floor_divide, _no_slope,
    "The quotient rounded down, as Python's //; an integer divided by 0 gives 0.",
    samples=two(-2.0, 2.0, 2.5, 3.0), functions=("floor_divide",), methods=(),
    selects=(0, 1), expensive=True,
)  # fmt: skip
remainder = _of_two(
    "remainder", np.remainder, _remainder_vjp,
    "What floor division leaves, with the sign of b, as Python's %; an integer modulo 0 gives 0.",
    samples=two(0.2, 1.8, 2.5, 3.0), methods=(), expensive=True,
)  # fmt: skip
maximum = _of_two(
    "maximum", np.maximum, _larger_vjp, "The larger of a and b; NaN if one is NaN.", ANY,
    selects=(0, 1), commutes=True,
)  # fmt: skip
minimum = _of_two(
    "minimum", np.minimum, _smaller_vjp, "The smaller of a and b; NaN if one is NaN.", ANY,
    selects=(0, 1), commutes=True,
)  # fmt: skip


# --- cast: the same numbers in another type, with a stated result for every number ---
# float to integer: the fraction is dropped, numbers outside the range become its nearest end, NaN
# becomes 0. integer to integer: modulo 2 to the width. Anything to bool: is it different from 0?
# To bfloat16 through float32, each step to nearest even.


def _cast_spec(x: Spec, *, dtype: DType) -> Spec:
    return Spec(x.shape, as_dtype(dtype))


def _saturated(x: Array, target: np.dtype[Any]) -> Array:
    low, high = np.iinfo(target).min, np.iinfo(target).max
    least, above = np.float64(low), np.float64(high) + 1.0  # both exact: powers of 2, or 0
    if x.size and least <= x.min() and x.max() < above:  # false for NaN
        return x.astype(target)
    wide = x.astype(np.float64)
    inside = (wide > least) & (wide < above)
    out = np.where(inside, wide, 0.0).astype(target)
    out = np.where(wide >= above, np.asarray(high, target), out)
    return np.where(wide <= least, np.asarray(low, target), out)


@ieee_steps
def _cast(x: Array, *, dtype: DType) -> Array:
    target = as_dtype(dtype).compute
    if x.dtype.kind == "f" and target.kind in "iu":
        return _saturated(x, target)
    return x.astype(target, copy=False)


def _cast_vjp(g: Operand, out: Operand, x: Operand, *, dtype: DType) -> Cotangents:
    return (cast_like(g, x) if dtype_of(x).is_float and as_dtype(dtype).is_float else None,)


_EDGES = np.array(  # the ends of every integer type, and the first numbers outside
    [np.nan, np.inf, -np.inf, -0.9, -1.0, 0.9, 255.0, 255.9, 256.0, 127.9, 128.0, -128.9, -129.0]
    + [s * (2.0**k + d) for k in (15, 31, 32) for d in (-1.0, 0.0, 1.0) for s in (1.0, -1.0)]
    + [2.0**63, 2.0**63 - 1024, -(2.0**63), -(2.0**63) - 2048, 1e300]
)
cast = Primitive(
    "cast", _cast_spec, _cast, vjp=_cast_vjp, flops=no_flops, op_class=OpClass.ELEMENTWISE,
    exact=True,
    samples=lambda: [
        *(sample(numbers(3, 5, low=-9, high=9), dtype=d) for d in DTYPES),
        *(sample(numbers(7, low=-100, high=100, dtype="int8"), dtype=d) for d in DTYPES),
        sample(numbers(), dtype=float64),
        sample(strided(3, 4), dtype=float32),
        sample(numbers(0, 2), dtype=float16),
        sample(numbers(2, 3), dtype=bfloat16),
        sample(np.array([True, False]), dtype=bool_),
        *(sample(_EDGES, dtype=d) for d in DTYPES if not d.is_float),
    ],
    error_samples=lambda: [
        refused(TypeError, "not a number type", numbers(2), dtype="complex64"),
    ],
    doc="x as numbers of `dtype`.",
)  # fmt: skip


def cast_like(g: Operand, x: Operand) -> Operand:
    """g in x's dtype; g itself if it has it already."""
    return g if dtype_of(g) is dtype_of(x) else cast(g, dtype=dtype_of(x))
