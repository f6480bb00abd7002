"""How large numbers and gradients are from layer to layer: why first values and norms matter.

Knows means and deviations. A deviation that shrinks or grows by the same factor at each layer is
the sign of wrong first values (He et al. 2015, section 2.2); norms and shortcuts hold it near 1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinytorch.nn.hooks import Hooks, Watcher, watching
from tinytorch.nn.module import Module
from tinytorch.nn.summary import tensors_in
from tinytorch.tensor.creation import zeros_like
from tinytorch.tensor.interpreter import enable_grad
from tinytorch.tensor.random import default_generator
from tinytorch.tensor.tensor import Tensor


@dataclass(frozen=True)
class SignalRow:
    """What one module gave.

    Args:
        name: dotted path; "" is the whole.
        kind: its class.
        mean: of the numbers it gave.
        deviation: of the same.
        zeros: share of them that is exactly 0.
        gradient: root mean square of the loss's gradient with respect to them; None without a loss.
    """

    name: str
    kind: str
    mean: float
    deviation: float
    zeros: float
    gradient: float | None


@dataclass(frozen=True)
class Signal:
    """Rows in the order in which the modules finished; `print` shows a table."""

    rows: tuple[SignalRow, ...]

    def __str__(self) -> str:
        head = f"{'layer':32s} {'mean':>10s} {'deviation':>10s} {'zeros':>6s} {'gradient':>10s}"
        lines = [
            f"{(row.name or 'all') + ': ' + row.kind:32s} {row.mean:10.3g} {row.deviation:10.3g} "
            f"{row.zeros:6.0%}" + ("" if row.gradient is None else f" {row.gradient:10.3g}")
            for row in self.rows
        ]
        return "\n".join([head, *lines])

    __repr__ = __str__


class _Probe(Watcher):
    """Keeps what a module gave, and adds zeros to it whose gradient is that of the output."""

    def __init__(self, own: Hooks | None, order: list[int]):
        super().__init__(own)
        self.order = order
        self.given: np.ndarray | None = None
        self.zeros: Tensor | None = None

    def watch(self, module: Any, call: Callable[[], Any]) -> Any:
        """The output, of the last call if there are several."""
        output = call()
        found = [t for t in tensors_in(output) if t.dtype.is_float]
        if not found:
            return output
        if id(module) not in self.order:
            self.order.append(id(module))
        self.given = found[0].detach().numpy().astype(np.float64)
        if not isinstance(output, Tensor):
            return output
        zeros = zeros_like(output.detach())
        zeros.requires_grad = True
        self.zeros = zeros
        return output + zeros


def signal(module: Module, *inputs: Any, loss: Callable[[Any], Tensor] | None = None) -> Signal:
    """Run a copy of a module once and say how large numbers and gradients are at each part.

    Args:
        module: any; it stays as it is, and so does the random state.
        inputs: as its `forward` takes them.
        loss: output -> a single number; None: numbers only, no gradients.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import nn
        >>> _ = tt.manual_seed(0)
        >>> net = nn.initialise(nn.MLP([256] * 20), "he_normal")
        >>> rows = signal(net, tt.randn(64, 256)).rows
        >>> all(0.3 < row.deviation < 4.0 for row in rows)
        True
    """
    copied, order = copy.deepcopy(module), []
    state = default_generator.state_dict()
    try:
        with enable_grad(), watching(copied, lambda own: _Probe(own, order)) as probes:
            output = copied(*inputs)
            if loss is not None:
                loss(output).backward()
    finally:
        default_generator.load_state_dict(state)
    names = {id(part): (name, type(part).__name__) for name, part in copied.named_modules()}
    return Signal(tuple(_row(*names[at], probes[at], loss is not None) for at in order))


def _row(name: str, kind: str, probe: _Probe, with_gradient: bool) -> SignalRow:
    given = np.zeros(1) if probe.given is None or not probe.given.size else probe.given
    gradient = None
    if with_gradient and probe.zeros is not None and probe.zeros.grad is not None:
        g = probe.zeros.grad.numpy().astype(np.float64)
        gradient = float(np.sqrt((g * g).mean())) if g.size else 0.0
    return SignalRow(
        name, kind, float(given.mean()), float(given.std()), float((given == 0).mean()), gradient
    )
