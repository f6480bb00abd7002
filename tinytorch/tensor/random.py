"""Random Tensors: one counter-based generator, the same numbers eager, compiled, on any threads.

Knows distributions, made of the row `random_bits` (Philox 4x32-10). The state of a generator is a
small Tensor, so a compiled function moves it on as it moves any other state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tinytorch.base.dtypes import (
    Array,
    DType,
    DTypeLike,
    as_dtype,
    bool_,
    check_fits,
    float32,
    float64,
    int64,
    uint32,
)
from tinytorch.base.errors import DTypeError, SettingError
from tinytorch.base.locks import ForkSafeLock
from tinytorch.base.settings import draw_from
from tinytorch.primitives import TABLE
from tinytorch.tensor.assignment import copy_named
from tinytorch.tensor.creation import full, shape_of
from tinytorch.tensor.dispatch import apply, number, to_dtype
from tinytorch.tensor.elementwise import cos, log, sin, sqrt
from tinytorch.tensor.interchange import Device, check_device
from tinytorch.tensor.interpreter import STATE, interpreting, no_grad
from tinytorch.tensor.memory import TensorBase
from tinytorch.tensor.operands import Operand, Sizes, plain, tensor_of
from tinytorch.tensor.reductions import argmax, argsort
from tinytorch.tensor.shaping import concat, reshape, slice_along
from tinytorch.tensor.tensor import Tensor

__all__ = [
    "bernoulli", "categorical", "dropout_mask", "normal", "permutation", "rand", "rand_like",
    "randint", "randn", "randn_like", "randperm", "uniform",
]  # fmt: skip


class Generator:
    """A stream of random bits.

    Threads may share one: each draw gets numbers that no other draw gets, though which thread draws
    first is up to them. For runs that repeat, give each thread a generator of its own.

    Args:
        seed: which stream, 0 <= seed < 2^64.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox).

    Example:
        >>> import tinytorch as tt
        >>> a, b = tt.Generator(7), tt.Generator(7)
        >>> (tt.rand(3, generator=a) == tt.rand(3, generator=b)).all().item()
        True
    """

    def __init__(self, seed: int = 0):
        self.state = Tensor(_seeded(seed), dtype=uint32)  # key0, key1, counter low, counter high
        self._lock = ForkSafeLock()

    def manual_seed(self, seed: int) -> Generator:
        """Begin the stream of `seed` again; gives itself."""
        self.state.assign_(Tensor(_seeded(seed), dtype=uint32))
        return self

    def bits(self, shape: tuple[int, ...]) -> Tensor:
        """The next random uint32s; each block of four numbers moves the counter by one."""
        if STATE.interpreter is not None:
            STATE.interpreter.guarded_by(self._lock)
        with self._lock.lock, no_grad():
            bits, state = apply(TABLE["random_bits"], (self.state,), {"shape": tuple(shape)})
            self.state.assign_(state)
        return bits

    def draw_seed(self) -> int:
        """A whole number below 2**64 from the stream, at once: a seed for something else."""
        with interpreting(None):
            low, high = self.bits((2,)).tolist()
        return low | high << 32

    def __getstate__(self) -> dict[str, Any]:
        return {"state": self.state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state["state"]
        self._lock = ForkSafeLock()

    def state_dict(self) -> dict[str, Tensor]:
        """Where the stream is now, as it can be saved; drawing leaves it as it is."""
        return {"state": self.state.detach().clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where `state_dict` was taken."""
        copy_named({"state": self.state}, state, owner="Generator")


def _seeded(seed: Any) -> np.ndarray:
    given: Any = seed
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or not 0 <= seed < 2**64:
        raise SettingError(
            "this cannot be a seed",
            got=repr(given),
            rule="a whole number, 0 <= seed < 2**64",
            fix="tt.manual_seed(0)",
        )
    return np.array([int(given) & 0xFFFFFFFF, int(given) >> 32, 0, 0], np.uint32)


default_generator = Generator(0)
draw_from(default_generator.draw_seed)


def manual_seed(seed: int) -> Generator:
    """Begin the default generator's stream of `seed`: what follows is the same on every run.

    Example:
        >>> import tinytorch as tt
        >>> _ = tt.manual_seed(3)
        >>> a = tt.rand(2)
        >>> _ = tt.manual_seed(3)
        >>> (tt.rand(2) == a).all().item()
        True
    """
    return default_generator.manual_seed(seed)


def _bits(shape: tuple[int, ...], generator: Generator | None) -> Any:
    return (generator or default_generator).bits(shape)


def _unit(shape: tuple[int, ...], dtype: Any, generator: Generator | None) -> Any:
    """Uniform on [0, 1): multiples of 2^-24 (float64: 2^-53)."""
    if dtype is float64:
        words = to_dtype(_bits((2, *shape), generator), int64)
        high, low = words[0] >> 5, words[1] >> 6  # 27 and 26 bits
        return to_dtype(high * 2**26 + low, float64) * 2.0**-53
    return to_dtype(_bits(shape, generator) >> 8, float32) * 2.0**-24


def _as_float(dtype: DTypeLike) -> DType:
    dtype = as_dtype(dtype)
    if not dtype.is_float:
        raise DTypeError(
            "random fractions need a floating-point type",
            got=f"dtype {dtype.name}",
            rule="float16, bfloat16, float32 or float64",
            fix="tt.randint(low, high, shape) for whole numbers",
        )
    return dtype


def rand(
    *shape: Sizes, dtype: DTypeLike = float32, generator: Generator | None = None,
    device: Device = None, requires_grad: bool = False,
) -> Any:  # fmt: skip
    """Uniform on [0, 1), independent.

    float16 and bfloat16 are rounded from float32, so there 1 can occur.
    """
    check_device(device)
    wanted = _as_float(dtype)
    out = to_dtype(_unit(shape_of(shape), wanted, generator), wanted)
    return out.requires_grad_() if requires_grad else out


def uniform(
    low: float, high: float, shape: Sizes, dtype: DTypeLike = float32,
    generator: Generator | None = None,
) -> Any:  # fmt: skip
    """Uniform on [low, high), independent."""
    return rand(*shape_of((shape,)), dtype=dtype, generator=generator) * (high - low) + low


def randn(
    *shape: Sizes, dtype: DTypeLike = float32, generator: Generator | None = None,
    device: Device = None, requires_grad: bool = False,
) -> Any:  # fmt: skip
    """Normal with mean 0 and variance 1, independent.

    Source: Box and Muller 1958, "A note on the generation of random normal deviates". With 24 bits
    the largest possible size is sqrt(2 * 24 * log 2) = 5.77 (float64, 53 bits: 8.57).
    """
    check_device(device)
    wanted, sizes = _as_float(dtype), shape_of(shape)
    n = math.prod(sizes)
    half = -(-n // 2)
    u = _unit((2, half), wanted, generator)
    radius = sqrt(log(1.0 - u[0]) * -2.0)  # 1 - u lies in (0, 1]
    angle = u[1] * (2.0 * math.pi)
    both = concat([radius * cos(angle), radius * sin(angle)])
    out = to_dtype(reshape(slice_along(both, 0, 0, n), sizes), wanted)
    return out.requires_grad_() if requires_grad else out


def normal(
    mean: Operand, std: Operand, shape: Sizes, dtype: DTypeLike = float32,
    generator: Generator | None = None,
) -> Any:  # fmt: skip
    """Normal with this mean and standard deviation, independent."""
    return randn(*shape_of((shape,)), dtype=dtype, generator=generator) * std + mean


def rand_like(
    x: TensorBase | Array, generator: Generator | None = None, *, dtype: DTypeLike | None = None,
    device: Device = None, requires_grad: bool = False,
) -> Any:  # fmt: skip
    """`rand` of the shape of x, and of its dtype unless given."""
    how: dict[str, Any] = {"device": device, "requires_grad": requires_grad}
    return rand(tuple(x.shape), dtype=dtype or x.dtype, generator=generator, **how)


def randn_like(
    x: TensorBase | Array, generator: Generator | None = None, *, dtype: DTypeLike | None = None,
    device: Device = None, requires_grad: bool = False,
) -> Any:  # fmt: skip
    """`randn` of the shape of x, and of its dtype unless given."""
    how: dict[str, Any] = {"device": device, "requires_grad": requires_grad}
    return randn(tuple(x.shape), dtype=dtype or x.dtype, generator=generator, **how)


def randint(
    low: int, high: int | None = None, shape: Sizes = (), dtype: DTypeLike = int64,
    generator: Generator | None = None, *, size: Sizes | None = None, device: Device = None,
) -> Any:  # fmt: skip
    """Whole numbers low, ..., high - 1 (`randint(high)`: from 0), equally likely to within 2^-32.

    Raises:
        SettingError: high <= low, or more than 2^31 numbers to choose from.
    """
    check_device(device)
    shape = shape if size is None else size  # PyTorch's name
    if high is None or isinstance(high, (tuple, list)):  # as PyTorch's randint(high, shape)
        low, high, shape = 0, low, shape if high is None else high
    if not 0 < high - low <= 2**31:
        raise SettingError(
            "randint: no such range",
            got=f"low={low}, high={high}",
            rule="low < high, and at most 2**31 numbers between",
            fix=f"randint({low}, {low + 1})",
        )
    check_fits(np.array([low, high - 1]), as_dtype(dtype))
    words = to_dtype(_bits(shape_of((shape,)), generator), int64)
    return to_dtype((words * (high - low) >> 32) + low, as_dtype(dtype))


def bernoulli(p: float, shape: Sizes, generator: Generator | None = None) -> Any:
    """True with probability p (to within 2^-32), independent, as bools.

    Args:
        p: in [0, 1].
        shape: sizes of the result.
        generator: default: the one of `manual_seed`.
    """
    sizes = shape_of((shape,))
    if isinstance(p, TensorBase):
        plain("bernoulli", p=p)
    if not 0.0 <= p <= 1.0:
        raise SettingError(
            "bernoulli: p is not a probability", got=f"p={p}", rule="0 <= p <= 1", fix="p=0.5"
        )
    threshold = round(p * 2**32)
    if threshold >= 2**32:
        return full(sizes, True, dtype=bool_)
    return _bits(sizes, generator) < number(threshold, uint32)


def dropout_mask(
    shape: Sizes, p: float, dtype: DTypeLike = float32, generator: Generator | None = None
) -> Any:
    """0 with probability p, else 1 / (1 - p): what dropout multiplies with (its mean is 1)."""
    if isinstance(p, TensorBase):
        plain("dropout_mask", p=p)
    if p >= 1.0:
        return full(shape_of((shape,)), 0.0, dtype=dtype)
    keep = to_dtype(bernoulli(1.0 - p, shape, generator), as_dtype(dtype))
    return keep * (1.0 / (1.0 - p))


def permutation(n: int, generator: Generator | None = None) -> Any:
    """0, ..., n - 1 in random order: sorted by random 62-bit keys (equal ones: n^2 / 2^63)."""
    words = to_dtype(_bits((2, n), generator), int64)
    return argsort((words[0] >> 1) * 2**31 + (words[1] >> 1))


randperm = permutation


def categorical(logits: Operand, generator: Generator | None = None) -> Any:
    """A class for each row of logits (..., K), with the probabilities of their softmax.

    Source: the Gumbel-max trick, Gumbel 1954; as in Maddison et al. 2014, "A* sampling".
    """
    given: Any = tensor_of(logits).detach()
    noise = -log(-log(1.0 - _unit(given.shape, float32, generator)))
    return argmax(given + noise, -1)
