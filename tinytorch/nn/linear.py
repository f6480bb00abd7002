"""Linear: a matrix and a shift, the layer of which most networks consist, and MLP, several of them.

Knows weights and the features they expect, on the last axis; never what the numbers mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tinytorch.base.arguments import flag, whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn.dropout import Dropout
from tinytorch.nn.init import uniform
from tinytorch.nn.module import Module, ModuleList, Parameter
from tinytorch.nn.quantized import linear
from tinytorch.tensor.elementwise import relu
from tinytorch.tensor.tensor import Tensor


class Linear(Module):
    """y = x @ weight.T + bias, on the last axis.

    Args:
        in_features: C, size of the last axis of the input; at least 1.
        out_features: K, size of the last axis of the output; at least 1.
        bias: whether to add one.

    Shapes: (..., C) -> (..., K); weight (K, C), bias (K,).

    Cost: 2 C K operations per row; C K + K weights.

    Source: initial values as in PyTorch, uniform in +-1/sqrt(C), which keeps the variance of the
    outputs near a third of the inputs' (He et al. 2015 with a = sqrt(5)).

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.Linear(784, 10)(tt.zeros(32, 784)).shape
        (32, 10)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        self.in_features = whole("Linear", "in_features", in_features, at_least=1)
        self.out_features = whole("Linear", "out_features", out_features, at_least=1)
        bound = self.in_features**-0.5
        self.weight = Parameter(uniform((out_features, in_features), bound))
        wanted = flag("Linear", "bias", bias)
        self.bias = Parameter(uniform((out_features,), bound)) if wanted else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        shape = x.shape
        if not shape or shape[-1] != self.in_features:
            raise ShapeError(
                "Linear: input has the wrong number of features",
                got=f"x {tuple(x.shape)}",
                rule=f"last axis = in_features = {self.in_features}",
                fix=_linear_fix(x, self),
            )
        return linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes, and whether there is a bias."""
        without = "" if self.bias is not None else ", bias=False"
        return f"{self.in_features}, {self.out_features}{without}"


def _linear_fix(x: Tensor, layer: Linear) -> str:
    if len(x.shape) > 2 and math.prod(x.shape[1:]) == layer.in_features:
        return f"x.reshape({x.shape[0]}, -1), or put Flatten() before this layer"
    given = x.shape[-1] if x.shape else 1
    return f"Linear({given}, {layer.out_features}), or give it the features it was made for"


class MLP(Module):
    """Linear layers of the given sizes with an activation after each but the last.

    Args:
        sizes: features of the input, of each hidden layer, of the output; at least two numbers.
        activation: Tensor -> Tensor of the same shape; default ReLU.
        dropout: probability of a zero after each activation, in [0, 1]; default 0.
        bias: whether the layers have one.

    Shapes: (..., sizes[0]) -> (..., sizes[-1]); weights "layers.0.weight", "layers.0.bias", ...

    Cost: 2 operations per weight and row.

    Differs from `models.MLP`: images are not flattened.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import nn
        >>> net = nn.MLP([64, 256, 64], activation=nn.functional.gelu)
        >>> net(tt.zeros(2, 10, 64)).shape, sum(p.size for p in net.parameters())
        ((2, 10, 64), 33088)
    """

    def __init__(
        self, sizes: Sequence[int], activation: Callable[[Tensor], Tensor] = relu,
        dropout: float = 0.0, bias: bool = True,
    ):  # fmt: skip
        if not isinstance(sizes, (list, tuple)) or len(sizes) < 2:
            raise SettingError(
                "MLP: sizes name the features of the input, hidden layers and output",
                got=f"sizes={sizes!r}",
                rule="a list of at least two whole numbers",
                fix="MLP([64, 256, 64])",
            )
        if not callable(activation):
            raise SettingError(
                "MLP: the activation cannot be called",
                got=f"activation={activation!r}",
                rule="Tensor -> Tensor of the same shape",
                fix="MLP(sizes, activation=nn.functional.gelu)",
            )
        self.sizes = tuple(
            whole("MLP", f"sizes[{i}]", size, at_least=1) for i, size in enumerate(sizes)
        )
        self.activation = activation
        self.dropout = Dropout(dropout)
        flag("MLP", "bias", bias)
        self.layers = ModuleList(
            Linear(a, b, bias) for a, b in zip(self.sizes, self.sizes[1:], strict=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., sizes[0]) -> (..., sizes[-1])."""
        for layer in self.layers[:-1]:
            x = self.dropout(self.activation(layer(x)))
        return self.layers[-1](x)
