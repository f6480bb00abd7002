"""MLP: linear layers with an activation between them, the plainest network.

Knows that samples are flattened; the layers are those of `nn.MLP`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinytorch.nn import functional as F
from tinytorch.nn import mlp
from tinytorch.tensor.tensor import Tensor


class MLP(mlp.MLP):
    """`nn.MLP` on whole samples: images are flattened first.

    Args:
        sizes: features of the input, of each hidden layer, of the output; at least two numbers.
        activation: Tensor -> Tensor of the same shape; default ReLU.
        dropout: probability of a zero after each activation, in [0, 1]; default 0.
        bias: whether the layers have one.

    Shapes: (N, ...) with product sizes[0] -> (N, sizes[-1]).

    Cost: 2 operations per weight and sample.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import MLP
        >>> net = MLP([784, 256, 128, 10])
        >>> net(tt.zeros(32, 1, 28, 28)).shape, sum(p.size for p in net.parameters())
        ((32, 10), 235146)
    """

    def __init__(
        self, sizes: Sequence[int], activation: Callable[[Tensor], Tensor] = F.relu,
        dropout: float = 0.0, bias: bool = True,
    ):  # fmt: skip
        super().__init__(sizes, activation, dropout, bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) -> (N, sizes[-1])."""
        return super().forward(x.flatten(1))
