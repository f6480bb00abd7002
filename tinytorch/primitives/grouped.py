"""Products with weights of few bits: numbers in groups, each group with a scale.

Knows how such weights lie in memory. Activations are int8 already, so that the sums of a group are
exact; rounding them to int8 is ordinary arithmetic, written where the product is used.

A row of weights (out, in) is cut into groups of 32, 64 or 128 numbers; the last one is filled up.
Of 8 bits a number is an int8. Of 4 bits, -8 to 7, two are a byte: number i of the first half of the
group in the low bits, number i of the second half in the high ones, both with 8 added. In groups of
32 these are the numbers of Q8_0 and Q4_0 (ggml, https://github.com/ggml-org/ggml), whose scale lies
between them; here scales are an array of their own, (out, groups).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch.base.dtypes import float32, int8, uint8
from tinytorch.base.errors import DTypeError, SettingError, ShapeError
from tinytorch.primitives.ieee import ieee_steps
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
)
from tinytorch.primitives.shapes import FLOAT, check_kind, check_rank

GROUPS = (32, 64, 128)
_STORED = {4: uint8, 8: int8}


def packed_bytes(k: int, bits: int, group: int) -> int:
    """Bytes of a row of k numbers.

    >>> packed_bytes(70, 4, 32), packed_bytes(64, 8, 64)
    (48, 64)
    """
    return -(-k // group) * group * bits // 8


def pack_groups(w: Array, bits: int, group: int) -> Array:
    """Whole numbers (out, in) as they are stored; what fills up the last group is 0.

    Args:
        w: integers in [-8, 7] for 4 bits, [-128, 127] for 8.

    >>> pack_groups(np.full((1, 32), 3), 4, 32)[0, :2].tolist(), 3 + 8 + ((3 + 8) << 4)
    ([187, 187], 187)
    """
    n, k = w.shape
    padded = np.zeros((n, -(-k // group) * group), np.int8)
    padded[:, :k] = w
    if bits == 8:
        return padded
    halves = (padded + 8).astype(np.uint8).reshape(n, -1, 2, group // 2)
    return (halves[:, :, 0] | halves[:, :, 1] << 4).reshape(n, -1)


def unpack_groups(stored: Array, bits: int) -> Array:
    """The whole numbers of rows (..., bytes) of one group each, as int8 (..., group)."""
    if bits == 8:
        return stored
    halves = np.concatenate([stored & 15, stored >> 4], axis=-1)
    return halves.astype(np.int8) - np.int8(8)


def _grouped(x: Spec, weight: Spec, scale: Spec, *, bits: int, group: int) -> Spec:
    name = "grouped_matmul"
    if bits not in _STORED or group not in GROUPS:
        raise SettingError(
            f"{name}: weights of such groups do not exist",
            got=f"bits={bits}, group={group}",
            rule=f"4 or 8 bits, groups of {', '.join(map(str, GROUPS))}",
            fix="bits=4, group=32",
        )
    for argument, given, wanted in (("x", x, int8), ("weight", weight, _STORED[bits])):
        if given.dtype is not wanted:
            raise DTypeError(
                f"{name}: {argument} has a number type this operation does not take",
                got=f"{argument} of dtype {given.dtype.name}",
                rule=f"{argument} is {wanted.name} for {bits} bits",
                fix="round activations to int8, and pack weights with pack_groups",
            )
    check_kind(name, "scale", scale, FLOAT)
    check_rank(name, "weight", weight, 2, "(out, bytes)")
    check_rank(name, "scale", scale, 2, "(out, groups)")
    k = x.shape[-1] if x.shape else 0
    held = (weight.shape[0], packed_bytes(k, bits, group))
    if not x.shape or weight.shape != held or scale.shape != (held[0], -(-k // group)):
        raise ShapeError(
            f"{name}: x, weight and scale do not belong together",
            got=f"x {x.shape}, weight {weight.shape}, scale {scale.shape}",
            rule=f"x (..., K), weight (N, bytes of K), scale (N, groups of K), here K = {k}",
            fix="give the weight and scale of one layer, and the features it was made for",
        )
    return Spec((*x.shape[:-1], weight.shape[0]), float32)


@ieee_steps
def _product(x: Array, weight: Array, scale: Array, *, bits: int, group: int) -> Array:
    """Group by group: sums of at most 128 products of bytes are exact in float32."""
    k, n, size = x.shape[-1], weight.shape[0], group * bits // 8
    rows = x.reshape(math.prod(x.shape[:-1]), k).astype(np.float32)
    out = np.zeros((rows.shape[0], n), np.float32)
    for g in range(scale.shape[1]):
        part = rows[:, g * group : (g + 1) * group]
        w = unpack_groups(weight[:, g * size : (g + 1) * size], bits).astype(np.float32)
        out += (part @ w[:, : part.shape[1]].T) * scale[:, g].astype(np.float32)
    return out.reshape(*x.shape[:-1], n)


def _flops(ins: Sequence[Spec], outs: Sequence[Spec], **params: Any) -> int:
    return 2 * outs[0].size * ins[0].shape[-1]


def _sample(lead: tuple[int, ...], k: int, n: int, bits: int, group: int, dtype: str) -> Sample:
    low, high = (-8, 8) if bits == 4 else (-128, 128)
    x = numbers(*lead, k, low=-127, high=128, dtype="int8")
    w = np.floor(numbers(n, k, low=low, high=high, seed=1))
    scale = numbers(n, -(-k // group), low=0.01, high=0.02, seed=2, dtype=dtype)
    return sample(x, pack_groups(w, bits, group), scale, bits=bits, group=group)


def _samples() -> list[Sample]:
    return [
        _sample((1,), 64, 5, 4, 32, "float32"),
        _sample((2, 3), 100, 9, 4, 64, "float16"),
        _sample((20,), 96, 17, 4, 32, "float16"),
        _sample((2,), 130, 3, 8, 32, "float32"),
        _sample((3, 5), 64, 3, 8, 64, "float32"),
        _sample((), 128, 4, 8, 128, "float32"),
        _sample((0,), 32, 3, 4, 32, "float32"),
        _sample((2,), 0, 3, 4, 32, "float32"),
    ]


def _errors() -> list[ErrorSample]:
    x, w, s = _samples()[0].inputs
    good: dict[str, Any] = {"bits": 4, "group": 32}
    return [
        refused(ValueError, "do not belong together", x[:, :3], w, s, **good),
        refused(ValueError, "do not belong together", x, w, s[:, :1], **good),
        refused(ValueError, "do not exist", x, w, s, bits=3, group=32),
        refused(ValueError, "do not exist", x, w, s, bits=4, group=48),
        refused(TypeError, "does not take", x.astype("int16"), w, s, **good),
        refused(TypeError, "does not take", x, w, s, bits=8, group=32),
        refused(TypeError, "does not take", x, w, s.astype("int32"), **good),
        refused(ValueError, "wrong number of axes", x, w[0], s, **good),
    ]


grouped_matmul = Primitive(
    "grouped_matmul", _grouped, _product, vjp=NOT_DIFFERENTIABLE, flops=_flops,
    op_class=OpClass.CONTRACTION, samples=_samples, error_samples=_errors,
    doc="x @ w.T of int8 x and weights of 4 or 8 bits in groups, each group's sum times its scale.",
)  # fmt: skip
