"""Flatten, Unflatten and Identity: what changes shapes alone, or nothing.

Knows shapes alone.
"""

from __future__ import annotations

import math

from tinytorch.base.checks import whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn.module import Module
from tinytorch.tensor.tensor import Tensor


class Flatten(Module):
    """Neighbouring axes become one: (N, ...) -> (N, product of the rest), by default.

    Args:
        start_dim: first axis of those that become one; default 1.
        end_dim: last of them; default -1, the last of all.

    Differs from PyTorch: numbers (N,) become (N, 1), rows of one feature.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.Flatten()(tt.zeros(2, 3, 4, 4)).shape
        (2, 48)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        for name, value in (("start_dim", start_dim), ("end_dim", end_dim)):
            if not isinstance(value, int):
                raise SettingError(
                    f"Flatten: {name} is no axis",
                    got=f"{name}={value!r}",
                    rule="a whole number; negative ones count from the last axis",
                    fix="Flatten()",
                )
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) -> (N, features)."""
        shape, rank = tuple(x.shape), len(x.shape)
        first, last = (d + rank if d < 0 else d for d in (self.start_dim, self.end_dim))
        if rank == 1 and (first, last) == (1, 0):  # (N,): nothing to join, one feature each
            return x.reshape(shape[0], 1)
        if not 0 <= first <= last < rank:
            raise ShapeError(
                "Flatten: the input does not have these axes",
                got=f"x {shape}, start_dim={self.start_dim}, end_dim={self.end_dim}",
                rule="start_dim <= end_dim, both axes of the input",
                fix="x.unsqueeze(0), if the batch axis is missing",
            )
        # counted here: reshape's -1 cannot be worked out for an empty batch
        joined = math.prod(shape[first : last + 1])
        return x.reshape(*shape[:first], joined, *shape[last + 1 :])

    def extra_repr(self) -> str:
        """The axes, if not the usual ones."""
        if (self.start_dim, self.end_dim) == (1, -1):
            return ""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """One axis becomes several: what Flatten joined comes apart.

    Args:
        dim: the axis.
        unflattened_size: its sizes, whose product is the size of the axis.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.Unflatten(1, (3, 4, 4))(tt.zeros(2, 48)).shape
        (2, 3, 4, 4)
    """

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]):
        self.dim = dim
        self.unflattened_size = tuple(
            whole("Unflatten", "unflattened_size", size, at_least=0) for size in unflattened_size
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, features) -> (N, ...)."""
        shape = tuple(x.shape)
        at = self.dim + len(shape) if self.dim < 0 else self.dim
        if not 0 <= at < len(shape) or shape[at] != math.prod(self.unflattened_size):
            raise ShapeError(
                "Unflatten: the axis does not come apart into these sizes",
                got=f"x {shape}, dim={self.dim}, unflattened_size={self.unflattened_size}",
                rule="the size of the axis is the product of the sizes",
                fix="give the layer before it that many features",
            )
        return x.reshape(*shape[:at], *self.unflattened_size, *shape[at + 1 :])

    def extra_repr(self) -> str:
        """Axis and sizes."""
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Identity(Module):
    """x, unchanged: for a place where a layer may stand."""

    def forward(self, x: Tensor) -> Tensor:
        """The same Tensor."""
        return x
