"""Optimizer: what all update rules share: parameter groups, learning rates, state and its names.

Together is several of them used as one. Knows groups and their life, never how a weight moves.
Everything that changes from step to step (learning rate, step count, averages) is a Tensor, so a
compiled step reads and writes it in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np

from tinytorch.base.arguments import number
from tinytorch.base.errors import SettingError
from tinytorch.base.settings import STRUCTURE
from tinytorch.optim.group import Group, Part, refuse_unknown
from tinytorch.tensor.assignment import copy_named
from tinytorch.tensor.creation import clear_gradients
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.tensor import Tensor


class Optimizer:
    """Abstract: a rule names the states it keeps, checks settings, and moves one group.

    A parameter that is frozen (`requires_grad=False`) has no gradient and stays; unfrozen later, it
    moves as if it had come then.

    Args:
        params: Tensors, or dictionaries {"params": Tensors, setting: value, ...} with settings of
            their own, as in PyTorch; None: `bind` names them later, as the Trainer does.
        lr: learning rate of groups without one, in [0, inf).
        settings: the rule's other settings, the default of groups without them.

    Differs from PyTorch: `state_dict` is flat; parameters of which none asks for a gradient are
    refused (some may be frozen).
    """

    def __init__(self, params: Iterable | None, lr: float, **settings: Any):
        self.name = type(self).__name__
        self._lr, self._settings = lr, settings
        self.groups = [self._group({"params": []})]
        if params is not None:
            self.bind(params)

    # --- what a rule defines ---

    def check(self, settings: dict) -> dict:
        """The settings of a group, validated."""
        raise NotImplementedError(f"{self.name} has no check()")

    def slot_names(self, settings: dict) -> tuple[str, ...]:
        """Names of the states kept for each parameter, each of its shape, zeros at first."""
        return ()

    def update(self, group: Part) -> None:
        """Move the parameters of one group that have gradients and have moved equally often.

        Args:
            group: `live()` gives the parameters, `lr` and `settings` are the group's, and `steps`,
                how often these have moved, is already raised.
        """
        raise NotImplementedError(f"{self.name} has no update()")

    def accept(self, parameter: Tensor) -> None:
        """Raise a SettingError if the rule cannot move this parameter; most move any."""

    def in_ranges(self, settings: dict, **intervals: str) -> dict[str, float]:
        """Those of the settings that are numbers, each checked to lie in its interval.

        Args:
            settings: as `check` is given them.
            intervals: name -> "[0, 1)" and the like, as in `base.arguments.number`.
        """
        return {name: number(self.name, name, settings[name], r) for name, r in intervals.items()}

    # --- what a user calls ---

    @property
    def is_bound(self) -> bool:
        """Whether it has parameters to move."""
        return any(group.parameters for group in self.groups)

    def bind(self, params: Iterable) -> Optimizer:
        """Name the parameters of an optimizer that was made without; gives itself.

        Groups with learning rates of their own are bound before a schedule is made for them.

        Args:
            params: as in the constructor.

        Raises:
            SettingError: it has parameters, or there is nothing to train.

        Example:
            >>> import tinytorch as tt
            >>> model = tt.nn.Linear(3, 2)
            >>> adam = tt.optim.Adam(lr=0.01)
            >>> adam.is_bound, adam.bind(model.parameters()).is_bound
            (False, True)
        """
        if self.is_bound:
            raise SettingError(
                f"{self.name}: it moves other parameters already",
                got=f"bind() for an optimizer of {sum(1 for _ in self.parameters())} tensors",
                rule="an optimizer is bound once; add_param_group adds more",
                fix=f"a new {self.name}(lr={self.lr:g})",
            )
        given = self._grouped(params)
        if len(given) == 1 and set(given[0]) == {"params"}:
            self.groups[0].adopt(given[0]["params"])  # keeps the rate that a schedule has set
        else:
            self.groups = [self._group(group) for group in given]
        return self

    def add_param_group(self, group: Mapping) -> None:
        """Move more parameters, for example layers that were frozen; their step count starts at 0.

        Args:
            group: {"params": Tensors, setting: value, ...}.
        """
        if not self.is_bound:
            self.bind([group])
            return
        given = self._grouped([group], {id(p) for p in self.parameters()})
        self.groups = [*self.groups, self._group(given[0])]
        STRUCTURE.bump()

    def step(self) -> None:
        """Move every parameter that has a gradient, once."""
        if not self.is_bound:
            self._refuse_nothing("step() of an optimizer without parameters")
        with no_grad(), np.errstate(all="ignore"):  # a rule may be given NumPy's arrays
            self.align()
            for part in [part for group in self.groups for part in group.moving()]:
                part.raise_steps()
                self.update(part)

    def align(self) -> None:
        """Bring the state in line with the parameters: step counts of their own for those with a
        gradient and those without, and the number type that a parameter has now.

        `step` does it by itself; who guards the states of a step (the Trainer) does it before. See
        Note [a step count for each parameter] in group.py.
        """
        for group in self.groups:
            group.align()

    def counts(self) -> Iterator[Tensor]:
        """The Tensors that count steps, each once."""
        return (part.steps for group in self.groups for part in group.parts)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or fill them with zeros."""
        clear_gradients(self.parameters(), set_to_none)

    def parameters(self) -> Iterator[Tensor]:
        """The parameters of all groups."""
        return (parameter for group in self.groups for parameter in group.parameters)

    @property
    def param_groups(self) -> list[Group]:
        """The groups, under PyTorch's name: `optimizer.param_groups[0]["lr"] = 0.01`."""
        return self.groups

    @property
    def lr(self) -> float:
        """Learning rate of the first group; setting it sets that of all groups, compiled or not.

        A schedule goes on from the rate that was set, and takes it for the one it began with;
        `param_groups[0]["lr"] = x` leaves what it began with, as in PyTorch.
        """
        return float(self.groups[0].lr.item())

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.groups:
            group.set_rate(value, initial=True)

    def memory(self) -> dict[str, int]:
        """Bytes of the "parameters" and of the "state" that the rule keeps beside them.

        Example:
            >>> import tinytorch as tt
            >>> model = tt.nn.Linear(100, 10, bias=False)
            >>> tt.optim.Adam(model.parameters()).memory()         # with Adam 3 times the weights
            {'parameters': 4000, 'state': 8000}
        """
        kept = (t for g in self.groups for slots in g.slots.values() for t in slots)
        return {"parameters": _bytes(self.parameters()), "state": _bytes(kept)}

    def state_dict(self) -> dict[str, Tensor]:
        """All state by name.

        "lr.0", "initial_lr.0" for each group; "step.0.3", "exp_avg.0.3" for group 0, parameter 3.

        Differs from PyTorch: flat, Tensors only, so that it can be saved as safetensors.
        """
        return {name: tensor.detach() for name, tensor in self._state()}

    def load_state_dict(self, state: Mapping) -> None:
        """Copy values by name; nothing changes if anything does not fit.

        Args:
            state: what `state_dict()` of the same rule over the same parameters gave; also one of
                an older version, with one "step.0" for all parameters of group 0.
        """
        own = dict(self._state())
        given = self._in_present_names(state)
        self._check_counts(own, given)
        copy_named(own, given, owner=self.name)  # into copies of the counts: all of them or nothing
        self._set_counts(own)

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        """The Tensors themselves, and copies of the step counts."""
        for g, group in enumerate(self.groups):
            yield from ((f"step.{g}.{i}", steps) for i, steps in enumerate(group.counts()))
            for name, tensor in group.state():
                kind, _, place = name.partition(".")
                yield (f"{kind}.{g}.{place}" if place else f"{kind}.{g}"), tensor

    def _in_present_names(self, state: Mapping) -> dict:
        given = dict(state)
        for g, group in enumerate(self.groups):
            if f"step.{g}" in given:
                one = given.pop(f"step.{g}")
                for i in range(len(group.parameters)):
                    given.setdefault(f"step.{g}.{i}", one)
        return given

    def _check_counts(self, own: Mapping[str, Tensor], given: Mapping) -> None:
        """Refuse step counts that no optimizer has counted."""
        counts = {name: steps.clone() for name, steps in own.items() if name.startswith("step.")}
        there = {name: value for name, value in given.items() if name in counts}
        copy_named(counts, there, strict=False, owner=self.name)
        for name, steps in counts.items():
            count = float(steps.item())
            if not (0 <= count < 2**53 and count.is_integer()):  # 2**53: float64 counts no further
                raise SettingError(
                    f"{self.name}: {name} is not a number of steps",
                    got=count,
                    rule="a whole number >= 0",
                    fix="a state that an optimizer's state_dict() gave",
                )

    def _set_counts(self, own: Mapping[str, Tensor]) -> None:
        for g, group in enumerate(self.groups):
            places = range(len(group.parameters))
            group.set_counts([own[f"step.{g}.{i}"].item() for i in places])

    # --- construction ---

    def _grouped(self, params: Iterable, taken: set[int] | None = None) -> list[dict]:
        if isinstance(params, (Tensor, Mapping)):
            params = [params]
        if not isinstance(params, Iterable):
            raise SettingError(
                f"{self.name}: what it moves comes first",
                got=f"params={type(params).__name__}",
                rule="Tensors, groups of them, or nothing: then bind() or a Trainer names them",
                fix=f"{self.name}(model.parameters(), lr=...), or {self.name}(lr=...)",
            )
        items = list(params)
        groups: list[dict] = (
            [dict(i) for i in items]
            if items and all(isinstance(i, Mapping) for i in items)
            else [{"params": items}]
        )
        seen = set() if taken is None else taken
        for group in groups:
            tensors = group.get("params", [])
            group["params"] = [tensors] if isinstance(tensors, Tensor) else list(tensors)
            for tensor in group["params"]:
                self._check_parameter(tensor, seen)
        given = [tensor for group in groups for tensor in group["params"]]
        if not given:
            self._refuse_nothing("no parameters")
        if taken is None and not any(tensor.requires_grad for tensor in given):
            self._refuse_nothing(
                f"{len(given)} tensors without requires_grad, as {tuple(given[0].shape)}"
            )
        return groups

    def _refuse_nothing(self, got: str) -> NoReturn:
        raise SettingError(
            f"{self.name}: there is nothing to train",
            got=got,
            rule="at least one Tensor with requires_grad=True; others may be frozen",
            fix=f"{self.name}(model.parameters()), or optimizer.bind(model.parameters())",
        )

    def _check_parameter(self, tensor: object, seen: set[int]) -> None:
        problem = ""
        if not isinstance(tensor, Tensor):
            problem = type(tensor).__name__
        elif id(tensor) in seen:
            problem = "the same Tensor twice"
        elif not tensor.is_leaf:
            problem = f"Tensor {tuple(tensor.shape)} that an operation made"
        elif not tensor.dtype.is_float:
            problem = f"Tensor {tuple(tensor.shape)} of {tensor.dtype.name}"
        if problem:
            raise SettingError(
                f"{self.name}: this cannot be trained",
                got=problem,
                rule="floating-point Tensors made by the user, each once",
                fix=f"{self.name}(model.parameters())",
            )
        self.accept(tensor)  # pyright: ignore[reportArgumentType]
        seen.add(id(tensor))

    def _group(self, given: Mapping) -> Group:
        own = {name: value for name, value in given.items() if name not in ("params", "lr")}
        refuse_unknown(self.name, [n for n in own if n not in self._settings], self._settings)
        lr = given.get("lr", self._lr)
        settings = {**self._settings, **own}
        return Group(self.name, given["params"], lr, settings, self.check, self.slot_names)

    def __repr__(self) -> str:
        count = sum(1 for _ in self.parameters())
        settings = ", ".join(f"{k}={v}" for k, v in self.groups[0].settings.items())
        return f"{self.name}({count} tensors, lr={self.lr:g}, {settings})"


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.size * tensor.dtype.itemsize for tensor in tensors)


class Together(Optimizer):
    """Each optimizer moves its own parameters: Muon the matrices, AdamW the rest.

    Args:
        optimizers: each bound to parameters, none of them twice; or none of them bound: then `bind`
            gives each parameter to the first that takes it.

    Raises:
        SettingError: some optimizers with parameters and some without, or a parameter twice.

    Example:
        >>> import tinytorch as tt
        >>> model = tt.nn.Linear(3, 2)
        >>> both = tt.optim.Together(tt.optim.Muon(lr=0.02), tt.optim.AdamW(lr=1e-3))
        >>> both.bind(model.parameters())
        Together(Muon(1 tensors, lr=0.02, ...), AdamW(1 tensors, lr=0.001, ...))
    """

    def __init__(self, *optimizers: Optimizer):
        self.name, self.optimizers = "Together", optimizers
        if not optimizers or not all(isinstance(o, Optimizer) for o in optimizers):
            self._refuse(", ".join(type(o).__name__ for o in optimizers) or "none")
        if len({o.is_bound for o in optimizers}) == 2:
            self._refuse("some with parameters and some without")
        seen: set[int] = set()
        for parameter in (p for o in optimizers for p in o.parameters()):
            if id(parameter) in seen:
                self._refuse(f"a parameter {tuple(parameter.shape)} that two of them move")
            seen.add(id(parameter))

    def _refuse(self, got: str) -> NoReturn:
        raise SettingError(
            "Together: these optimizers do not share a model",
            got=got,
            rule="optimizers, each parameter in one of them",
            fix="Together(Muon(matrices), AdamW(the_rest)), or Together(Muon(), AdamW())",
        )

    @property
    def groups(self) -> list:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The groups of all of them, in order."""
        return [group for optimizer in self.optimizers for group in optimizer.groups]

    def bind(self, params: Iterable) -> Together:
        """Give each parameter to the first optimizer that takes it; gives itself.

        Args:
            params: Tensors.
        """
        if self.is_bound:
            self._refuse("bind() for optimizers that have parameters")
        shares: list[list[Tensor]] = [[] for _ in self.optimizers]
        for parameter in params:
            takers = (i for i, o in enumerate(self.optimizers) if _takes(o, parameter))
            shares[next(takers, -1)].append(parameter)  # the last one says why it does not
        for optimizer, share in zip(self.optimizers, shares, strict=True):
            if share:
                optimizer.bind(share)
        return self

    def add_param_group(self, group: Mapping) -> None:
        """Refused: which of them would move it?"""
        self._refuse("add_param_group() for all of them; call it on one")

    def step(self) -> None:
        """Move every parameter that has a gradient, once."""
        if not self.is_bound:
            self._refuse("step() of optimizers without parameters")
        for optimizer in self.optimizers:
            if optimizer.is_bound:
                optimizer.step()

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        """The state of each, its names with "0:", "1:", ... before them."""
        for i, optimizer in enumerate(self.optimizers):
            yield from ((f"{i}:{name}", tensor) for name, tensor in optimizer._state())

    def _in_present_names(self, state: Mapping) -> dict:
        given = dict(state)
        for i, optimizer in enumerate(self.optimizers):
            own = {name: given.pop(name) for name in state if name.startswith(f"{i}:")}
            present = optimizer._in_present_names({n.partition(":")[2]: x for n, x in own.items()})
            given.update({f"{i}:{name}": x for name, x in present.items()})
        return given

    def _set_counts(self, own: Mapping[str, Tensor]) -> None:
        for i, optimizer in enumerate(self.optimizers):
            mine = {n.partition(":")[2]: x for n, x in own.items() if n.startswith(f"{i}:")}
            optimizer._set_counts(mine)

    def __repr__(self) -> str:
        return f"Together({', '.join(map(repr, self.optimizers))})"


def _takes(optimizer: Optimizer, parameter: Tensor) -> bool:
    try:
        optimizer.accept(parameter)
    except SettingError:
        return False
    return True
