"""Belonging: whether an optimizer moves this model's weights, and a schedule this optimizer's rate.

Knows whose Tensors they are, never what is done with them. What does not belong together trains
without an error and without an effect: the loss never moves.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from tinytorch.base.errors import SettingError, short
from tinytorch.nn.module import Module
from tinytorch.optim.optimizer import Optimizer


def check_parameters(owner: str, model: Module, optimizer: Optimizer, loss: Callable) -> None:
    """See that the optimizer moves the model: bind it if it has no parameters yet.

    Args:
        owner: who asks, for messages.
        model: what is trained.
        optimizer: may have parameters of other modules too.
        loss: its parameters, if it is a Module, may be the only ones.

    Raises:
        SettingError: it is no Optimizer, or moves none of the model's weights (nor the loss's); the
            model is no Module, the loss cannot be called.

    Warns:
        UserWarning: it moves some of them alone; it names the others. Weights that are frozen
            (`requires_grad=False`) are left out on purpose.

    Example:
        >>> import tinytorch as tt
        >>> model, other = tt.nn.Linear(2, 1), tt.nn.Linear(2, 1)
        >>> check_parameters("Trainer", model, tt.optim.SGD(model.parameters()), print)
        >>> try:
        ...     check_parameters("Trainer", model, tt.optim.SGD(other.parameters()), print)
        ... except SettingError as error:
        ...     print(str(error).splitlines()[0])
        Trainer: this optimizer moves another model's weights
    """
    if not isinstance(model, Module):
        raise SettingError(
            f"{owner}: this is not a model",
            got=f"model={short(model)}",
            rule="a Module",
            fix=f"{owner}(nn.Sequential(...), optimizer, ...)",
        )
    if not callable(loss):
        raise SettingError(
            f"{owner}: this is not a loss",
            got=f"loss={short(loss)}",
            rule="a function of output and target, or a Module; losses have no names as text",
            fix=f"{owner}(model, optimizer, loss=nn.MSELoss())",
        )
    if not isinstance(optimizer, Optimizer):
        raise SettingError(
            f"{owner}: this is not an optimizer",
            got=f"optimizer={short(optimizer)}",
            rule="an Optimizer of the model's parameters, or one without",
            fix=f"{owner}(model, tt.optim.AdamW(lr=1e-3), ...)",
        )
    if not optimizer.is_bound:
        optimizer.bind(model.parameters())
        return
    moved = {id(p) for p in optimizer.parameters()}
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    others = list(loss.parameters()) if isinstance(loss, Module) else []
    left = [name for name, p in named if id(p) not in moved]
    if named and len(left) == len(named) and not any(id(p) in moved for p in others):
        raise SettingError(
            f"{owner}: this optimizer moves another model's weights",
            got=f"{len(moved)} tensors, none of the {len(named)} of {type(model).__name__}",
            rule="an optimizer of the model's parameters, or one without: it is given them",
            fix=f"{optimizer.name}(model.parameters(), lr=...), or {optimizer.name}(lr=...)",
        )
    if left:
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        warnings.warn(
            f"{owner}: the optimizer leaves weights of the model where they are; got: no "
            f"{', '.join(left[:5])}{more}; rule: what is not trained is frozen, so that this is "
            "known to be on purpose; fix: optimizer.add_param_group({'params': ...}), or "
            "part.requires_grad_(False)",
            stacklevel=3,
        )


def check_schedule(schedule: Any, optimizer: Optimizer) -> None:
    """See that a schedule moves the learning rate of this optimizer, or of one it is made of.

    Raises:
        SettingError: it is another optimizer's; or it is no object with a method `step`.
    """
    if schedule is None:
        return
    if isinstance(schedule, type) or not callable(getattr(schedule, "step", None)):
        raise SettingError(
            "Trainer: this is not a schedule",
            got=f"schedule={short(schedule)}",
            rule="a Schedule of the Trainer's optimizer, or an object with a method step()",
            fix="schedule=tt.optim.StepLR(optimizer, step_size=10)",
        )
    moved = getattr(schedule, "optimizer", optimizer)
    groups = {id(group) for group in optimizer.groups}
    if isinstance(moved, Optimizer) and not all(id(group) in groups for group in moved.groups):
        name = type(schedule).__name__
        raise SettingError(
            "Trainer: the schedule moves another optimizer's learning rate",
            got=f"{name} of {moved!r}",
            rule="schedule.optimizer is the Trainer's optimizer",
            fix=f"{name}(optimizer, ...) with the optimizer that the Trainer is given",
        )
