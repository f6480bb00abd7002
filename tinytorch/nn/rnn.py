"""RNN: the plain recurrent layer.

Knows one step; layers, directions and time are `Recurrent`'s.
"""

from __future__ import annotations

from tinytorch.nn import functional as F
from tinytorch.nn.recurrent import Recurrent, State
from tinytorch.tensor.tensor import Tensor


class RNN(Recurrent):
    """h = tanh(W_ih x + b_ih + W_hh h + b_hh).

    Args:
        input_size: C, numbers per token; at least 1.
        hidden_size: H, numbers of the state; at least 1.
        num_layers: layers one above the other; at least 1.
        bias: whether there are two for each layer and direction; default True.
        batch_first: whether sequences are (B, T, C); default False: (T, B, C), as in PyTorch.
        dropout: probability of a zero between layers in training, in [0, 1]; default 0.
        bidirectional: whether each layer also reads from the end, its outputs side by side.

    Shapes: (T, B, C) -> (outputs (T, B, H directions), h (layers directions, B, H)).

    Cost: 2 H (C + H) operations for each token, layer and direction.

    Source: Elman 1990, "Finding structure in time". Initial values as in PyTorch, uniform in
    +-1/sqrt(H).

    Differs from PyTorch: tanh alone, no packed sequences.

    Example:
        >>> import tinytorch as tt
        >>> out, h = tt.nn.RNN(8, 16)(tt.zeros(5, 2, 8))
        >>> out.shape, h.shape
        ((5, 2, 16), (1, 2, 16))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
    ):  # fmt: skip
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        )

    def step(self, x: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
        """The next (h,), of (B, H)."""
        return (F.tanh(x + F.linear(state[0], weight, bias)),)
