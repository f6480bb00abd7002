"""The table of primitive operations: `TABLE["sum"]`, or the rows by name.

A row whose name is Python's own is here with an underscore behind it: `sum_`, `max_`, `slice_`.
Knows arrays, never tensors or graphs.
"""

from __future__ import annotations

from tinytorch.primitives.arithmetic import (
    abs_,
    add,
    ceil,
    div,
    floor,
    floor_div,
    maximum,
    minimum,
    mul,
    neg,
    reciprocal,
    remainder,
    round_,
    sign,
    sub,
)
from tinytorch.primitives.attention import attention, attention_gradient
from tinytorch.primitives.bits import (
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    shift_left,
    shift_right,
)
from tinytorch.primitives.broadcasting import broadcast_to, fold_to, sum_
from tinytorch.primitives.casting import cast, cast_like
from tinytorch.primitives.comparison import (
    absorb,
    equal,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    not_equal,
    signbit,
    where,
)
from tinytorch.primitives.contraction import matmul
from tinytorch.primitives.convolution import (
    convolution,
    convolution_input_gradient,
    convolution_weight_gradient,
)
from tinytorch.primitives.creation import full, full_like, iota
from tinytorch.primitives.exponential import cos, erf, exp, log, pow_, rsqrt, sin, sqrt, tanh
from tinytorch.primitives.indexing import scatter_add, scatter_along, slice_update, take, take_along
from tinytorch.primitives.movement import concatenate, flip, pad, slice_
from tinytorch.primitives.pooling import max_pool2d, max_pool2d_gradient, max_pool2d_take
from tinytorch.primitives.primitive import (
    NOT_DIFFERENTIABLE,
    TABLE,
    Primitive,
    Sample,
    Spec,
    dtype_of,
)
from tinytorch.primitives.put_rows import put_rows
from tinytorch.primitives.random import random_bits
from tinytorch.primitives.reductions import all_, any_, argmax, argmin, cumsum, max_, min_, prod
from tinytorch.primitives.reshaping import permute, reshape
from tinytorch.primitives.sorting import argsort, sort

__all__ = [
    "NOT_DIFFERENTIABLE",
    "Primitive",
    "Sample",
    "Spec",
    "TABLE",
    "abs_",
    "absorb",
    "add",
    "all_",
    "any_",
    "argmax",
    "argmin",
    "argsort",
    "attention",
    "attention_gradient",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "broadcast_to",
    "cast",
    "cast_like",
    "ceil",
    "concatenate",
    "convolution",
    "convolution_input_gradient",
    "convolution_weight_gradient",
    "cos",
    "cumsum",
    "div",
    "dtype_of",
    "equal",
    "erf",
    "exp",
    "flip",
    "floor",
    "floor_div",
    "fold_to",
    "full",
    "full_like",
    "greater",
    "greater_equal",
    "iota",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "log",
    "logical_and",
    "logical_not",
    "logical_or",
    "matmul",
    "max_",
    "max_pool2d",
    "max_pool2d_gradient",
    "max_pool2d_take",
    "maximum",
    "min_",
    "minimum",
    "mul",
    "neg",
    "not_equal",
    "pad",
    "permute",
    "pow_",
    "prod",
    "put_rows",
    "random_bits",
    "reciprocal",
    "remainder",
    "reshape",
    "round_",
    "rsqrt",
    "scatter_add",
    "scatter_along",
    "shift_left",
    "shift_right",
    "sign",
    "signbit",
    "sin",
    "slice_",
    "slice_update",
    "sort",
    "sqrt",
    "sub",
    "sum_",
    "take",
    "take_along",
    "tanh",
    "where",
]
