"""A weight of 8 or 4 bits in the place of a Parameter: what layers read of it.

Knows how weights are rounded and how layers use them; which layers of a model have such weights is
said by `compression.quantize`. A layer stays the layer it was: its `weight` is a QuantizedWeight, a
module with two buffers, "numbers" and "scale", which `state_dict()` holds as they lie in memory.

Activations are rounded to int8 on the fly, one scale for each token (each picture in front of a
convolution), as torchao's int8_dynamic_activation_int8_weight and _int4_weight do. llama.cpp takes
a scale for each 32 numbers. One for each token is exact in int32 over the whole sum, which is what
instructions for bytes are fastest at, and costs nothing in the inner loop; what it loses is in
docs/log.md. Or their scale is known before (`StaticRounding`): then no maximum is computed, and
rounding is arithmetic on one number, which the compiler puts behind the operation that made it, so
that what lies in memory between two layers are bytes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytorch.base.arguments import flag, number, one_of
from tinytorch.base.dtypes import float32, from_bfloat16
from tinytorch.base.errors import GradientError, SettingError, ShapeError
from tinytorch.nn.module import Module
from tinytorch.tensor.contractions import linear as plain_linear
from tinytorch.tensor.elementwise import clip
from tinytorch.tensor.elementwise import round as rounded
from tinytorch.tensor.indexing import take
from tinytorch.tensor.interpreter import is_grad_enabled
from tinytorch.tensor.quantized import (
    GROUPS,
    bytes_times_bytes,
    few_bits,
    grouped_linear,
    of_groups,
    pack_groups,
    packed_bytes,
)
from tinytorch.tensor.tensor import Tensor

BITS = {"int8": 8, "int4": 4}
DEFAULT_GROUP = {"int8": None, "int4": 64}
# Groups of 4 bits are rounded by these parts of the scale that makes the largest number -8; for
# each the scale of least squares follows, and the best is kept. Of 1, 4 and 25 parts, errors of
# normal numbers in groups of 64 are 9.4, 9.1 and 9.0 % (9.5 without least squares), in groups of 32
# 8.5, 8.2 and 8.1.
PARTS = (0.8, 0.9, 1.0, 1.14)
AT_ONCE = 1 << 16  # numbers that are rounded together: they stay in the second cache
SMALLEST, LARGEST = 2.0**-14, 65504.0  # normal numbers of float16


def _rounded_groups(w: np.ndarray, bits: int, narrow: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one group each as whole numbers, and a scale each."""
    low = -(1 << (bits - 1))
    places = np.abs(w).argmax(axis=1)
    first = np.take_along_axis(w, places[:, None], 1) / np.float32(low)
    best = np.full(len(w), np.inf, np.float32)
    numbers, scales = np.zeros(w.shape, np.int8), np.zeros(len(w), np.float32)
    for part in PARTS if bits == 4 else (low / (low + 1),):
        tried = first * np.float32(part)
        if narrow:
            tried = tried.astype(np.float16).astype(np.float32)
        inverse = np.divide(1, tried, out=np.zeros_like(tried), where=tried != 0)
        q = np.clip(np.rint(w * inverse), low, -low - 1)
        scale = tried[:, 0]
        if bits == 4:
            squares = np.square(q).sum(axis=1)
            scale = np.divide((w * q).sum(axis=1), squares, out=squares, where=squares > 0)
            if narrow:
                scale = scale.astype(np.float16).astype(np.float32)
        error = np.square(q * scale[:, None] - w).sum(axis=1)
        better = error < best
        best[better], scales[better], numbers[better] = error[better], scale[better], q[better]
    return numbers, scales


def _rounded(w: np.ndarray, bits: int, group: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (N, K) packed in groups, and their scales (N, groups): float16 where that holds them."""
    n, k = w.shape
    groups = -(-k // group)
    largest = np.abs(w).max(initial=0.0) / (1 << (bits - 1))
    padded = np.zeros((n, groups * group), np.float32)
    padded[:, :k] = w
    sizes = np.abs(padded.reshape(n, groups, group)).max(axis=2, initial=0.0) / (1 << (bits - 1))
    narrow = largest < LARGEST / 2 and not ((0 < sizes) & (sizes < SMALLEST)).any()
    stored = np.empty((n, packed_bytes(k, bits, group)), np.uint8 if bits == 4 else np.int8)
    scale = np.empty((n, groups), np.float16 if narrow else np.float32)
    step = max(1, AT_ONCE // max(1, groups * group))
    for i in range(0, n, step):
        part = padded[i : i + step]
        numbers, scales = _rounded_groups(part.reshape(-1, group), bits, narrow)
        stored[i : i + step] = pack_groups(numbers.reshape(len(part), -1), bits, group)
        scale[i : i + step] = scales.reshape(len(part), groups)
    return stored, scale


class StaticRounding(Module):
    """Activations as bytes, by a scale that is known before they are: no maximum is computed.

        signed     q = clip(round(x / scale), -127, 127), int8
        unsigned   q = clip(round(x / scale), 0, 255), uint8: what comes from ReLU, twice as fine

    The buffer is "scale" or "unsigned_scale", so that a saved model says which it was.

    Args:
        scale: of one step, in (0, inf).
        unsigned: whether numbers below 0 are cut off; default False.

    Cost: no memory; a multiplication, a rounding and two comparisons a number, fused with what is
        before.

    Source: Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 2.1.

    Differs from the paper: no zero point: a number is a multiple of the scale. NaN is not kept.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import nn
        >>> nn.StaticRounding(0.5)(tt.Tensor([-100.0, 0.2, 1.1])).tolist()
        [-127, 0, 2]
        >>> nn.StaticRounding(0.5, unsigned=True)(tt.Tensor([-100.0, 0.3, 100.0])).tolist()
        [0, 1, 200]
    """

    names = ("scale", "unsigned_scale")  # of the buffer

    def __init__(self, scale: float, unsigned: bool = False):
        number("StaticRounding", "scale", scale, "(0, inf)")
        self.unsigned = flag("StaticRounding", "unsigned", unsigned)
        self.register_buffer(self.names[self.unsigned], Tensor(np.float32(scale)))

    @property
    def step(self) -> Tensor:
        """What one step stands for, 0-d float32."""
        found: Tensor = getattr(self, self.names[self.unsigned])
        return found.astype(float32)

    def forward(self, x: Tensor) -> Tensor:
        """Floats (...) -> int8 or uint8 (...)."""
        low, high = self.limits
        q = clip(rounded(x.astype(float32) * (1.0 / self.step)), low, high)
        return q.astype("uint8" if self.unsigned else "int8")

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and the largest byte."""
        return (0.0, 255.0) if self.unsigned else (-127.0, 127.0)

    def extra_repr(self) -> str:
        """Whether it has a sign."""
        return "unsigned=True" if self.unsigned else ""


class WeightForm(Module):
    """What stands in the place of a layer's Parameter: how the layer's arithmetic is done with it.

    Subclasses define the four functions; layers call them where their weight is no Tensor.
    """

    shape: tuple[int, ...]

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x @ weight.T + bias: (..., K) -> (..., N)."""
        raise NotImplementedError

    def convolve(self, function: Any, x: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
        """A convolution's function of x with these filters."""
        raise NotImplementedError

    def rows(self, index: Tensor) -> Tensor:
        """weight[index] as floats, for integers (...) in [0, N)."""
        raise NotImplementedError

    def part(self, rows: slice) -> WeightForm:
        """Some rows as a weight of their own."""
        raise NotImplementedError

    def __getitem__(self, rows: Any) -> Tensor:
        """Some rows, or one, as floats."""
        raise NotImplementedError

    @property
    def ndim(self) -> int:
        """Axes of the weight."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Numbers of the weight."""
        return math.prod(self.shape)


class QuantizedWeight(WeightForm):
    """A weight (N, ...) of 8 or 4 bits a number, for one layer or several that share it.

    "int8" without groups: numbers (N, ...) int8, scale (N,) float32, the largest of each output
    channel / 127. In groups, of the K numbers of a channel in their order: numbers (N, bytes), two
    of 4 bits to a byte as in ggml's Q4_0, scale (N, groups), float16 (float32 where float16 would
    not hold one: below 2^-14 or above 65504). w is about number * scale.

    Args:
        weight: (N, ...) floats, finite.
        kind: "int8" or "int4"; default "int8".
        group: numbers that share a scale: 32, 64 or 128; None: a whole channel ("int8" only).
            Default None for "int8", 64 for "int4".
        input: how what comes in is rounded; default None: by its largest number.

    Raises:
        SettingError: another kind or group, or a weight that is not finite.

    Cost: int8 4, int4 7.1 (groups of 32) to 7.5 (of 64) times less memory than float32. It is read
        once for up to 8 tokens; the work of rounding is some passes over the weight, once.

    Source: Dettmers et al. 2022, https://arxiv.org/abs/2208.07339, section 2.1 (a scale for each
        row and column); groups: ggml's Q8_0 and Q4_0.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import nn
        >>> w = nn.QuantizedWeight(tt.ones(8, 64), "int4")
        >>> w.numbers.shape, w.scale.shape, w.dequantize().shape, w.nbytes
        ((8, 32), (8, 1), (8, 64), 272)
    """

    numbers: Tensor
    scale: Tensor

    def __init__(
        self, weight: Any, kind: str = "int8", group: int | None = None,
        input: StaticRounding | None = None,
    ):  # fmt: skip
        self._settings(kind, group)
        self.input = input
        array = _array(weight)
        self.shape = tuple(array.shape)
        if not np.isfinite(array).all():
            raise SettingError(
                "QuantizedWeight: a weight is not finite",
                got=f"{int((~np.isfinite(array)).sum())} of {array.size} are NaN or infinite",
                rule="finite numbers, which a scale can hold",
                fix="load a checkpoint of before the loss became NaN",
            )
        rows = array.reshape(len(array), -1) if array.ndim > 1 else array.reshape(-1, 1)
        if self.group is None:
            largest = np.abs(rows).max(axis=1, initial=0.0)
            inverse = np.divide(127, largest, out=np.zeros_like(largest), where=largest > 0)
            numbers = np.rint(rows * inverse[:, None]).clip(-127, 127).astype(np.int8)
            scale = largest / np.float32(127)
            numbers = numbers.reshape(self.shape)
        else:
            numbers, scale = _rounded(rows, self.bits, self.group)
        self.register_buffer("numbers", Tensor(numbers))
        self.register_buffer("scale", Tensor(scale))

    def _settings(self, kind: str, group: int | None) -> None:
        self.kind = one_of("QuantizedWeight", "kind", kind, tuple(BITS))
        self.bits = BITS[kind]
        self.group = DEFAULT_GROUP[kind] if group is None else group
        if self.group is not None and self.group not in GROUPS:
            raise SettingError(
                "QuantizedWeight: a group has another number of weights",
                got=f"group={group!r}",
                rule=f"{', '.join(map(str, GROUPS))}; None for int8: a whole channel",
                fix="group=64",
            )

    @classmethod
    def packed(
        cls, numbers: Any, scale: Any, shape: tuple[int, ...], kind: str, group: int | None,
        input: StaticRounding | None = None,
    ) -> QuantizedWeight:  # fmt: skip
        """The weight that is held by numbers and scales as they lie in a file.

        Args:
            numbers: int8 of `shape`, or packed rows (N, bytes), int8 or uint8.
            scale: (N,), or (N, groups).
            shape: of the weight they stand for.
            kind: "int8" or "int4".
            group: numbers that share a scale; None: a channel.
            input: how what comes in is rounded; None: by its largest number.

        Raises:
            ShapeError: the numbers or scales are not those of such a weight.
        """
        self = cls.__new__(cls)
        self._settings(kind, group)
        self.input = input
        self.shape = tuple(shape)
        n, k = self.shape[0], math.prod(self.shape[1:])
        held, scales = self.shape, (n,)
        if self.group is not None:
            held = (n, packed_bytes(k, self.bits, self.group))
            scales = (n, -(-k // self.group))
        numbers, scale = (x if isinstance(x, Tensor) else Tensor(x) for x in (numbers, scale))
        if (tuple(numbers.shape), tuple(scale.shape)) != (held, scales):
            raise ShapeError(
                "QuantizedWeight: numbers and scales do not belong to this weight",
                got=f"numbers {tuple(numbers.shape)}, scale {tuple(scale.shape)}",
                rule=f"numbers {held}, scale {scales} for a weight {self.shape}",
                fix="the kind and group with which they were written",
            )
        self.register_buffer("numbers", numbers)
        self.register_buffer("scale", scale)
        return self

    @property
    def dtype(self):
        """float32: what the numbers stand for."""
        return float32

    @property
    def nbytes(self) -> int:
        """Bytes of numbers and scales."""
        return sum(b.size * b.dtype.itemsize for b in (self.numbers, self.scale))

    @property
    def requires_grad(self) -> bool:
        """False: it is not trained."""
        return False

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x @ weight.T + bias with x rounded to bytes, a scale for each row: (..., K) -> (..., N).

        With `input` set, one scale for all.

        Raises:
            GradientError: x asks for a gradient, which rounding does not have.
        """
        if self.ndim != 2 or not x.shape or x.shape[-1] != self.shape[1]:
            raise ShapeError(
                "linear: input and weight do not belong together",
                got=f"input {tuple(x.shape)}, weight {self.shape}",
                rule="input (..., C), weight (K, C)",
                fix="give the features that the layer was made for",
            )
        refuse_gradient(x)
        q, scale = few_bits(x) if self.input is None else (self.input(x), self.input.step)
        if self.group is None:
            y = bytes_times_bytes(q, self.numbers).astype(float32)
            y = self._scaled(y, scale, self.scale.astype(float32))
        else:
            y = grouped_linear(q, self.numbers, self.scale, self.bits, self.group) * scale
        y = y if bias is None else y + bias.astype(float32)
        return y if x.dtype is float32 else y.astype(x.dtype)

    def convolve(self, function: Any, x: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
        """A convolution's function of x with these filters.

        int8 a channel: x is rounded too, one scale for each sample, and the sums are exact. In
        groups the filters are made float32 where they are used.

        Raises:
            GradientError: x asks for a gradient.
        """
        refuse_gradient(x)
        if self.group is not None:
            return function(x, self.dequantize().astype(x.dtype), bias, *settings)
        if self.input is None:
            q, scale = few_bits(x, tuple(range(1, len(x.shape))))
        else:
            q, scale = self.input(x), self.input.step
        sums = function(q.astype("int32"), self.numbers.astype("int32"), None, *settings)
        ones = (1,) * (len(x.shape) - 2)
        y = self._scaled(
            sums.astype(float32), scale, self.scale.astype(float32).reshape(1, -1, *ones)
        )
        y = y if bias is None else y + bias.astype(float32).reshape(1, -1, *ones)
        return y if x.dtype is float32 else y.astype(x.dtype)

    def _scaled(self, sums: Tensor, scale: Tensor, own: Tensor) -> Tensor:
        """Sums of bytes as what they stand for; both scales are one where both are known before."""
        return sums * scale * own if self.input is None else sums * (scale * own)

    def rows(self, index: Tensor) -> Tensor:
        """weight[index] as float32, for integers (...) in [0, N)."""
        return self._plain(take(self.numbers, index, 0), take(self.scale, index, 0))

    def part(self, rows: slice) -> QuantizedWeight:
        """Some rows as a weight of their own; nothing is copied."""
        numbers, scale = self.numbers[rows], self.scale[rows]
        shape = (numbers.shape[0], *self.shape[1:])
        return QuantizedWeight.packed(numbers, scale, shape, self.kind, self.group, self.input)

    def dequantize(self) -> Tensor:
        """The numbers it stands for, float32."""
        return self._plain(self.numbers, self.scale).reshape(*self.shape)

    def __getitem__(self, rows: Any) -> Tensor:
        """Some rows, as numbers."""
        numbers, scale = self.numbers[rows], self.scale[rows]
        found = self._plain(numbers, scale)
        return found.reshape(*found.shape[:-1], *self.shape[1:])

    def _plain(self, numbers: Tensor, scale: Tensor) -> Tensor:
        """Rows (..., bytes) with their scales as numbers (..., K)."""
        k = math.prod(self.shape[1:])
        if self.group is not None:
            return of_groups(numbers, scale, self.bits, self.group, k)
        lead = scale.shape
        return numbers.reshape(*lead, k).astype(float32) * scale.astype(float32).unsqueeze(-1)

    def extra_repr(self) -> str:
        """Shape, kind and group."""
        return f"{self.shape}, {self.kind}" + (f", group={self.group}" if self.group else "")


def _array(weight: Any) -> np.ndarray:
    """A weight as float32."""
    if not isinstance(weight, Tensor):
        return np.asarray(weight, np.float32)
    array = weight.detach().numpy()
    return (from_bfloat16(array) if array.dtype == np.uint16 else array).astype(np.float32)


def refuse_gradient(x: Tensor) -> None:
    """Refuse an input that asks for a gradient."""
    if x.requires_grad and is_grad_enabled():
        raise GradientError(
            "weights of few bits cannot be trained through",
            got="an input that asks for a gradient",
            rule="activations are rounded to int8, which has no gradient",
            fix="train the model that was quantized, or call it within tt.no_grad()",
        )


def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """input @ weight.T + bias.

    Args:
        input: (..., C).
        weight: (K, C), or a WeightForm of that shape.
        bias: (K,).

    Returns:
        (..., K).
    """
    if isinstance(weight, WeightForm):
        return weight.linear(input, bias)
    return plain_linear(input, weight, bias)


def rows_of(weight: Any, index: Tensor) -> Tensor:
    """weight[index] along the first axis, of a Tensor or a WeightForm."""
    return weight.rows(index) if isinstance(weight, WeightForm) else take(weight, index, 0)


def part_of(weight: Any, rows: slice) -> Any:
    """Some rows of a Tensor or a WeightForm, of the same kind."""
    return weight.part(rows) if isinstance(weight, WeightForm) else weight[rows]
