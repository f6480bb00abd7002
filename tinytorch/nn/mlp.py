"""MLP: linear layers with an activation between them.

Knows sizes and which activation; works on the last axis, so it is a part of transformer blocks too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinytorch.base.checks import flag, whole
from tinytorch.base.errors import SettingError
from tinytorch.nn import functional as F
from tinytorch.nn.containers import ModuleList
from tinytorch.nn.dropout import Dropout
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module
from tinytorch.tensor.tensor import Tensor


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
        self,
        sizes: Sequence[int],
        activation: Callable[[Tensor], Tensor] = F.relu,
        dropout: float = 0.0,
        bias: bool = True,
    ):
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
