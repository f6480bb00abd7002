"""Sequential, ModuleList, ModuleDict: modules made of modules, in order or by name.

Knows order and names, never what the parts compute.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

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

    _named_by_place = "_parts"

    def __init__(self, modules: Iterable[Module] = ()):
        self._parts = list(modules)

    def append(self, module: Module) -> ModuleList:
        """Add a module at the end; returns self."""
        return self.insert(len(self._parts), module)

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        """Add modules at the end; returns self."""
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> ModuleList:
        """Put a module before the one at `index`; returns self."""
        parts = list(self._parts)
        parts.insert(index, module)
        self._parts = parts  # assigned, not changed in place: compiled functions notice
        return self

    def __setitem__(self, index: int, module: Module) -> None:
        parts = list(self._parts)
        parts[index] = module
        self._parts = parts

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


class ModuleDict(Module):
    """Modules by name, whose weights are called "name.weight"; it has no forward.

    Args:
        modules: name -> module, in order; names are words without dots.

    Example:
        >>> from tinytorch import nn
        >>> heads = nn.ModuleDict({"mean": nn.Linear(4, 2), "spread": nn.Linear(4, 2)})
        >>> list(heads), [name for name, _ in heads.named_parameters()][:2]
        (['mean', 'spread'], ['mean.weight', 'mean.bias'])
    """

    _named_by_place = "_parts"

    def __init__(self, modules: Mapping[str, Module] | None = None):
        self._parts: dict[str, Module] = {}
        for name, module in (modules or {}).items():
            self[name] = module

    def __setitem__(self, name: str, module: Module) -> None:
        if not isinstance(name, str) or not name or "." in name or not isinstance(module, Module):
            raise SettingError(
                "ModuleDict: this cannot be a part",
                got=f"{name!r}: {type(module).__name__}",
                rule="a name without dots, and a module",
                fix='ModuleDict({"head": Linear(4, 2)})',
            )
        self._parts = {**self._parts, name: module}  # assigned: compiled functions notice

    def __delitem__(self, name: str) -> None:
        self[name]  # a KeyError, if there is none
        self._parts = {n: m for n, m in self._parts.items() if n != name}

    def __getitem__(self, name: str) -> Module:
        return self._parts[name]

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._parts.keys()

    def values(self) -> Iterable[Module]:
        """The parts."""
        return self._parts.values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """Names and parts."""
        return self._parts.items()
