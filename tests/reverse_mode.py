"""A complete reverse-mode automatic differentiation in 90 lines: the contract test's own tape.

Knows the primitives' protocol (`__primitive__`) and nothing of `tinytorch.tensor`: what the table
promises is proved without it. A gradient is made of recorded applications, so it has gradients.
"""

from __future__ import annotations

import itertools

import numpy as np

from tinytorch.base.dtypes import DType
from tinytorch.primitives.primitive import NOT_DIFFERENTIABLE, Primitive, Spec, dtype_of, store
from tinytorch.primitives.primitive import TABLE as ROWS

_clock = itertools.count()


class Application:
    """One recorded call."""

    def __init__(self, primitive, operands, params):
        self.primitive, self.operands, self.params = primitive, operands, params
        self.time, self.outputs, self.several = next(_clock), (), False


class Traced:
    """An array that remembers how it was made."""

    def __init__(
        self, array: np.ndarray, dtype: DType | None = None, maker: Application | None = None
    ):
        self.array, self.maker = array, maker
        self.dtype = dtype or dtype_of(array)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def __bool__(self):
        raise TypeError("a gradient rule asked for a value; it may ask for shapes and dtypes only")

    @staticmethod
    def __primitive__(primitive: Primitive, operands: tuple, params: dict):
        made = tuple(x if isinstance(x, Traced) else Traced(np.asarray(x)) for x in operands)
        out = primitive.evaluate(tuple(x.array for x in made), tuple(x.dtype for x in made), params)
        specs = primitive.infer(*(Spec(x.shape, x.dtype) for x in made), **params)
        call = Application(primitive, made, params)
        call.several = isinstance(out, tuple)
        pairs = zip(out, specs, strict=True) if call.several else ((out, specs),)
        call.outputs = tuple(Traced(o, s.dtype, call) for o, s in pairs)
        return call.outputs if call.several else call.outputs[0]


def pull(call: Application, cotangents: tuple) -> tuple:
    """The cotangents of a call's operands, after checking what a vjp promises."""
    if call.primitive.vjp == NOT_DIFFERENTIABLE:
        return (None,) * len(call.operands)
    g, out = (cotangents, call.outputs) if call.several else (cotangents[0], call.outputs[0])
    found = call.primitive.vjp(g, out, *call.operands, **call.params)
    name = call.primitive.name
    assert len(found) == len(call.operands), f"{name}: a cotangent for each operand"
    given = {c.dtype for c in cotangents if c is not None}
    for c, x in zip(found, call.operands, strict=True):
        if c is not None:
            assert c.shape == x.shape, f"{name}: cotangent {c.shape} of an operand {x.shape}"
            mixed = call.params.get("dtype") is not None and c.dtype in given
            assert c.dtype is x.dtype or mixed, f"{name}: cotangent {c.dtype} of {x.dtype}"
            assert x.dtype.is_float, f"{name}: {x.dtype} has no gradient"
    return found


def gradient(pairs: list[tuple[Traced, Traced]], variables: list[Traced]) -> list[Traced | None]:
    """Cotangents of the variables, for outputs with the given cotangents."""
    known: dict[int, Traced] = {}
    calls: dict[int, Application] = {}

    def give(x: Traced, c: Traced) -> None:
        known[id(x)] = ROWS["add"](known[id(x)], c) if id(x) in known else c
        if x.maker is not None:
            calls[x.maker.time] = x.maker

    for x, c in pairs:
        give(x, c)
    while calls:
        call = calls.pop(max(calls))
        cotangents = tuple(known.get(id(o)) for o in call.outputs)
        for x, c in zip(call.operands, pull(call, cotangents), strict=True):
            if c is not None:
                give(x, c)
    return [known.get(id(v)) for v in variables]


def inner(x: Traced, y: np.ndarray) -> Traced:
    """The sum of x * y, for a fixed y."""
    product = ROWS["mul"](x, store(y, x.dtype))
    return ROWS["sum"](product, axes=tuple(range(len(x.shape))), keepdims=False)
