"""Loading the states of several objects together: all of them, or, on an error, none.

Knows state_dict() and load_state_dict(), never what the objects are.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from tinytorch.base.errors import SettingError, TinyTorchError, short
from tinytorch.tensor.tensor import Tensor


def gather(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The state of each object by name; None stays None. Tensors go on with the run: `copied`.

    Args:
        parts: objects with state_dict(), or None where a run has no such object.
    """
    return {name: None if x is None else x.state_dict() for name, x in parts.items()}


def restore(parts: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Load the state of each object; if one refuses, all are as they were before.

    Args:
        parts: objects with state_dict() and load_state_dict(), or None.
        state: what `gather` gave for the same names; further names are left alone.

    Raises:
        SettingError: a state is missing, or is there for an object that this run does not have.
        ShapeError, DTypeError, SettingError: an object does not take its state, for example
            because the model has another architecture, or the state is not one of its own (a
            checkpoint may be of somebody else). Nothing has changed then.

    Cost: a copy of the present state while it runs.

    Example:
        >>> import tinytorch as tt
        >>> model = tt.nn.Linear(2, 1)
        >>> parts = {"model": model, "optimizer": tt.optim.SGD(model.parameters(), lr=0.5)}
        >>> state = copied(gather(parts))
        >>> parts["optimizer"].lr = 0.25
        >>> restore(parts, state)
        >>> parts["optimizer"].lr
        0.5
    """
    for name, x in parts.items():
        _check_there(name, x, state)
    before: dict[str, Any] = {}
    try:
        for name, x in parts.items():
            if x is not None:
                before[name] = copied(x.state_dict())
                load_into(name, x, state[name])
    except Exception:
        for name, old in before.items():
            parts[name].load_state_dict(old)
        raise


# How an object fails that is given something else than its state, where it does not look itself.
_STUMBLED = (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError)


def load_into(name: str, x: Any, state: Any) -> None:
    """`x.load_state_dict(state)`, where the state may be anything.

    Args:
        name: of the object, for messages.
        x: the object.
        state: what it is given.

    Raises:
        SettingError: the object stumbled over it; it may have changed.
    """
    try:
        x.load_state_dict(state)
    except TinyTorchError:
        raise
    except (*_STUMBLED, RecursionError) as error:
        raise SettingError(
            f"the state of {name} cannot be loaded",
            got=f"{short(state)} ({type(error).__name__}: {short(str(error))})",
            rule="what its state_dict() gave",
            fix="a checkpoint of the same kind of run, as it was written",
        ) from error


def _check_there(name: str, x: Any, state: Mapping[str, Any]) -> None:
    if name not in state:
        raise SettingError(
            f"there is no state for {name}",
            got="states of " + (", ".join(state) or "nothing"),
            rule="one for each part of the run",
            fix="a checkpoint of the same kind of run",
        )
    if (x is None) is not (state[name] is None):
        has, lacks = ("the run", "the state") if x is not None else ("the state", "the run")
        raise SettingError(
            f"{has} has {name}, {lacks} has not",
            got=f"{name}={x if x is None else type(x).__name__}",
            rule="both have it, or neither",
            fix=f"build the run with {'no ' if x is not None else 'the same '}{name}",
        )


def copied(x: Any) -> Any:
    """A state in memory of its own, that no later assignment reaches."""
    if isinstance(x, Mapping):
        return {key: copied(value) for key, value in x.items()}
    return x.detach().clone() if isinstance(x, Tensor) else copy.deepcopy(x)
