"""GRU: a recurrent layer whose state moves part of the way to a new one.

Knows one step; layers, directions and time are `Recurrent`'s.
"""

from __future__ import annotations

from tinytorch.nn import functional as F
from tinytorch.nn.recurrent import Recurrent, State
from tinytorch.tensor.shaping import chunk
from tinytorch.tensor.tensor import Tensor


class GRU(Recurrent):
    """Gated recurrent unit: a reset and an update gate.

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r (W_hn h + b_hn))
        h = (1 - z) n + z h                                     computed as n + z (h - n)

    Args:
        input_size: C, numbers per token; at least 1.
        hidden_size: H, numbers of the state; at least 1.
        num_layers: layers one above the other; at least 1.
        bias: whether there are two for each layer and direction; default True.
        batch_first: whether sequences are (B, T, C); default False: (T, B, C), as in PyTorch.
        dropout: probability of a zero between layers in training, in [0, 1]; default 0.
        bidirectional: whether each layer also reads from the end, its outputs side by side.

    Shapes: (T, B, C) -> (outputs (T, B, H directions), h (layers directions, B, H)). weight_ih_l0
    (3 H, C), weight_hh_l0 (3 H, H), bias_ih_l0, bias_hh_l0 (3 H,), the rows of r, then z, then n.

    Cost: 6 H (C + H) operations for each token, layer and direction. Compiled, the walk is written
    out step by step: long sequences take long to compile.

    Source: Cho et al. 2014, https://arxiv.org/abs/1406.1078, with the reset gate after the product,
    as in PyTorch. Initial values as in PyTorch, uniform in +-1/sqrt(H).

    Differs from PyTorch: no packed sequences.

    Example:
        >>> import tinytorch as tt
        >>> out, h = tt.nn.GRU(8, 16, batch_first=True)(tt.zeros(2, 5, 8))
        >>> out.shape, h.shape
        ((2, 5, 16), (1, 2, 16))
    """

    gates, states = 3, 1

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
    ):  # fmt: skip
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        )

    def step(self, x: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
        """The next (h,), of (B, H)."""
        (h,) = state
        size = 2 * self.hidden_size
        kept = F.linear(h, weight, bias)
        r, z = chunk(F.sigmoid(x[:, :size] + kept[:, :size]), 2, -1)
        n = F.tanh(x[:, size:] + r * kept[:, size:])
        return (n + z * (h - n),)
