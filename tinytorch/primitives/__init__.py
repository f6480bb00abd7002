"""The table of primitive operations: `TABLE["sum"]`, or the rows by name.

A row whose name is Python's own is here with an underscore behind it: `sum_`, `max_`, `slice_`.
Knows arrays, never tensors or graphs.
"""

from __future__ import annotations

# fmt: off
# isort: off
from tinytorch.primitives.branch import cond
from tinytorch.primitives.caches import cached_attention, put_tokens
from tinytorch.primitives.contraction import attention, attention_gradient, matmul
from tinytorch.primitives.convolution import (
    convolution, convolution_input_gradient, convolution_weight_gradient,
)
from tinytorch.primitives.creation import full, full_like, iota, random_bits
from tinytorch.primitives.elementwise import (
    abs_, absorb, add, bitwise_and, bitwise_not, bitwise_or, bitwise_xor, cast, cast_like, ceil,
    div, equal, floor, floor_div, greater, greater_equal, isfinite, isinf, isnan, less,
    less_equal, logical_and, logical_not, logical_or, maximum, minimum, mul, neg, not_equal,
    reciprocal, remainder, round_, shift_left, shift_right, sign, signbit, sub, where,
)
from tinytorch.primitives.grouped import grouped_matmul
from tinytorch.primitives.host import host_call
from tinytorch.primitives.indexing import (
    put_rows, scatter_add, scatter_along, slice_update, take, take_along,
)
from tinytorch.primitives.loop import scan
from tinytorch.primitives.movement import (
    broadcast_to, concatenate, flip, fold_to, pad, permute, reshape, slice_, sum_,
)
from tinytorch.primitives.pooling import max_pool2d, max_pool2d_gradient, max_pool2d_take
from tinytorch.primitives.primitive import (
    NOT_DIFFERENTIABLE, TABLE, Primitive, Sample, Spec, dtype_of,
)
from tinytorch.primitives.reductions import (
    all_, any_, argmax, argmin, argsort, cumsum, max_, min_, prod, sort,
)
from tinytorch.primitives.sparse import sparse_matmul
from tinytorch.primitives.transcendental import (
    cos, erf, exp, gelu, gelu_slope, log, pow_, rsqrt, sin, sqrt, tanh,
)

__all__ = [
    "NOT_DIFFERENTIABLE", "Primitive", "Sample", "Spec", "TABLE", "abs_", "absorb", "add", "all_",
    "any_", "argmax", "argmin", "argsort", "attention", "attention_gradient", "bitwise_and",
    "bitwise_not", "bitwise_or", "bitwise_xor", "broadcast_to", "cached_attention",
    "cast", "cast_like", "ceil",
    "concatenate", "cond", "convolution", "convolution_input_gradient",
    "convolution_weight_gradient", "cos", "cumsum", "div", "dtype_of", "equal", "erf", "exp",
    "flip", "floor", "floor_div", "fold_to", "full", "full_like", "gelu", "gelu_slope", "greater",
    "greater_equal", "grouped_matmul",
    "host_call", "iota", "isfinite", "isinf", "isnan", "less", "less_equal", "log", "logical_and",
    "logical_not", "logical_or", "matmul", "max_", "max_pool2d", "max_pool2d_gradient",
    "max_pool2d_take", "maximum", "min_", "minimum", "mul", "neg", "not_equal", "pad", "permute",
    "pow_", "prod", "put_rows", "put_tokens", "random_bits", "reciprocal", "remainder", "reshape",
    "round_",
    "rsqrt", "scan", "scatter_add", "scatter_along", "shift_left", "shift_right", "sign", "signbit",
    "sin", "slice_", "slice_update", "sort", "sparse_matmul", "sqrt", "sub", "sum_", "take",
    "take_along", "tanh", "where",
]
