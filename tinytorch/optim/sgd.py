"""SGD: stochastic gradient descent with momentum.

Knows its rule, stated once; groups and state are the Optimizer's.
"""

from __future__ import annotations

from collections.abc import Iterable

from tinytorch.base.arguments import flag
from tinytorch.base.errors import SettingError
from tinytorch.optim.group import Part
from tinytorch.optim.optimizer import Optimizer


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    For each parameter p with gradient g

        g = g + weight_decay * p
        b = momentum * b + g                        average direction, starts at 0
        p = p - lr * b                              or p - lr * (g + momentum * b) with nesterov

    Args:
        params: Tensors, or groups of them, to update in place; None: see `bind`.
        lr: step size, in [0, inf); default 1e-3.
        momentum: how much of the past direction stays, in [0, 1); default 0, and then b is
            not kept.
        weight_decay: pull towards zero, in [0, inf); default 0.
        nesterov: look ahead along the new direction; needs momentum.

    Raises:
        SettingError: a setting outside its range; the message names it and the value.

    Source: Robbins, Monro 1951; momentum: Polyak 1964; Nesterov's form: Sutskever et al. 2013.

    Cost: with momentum 1 extra array per parameter.

    Differs from PyTorch: no dampening, maximize, foreach or fused; same numbers otherwise
    (tests/peer/test_optim_peer.py).

    Example:
        >>> import tinytorch as tt
        >>> w = tt.Tensor([1.0, -2.0], requires_grad=True)
        >>> sgd = tt.optim.SGD([w], lr=0.1)
        >>> for _ in range(3):
        ...     sgd.zero_grad()
        ...     (w * w).sum().backward()
        ...     sgd.step()
        >>> w.detach().numpy().round(3)               # each step multiplies by 1 - 2 * 0.1
        array([ 0.512, -1.024], dtype=float32)
    """

    def __init__(
        self, params: Iterable | None = None, lr: float = 1e-3, momentum: float = 0.0, *,
        weight_decay: float = 0.0, nesterov: bool = False,
    ):  # fmt: skip
        super().__init__(
            params, lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov
        )

    def slot_names(self, settings: dict) -> tuple[str, ...]:
        """The average direction, where there is momentum."""
        return ("momentum_buffer",) if settings["momentum"] else ()

    def check(self, settings: dict) -> dict:
        """Ranges of momentum, weight_decay and nesterov."""
        numbers = self.in_ranges(settings, momentum="[0, 1)", weight_decay="[0, inf)")
        nesterov = flag(self.name, "nesterov", settings["nesterov"])
        if nesterov and numbers["momentum"] == 0:
            raise SettingError(
                "SGD: nesterov looks ahead along the momentum, and there is none",
                got="nesterov=True, momentum=0",
                rule="momentum > 0 with nesterov",
                fix="SGD(..., momentum=0.9, nesterov=True)",
            )
        return {**numbers, "nesterov": nesterov}

    def update(self, group: Part) -> None:
        """One step of the rule above."""
        momentum, decay = group.settings["momentum"], group.settings["weight_decay"]
        for p, g, slots, (lr,) in group.blocks(lambda t, lr, dtype: (lr,)):
            if decay:
                pull = decay * p
                pull += g
                g = pull
            if momentum:
                (b,) = slots
                b *= momentum
                b += g
                g = g + momentum * b if group.settings["nesterov"] else b
            p -= lr * g
