"""Together: several optimizers, each for its own parameters, used as one.

Knows their order and the names of their state, never their rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NoReturn

from tinytorch.base.errors import SettingError
from tinytorch.optim.optimizer import Optimizer
from tinytorch.tensor.tensor import Tensor


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
