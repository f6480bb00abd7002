"""What a captured function saw of the Python around it, and whether that is still so.

Knows code objects, cells and namespaces; never graphs. Capture runs the function once, so a Python
number it read from outside is frozen into the program. A Guard remembers one such number, or which
object a name stood for; when it no longer holds, the function is captured again and a warning names
what changed.
"""

from __future__ import annotations

import dis
import functools
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

SCALARS = (bool, int, float, complex, str, bytes, type(None))
_IGNORED = (types.ModuleType, types.BuiltinFunctionType, type)
_MISSING = object()
DEPTH = 3  # how many of the user's own functions deep names are followed


class RecompileWarning(UserWarning):
    """A compiled function was captured again because something outside it changed."""


class Guard:
    """One name the function reads from outside, and what it held at capture.

    Args:
        read: gives what the name holds now.
        shown: how the user writes it ("learning_rate", "config.steps").
        held: what it held at capture.
    """

    __slots__ = ("held", "is_scalar", "read", "shown")

    def __init__(self, read: Callable[[], Any], shown: str, held: Any):
        self.read, self.shown, self.held = read, shown, held
        self.is_scalar = isinstance(held, SCALARS)

    def holds(self) -> bool:
        """Whether the name still stands for the same object, or for an equal number."""
        now = self.read()
        if now is self.held:
            return True
        if self.is_scalar and type(now) is type(self.held) and repr(now) == repr(self.held):
            self.held = now  # an equal number, another object: make the next check short
            return True
        return False

    def change(self) -> str:
        """What to tell the user."""
        now = self.read()
        if now is _MISSING:
            return f"{self.shown!r} no longer exists"
        if self.is_scalar:
            return f"{self.shown!r} was {self.held!r} and is now {now!r}"
        return f"{self.shown!r} now stands for another object ({type(now).__name__})"


_READS_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME")


def guards_of(function: Callable) -> list[Guard]:
    """A Guard for every name outside `function` that its code reads, its own helpers included.

    Followed are closure cells, globals, `self` of a bound method, the attributes of plain objects
    among them that hold a number ("config.steps"), and functions that are not part of TinyTorch or
    of an installed library, three calls deep. Not seen: numbers inside containers, and attributes
    of attributes.
    """
    found: dict[str, Guard] = {}
    _collect(function, found, set(), DEPTH)
    return list(found.values())


def _collect(function: Any, found: dict[str, Guard], seen: set[int], depth: int) -> None:
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, types.MethodType):
        owner, function = function.__self__, function.__func__
        name = function.__code__.co_varnames[0] if function.__code__.co_argcount else "self"
        _attributes(owner, name, function.__code__, found)
    if not isinstance(function, types.FunctionType):  # a Module, or another object that is called
        kind = type(function)
        function = getattr(kind, "forward", None) or vars(kind).get("__call__")
        if not isinstance(function, types.FunctionType):
            return
    if id(function) in seen or depth == 0 or _is_library(function):
        return
    seen.add(id(function))
    for name, read in _names(function):
        held = read()
        if held is _MISSING or isinstance(held, _IGNORED):
            continue
        if isinstance(held, types.FunctionType) and _is_library(held):
            continue
        shown = name
        while shown in found and found[shown].held is not held:
            shown = f"{function.__qualname__}.{shown}"
        found[shown] = Guard(read, shown, held)
        if isinstance(held, types.FunctionType | types.MethodType):
            _collect(held, found, seen, depth - 1)
        elif not isinstance(held, SCALARS):
            _attributes(held, name, function.__code__, found)


def _names(function: types.FunctionType) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The outer names the code (and code nested in it) reads, each with a way to read it."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name, _read_cell(cell)
    for code in _codes(function.__code__):
        # not co_names: it lists attributes too, and `optimizer.step` is not the global `step`
        globals_read = (i.argval for i in dis.get_instructions(code) if i.opname in _READS_GLOBAL)
        for name in dict.fromkeys(globals_read):
            if name in function.__globals__:
                yield name, _read_item(function.__globals__, name)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _attributes(owner: Any, name: str, code: types.CodeType, found: dict[str, Guard]) -> None:
    """Guards for the attributes of `owner` that hold a number and whose names the code mentions."""
    held = getattr(owner, "__dict__", None)
    if not isinstance(held, dict):
        return
    for attribute in {n for c in _codes(code) for n in c.co_names}:
        if isinstance(held.get(attribute, _MISSING), SCALARS):
            shown = f"{name}.{attribute}"
            found.setdefault(shown, Guard(_read_item(held, attribute), shown, held[attribute]))


def _read_cell(cell: types.CellType) -> Callable[[], Any]:
    def read() -> Any:
        try:
            return cell.cell_contents
        except ValueError:  # an empty cell: the name was deleted, or is not yet assigned
            return _MISSING

    return read


def _read_item(namespace: dict, name: str) -> Callable[[], Any]:
    return lambda: namespace.get(name, _MISSING)


def _is_library(function: types.FunctionType) -> bool:
    """Whether the function belongs to TinyTorch itself or lies where libraries are installed."""
    module = function.__module__ or ""
    if module.partition(".")[0] in ("tinytorch", "numpy"):
        return True
    path = function.__code__.co_filename.replace("\\", "/")
    return "/site-packages/" in path or "/dist-packages/" in path


class Changes:
    """Warns of each changed name once in the life of a compiled function."""

    def __init__(self) -> None:
        self.warned: set[str] = set()

    def warn(self, function: str, changed: list[Guard]) -> None:
        """Warn of the guards not warned of before; the warning points at the user's call."""
        new = [g for g in changed if g.shown not in self.warned]
        if not new:
            return
        self.warned.update(g.shown for g in new)
        cure = (
            "a number that changes belongs in a 0-d Tensor, which is read at every call"
            if any(g.is_scalar for g in new)
            else "change a Tensor with assign_() instead of making a new one under the same name"
        )
        warnings.warn(
            f"compiled function {function!r} is compiled again because "
            f"{' and '.join(g.change() for g in new)}; {cure}",
            RecompileWarning,
            stacklevel=4,
        )
