"""Scalars: the few numbers of a step that are the same for every weight.

Knows 0-d Tensors and number types, never the rule.
"""

from __future__ import annotations

from typing import Any

from tinytorch.base.dtypes import DType, float16

# Below it float16 has no 1e-8: a divisor of sqrt(0) + 0 would make the step of a weight without
# a gradient 0 / 0. Source: IEEE 754, the smallest normal number of binary16.
SMALLEST = 2.0**-14


def divisor(eps: float, dtype: DType) -> float:
    """`eps` of a rule in a number type: in float16 at least its smallest normal number.

    >>> from tinytorch.base.dtypes import bfloat16
    >>> divisor(1e-8, float16), divisor(1e-8, bfloat16), divisor(0.0, float16)
    (6.103515625e-05, 1e-08, 0.0)
    """
    return max(eps, SMALLEST) if eps and dtype is float16 else eps


class Scalars:
    """Numbers worked out once for a group, and rounded once to each type of its parameters.

    Note [scalars in float64]
        1 - beta2**t loses 3 digits in float32 (beta2 = 0.999), so what is one number for a whole
        group is computed in float64 and rounded at the end.

    Args:
        values: 0-d float64 Tensors.
    """

    __slots__ = ("_rounded", "values")

    def __init__(self, *values: Any):
        self.values = values
        self._rounded: dict[DType, tuple] = {}

    def of(self, dtype: DType) -> tuple:
        """The numbers in another type, in order."""
        found = self._rounded.get(dtype)
        if found is None:
            found = self._rounded[dtype] = tuple(v.astype(dtype) for v in self.values)
        return found
