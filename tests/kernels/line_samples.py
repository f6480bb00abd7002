"""Arrays, axes and number types that kernels along one axis are tried with."""

import numpy as np
import pytest

from tests.kernels.lowered_runner import VECTOR_TARGETS
from tinytorch.base.dtypes import OF_NUMPY, bfloat16, round_to_bfloat16

TARGETS = [*VECTOR_TARGETS.values()]
every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
# shape, axis: one line, lines that end within a vector, the axis first, last and in the middle
LINES = [((7,), 0), ((5, 19), 0), ((5, 19), 1), ((3, 4, 33), 1), ((2, 3, 1), 2), ((1, 6, 17), 0)]
DTYPES = ("float32", "float64", "float16", "int8", "uint8", "int64", "bfloat16")


def generator(seed):
    return np.random.Generator(np.random.PCG64(seed))


def whole(shape, dtype, seed=0):
    """Small whole numbers, so that sums are exact and equal elements occur."""
    return generator(seed).integers(0, 5, shape).astype("float32" if dtype == "bfloat16" else dtype)


def stored(x, dtype):
    return round_to_bfloat16(x) if dtype == "bfloat16" else x


def kind(x, dtype):
    return bfloat16 if dtype == "bfloat16" else OF_NUMPY[x.dtype]
