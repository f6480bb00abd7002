"""A weight that trains as if it had 8 bits: rounded wherever it is read, gradients go through.

Knows one layer's weight and what goes into the layer; which layers have such weights is said by
`quantize`. A rounding has no slope worth the name, so backward takes it for the identity
(straight-through), but for numbers that were cut off, whose gradient is 0.
"""

from __future__ import annotations

from typing import Any

from tinytorch.base.dtypes import float32
from tinytorch.nn.module import Parameter
from tinytorch.nn.quantized import QuantizedWeight, StaticRounding, WeightForm, linear
from tinytorch.tensor.dispatch import custom_vjp
from tinytorch.tensor.elementwise import abs as magnitude
from tinytorch.tensor.elementwise import clip, where
from tinytorch.tensor.elementwise import round as rounded
from tinytorch.tensor.indexing import take
from tinytorch.tensor.reductions import amax
from tinytorch.tensor.tensor import Tensor


def fake_bytes(x: Tensor, rounding: StaticRounding) -> Tensor:
    """x as `rounding`'s bytes stand for it, with a gradient.

        forward    clip(round(x / step), low, high) * step
        backward   g where round(x / step) lies between low and high, else 0

    Args:
        x: floats (...).
        rounding: step and limits.

    Source: Bengio et al. 2013, https://arxiv.org/abs/1308.3432, section 4 (straight-through);
    Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.

    Example:
        >>> import tinytorch as tt
        >>> x = tt.Tensor([0.3, 200.0], requires_grad=True)
        >>> y = fake_bytes(x, StaticRounding(0.5))
        >>> y.sum().backward()
        >>> y.tolist(), x.grad.tolist()
        ([0.5, 63.5], [1.0, 0.0])
    """
    low, high = rounding.limits
    return _fake_bytes(x.astype(float32), rounding.step, low=low, high=high)


@custom_vjp
def _fake_bytes(x: Tensor, step: Tensor, *, low: float, high: float) -> Tensor:
    return clip(rounded(x * (1.0 / step)), low, high) * step


def _fake_bytes_forward(x: Tensor, step: Tensor, *, low: float, high: float) -> tuple:
    q = rounded(x * (1.0 / step))
    return clip(q, low, high) * step, (q >= low) & (q <= high)


_fake_bytes.define(_fake_bytes_forward, lambda inside, g: (where(inside, g, 0.0), None))


@custom_vjp
def fake_channels(w: Tensor) -> Tensor:
    """Each w[i] as int8 with a scale of its own stands for it, as QuantizedWeight rounds it.

        scale = max |w[i]| / 127
        forward    round(w / scale) * scale
        backward   g

    Args:
        w: floats (N, ...).
    """
    largest = amax(magnitude(w), tuple(range(1, len(w.shape))) or -1, keepdim=len(w.shape) > 1)
    safe = where(largest > 0.0, largest, 1.0)
    return rounded(w * (127.0 / safe)) * (largest / 127.0)


fake_channels.define(lambda w: (fake_channels.function(w), None), lambda kept, g: (g,))


class FakeQuantizedWeight(WeightForm):
    """A layer's Parameter that is rounded to 8 bits wherever the layer reads it, as its input is.

    `compression.quantize` makes it a `nn.QuantizedWeight` of the same numbers.

    Args:
        weight: (N, ...) floats.
        input: how what comes in is rounded; None: it is not (rows that are looked up).

    Cost: of a training step, a pass over each weight and two over each input more, fused.

    Source: Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.

    Differs from the paper: scales of activations are those of the calibration, not moving averages.
    """

    def __init__(self, weight: Any, input: StaticRounding | None = None):
        self.weight, self.input = weight, input
        self.shape = tuple(weight.shape)

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x @ weight.T + bias, both as bytes stand for them."""
        return linear(self._given(x), fake_channels(self.weight), bias)

    def convolve(self, function: Any, x: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
        """A convolution's function of both as bytes stand for them."""
        return function(self._given(x), fake_channels(self.weight), bias, *settings)

    def rows(self, index: Tensor) -> Tensor:
        """weight[index], each row as its bytes stand for it."""
        return self._as_bytes(take(self.weight, index, 0))

    def __getitem__(self, rows: Any) -> Tensor:
        """Some rows, or one, as their bytes stand for them."""
        return self._as_bytes(self.weight[rows])

    def _as_bytes(self, found: Tensor) -> Tensor:
        return fake_channels(found.reshape(-1, *self.shape[1:])).reshape(*found.shape)

    def part(self, rows: slice) -> FakeQuantizedWeight:
        """Some rows, with the same rounding of what comes in."""
        return FakeQuantizedWeight(self.weight[rows], self.input)

    def _given(self, x: Tensor) -> Tensor:
        return x if self.input is None else fake_bytes(x, self.input)

    def converted(self) -> QuantizedWeight:
        """The same numbers as bytes."""
        return QuantizedWeight(self.weight, "int8", None, self.input)

    @classmethod
    def of(cls, weight: Parameter, input: StaticRounding | None) -> FakeQuantizedWeight:
        """One with a copy of a Parameter."""
        fresh = Parameter(weight.detach().clone())
        fresh.requires_grad = weight.requires_grad
        return cls(fresh, input)
