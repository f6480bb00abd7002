"""Group: parameters that share a learning rate and settings, and the state kept for each of them.

Knows which Tensors belong together, never how a weight moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tinytorch.base.checks import number
from tinytorch.base.dtypes import float64
from tinytorch.base.errors import SettingError
from tinytorch.base.settings import STRUCTURE
from tinytorch.optim.touched_rows import touched_rows
from tinytorch.tensor.creation import full, zeros
from tinytorch.tensor.modes import no_grad
from tinytorch.tensor.row_gradient import RowGradient
from tinytorch.tensor.tensor import Tensor


class Group:
    """Parameters that share settings; `group["lr"]` reads and sets them by name, as in PyTorch.

    `lr`, `initial_lr` (what schedules multiply) and `steps` (updates done) are 0-d float64 Tensors:
    a compiled step reads them at every call. The other settings are part of what is compiled, so
    changing one compiles the step again.

    Args:
        owner: name of the rule, for messages.
        parameters: the Tensors that are updated.
        lr: learning rate, in [0, inf).
        settings: the other settings by name.
        check: settings -> the same, validated; raises SettingError.
        slot_names: settings -> names of the states kept for each parameter.
    """

    def __init__(
        self, owner: str, parameters: list[Tensor], lr: float, settings: dict,
        check: Callable[[dict], dict], slot_names: Callable[[dict], tuple[str, ...]],
    ):  # fmt: skip
        self.owner, self.parameters = owner, parameters
        self._check, self._slot_names = check, slot_names
        rate = number(owner, "lr", lr, "[0, inf)")
        self.lr = full((), rate, dtype=float64)
        self.initial_lr = full((), rate, dtype=float64)
        self.steps = full((), 0.0, dtype=float64)
        self.settings: dict[str, Any] = check(settings)
        self.slots: dict[str, list[Tensor]] = {}  # "exp_avg" -> one Tensor for each parameter
        self._make_slots()

    def _make_slots(self) -> None:
        for name in self._slot_names(self.settings):
            if len(self.slots.get(name, ())) != len(self.parameters) or name not in self.slots:
                self.slots[name] = [zeros(p.shape, dtype=p.dtype) for p in self.parameters]

    def adopt(self, parameters: list[Tensor]) -> None:
        """Take these parameters in place of none."""
        self.parameters = parameters
        self._make_slots()
        STRUCTURE.bump()

    def live(self, whole: bool = False) -> Iterator[tuple[Tensor, Tensor, dict[str, Tensor]]]:
        """Each parameter that has a gradient, with it and with its state by name.

        Args:
            whole: a rule that mixes rows sees whole tables; other rules see, of a table whose
                gradient is a RowGradient, the rows that were read and nothing else.
        """
        for i, parameter in enumerate(self.parameters):
            if (gradient := parameter.grad) is not None:
                slots = {name: tensors[i] for name, tensors in self.slots.items()}
                if isinstance(gradient, RowGradient):
                    if not whole:
                        yield from touched_rows(parameter, gradient, slots)
                        continue
                    gradient = gradient.dense()
                yield parameter, gradient, slots

    def set_rate(self, rate: float, *, initial: bool = False) -> None:
        """Hold another learning rate, which a compiled step sees; `initial`: schedules too."""
        new = full((), number(self.owner, "lr", rate, "[0, inf)"), dtype=float64)
        with no_grad():
            self.lr.assign_(new)
            if initial:
                self.initial_lr.assign_(new)

    # --- as PyTorch's dictionaries ---

    def __getitem__(self, name: str) -> Any:
        if name == "params":
            return self.parameters
        if name in ("lr", "initial_lr"):
            return float(getattr(self, name).item())
        self._known(name)
        return self.settings[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "lr":
            self.set_rate(value, initial=True)
            return
        self._known(name)
        self.settings = self._check({**self.settings, name: value})
        self._make_slots()
        STRUCTURE.bump()

    def __contains__(self, name: object) -> bool:
        return name in ("params", "lr", "initial_lr") or name in self.settings

    def _known(self, name: str) -> None:
        if name not in self.settings:
            refuse_unknown(self.owner, [name], self.settings)

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Everything that changes from step to step, by name."""
        yield from (("step", self.steps), ("lr", self.lr), ("initial_lr", self.initial_lr))
        for name, tensors in self.slots.items():
            yield from ((f"{name}.{i}", tensor) for i, tensor in enumerate(tensors))


def refuse_unknown(owner: str, names: list[str], settings: Mapping) -> None:
    """Raise a SettingError if there are names that are no setting."""
    if names:
        raise SettingError(
            f"{owner}: a group has a setting that this rule does not know",
            got=", ".join(names),
            rule="one of " + ", ".join(["lr", *settings]),
            fix='{"params": ..., "lr": 0.01}',
        )
