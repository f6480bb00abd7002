"""MLP: linear layers with an activation between them, the plainest network.

Knows sizes; takes anything that flattens to the first of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinytorch.base.checks import whole
from tinytorch.base.errors import SettingError
from tinytorch.nn import functional as F
from tinytorch.nn.containers import ModuleList
from tinytorch.nn.flatten import Flatten
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module
from tinytorch.tensor.tensor import Tensor


class MLP(Module):
    """Linear layers of the given sizes with an activation after each but the last.

    Args:
        sizes: features of the input, of each hidden layer, of the output; at least two numbers.
        activation: Tensor -> Tensor of the same shape; default ReLU.

    Shapes: (N, ...) with product sizes[0] -> (N, sizes[-1]).

    Cost: 2 operations per weight and sample.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import MLP
        >>> net = MLP([784, 256, 128, 10])
        >>> net(tt.zeros(32, 1, 28, 28)).shape, sum(p.size for p in net.parameters())
        ((32, 10), 235146)
    """

    def __init__(self, sizes: Sequence[int], activation: Callable[[Tensor], Tensor] = F.relu):
        if not isinstance(sizes, (list, tuple)) or len(sizes) < 2:
            raise SettingError(
                "MLP: sizes name the features of the input, hidden layers and output",
                got=f"sizes={sizes!r}",
                rule="a list of at least two whole numbers",
                fix="MLP([784, 256, 128, 10])",
            )
        self.sizes = tuple(
            whole("MLP", f"sizes[{i}]", size, at_least=1) for i, size in enumerate(sizes)
        )
        self.activation = activation
        self.flatten = Flatten()
        self.layers = ModuleList(
            Linear(a, b) for a, b in zip(self.sizes, self.sizes[1:], strict=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) -> (N, sizes[-1])."""
        x = self.flatten(x)
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)
