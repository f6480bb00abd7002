"""Optimizer: what all update rules share: parameter groups, learning rates, state and its names.

Knows which Tensors belong together, never how a weight moves. Everything that changes from step to
step (learning rate, step count, averages) is a Tensor, so a compiled step reads and writes it in
place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tinytorch.base.checks import number
from tinytorch.base.dtypes import float64
from tinytorch.base.errors import SettingError
from tinytorch.tensor.creation import full, zeros
from tinytorch.tensor.modes import no_grad
from tinytorch.tensor.named import copy_named
from tinytorch.tensor.tensor import Tensor


@dataclass(eq=False)
class Group:
    """Parameters that share settings.

    Args:
        parameters: the Tensors that are updated.
        lr: learning rate, a 0-d float64 Tensor: assign to it at any time.
        settings: the other settings by name, checked.
        slots: name of a state -> one Tensor for each parameter, for example its average gradient.
    """

    parameters: list[Tensor]
    lr: Tensor
    settings: dict
    slots: dict[str, list[Tensor]]

    def live(self) -> Iterator[tuple[Tensor, Tensor, dict[str, Tensor]]]:
        """Each parameter that has a gradient, with it and with its state by name."""
        for i, parameter in enumerate(self.parameters):
            if (gradient := parameter.grad) is not None:
                slots = {name: tensors[i] for name, tensors in self.slots.items()}
                yield parameter, gradient, slots


class Optimizer:
    """Abstract: a rule names its states in `slot_names`, checks settings, and moves one group.

    Args:
        params: Tensors, or dictionaries {"params": Tensors, setting: value, ...} with settings of
            their own, as in PyTorch.
        lr: learning rate of groups without one, in [0, inf).
        settings: the rule's other settings, the default of groups without them.
    """

    slot_names: tuple[str, ...] = ()

    def __init__(self, params: Iterable, lr: float, **settings):
        self.name = type(self).__name__
        self.groups = [self._group(given, lr, settings) for given in self._grouped(params)]
        self.step_count = full((), 0.0, dtype=float64)

    # --- what a rule defines ---

    def check(self, settings: dict) -> dict:
        """The settings of a group, validated."""
        raise NotImplementedError(f"{self.name} has no check()")

    def update(self, group: Group) -> None:
        """Move the parameters of one group that have gradients; `step_count` is already raised."""
        raise NotImplementedError(f"{self.name} has no update()")

    # --- what a user calls ---

    def step(self) -> None:
        """Move every parameter that has a gradient, once."""
        with no_grad():
            self.step_count.assign_(self.step_count + 1.0)
            for group in self.groups:
                self.update(group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or fill them with zeros."""
        for parameter in self.parameters():
            if set_to_none or parameter.grad is None:
                parameter.grad = None
            else:
                parameter.grad = zeros(parameter.shape, dtype=parameter.dtype)

    def parameters(self) -> Iterator[Tensor]:
        """The parameters of all groups."""
        return (parameter for group in self.groups for parameter in group.parameters)

    @property
    def lr(self) -> float:
        """Learning rate of the first group; setting it sets that of all groups, compiled or not."""
        return float(self.groups[0].lr.item())

    @lr.setter
    def lr(self, value: float) -> None:
        rate = full((), number(self.name, "lr", value, "[0, inf)"), dtype=float64)
        with no_grad():
            for group in self.groups:
                group.lr.assign_(rate)

    def state_dict(self) -> dict[str, Tensor]:
        """All state by name: "step", "lr.0" for each group, "exp_avg.0.3" for group 0, parameter 3.

        Differs from PyTorch: flat, Tensors only, so that it can be saved as safetensors.
        """
        return {name: tensor.detach() for name, tensor in self._state()}

    def load_state_dict(self, state: Mapping) -> None:
        """Copy values by name; nothing changes if anything does not fit.

        Args:
            state: what `state_dict()` of the same rule over the same parameters gave.
        """
        copy_named(dict(self._state()), state, owner=self.name)

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        yield "step", self.step_count
        for g, group in enumerate(self.groups):
            yield f"lr.{g}", group.lr
            for name, tensors in group.slots.items():
                yield from ((f"{name}.{g}.{i}", tensor) for i, tensor in enumerate(tensors))

    # --- construction ---

    def _grouped(self, params: Iterable) -> list[dict]:
        items = [params] if isinstance(params, (Tensor, Mapping)) else list(params)
        groups = (
            [dict(i) for i in items]
            if items and isinstance(items[0], Mapping)
            else [{"params": items}]
        )
        seen: set[int] = set()
        for group in groups:
            tensors = group.get("params", [])
            group["params"] = [tensors] if isinstance(tensors, Tensor) else list(tensors)
            for tensor in group["params"]:
                self._check_parameter(tensor, seen)
        if not seen:
            raise SettingError(
                f"{self.name}: there is nothing to train",
                got="no parameters",
                rule="at least one Tensor with requires_grad=True",
                fix=f"{self.name}(model.parameters())",
            )
        return groups

    def _check_parameter(self, tensor: object, seen: set[int]) -> None:
        if not isinstance(tensor, Tensor) or not tensor.requires_grad or id(tensor) in seen:
            twice = id(tensor) in seen
            raise SettingError(
                f"{self.name}: this cannot be trained",
                got="the same Tensor twice" if twice else _described(tensor),
                rule="Tensors with requires_grad=True, each once",
                fix=f"{self.name}(model.parameters())",
            )
        seen.add(id(tensor))

    def _group(self, given: dict, lr: float, settings: dict) -> Group:
        own = {name: value for name, value in given.items() if name not in ("params", "lr")}
        unknown = [name for name in own if name not in settings]
        if unknown:
            raise SettingError(
                f"{self.name}: a group has a setting that this rule does not know",
                got=", ".join(unknown),
                rule="one of " + ", ".join(["lr", *settings]),
                fix=f'{{"params": ..., "lr": {lr}}}',
            )
        tensors = given["params"]
        return Group(
            tensors,
            full((), number(self.name, "lr", given.get("lr", lr), "[0, inf)"), dtype=float64),
            self.check({**settings, **own}),
            {name: [zeros(t.shape, dtype=t.dtype) for t in tensors] for name in self.slot_names},
        )

    def __repr__(self) -> str:
        count = sum(1 for _ in self.parameters())
        settings = ", ".join(f"{k}={v}" for k, v in self.groups[0].settings.items())
        return f"{self.name}({count} tensors, lr={self.lr:g}, {settings})"


def _described(x: object) -> str:
    return (
        f"Tensor {tuple(x.shape)} without requires_grad"
        if isinstance(x, Tensor)
        else type(x).__name__
    )
