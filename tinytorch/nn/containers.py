"""Sequential and ModuleList: modules made of a list of modules.

Knows order, never what the parts compute.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tinytorch.base.errors import SettingError
from tinytorch.nn.module import Module


class ModuleList(Module):
    """A list of modules whose weights are named "0.weight", "1.weight", ...; it has no forward.

    Args:
        modules: the parts, in order.

    Example:
        >>> from tinytorch import nn
        >>> blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
        >>> len(blocks), [name for name, _ in blocks[:2].named_parameters()]
        (3, ['0.weight', '0.bias', '1.weight', '1.bias'])
    """

    def __init__(self, modules: Iterable[Module] = ()):
        self._parts = list(modules)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The parts that are modules, named by their position."""
        return ((str(i), part) for i, part in enumerate(self._parts) if isinstance(part, Module))

    def append(self, module: Module) -> ModuleList:
        """Add a module at the end; returns self."""
        self._parts = [*self._parts, module]
        return self

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator:
        return iter(self._parts)

    def __getitem__(self, index):
        return type(self)(self._parts[index]) if isinstance(index, slice) else self._parts[index]


class Sequential(ModuleList):
    """Parts called one after the other, each on what the one before returned.

    Args:
        parts: modules and plain callables, as arguments or as one list. A callable keeps its place
            in the numbering, so names are those of PyTorch.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import nn
        >>> net = nn.Sequential(nn.Linear(4, 3), tt.tanh, nn.Linear(3, 2))
        >>> net(tt.zeros(5, 4)).shape, [name for name, _ in net.named_parameters()]
        ((5, 2), ['0.weight', '0.bias', '2.weight', '2.bias'])
    """

    def __init__(self, *parts):
        if len(parts) == 1 and isinstance(parts[0], (list, tuple)):
            parts = tuple(parts[0])
        for i, part in enumerate(parts):
            if not callable(part):
                raise SettingError(
                    f"Sequential: part {i} cannot be called",
                    got=type(part).__name__,
                    rule="modules and callables, as arguments or as one list",
                    fix="Sequential(Linear(4, 3), ReLU())",
                )
        super().__init__(parts)

    def forward(self, x):
        """Apply the parts in order."""
        for part in self._parts:
            x = part(x)
        return x

    def __repr__(self) -> str:
        parts = (
            repr(p) if isinstance(p, Module) else getattr(p, "__name__", repr(p))
            for p in self._parts
        )
        lines = (f"  ({i}): " + text.replace("\n", "\n  ") for i, text in enumerate(parts))
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])
