"""Update: the way from the gradients of one or several batches to moved weights.

Knows gradients, never how they came about: adding up, unscaling, clipping, moving, averaging. All
of it is made of Tensor operations, so a compiled step contains it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tinytorch.base.settings import STRUCTURE
from tinytorch.optim.clipping import clip_grad_norm_
from tinytorch.optim.optimizer import Optimizer
from tinytorch.tensor.creation import full, zeros
from tinytorch.tensor.elementwise import isfinite, where
from tinytorch.tensor.interpreter import current
from tinytorch.tensor.modes import no_grad
from tinytorch.tensor.named import copy_named
from tinytorch.tensor.tensor import Tensor
from tinytorch.training.ema import EMA
from tinytorch.training.scaler import LossScaler


class Update:
    """Moves the weights once for each window of `accumulate` batches.

    Note [exact accumulation]
        Each batch's gradient is that of a mean over its weight w (see loss_weight.py). Kept are
        G = sum of w * g and W = sum of w; G / W is the gradient of the mean over the whole window,
        whatever the sizes of its batches, and also when an epoch ends before the window is full.
        Layers that look at a whole batch (batch norm) still see the parts.

    Note [a step that is left out]
        If the loss is not finite (with loss scaling: a gradient) weights and optimizer stay as they
        were. Eager code asks and returns; a compiled program cannot ask, so every new value is
        `where(ok, new, old)`, which the kernel that writes it computes on the way.

    Args:
        optimizer: whose parameters move.
        accumulate: batches in a window, at least 1.
        clip_norm: longest common gradient, or None.
        clip_value: largest number in a gradient, or None.
        scaler: multiplies losses, or None.
        ema: averages the weights, or None.
        adds_up: the loss is a sum, so gradients are added, not averaged.
    """

    def __init__(
        self, optimizer: Optimizer, *, accumulate: int = 1, clip_norm: float | None = None,
        clip_value: float | None = None, scaler: LossScaler | None = None, ema: EMA | None = None,
        adds_up: bool = False,
    ):  # fmt: skip
        self.optimizer, self.accumulate, self.adds_up = optimizer, accumulate, adds_up
        self.clip_norm, self.clip_value, self.scaler, self.ema = clip_norm, clip_value, scaler, ema
        self.parameters = list(optimizer.parameters())
        self.sums = [zeros(p.shape, dtype=p.dtype) for p in self.parameters if accumulate > 1]
        self.weight = full((), 0.0)
        self.finite = full((), 1.0)  # 0 once a batch of the window was not finite
        self.waiting = 0  # batches of the window so far
        self.reached: set[int] = set()  # parameters that had a gradient

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss, scaled if there is a scaler."""
        (loss if self.scaler is None else self.scaler.scaled(loss)).backward()

    def gather(self, loss: Tensor, weight: Tensor | float) -> None:
        """Add the gradients of one batch to the window's, and forget them."""
        with no_grad():
            count = full((), 1.0) * (1.0 if self.adds_up else weight)
            for i, (parameter, total) in enumerate(zip(self.parameters, self.sums, strict=True)):
                if (gradient := parameter.grad) is None:
                    continue
                if i not in self.reached:
                    self.reached.add(i)
                    STRUCTURE.bump()  # the program of apply() must know it
                total.assign_(total + gradient * count.astype(gradient.dtype))
            self.weight.assign_(self.weight + count)
            self.finite.assign_(where(isfinite(loss.detach()), self.finite, 0.0))
        self.optimizer.zero_grad()

    def apply_window(self) -> Tensor:
        """Move the weights by the window's gradient; gives whether it was finite."""
        with no_grad():
            scale = full((), 1.0) if self.adds_up else 1.0 / self.weight
            for i, (parameter, total) in enumerate(zip(self.parameters, self.sums, strict=True)):
                if i in self.reached:
                    parameter.grad = total * scale.astype(total.dtype)
            ok = self.apply(self.finite > 0.0)
            self.clear()
        return ok

    def clear(self) -> None:
        """Forget the window."""
        self.waiting = 0
        with no_grad():
            for total in self.sums:
                total.zero_()
            self.weight.zero_()
            self.finite.fill_(1.0)

    def apply(self, ok: Tensor) -> Tensor:
        """Move the weights by their gradients, if `ok`; gives whether they moved."""
        if self.scaler is not None:
            ok = ok & self.scaler.unscale(self.parameters)
            self.scaler.update(ok)
        if self.clip_value is not None:
            _clip_values(self.parameters, self.clip_value)
        if self.clip_norm is not None:
            clip_grad_norm_(self.parameters, self.clip_norm)
        self._guarded(ok, self._move)
        # Forgotten here, not before the next step: gradients that do not outlive the step stay in
        # the program's scratch memory.
        self.optimizer.zero_grad()
        return ok

    def _move(self) -> None:
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update()

    def _guarded(self, ok: Tensor, move: Callable[[], None]) -> None:
        """See Note [a step that is left out]."""
        if current() is None:
            if ok.item():
                move()
            return
        with no_grad():
            states = [*self.parameters, *self._kept()]
            before = [tensor.detach() for tensor in states]
            move()
            for tensor, old in zip(states, before, strict=True):
                tensor.assign_(where(ok, tensor.detach(), old))

    def _kept(self) -> Iterator[Tensor]:
        """What optimizer and average keep beside the weights."""
        for group in self.optimizer.groups:
            yield group.steps
            for tensors in group.slots.values():
                yield from tensors
        if self.ema is not None:
            yield self.ema.updates
            yield from self.ema.averages.values()

    # --- state ---

    def state_dict(self) -> dict[str, Any]:
        """The window under way: its sums, its weight, and which parameters it reached."""
        if not self.waiting:
            return {"waiting": 0}
        sums = {f"sum.{i}": self.sums[i].detach() for i in sorted(self.reached)}
        return {"waiting": self.waiting, **self._flags(), **sums}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on in the middle of a window."""
        self.clear()
        given = {name: value for name, value in state.items() if name != "waiting"}
        reached = {int(name.removeprefix("sum.")) for name in given if name.startswith("sum.")}
        if given:
            own = {f"sum.{i}": self.sums[i] for i in sorted(reached)}
            copy_named({**self._flags(), **own}, given, owner="gradients")
        self.waiting, self.reached = int(state["waiting"]), self.reached | reached
        STRUCTURE.bump()

    def _flags(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "finite": self.finite}


def _clip_values(parameters: list[Tensor], limit: float) -> None:
    with no_grad():
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = parameter.grad.minimum(limit).maximum(-limit)
