"""Shape and dtype rules shared by many rows, and the errors they raise.

Knows Specs and argument names, never values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import Any, cast

from tinytorch.base.errors import (
    ArgumentTypeError,
    DTypeError,
    OutOfMemoryError,
    SettingError,
    ShapeError,
    short,
)
from tinytorch.base.lengths import Length, is_size
from tinytorch.primitives.primitive import Spec

FLOAT, NUMBER, INTEGER, BITS, BOOL, ANY = "f", "iuf", "iu", "biu", "b", "biuf"
_MEANING = {
    FLOAT: "a floating-point type",
    NUMBER: "an integer or floating-point type",
    INTEGER: "an integer type",
    BITS: "bool or an integer type",
    BOOL: "bool",
    ANY: "any number type",
}
_MOST_AXES = 64  # NumPy's limit
_MOST_ELEMENTS = 2**60  # of 8 bytes each: bytes are counted in 64 bits with a sign
_EXAMPLE = {
    FLOAT: "float32",
    NUMBER: "int32",
    INTEGER: "int32",
    BITS: "int32",
    BOOL: "bool",
    ANY: "float32",
}


def check_kind(name: str, argument: str, spec: Spec, kinds: str) -> None:
    """Refuse an operand whose number type is not among `kinds`."""
    if spec.dtype.kind not in kinds:
        raise DTypeError(
            f"{name}: {argument} has a number type this operation does not take",
            got=f"{argument} of dtype {spec.dtype.name}",
            rule=f"{argument} is of {_MEANING[kinds]}",
            fix=f'convert it first: cast({argument}, dtype="{_EXAMPLE[kinds]}")',
        )


def check_same_dtype(name: str, arguments: Sequence[str], specs: Sequence[Spec]) -> None:
    """Refuse operands of different number types."""
    first = specs[0].dtype
    for argument, spec in zip(arguments, specs, strict=True):
        if spec.dtype is not first:
            raise DTypeError(
                f"{name}: {arguments[0]} and {argument} have different number types",
                got=", ".join(
                    f"{a} of dtype {s.dtype.name}" for a, s in zip(arguments, specs, strict=True)
                ),
                rule="one common dtype",
                fix=f'convert one of them: cast({argument}, dtype="{first.name}")',
            )


def check_rank(name: str, argument: str, spec: Spec, rank: int, letters: str) -> None:
    """Refuse an operand without exactly the axes named in `letters`."""
    if len(spec.shape) != rank:
        raise ShapeError(
            f"{name}: {argument} has the wrong number of axes",
            got=f"{argument} {spec.shape}",
            rule=f"{rank} axes: {letters}",
            fix=f"reshape {argument} so that its axes are {letters}",
        )


def check_axis(name: str, rank: int, axis: object, what: str = "axis") -> None:
    """Refuse an axis that is not one of 0 .. rank - 1 (counting from the end is resolved above)."""
    if not (isinstance(axis, int) and 0 <= axis < rank):
        raise ShapeError(
            f"{name}: {what} does not exist",
            got=f"{what}={axis!r} with an operand of {rank} axes",
            rule=f"an integer from 0 to {rank - 1}"
            if rank
            else "an operand with at least one axis",
            fix=f"{what}={max(rank - 1, 0)} for the last axis"
            if rank
            else "reshape the operand to (1,)",
        )


def check_axes(name: str, rank: int, axes: tuple[int, ...]) -> None:
    """Refuse axes that do not exist or are named twice."""
    for axis in axes:
        check_axis(name, rank, axis, "axes")
    if len(set(axes)) != len(axes):
        raise ShapeError(
            f"{name}: an axis is named twice",
            got=f"axes={axes}",
            rule="each axis at most once",
            fix=f"axes={tuple(sorted(set(axes)))}",
        )


def check_count(name: str, argument: str, entries: Sequence[object], rank: int) -> None:
    """Refuse a parameter that has not one entry for each axis."""
    if len(entries) != rank:
        raise ShapeError(
            f"{name}: {argument} needs one entry for each axis",
            got=f"{argument}={entries} with an operand of {rank} axes",
            rule=f"{rank} entries",
            fix=f"give {argument} {rank} entries",
        )


def sizes_of(shape: Sequence[Any]) -> tuple[int, ...]:
    """Sizes or axes, given one by one or as one tuple or list, as plain integers."""
    given: Sequence[Any] = shape
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        given = cast(Sequence[Any], shape[0])
    try:
        sizes: list[Any] = [n if isinstance(n, Length) else index(n) for n in given]
        return tuple(sizes)
    except TypeError:
        raise ArgumentTypeError(
            "a size or an axis is not a whole number",
            got=f"({', '.join(map(short, given))})",
            rule="integers",
            fix="int(n) of each, or x.shape for the sizes of x",
        ) from None


def check_sizes(name: str, shape: Sequence[Any]) -> None:
    """Refuse a shape with anything but integers from 0, and one that no memory could hold."""
    if not all(map(is_size, shape)):
        raise ShapeError(
            f"{name}: shape has an entry that is not a size",
            got=f"shape={shape}",
            rule="integers >= 0",
            fix="x.shape for the sizes of x",
        )
    if len(shape) > _MOST_AXES:
        raise ShapeError(
            f"{name}: too many axes",
            got=f"{len(shape)} axes",
            rule=f"at most {_MOST_AXES}",
            fix="reshape(...), which joins axes",
        )
    if math.prod(shape) >= _MOST_ELEMENTS:
        raise OutOfMemoryError.of(math.prod(shape))


def check_positive(name: str, argument: str, values: Sequence[Any], least: int = 1) -> None:
    """Refuse a setting with an entry below `least`."""
    if not all(isinstance(v, (int, Length)) and v >= least for v in values):
        raise SettingError(
            f"{name}: {argument} is outside its range",
            got=f"{argument}={values}",
            rule=f"integers >= {least}",
            fix=f"{argument}={tuple(max(int(v), least) for v in values)}",
        )


def broadcast_shapes(
    name: str, arguments: Sequence[str], shapes: Sequence[tuple[int, ...]]
) -> tuple[int, ...]:
    """The common shape by NumPy's rules: aligned at the right, size 1 stretches.

    >>> broadcast_shapes("add", "ab", [(3, 1), (2,)])
    (3, 2)
    """
    first = shapes[0]
    if all(s == first for s in shapes):
        return first
    out = [1] * max(map(len, shapes))
    for shape in shapes:
        for i in range(1, len(shape) + 1):
            n = shape[-i]
            if n == 1 or n == out[-i]:
                continue
            if out[-i] != 1:
                raise ShapeError(
                    f"{name}: the shapes do not fit together",
                    got=", ".join(f"{a} {s}" for a, s in zip(arguments, shapes, strict=True)),
                    rule="aligned at the last axis, sizes are equal or one of them is 1",
                    fix=f"compare axis -{i}: {out[-i]} and {n}; transpose, or insert an axis of 1",
                )
            out[-i] = n
    return tuple(out)
