"""Recurrent layers: RNN, LSTM, GRU. A state is carried along a sequence, one step for each token.

`Recurrent` holds what they share: weights by layer and direction, and the walk along the sequence.
Each layer is its formula: one step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tinytorch.base.arguments import flag, number, whole
from tinytorch.base.errors import ShapeError
from tinytorch.nn.dropout import dropout
from tinytorch.nn.init import uniform
from tinytorch.nn.module import Module, Parameter
from tinytorch.tensor.contractions import linear
from tinytorch.tensor.creation import zeros
from tinytorch.tensor.elementwise import sigmoid, tanh
from tinytorch.tensor.scan import scan
from tinytorch.tensor.shaping import chunk, concat, stack, transpose
from tinytorch.tensor.tensor import Tensor

State = tuple[Tensor, ...]  # of one layer and direction, each (B, H)
_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # of the input, of the state


class Recurrent(Module):
    """Abstract: a subclass names its `gates` and `states`, and computes one step."""

    gates: int = 1
    states: int = 1

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
    ):  # fmt: skip
        """Layers one above the other, each with weights of its own for each direction.

        Args:
            input_size: C, numbers per token; at least 1.
            hidden_size: H, numbers of the state; at least 1.
            num_layers: layers one above the other; at least 1.
            bias: whether there are two for each layer and direction; default True.
            batch_first: whether sequences are (B, T, C); default False: (T, B, C), as in PyTorch.
            dropout: probability of a zero between layers in training, in [0, 1]; default 0.
            bidirectional: whether each layer also reads from the end, its outputs side by side.
        """
        owner = type(self).__name__
        self.input_size = whole(owner, "input_size", input_size, at_least=1)
        self.hidden_size = whole(owner, "hidden_size", hidden_size, at_least=1)
        self.num_layers = whole(owner, "num_layers", num_layers, at_least=1)
        self.bias = flag(owner, "bias", bias)
        self.batch_first = flag(owner, "batch_first", batch_first)
        self.dropout = number(owner, "dropout", dropout, "[0, 1]")
        self.directions = 2 if flag(owner, "bidirectional", bidirectional) else 1
        rows, bound = self.gates * hidden_size, hidden_size**-0.5
        for suffix, layer in self._suffixes():
            inputs = input_size if layer == 0 else hidden_size * self.directions
            shapes = ((rows, inputs), (rows, hidden_size), (rows,), (rows,))
            for name, shape in zip(_WEIGHTS, shapes, strict=True):
                if self.bias or len(shape) > 1:
                    setattr(self, name + suffix, Parameter(uniform(shape, bound)))

    def _suffixes(self) -> Iterator[tuple[str, int]]:
        """PyTorch's endings of names, and the layer: "_l0", "_l0_reverse", "_l1", ..."""
        for layer in range(self.num_layers):
            for direction in range(self.directions):
                yield f"_l{layer}" + ("_reverse" if direction else ""), layer

    # --- what a subclass defines ---

    def step(self, x: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
        """The next state; its first part is the output.

        Args:
            x: (B, gates H), what the input gives to each gate, its bias added.
            state: the parts of the state before, each (B, H).
            weight: (gates H, H), of the state.
            bias: (gates H,), of the state.
        """
        raise NotImplementedError(f"{type(self).__name__} has no step()")

    # --- the walk ---

    def run(self, x: Tensor, first: State) -> tuple[Tensor, State]:
        """All layers over the whole sequence.

        Args:
            x: (T, B, C).
            first: each part of the state, (layers directions, B, H).

        Returns:
            the outputs of the last layer (T, B, directions H), and the last states, like `first`.
        """
        last: list[State] = []
        for layer in range(self.num_layers):
            x = dropout(x, self.dropout, self.training) if layer else x
            outputs: list[Tensor] = []
            for ending in ("", "_reverse")[: self.directions]:
                state = tuple(part[len(last)] for part in first)
                out, state = self._one_way(x, state, f"_l{layer}{ending}")
                outputs.append(out)
                last.append(state)
            x = outputs[0] if self.directions == 1 else concat(outputs, -1)
        return x, tuple(stack(list(parts), 0) for parts in zip(*last, strict=True))

    def _one_way(self, x: Tensor, state: State, suffix: str) -> tuple[Tensor, State]:
        """One layer in one direction: (T, B, C) -> (T, B, H) and the last state."""
        weights: list[Any] = [getattr(self, name + suffix, None) for name in _WEIGHTS]
        w_ih, w_hh, b_ih, b_hh = weights
        given = linear(x, w_ih, b_ih)  # (T, B, gates H): one product for all times

        def trip(state: State, now: Tensor) -> tuple[State, Tensor]:
            state = self.step(now, state, w_hh, b_hh)
            return state, state[0]

        state, out = scan(trip, state, given, reverse=suffix.endswith("_reverse"))
        return out, state

    def forward(self, x: Tensor, state=None):
        """(T, B, C) -> outputs (T, B, directions H) and the last state.

        Args:
            x: (T, B, C), or (B, T, C) with batch_first, or (T, C) for one sequence.
            state: where it starts, as this returns it, or None: zeros.
        """
        single = len(x.shape) == 2
        self._check(x)
        x = x.unsqueeze(1) if single else transpose(x, 0, 1) if self.batch_first else x
        shape = (self.num_layers * self.directions, x.shape[1], self.hidden_size)
        if state is None:
            first: State = (zeros(shape, dtype=x.dtype),) * self.states
        else:
            given = state if isinstance(state, (tuple, list)) else (state,)
            first = tuple(part.unsqueeze(1) if single else part for part in given)
            self._check_state(first, shape)
        out, last = self.run(x, first)
        if single:
            out, last = out.squeeze(1), tuple(part.squeeze(1) for part in last)
        elif self.batch_first:
            out = transpose(out, 0, 1)
        return out, last if self.states > 1 else last[0]

    def _check(self, x: Tensor) -> None:
        time = 1 if self.batch_first and len(x.shape) == 3 else 0
        if len(x.shape) not in (2, 3) or x.shape[-1] != self.input_size or not x.shape[time]:
            letters = "(B, T, C)" if self.batch_first else "(T, B, C)"
            raise ShapeError(
                f"{type(self).__name__}: input has the wrong shape",
                got=f"x {tuple(x.shape)}",
                rule=f"{letters} with C = input_size = {self.input_size}, and at least one token",
                fix="batch_first=True for sequences of (B, T, C)",
            )

    def _check_state(self, state: State, shape: tuple[int, ...]) -> None:
        if len(state) != self.states or any(tuple(part.shape) != shape for part in state):
            raise ShapeError(
                f"{type(self).__name__}: the first state does not fit",
                got=", ".join(str(tuple(part.shape)) for part in state),
                rule=f"{self.states} of {shape}: layers times directions, batch, hidden_size",
                fix="leave it out to start from zeros",
            )

    def extra_repr(self) -> str:
        """Sizes, and the settings that are not the default."""
        given = {
            "num_layers": self.num_layers if self.num_layers > 1 else 0,
            "batch_first": self.batch_first, "dropout": self.dropout,
            "bidirectional": self.directions == 2,
        }  # fmt: skip
        named = [f"{name}={value}" for name, value in given.items() if value]
        return ", ".join([str(self.input_size), str(self.hidden_size), *named])


class RNN(Recurrent):
    """h = tanh(W_ih x + b_ih + W_hh h + b_hh).

    Arguments: `help(nn.RNN.__init__)`.

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

    def step(self, x: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
        """The next (h,), of (B, H)."""
        return (tanh(x + linear(state[0], weight, bias)),)


class LSTM(Recurrent):
    """Long short-term memory: an input, a forget and an output gate around a cell.

        i, f, g, o = W_ih x + b_ih + W_hh h + b_hh              four parts of H
        c = sigmoid(f) c + sigmoid(i) tanh(g)
        h = sigmoid(o) tanh(c)

    Arguments: `help(nn.LSTM.__init__)`.

    Shapes: (T, B, C) -> (outputs (T, B, H directions), (h, c)), h and c (layers directions, B, H).
    weight_ih_l0 (4 H, C), weight_hh_l0 (4 H, H), bias_ih_l0, bias_hh_l0 (4 H,), with "_reverse"
    for the other direction, "_l1" for the next layer, whose inputs are H directions.

    Cost: 8 H (C + H) operations for each token, layer and direction. Compiled, the walk is a loop
    whose code does not depend on T.

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

    def step(self, x: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
        """The next (h, c), each (B, H)."""
        h, c = state
        n = self.hidden_size
        gates = x + linear(h, weight, bias)
        # One sigmoid of all four parts is fewer operations than three of one each.
        s = sigmoid(gates)
        i, f, o = s[:, :n], s[:, n : 2 * n], s[:, 3 * n :]
        c = f * c + i * tanh(gates[:, 2 * n : 3 * n])
        return o * tanh(c), c


class GRU(Recurrent):
    """Gated recurrent unit: a reset and an update gate.

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r (W_hn h + b_hn))
        h = (1 - z) n + z h                                     computed as n + z (h - n)

    Arguments: `help(nn.GRU.__init__)`.

    Shapes: (T, B, C) -> (outputs (T, B, H directions), h (layers directions, B, H)). weight_ih_l0
    (3 H, C), weight_hh_l0 (3 H, H), bias_ih_l0, bias_hh_l0 (3 H,), the rows of r, then z, then n.

    Cost: 6 H (C + H) operations for each token, layer and direction. Compiled, the walk is a loop
    whose code does not depend on T.

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

    def step(self, x: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
        """The next (h,), of (B, H)."""
        (h,) = state
        size = 2 * self.hidden_size
        kept = linear(h, weight, bias)
        r, z = chunk(sigmoid(x[:, :size] + kept[:, :size]), 2, -1)
        n = tanh(x[:, size:] + r * kept[:, size:])
        return (n + z * (h - n),)
