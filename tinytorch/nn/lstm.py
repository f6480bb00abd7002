"""LSTM: a recurrent layer whose memory is a sum, so that a gradient lasts.

Knows one step; layers, directions and time are `Recurrent`'s.
"""

from __future__ import annotations

from tinytorch.nn import functional as F
from tinytorch.nn.recurrent import Recurrent, State
from tinytorch.tensor.tensor import Tensor


class LSTM(Recurrent):
    """Long short-term memory: an input, a forget and an output gate around a cell.

        i, f, g, o = W_ih x + b_ih + W_hh h + b_hh              four parts of H
        c = sigmoid(f) c + sigmoid(i) tanh(g)
        h = sigmoid(o) tanh(c)

    Args:
        input_size: C, numbers per token; at least 1.
        hidden_size: H, numbers of the state; at least 1.
        num_layers: layers one above the other; at least 1.
        bias: whether there are two for each layer and direction; default True.
        batch_first: whether sequences are (B, T, C); default False: (T, B, C), as in PyTorch.
        dropout: probability of a zero between layers in training, in [0, 1]; default 0.
        bidirectional: whether each layer also reads from the end, its outputs side by side.

    Shapes: (T, B, C) -> (outputs (T, B, H directions), (h, c)), h and c (layers directions, B, H).
    weight_ih_l0 (4 H, C), weight_hh_l0 (4 H, H), bias_ih_l0, bias_hh_l0 (4 H,), with "_reverse"
    for the other direction, "_l1" for the next layer, whose inputs are H directions.

    Cost: 8 H (C + H) operations for each token, layer and direction. Compiled, the walk is written
    out step by step: long sequences take long to compile.

    Source: Hochreiter, Schmidhuber 1997; forget gate: Gers et al. 2000. Initial values as in
    PyTorch, uniform in +-1/sqrt(H).

    Differs from PyTorch: no proj_size, no packed sequences.

    Example:
        >>> import tinytorch as tt
        >>> out, (h, c) = tt.nn.LSTM(8, 16, batch_first=True)(tt.zeros(2, 5, 8))
        >>> out.shape, h.shape, c.shape
        ((2, 5, 16), (1, 2, 16), (1, 2, 16))
    """

    gates, states = 4, 2

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
    ):  # fmt: skip
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        )

    def step(self, x: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
        """The next (h, c), each (B, H)."""
        h, c = state
        n = self.hidden_size
        gates = x + F.linear(h, weight, bias)
        # One sigmoid of all four parts is fewer operations than three of one each.
        s = F.sigmoid(gates)
        i, f, o = s[:, :n], s[:, n : 2 * n], s[:, 3 * n :]
        c = f * c + i * F.tanh(gates[:, 2 * n : 3 * n])
        return o * F.tanh(c), c
