"""A branch: `cond`, of whose two Bodies one runs.

    given  ->  true, if the predicate holds, else false  ->  results

Knows Bodies. Both give the same number of results, of one kind each; what a Body gives beyond these
(what its gradient reads) is of no meaning where the other one ran. Its gradient is another branch;
it is made where a branch is recorded (compiler/record/branches.py), for the gradients in its Bodies
may be the user's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch.base.dtypes import bfloat16, bool_, float64, from_bfloat16
from tinytorch.base.errors import ArgumentTypeError, DTypeError, SettingError, ShapeError
from tinytorch.primitives.body import Body
from tinytorch.primitives.elementwise import add, mul
from tinytorch.primitives.movement import reshape
from tinytorch.primitives.primitive import (
    NOT_DIFFERENTIABLE,
    Array,
    ErrorSample,
    OpClass,
    Primitive,
    Sample,
    Spec,
    numbers,
    refused,
    sample,
    store,
)


def _infer(predicate: Spec, *specs: Spec, true: Body, false: Body, results: int) -> Any:
    for body in (true, false):
        if not isinstance(body, Body):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(
                "cond: a body is not one",
                got=f"true={type(true).__name__}, false={type(false).__name__}",
                rule="two Bodies of rows of the table",
                fix="tt.cond(predicate, true, false, operands), which records them",
            )
    if predicate != Spec((), bool_):
        raise DTypeError(
            "cond: the predicate is not one truth value",
            got=f"{predicate.dtype.name} {predicate.shape}",
            rule="bool, of shape ()",
            fix="a comparison of numbers of shape (), or x.any()",
        )
    if not specs == true.inputs == false.inputs:
        raise ShapeError(
            "cond: the operands do not fit the bodies",
            got=", ".join(f"{s.dtype.name} {s.shape}" for s in specs),
            rule=", ".join(f"{s.dtype.name} {s.shape}" for s in true.inputs),
            fix="the same operands for both, of the shapes and number types that they take",
        )
    one, other = true.outputs, false.outputs
    if not 0 <= results <= min(len(one), len(other)) or not one + other:
        raise SettingError(
            "cond: the number of results is outside its range",
            got=f"results={results}, of bodies that give {len(one)} and {len(other)}",
            rule="what both give, from 0 on; and something is given",
            fix=f"results={min(len(one), len(other))}",
        )
    if one[:results] != other[:results]:
        raise ShapeError(
            "cond: the bodies do not give the same kinds of results",
            got=", ".join(f"{s.dtype.name} {s.shape}" for s in other[:results]),
            rule=", ".join(f"{s.dtype.name} {s.shape}" for s in one[:results]),
            fix="one shape and one number type for each result",
        )
    made = (*one, *other[results:])
    return made[0] if len(made) == 1 else made


def _cond(predicate: Array, *arrays: Array, true: Body, false: Body, results: int) -> Any:
    taken, other = (true, false) if predicate else (false, true)
    out = taken(*(store(a, s.dtype) for a, s in zip(arrays, taken.inputs, strict=True)))
    held = [
        np.array(from_bfloat16(a) if s.dtype is bfloat16 else a)  # it may be what was given
        for a, s in zip(out, taken.outputs, strict=True)
    ]
    nothing = [np.zeros(s.shape, s.dtype.storage) for s in other.outputs[results:]]
    common, own = held[:results], held[results:]
    made = (*common, *own, *nothing) if predicate else (*common, *nothing, *own)
    return made[0] if len(made) == 1 else made


def _flops(
    ins: Sequence[Spec], outs: Sequence[Spec], *, true: Body, false: Body, **params: Any
) -> int:
    return max(true.flops, false.flops)


_PAIR = Spec((2,), float64)


@Body.of(_PAIR, _PAIR)
def _sum_and_square(a: Any, b: Any) -> Any:
    return add(a, b), mul(a, a)


@Body.of(_PAIR, _PAIR)
def _product_alone(a: Any, b: Any) -> Any:
    return mul(a, b)


@Body.of(_PAIR, _PAIR)
def _handed_on(a: Any, b: Any) -> Any:
    return b, a


@Body.of(_PAIR, _PAIR)
def _handed_on_alone(a: Any, b: Any) -> Any:
    return b


_EMPTY = Spec((0, 2), float64)


@Body.of(_EMPTY, _EMPTY)
def _of_nothing(a: Any, b: Any) -> Any:
    return add(a, b)


def _samples() -> list[Sample]:
    def of(holds: bool, true: Body, false: Body, results: int) -> Sample:
        given = (numbers(*s.shape, seed=i) for i, s in enumerate(true.inputs))
        return sample(np.array(holds), *given, true=true, false=false, results=results)

    return [
        of(holds, true, false, results)
        for holds in (True, False)
        for true, false, results in (
            (_sum_and_square, _handed_on, 2),
            (_product_alone, _handed_on_alone, 1),
            (_of_nothing, _of_nothing, 1),
        )
    ]


def _error_samples() -> list[ErrorSample]:
    def wrong(error: type[Exception], phrase: str, *inputs: Array, **changed: Any) -> ErrorSample:
        given = {"true": _product_alone, "false": _sum_and_square, "results": 1, **changed}
        return refused(error, phrase, *(inputs or (np.array(True), *pair)), **given)

    def stretched(a: Any, b: Any) -> Any:
        return reshape(a, shape=(2, 1))

    pair = numbers(2), numbers(2, seed=1)
    return [
        wrong(TypeError, "a body is not one", false=None),
        wrong(TypeError, "not one truth value", np.array(1.0), *pair),
        wrong(TypeError, "not one truth value", np.array([True]), *pair),
        wrong(ShapeError, "do not fit the bodies", np.array(True), numbers(2)),
        wrong(SettingError, "outside its range", results=2),
        wrong(ShapeError, "the same kinds", false=Body.of(_PAIR, _PAIR)(stretched)),
    ]


cond = Primitive(
    "cond", _infer, _cond, vjp=NOT_DIFFERENTIABLE, op_class=OpClass.BRANCH, flops=_flops,
    samples=_samples, error_samples=_error_samples,
    doc="true(given) where the predicate holds, false(given) else; one of them runs.",
)  # fmt: skip
