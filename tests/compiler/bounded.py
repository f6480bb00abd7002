"""Numbers and how far another right answer may lie from each of them.

Knows number types and their rounding, never graphs. What `error_bounds.py` computes, step by step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinytorch.base.dtypes import DType, bfloat16, float16, float32, float64, from_bfloat16
from tinytorch.primitives.primitive import Spec, store

# The distance of neighbours at 1. For float64 twice that: the reference is float64 itself.
EPS = {float64: 2.0**-51, float32: 2.0**-23, float16: 2.0**-10, bfloat16: 2.0**-7}
# The smallest normal number: below it a result may be rounded to a multiple of less, or to 0.
TINY = {float64: 2.0**-1022, float32: 2.0**-126, float16: 2.0**-14, bfloat16: 2.0**-126}
UNITS = 2  # roundings of half an EPS in one step: a rewrite may need two steps for it
# Vector functions are within 4 units in the last place (tests/codegen/test_vector_math.py), NumPy's
# within 4 too; a chain rounds once more.
FUNCTION_UNITS = 8


@dataclass(eq=False)
class Bounded:
    """An array and how far another right answer may lie from it.

    Args:
        value: float64 for floats, as stored for other types.
        error: of each element, or None where all are exact; infinite where nothing is known.
    """

    value: np.ndarray
    error: np.ndarray | None = None

    @property
    def errors(self) -> np.ndarray:
        """The bounds, as an array in any case."""
        return np.zeros(self.value.shape) if self.error is None else self.error


def given(array: np.ndarray, dtype: DType) -> Bounded:
    """A stored array, taken as exact."""
    return Bounded(widened(array, dtype))


def widened(array: np.ndarray, dtype: DType) -> np.ndarray:
    """The stored numbers in float64; other types as they are."""
    if dtype is bfloat16:
        array = from_bfloat16(np.atleast_1d(array)).reshape(np.shape(array))
    return np.array(array, np.float64 if dtype.is_float else None, order="C")


def difference(found: np.ndarray, dtype: DType, wanted: Bounded) -> str | None:
    """What is wrong with a stored array, in one line; None if every element is within its bound."""
    found = widened(found, dtype)
    if found.shape != wanted.value.shape:
        return f"shape {found.shape}, defined {wanted.value.shape}"
    with np.errstate(all="ignore"):
        same = found == wanted.value
        if dtype.is_float:
            same |= np.isnan(found) & np.isnan(wanted.value)
        if wanted.error is not None:
            apart = np.abs(found.astype(np.float64) - wanted.value.astype(np.float64))
            same |= (apart <= wanted.error) | np.isinf(wanted.error)
    if same.all():
        return None
    at = tuple(int(i[0]) for i in np.nonzero(~same)) if found.shape else ()
    within = wanted.errors[at]
    said = f"{found[at]}, defined {wanted.value[at]} +- {within:.1g}"
    return f"{(~same).sum()} of {same.size} wrong, first at {at}: {said}"


def known(wanted: Bounded) -> float:
    """The share of elements whose bound says something: within half of the largest element."""
    if wanted.error is None or not wanted.value.size:
        return 1.0
    size = np.abs(np.where(np.isfinite(wanted.value), wanted.value, 0)).max(initial=0)
    return float((wanted.error <= 0.5 * size + 1e-6).mean())


def tidy(out: Bounded, spec: Spec, unknown: bool) -> Bounded:
    """NaN among the bounds: exact where the number itself is not finite, else unknown."""
    value = np.asarray(out.value)
    if not spec.dtype.is_float and value.dtype != spec.dtype.storage:
        value = value.astype(spec.dtype.storage)
    error = out.error
    if error is not None:
        error = np.broadcast_to(error, value.shape)
        finite = np.isfinite(value)
        error = np.where(np.isnan(error), np.where(finite | unknown, np.inf, 0.0), error)
        if not error.any():
            error = None
    if spec.dtype.is_float:
        top = float(largest(spec.dtype))
        beyond = np.abs(value) + (0.0 if error is None else error) > top
        beyond &= np.isfinite(value)
        if beyond.any():  # one computation may overflow where another does not
            error = np.where(beyond, np.inf, 0.0 if error is None else error)
    return Bounded(np.ascontiguousarray(value).reshape(spec.shape), error)


def largest(dtype: DType) -> float:
    if dtype is bfloat16:
        return 2.0**127
    return np.finfo(dtype.storage).max


def rounded(
    value: np.ndarray, error, dtype: DType, *, units: float = UNITS, single: bool = False,
    exactly: np.ndarray | bool = True,
) -> Bounded:  # fmt: skip
    """A result with the rounding of its own type added.

    Args:
        error: of the exact result, from the inputs; None if they are exact.
        single: one rounding to nearest of exact inputs is the same everywhere (narrow types).
        exactly: where a result that needs no rounding is surely made without one.
    """
    value = np.asarray(value, np.float64)
    if dtype is float64:
        scaled = value * 1024.0  # multiples of 1 / 1024 below 2^40: no accident
        fits = (scaled == np.rint(scaled)) & (np.abs(value) < 2.0**40)
    else:
        nearest = widened(store(value.astype(dtype.compute), dtype), dtype)
        if single and error is None and dtype is not float32:
            return Bounded(nearest)
        fits = nearest == value
    fits = (fits | ~np.isfinite(value)) & exactly
    if error is not None:
        fits &= error == 0
    elif fits.all():
        return Bounded(value)
    own = np.where(fits, 0.0, units * EPS[dtype] * np.abs(value) + TINY[dtype])
    return Bounded(value, own if error is None else own + error)


def accumulator(dtype: DType) -> DType:
    return float64 if dtype is float64 else float32


def whole_numbers(*xs: Bounded) -> bool:
    return all(x.error is None and bool((x.value == np.rint(x.value)).all()) for x in xs)


def summed(value, error, sizes, terms: float, dtype: DType, whole: bool) -> Bounded:
    """A sum of `terms` products whose absolute values add up to `sizes`."""
    wide = accumulator(dtype)
    if whole and not np.any(sizes >= (2.0**52 if wide is float64 else 2.0**24)):
        return rounded(value, error, dtype, single=True)  # every partial sum is exact
    own = terms * (EPS[wide] * sizes + TINY[wide])
    own = np.where(np.isfinite(sizes) & (sizes > largest(wide)), np.inf, own)
    return rounded(value, own if error is None else own + error, dtype, exactly=False)
