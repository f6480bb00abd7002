"""What a primitive operation is: one row that answers every question asked about it.

Knows arrays and shapes, never tensors or graphs. An operand that is not a NumPy array says itself
how an operation is applied to it, through its `__primitive__` method: that is how a Tensor records
its tape and how the compiler records a program, without this floor knowing either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tinytorch.base.dtypes import (
    OF_NUMPY,
    DType,
    as_dtype,
    bfloat16,
    from_bfloat16,
    round_to_bfloat16,
)

if TYPE_CHECKING:  # at run time it costs 2 ms
    from numpy.typing import ArrayLike

Array = np.ndarray[Any, np.dtype[Any]]
OF_STORED = {**OF_NUMPY, bfloat16.storage: bfloat16}  # uint16 has no other use in the framework


class OpClass(Enum):
    """What kind of operation a row is, by how an output element depends on the inputs."""

    ELEMENTWISE = "elementwise"  # on the (broadcast) inputs at the same place
    REDUCTION = "reduction"  # on all elements along axes, combined two by two in any order
    ARG_REDUCTION = "arg_reduction"  # the same, and it is a position along the axis
    SCAN = "scan"  # on the elements before it along an axis
    WINDOW = "window"  # on the elements of a window around it
    CONTRACTION = "contraction"  # on sums of products over axes that two inputs share
    MOVEMENT = "movement"  # it is one input element, which strides find: a view where NumPy can
    COPY = "copy"  # it is one input element or a constant, laid out anew: padding, joining
    LOOKUP = "lookup"  # it is one input element, in a row whose number another input says
    GATHER = "gather"  # it is one input element, at a place that another input says
    SCATTER = "scatter"  # on the elements that another input sends to its place, added up
    UPDATE = "update"  # the first input, but for a part at run-time places that the second gives
    SORT = "sort"  # on the order of the elements along an axis
    SOURCE = "source"  # on no input: a constant, a position
    LOOP = "loop"  # on what other rows make of the inputs, trip after trip
    BRANCH = "branch"  # on what other rows make of the inputs, in one case or the other
    RANDOM = "random"  # on the state of a generator and on its own place
    OPAQUE = "opaque"  # nothing is known: rows that users add, unless they say


@dataclass(frozen=True)
class Spec:
    """Shape and number type of an array, without its values."""

    shape: tuple[int, ...]
    dtype: DType

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, stored densely."""
        return self.size * self.dtype.itemsize


class Operand(Protocol):
    """What a gradient rule computes with: an array, a Tensor, a value of a captured program."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        ...

    @property
    def dtype(self) -> Any:
        """Its number type, NumPy's or ours: `dtype_of` asks."""
        ...


# What a gradient rule gives: a cotangent for each input, None where there is none to give.
Cotangents = tuple[Operand | None, ...]


@dataclass(frozen=True)
class Sample:
    """Inputs on which the contract test asks a primitive its questions."""

    inputs: tuple[Array, ...]
    params: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class ErrorSample:
    """Inputs that must be refused, and a phrase of the refusal."""

    inputs: tuple[Array, ...]
    error: type[Exception]
    phrase: str
    params: dict[str, Any] = field(default_factory=dict[str, Any])


NOT_DIFFERENTIABLE = "not differentiable"
TABLE: dict[str, Primitive] = {}


class Primitive:
    """One row of the table.

    Args:
        name: unique; lower case.
        infer: `infer(*specs, **params)` gives the Spec of the output (a tuple for several outputs)
            and raises a four-part error where the inputs do not fit. Operands have one common
            dtype unless the row says otherwise; promotion happens above.
        numpy: `numpy(*arrays, **params)`, the definition. It never sees bfloat16: `evaluate`
            converts to float32 before and rounds after.
        vjp: `vjp(g, out, *inputs, **params)` gives one cotangent, or None, for each input, written
            in primitives. With several outputs `g` and `out` are tuples; an output whose cotangent
            is zero has None in `g`. Or NOT_DIFFERENTIABLE. A rule with a parameter `needs` is told
            which inputs want a cotangent, a tuple of bools, and leaves the others None. A rule
            with a parameter `final` is told whether zeros in `g` are final; see
            Note [zeros that are final].
        flops: `flops(ins, outs, **params)`, arithmetic operations (default: size of the outputs).
        samples: gives the Samples of the contract test.
        error_samples: gives the ErrorSamples.
        functions: names under which an elementwise row is a function of Tensors (`tt.tanh`), the
            first its own; none where tensor/elementwise.py writes a function that does more.
        methods: names under which that function is a method of Tensors (`x.tanh()`). Both are made
            of the rows that are there when the package is imported.
        kinds: letters of the number types that its operands may have; where it takes floats alone
            the function makes float32 of integers.
        op_class: what kind of operation it is, an `OpClass` or its word. A MOVEMENT's definition
            returns a view of its input where it can. Each cotangent of a CONTRACTION is a sum over
            elements of `g`, whose zeros end here.
        view: the definition returns a view of its input. Default: of movement.
        may_copy: the definition of a view copies where strides cannot tell the new places.
        selects: operands whose cotangent is a final zero where the result does not depend on them.
        expensive: an element costs more than a few instructions: a division, a root, a function of
            analysis. Such a result is kept where it is needed twice, a cheap one computed again.
        exact: an element computes nothing that could be rounded again: it is an operand, or that in
            another number type.
        commutes: the operands may change places (of 0.0 and -0.0 `maximum` gives either).
        neutral: x op neutral is x, bit for bit; None where there is no such number.
        combines: of a REDUCTION, the name of the elementwise row that it applies two by two, and
            the number that it begins with: what it gives over nothing, or an infinity where it
            refuses to reduce nothing.
        keeps_order: the definition lays out its result as its operands lie (NumPy's order K).
            Default: of elementwise rows.

    Note [zeros that are final]: a result that does not depend on an element gives it the cotangent
    0, and whatever made that element, its own slope counts no more: 0 times an infinite slope, or
    one that is no number, is 0 there. That holds for what a selection did not take (`where`,
    `maximum`, slices, lookups) and for what has gone flat to all orders (1 / inf, exp(-inf),
    tanh(inf)). It does not hold for any zero: the slope of sqrt(x) * sqrt(x) at 0 is 0 * inf and 1.
    So the tape knows behind which rows zeros are final, rules that multiply by a slope are told,
    and they give `absorb(product, g)`. Where `g` is not 0, or the product is a number, that changes
    nothing. What is lost: behind a selection a product with a factor of exactly 0 is taken for a
    final zero too, so where(c, sqrt(x) * sqrt(x), 0) has the slope 0 at 0. The price: nothing where
    no selection lies behind; else one select for each product in compiled code, and in NumPy a
    look for NaN, a third of the product's time.
    """

    def __init__(
        self,
        name: str,
        infer: Callable[..., Any],
        numpy: Callable[..., Any],
        *,
        vjp: Callable[..., Cotangents] | str,
        samples: Callable[[], Sequence[Sample]],
        error_samples: Callable[[], Sequence[ErrorSample]] = tuple,
        flops: Callable[..., int] | None = None,
        functions: tuple[str, ...] = (),
        methods: tuple[str, ...] = (),
        kinds: str = "",
        op_class: OpClass | str = OpClass.OPAQUE,
        view: bool | None = None,
        may_copy: bool = False,
        selects: tuple[int, ...] = (),
        expensive: bool = False,
        exact: bool = False,
        commutes: bool = False,
        neutral: float | None = None,
        combines: tuple[str, float] | None = None,
        keeps_order: bool | None = None,
        doc: str = "",
    ):
        self.name, self.infer, self.numpy, self.vjp = name, infer, numpy, vjp
        self.asks_needs, self.asks_final = asks(vjp, "needs"), asks(vjp, "final")
        self.functions, self.methods, self.kinds = functions, methods, kinds
        self.op_class, self.selects = OpClass(op_class), selects
        self.elementwise = self.op_class is OpClass.ELEMENTWISE
        self.view = self.op_class is OpClass.MOVEMENT if view is None else view
        self.may_copy = may_copy
        self.mixes = self.op_class is OpClass.CONTRACTION
        self.expensive, self.exact = expensive, exact
        self.commutes, self.neutral, self.combines = commutes, neutral, combines
        self.keeps_order = self.elementwise if keeps_order is None else keeps_order
        self.samples, self.error_samples = samples, error_samples
        self._flops = flops
        self.__doc__ = doc or None
        if name in TABLE:
            raise ValueError(f"primitive {name!r} is defined twice")
        TABLE[name] = self

    def __call__(self, *operands: Any, **params: Any) -> Any:
        """Apply to arrays, or to whatever the first special operand makes of it."""
        for x in operands:
            handler = getattr(x.__class__, "__primitive__", None)
            if handler is not None:
                return handler(self, operands, params)
        arrays = tuple(np.asarray(x) for x in operands)
        return self.evaluate(arrays, tuple(dtype_of(a) for a in arrays), params)

    def evaluate(
        self, arrays: tuple[Array, ...], dtypes: tuple[DType, ...], params: dict[str, Any]
    ) -> Any:
        """The definition on stored arrays; bfloat16 (uint16) is widened before, rounded after."""
        specs: Spec | tuple[Spec, ...] = self.infer(
            *(Spec(a.shape, d) for a, d in zip(arrays, dtypes, strict=True)), **params
        )
        wide = (
            from_bfloat16(a) if d is bfloat16 else a for a, d in zip(arrays, dtypes, strict=True)
        )
        out = self.numpy(*wide, **params)
        if isinstance(specs, tuple):
            return tuple(store(o, s.dtype) for o, s in zip(out, specs, strict=True))
        return store(out, specs.dtype)

    def flops(self, ins: Sequence[Spec], outs: Sequence[Spec], **params: Any) -> int:
        """Arithmetic operations on inputs of these Specs."""
        if self._flops is not None:
            return self._flops(ins, outs, **params)
        return sum(o.size for o in outs)

    def __repr__(self) -> str:
        return self.name


def no_flops(ins: Sequence[Spec], outs: Sequence[Spec], **params: Any) -> int:
    """Of rows that move or convert numbers: that is no arithmetic."""
    return 0


def asks(vjp: Callable[..., Cotangents] | str, argument: str) -> bool:
    """Whether a gradient rule has a parameter of that name."""
    code = getattr(vjp, "__code__", None)
    return (
        code is not None
        and argument in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    )


def dtype_of(x: Any) -> DType:
    """Number type of an operand: a NumPy array (in storage form) or anything with a `dtype`."""
    dtype = x.dtype
    if isinstance(dtype, DType):
        return dtype
    return OF_STORED.get(dtype) or as_dtype(dtype)


def store(x: ArrayLike, dtype: DType) -> Array:
    """`x` as the stored array of `dtype`: rounded for bfloat16, otherwise converted if need be."""
    if dtype is bfloat16:
        return round_to_bfloat16(np.asarray(x, dtype=np.float32))
    return np.asarray(x, dtype=dtype.storage)


# Numbers for the samples of the contract test: reproducible, distinct, of any shape and dtype. No
# random generator: the multiples of the golden ratio, modulo one, spread evenly and never repeat
# (Weyl's sequence), so no two are closer than about 1 / (2 n).
_GOLDEN = 0.6180339887498949  # (sqrt(5) - 1) / 2
_PLASTIC = 0.7548776662466927  # the real root of x^3 + x^2 = 1: unrelated to the golden ratio


def numbers(
    *shape: int, low: float = -2.0, high: float = 2.0, seed: int = 0, dtype: str = "float64"
) -> Array:
    """Distinct numbers between `low` and `high` in no simple order.

    >>> numbers(3, low=0, high=10, dtype="int32")
    array([6, 2, 8], dtype=int32)
    """
    n = int(np.prod(shape, dtype=np.int64))
    unit = (np.arange(1, 1 + n) * _GOLDEN + seed * _PLASTIC) % 1.0
    return (low + (high - low) * unit).reshape(shape).astype(dtype)


def flags(*shape: int, seed: int = 0) -> Array:
    """Booleans of both kinds."""
    return np.asarray(numbers(*shape, low=0.0, high=1.0, seed=seed) < 0.5)


def strided(*shape: int, low: float = -2.0, high: float = 2.0, seed: int = 0) -> Array:
    """`numbers` in a view with a negative and a doubled stride, so that nothing relies on order."""
    wide = numbers(*(2 * n for n in shape), low=low, high=high, seed=seed)
    return wide[tuple(slice(None, None, -2 if i == 0 else 2) for i in range(len(shape)))]


Samples = Callable[[], Sequence[Sample]]
ErrorSamples = Callable[[], Sequence[ErrorSample]]


def sample(*inputs: Array, **params: Any) -> Sample:
    """Inputs and parameters on which the contract test asks a row its questions."""
    return Sample(inputs, params)


def refused(error: type[Exception], phrase: str, *inputs: Array, **params: Any) -> ErrorSample:
    """Inputs and parameters that are refused with this error, in whose text the phrase is."""
    return ErrorSample(inputs, error, phrase, params)


def one(low: float = -2.0, high: float = 2.0) -> Samples:
    """Samples of a row with one operand, numbers in the given range."""

    def samples() -> list[Any]:
        shapes = ((), (1,), (7,), (2, 3), (0,), (3, 0, 2), (5, 1, 3))
        made = [Sample((numbers(*s, low=low, high=high),)) for s in shapes]
        return [*made, Sample((strided(3, 5, low=low, high=high),))]

    return samples


def two(
    low: float = -2.0, high: float = 2.0, low_b: float | None = None, high_b: float | None = None
) -> Samples:
    """Samples of a row with two operands, broadcast in every way."""
    low_b, high_b = low if low_b is None else low_b, high if high_b is None else high_b

    def samples() -> list[Any]:
        pairs = (
            ((), ()), ((3,), (3,)), ((2, 3), (3,)), ((2, 1), (1, 5)), ((), (2, 2)),
            ((4, 1, 3), (7, 1)), ((0,), (1,)), ((2, 0), (2, 1)), ((1,), (1, 1, 1)),
        )  # fmt: skip
        made = [
            Sample((numbers(*a, low=low, high=high), numbers(*b, low=low_b, high=high_b, seed=1)))
            for a, b in pairs
        ]
        crooked = (strided(3, 5, low=low, high=high), strided(5, low=low_b, high=high_b, seed=1))
        return [*made, Sample(crooked)]

    return samples


def of_dtype(make: Samples, dtype: str) -> Samples:
    """The same samples converted to another dtype."""
    return lambda: [Sample(tuple(x.astype(dtype) for x in s.inputs), s.params) for s in make()]


def wrong_kind(dtype: str) -> ErrorSamples:
    """Error samples: operands of a number type that the row refuses."""
    x = np.zeros((2,), dtype)
    return lambda: [ErrorSample((x,), TypeError, "number type")]


def wrong_pair(good: str, refused: str | None = None, other: str | None = None) -> ErrorSamples:
    """Error samples of a row with two operands.

    Args:
        good: a dtype the row takes.
        refused: one it does not take, if there is any.
        other: another dtype it takes, to be refused when mixed with `good`.
    """

    def samples() -> list[Any]:
        a, b = np.zeros((2, 3), good), np.zeros((2, 4), good)
        made = [ErrorSample((a, b), ValueError, "do not fit together")]
        if refused:
            made.append(ErrorSample((a.astype(refused),) * 2, TypeError, "does not take"))
        if other:
            made.append(ErrorSample((a, a.astype(other)), TypeError, "different number types"))
        return made

    return samples
