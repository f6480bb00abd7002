"""Loss scaling: keeps small gradients out of the range where float16 rounds them to zero.

Knows one factor and when to change it, never the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from tinytorch.base.checks import number, whole
from tinytorch.optim.clipping import all_finite
from tinytorch.tensor.assignment import copy_named
from tinytorch.tensor.creation import full
from tinytorch.tensor.elementwise import where
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.tensor import Tensor


class LossScaler:
    """Multiplies the loss before backward and divides the gradients after it.

    A step whose gradients are not all finite is left out and the factor is multiplied by `backoff`;
    after `interval` good steps in a row it is multiplied by `growth`. The factor is a Tensor, so a
    compiled step reads and writes it in place.

    Args:
        scale: first factor, in (0, inf); default 2**16, as in PyTorch.
        growth: in [1, inf); default 2.
        backoff: in (0, 1); default 0.5.
        interval: good steps before it grows, at least 1; default 2000.

    Source: Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740, section 3.2; defaults are
    those of torch.amp.GradScaler.

    Example:
        >>> import tinytorch as tt
        >>> scaler = LossScaler(scale=8.0)
        >>> scaler.scaled(tt.Tensor(0.5)).item()
        4.0
        >>> scaler.update(tt.Tensor(False))             # an overflow
        >>> scaler.scale.item()
        4.0
    """

    def __init__(
        self, scale: float = 2.0**16, growth: float = 2.0, backoff: float = 0.5,
        interval: int = 2000,
    ):  # fmt: skip
        first = number("LossScaler", "scale", scale, "(0, inf)")
        self.growth = number("LossScaler", "growth", growth, "[1, inf)")
        self.backoff = number("LossScaler", "backoff", backoff, "(0, 1)")
        self.interval = whole("LossScaler", "interval", interval, at_least=1)
        self.scale = full((), first)
        self.good = full((), 0.0)  # good steps since the factor last changed

    def scaled(self, loss: Tensor) -> Tensor:
        """loss * scale; call backward() on it."""
        return loss * self.scale.detach().astype(loss.dtype)

    def unscale(self, parameters: Iterable[Tensor]) -> Tensor:
        """Divide the gradients by the factor.

        Args:
            parameters: those without a gradient are passed over.

        Returns:
            0-d bool: whether all gradients are finite.
        """
        with no_grad():
            inverse, held = 1.0 / self.scale, [p for p in parameters if p.grad is not None]
            for parameter in held:
                gradient = cast(Tensor, parameter.grad)
                parameter.grad = gradient * inverse.astype(gradient.dtype)
            return all_finite([cast(Tensor, parameter.grad) for parameter in held])

    def update(self, ok: Tensor) -> None:
        """Change the factor after a step that was good or not."""
        with no_grad():
            good = self.good + 1.0
            grows = good >= float(self.interval)
            grown = where(grows, self.scale * self.growth, self.scale)
            self.good.assign_(where(ok, where(grows, 0.0, good), 0.0))
            self.scale.assign_(where(ok, grown, self.scale * self.backoff))

    def state_dict(self) -> dict[str, Tensor]:
        """The factor and how long it has been good."""
        return {"scale": self.scale.detach(), "good": self.good.detach()}

    def load_state_dict(self, state: Mapping) -> None:
        """Copy what `state_dict` gave."""
        copy_named({"scale": self.scale, "good": self.good}, state, owner="LossScaler")
