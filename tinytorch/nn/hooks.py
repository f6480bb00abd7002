"""Hooks: functions called before and after a module's forward, to look or to change.

Knows order and how to take a hook away, never what a module computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tinytorch.base.settings import STRUCTURE


class HookHandle:
    """One registered hook: `remove()` takes it away, and so does the end of a `with` block.

    Args:
        hooks: the list it stands in.
        hook: the function.
    """

    def __init__(self, hooks: list, hook: Callable):
        self._hooks, self._entry = hooks, [hook]  # a list of its own: one function may stand twice
        hooks.append(self._entry)
        STRUCTURE.bump()

    def remove(self) -> None:
        """Take the hook away; a second time does nothing."""
        kept = [entry for entry in self._hooks if entry is not self._entry]
        if len(kept) != len(self._hooks):
            self._hooks[:] = kept
            STRUCTURE.bump()

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *error) -> None:
        self.remove()


class Hooks:
    """The hooks of one module, in the order in which they were registered."""

    def __init__(self):
        self.before: list[list[Callable]] = []
        self.after: list[list[Callable]] = []

    def around(self, module: Any, inputs: tuple, named: dict) -> Any:
        """`module.forward` with its hooks: each sees what the one before it returned."""
        for (hook,) in tuple(self.before):
            changed = hook(module, inputs)
            if changed is not None:
                inputs = changed if isinstance(changed, tuple) else (changed,)
        output = module.forward(*inputs, **named)
        for (hook,) in tuple(self.after):
            changed = hook(module, inputs, output)
            if changed is not None:
                output = changed
        return output


class Watcher(Hooks):
    """Stands in for a module's hooks for a while: `watch` around them is what it sees.

    Args:
        own: the hooks the module has, or None.
    """

    def __init__(self, own: Hooks | None):
        super().__init__()
        self.own = own

    def around(self, module: Any, inputs: tuple, named: dict) -> Any:
        """`watch`, given a way to call the module as it is."""
        if self.own is None:
            return self.watch(module, lambda: module.forward(*inputs, **named))
        own = self.own
        return self.watch(module, lambda: own.around(module, inputs, named))

    def watch(self, module: Any, call: Callable[[], Any]) -> Any:
        """What the module gives; subclasses look at it."""
        raise NotImplementedError


@contextmanager
def watching(module: Any, make: Callable[[Hooks | None], Watcher]) -> Iterator[dict[int, Any]]:
    """Within the block every module of a tree has a Watcher; gives them by id of their module.

    Past `__setattr__`: the hooks are back before anybody can notice, so nothing is recompiled.
    """
    parts = list(module.modules())
    watchers = {id(part): make(part._hooks) for part in parts}
    try:
        for part in parts:
            object.__setattr__(part, "_hooks", watchers[id(part)])
        yield watchers
    finally:
        for part in parts:
            object.__setattr__(part, "_hooks", watchers[id(part)].own)
