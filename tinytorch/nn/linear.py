"""Linear: a matrix and a shift, the layer of which most networks consist.

Knows its two weights and the features it expects; the arithmetic is `functional.linear`.
"""

from __future__ import annotations

from tinytorch.base.checks import flag, whole
from tinytorch.base.errors import ShapeError
from tinytorch.nn import functional as F
from tinytorch.nn.initialisation import uniform
from tinytorch.nn.module import Module, Parameter
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
        self.bias = (
            Parameter(uniform((out_features,), bound)) if flag("Linear", "bias", bias) else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        if not x.shape or x.shape[-1] != self.in_features:
            raise ShapeError(
                "Linear: input has the wrong number of features",
                got=f"x {tuple(x.shape)}",
                rule=f"last axis = in_features = {self.in_features}",
                fix=_linear_fix(x, self),
            )
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes, and whether there is a bias."""
        return f"{self.in_features}, {self.out_features}" + (
            "" if self.bias is not None else ", bias=False"
        )


def _linear_fix(x: Tensor, layer: Linear) -> str:
    trailing = 1
    for size in x.shape[1:]:
        trailing *= size
    if len(x.shape) > 2 and trailing == layer.in_features:
        return f"x.reshape({x.shape[0]}, -1), or put Flatten() before this layer"
    given = x.shape[-1] if x.shape else 1
    return f"Linear({given}, {layer.out_features}), or give it the features it was made for"
