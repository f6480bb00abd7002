"""A loop with carried state: `scan`.

    carried, xs[t], given  ->  body  ->  carried, ys[t]          for t = 0, 1, ... (or from the end)

Knows a Body, which each trip runs: so a loop is one operation whatever its length. Its gradient is
another loop that runs the other way; it is made where a loop is recorded
(compiler/record/loop_gradient.py), for the body's own gradient may be the user's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch.base.dtypes import bfloat16, float64, from_bfloat16
from tinytorch.base.errors import ArgumentTypeError, SettingError, ShapeError
from tinytorch.primitives.body import Body
from tinytorch.primitives.contraction import matmul
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


def _infer(
    *specs: Spec, body: Body, carries: int, stacked: int, length: int, reverse: bool
) -> Spec | tuple[Spec, ...]:
    if not isinstance(body, Body):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentTypeError(
            "scan: the body is not one",
            got=f"body={type(body).__name__}",
            rule="a Body of rows of the table",
            fix="tt.scan(function, init, xs), which records one",
        )
    if length < 0:
        raise SettingError(
            "scan: length is outside its range",
            got=f"length={length}",
            rule="a whole number >= 0",
            fix="length=len(xs)",
        )
    rows = range(carries, carries + stacked)
    wanted = [
        Spec((length, *s.shape), s.dtype) if i in rows else s for i, s in enumerate(body.inputs)
    ]
    if list(specs) != wanted:
        raise ShapeError(
            "scan: the operands do not fit the body",
            got=", ".join(f"{s.dtype.name} {s.shape}" for s in specs),
            rule=", ".join(f"{s.dtype.name} {s.shape}" for s in wanted),
            fix="carried values as the body takes them, stacked ones with an axis of `length` more",
        )
    outputs = body.outputs
    if outputs[:carries] != body.inputs[:carries]:
        raise ShapeError(
            "scan: the body does not keep the carried values as they are",
            got=", ".join(f"{s.dtype.name} {s.shape}" for s in outputs[:carries]),
            rule=", ".join(f"{s.dtype.name} {s.shape}" for s in body.inputs[:carries]),
            fix="give each carried value the shape and number type that it came with",
        )
    ys = (Spec((length, *s.shape), s.dtype) for s in outputs[carries:])
    made = (*outputs[:carries], *ys)
    return made[0] if len(made) == 1 else made


def _scan(
    *arrays: Array, body: Body, carries: int, stacked: int, length: int, reverse: bool
) -> Array | tuple[Array, ...]:
    given = [store(a, s.dtype) for a, s in zip(arrays, body.inputs, strict=True)]
    carried, xs = tuple(given[:carries]), given[carries : carries + stacked]
    rest, outputs = given[carries + stacked :], body.outputs
    ys = [np.empty((length, *s.shape), s.dtype.storage) for s in outputs[carries:]]
    for t in reversed(range(length)) if reverse else range(length):
        out = body(*carried, *(x[t] for x in xs), *rest)
        carried = out[:carries]
        for y, now in zip(ys, out[carries:], strict=True):
            y[t] = now
    own = map(np.array, carried)  # a trip may hand on what it was given
    made = zip((*own, *ys), outputs, strict=True)
    out = tuple(from_bfloat16(a) if s.dtype is bfloat16 else a for a, s in made)
    return out[0] if len(out) == 1 else out


def _flops(
    ins: Sequence[Spec], outs: Sequence[Spec], *, body: Body, length: int, **params: Any
) -> int:
    return length * body.flops


_PAIR = Spec((2,), float64)


@Body.of(_PAIR, _PAIR)
def _running_sum(total: Any, x: Any) -> Any:
    now = add(total, x)
    return now, now


@Body.of(Spec((1, 3), float64), Spec((), float64), Spec((3, 3), float64))
def _recurrence(state: Any, x: Any, weight: Any) -> Any:
    return add(matmul(state, weight), x)


@Body.of(_PAIR, _PAIR)
def _swapped(a: Any, b: Any) -> Any:
    return b, mul(a, b)


def _samples() -> list[Sample]:
    def running(length: int, reverse: bool) -> Sample:
        return sample(
            numbers(2), numbers(length, 2, seed=1), body=_running_sum, carries=1, stacked=1,
            length=length, reverse=reverse,
        )  # fmt: skip

    recurrence = sample(
        numbers(1, 3), numbers(4, seed=1), numbers(3, 3, low=-0.5, high=0.5), body=_recurrence,
        carries=1, stacked=1, length=4, reverse=False,
    )  # fmt: skip
    swapped = sample(
        numbers(2), numbers(2, seed=1), body=_swapped, carries=2, stacked=0, length=3, reverse=False
    )
    return [running(5, False), running(3, True), running(1, False), running(0, False), recurrence,
            swapped]  # fmt: skip


def _error_samples() -> list[ErrorSample]:
    given = {"body": _running_sum, "carries": 1, "stacked": 1, "length": 3, "reverse": False}

    def wrong(error: type[Exception], phrase: str, **changed: Any) -> ErrorSample:
        return refused(error, phrase, numbers(2), numbers(3, 2), **{**given, **changed})

    def stretched(a: Any, b: Any) -> Any:
        return reshape(a, shape=(2, 1))

    grown = Body.of(_PAIR, _PAIR)(stretched)
    return [
        wrong(ShapeError, "do not fit the body", length=4),
        wrong(SettingError, "outside its range", length=-1),
        wrong(TypeError, "body is not one", body=None),
        wrong(ShapeError, "does not keep the carried values", body=grown),
    ]


scan = Primitive(
    "scan", _infer, _scan, vjp=NOT_DIFFERENTIABLE, op_class=OpClass.LOOP, flops=_flops,
    samples=_samples, error_samples=_error_samples,
    doc="carried, y[t] = body(carried, x[t], given) for each t; the last carried values, every y.",
)  # fmt: skip
