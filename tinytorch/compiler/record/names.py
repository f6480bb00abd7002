"""Names: what a function reads from outside, told from its code without running it.

Knows code objects, cells and namespaces. It stands in where frames cannot be seen
(frames.py), and sees less: closure cells, globals, `self` of a bound method, attributes of plain
objects among them that hold a number, and the user's own functions; not what lies in containers,
nor attributes of attributes.
"""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Iterator
from typing import Any

from tinytorch.compiler.record.frames import is_library
from tinytorch.compiler.record.guards import MISSING, SCALARS, Guard
from tinytorch.compiler.record.objects import is_a, own_dict


def names_read(function: Any) -> list[Guard]:
    """A Guard for each outer name that the code of `function` reads."""
    found: dict[tuple, Guard] = {}
    _follow(function, found, set())
    return list(found.values())


def _follow(function: Any, found: dict[tuple, Guard], seen: set[int]) -> None:
    while is_a(function, functools.partial):
        function = function.func
    if is_a(function, types.MethodType):
        _numbers_of(function.__self__, "self", function.__func__.__code__, found)
        function = function.__func__
    if not is_a(function, types.FunctionType):  # a Module, or another object that is called
        kind = type(function)
        function = getattr(kind, "forward", None) or vars(kind).get("__call__")
    if not is_a(function, types.FunctionType) or id(function) in seen:
        return
    if is_library(function.__code__.co_filename):
        return
    seen.add(id(function))
    read: list[Guard] = []
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    read += [Guard("attr", cell, "cell_contents", None, name) for name, cell in cells]
    space = function.__globals__
    for code in _codes(function.__code__):
        listed = (i.argval for i in dis.get_instructions(code) if i.opname in _READS_GLOBAL)
        names = [name for name in dict.fromkeys(listed) if name in space]
        read += [Guard("item", space, name, None, name) for name in names]
    for g in read:
        g.held = g.now()
        if g.held is MISSING or is_a(g.held, (types.ModuleType, type)):
            continue
        found.setdefault((g.kind, id(g.holder), g.key), g)
        if is_a(g.held, (types.FunctionType, types.MethodType)):
            _follow(g.held, found, seen)
        elif type(g.held) not in SCALARS:
            _numbers_of(g.held, g.shown, function.__code__, found)


_READS_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME")


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if is_a(constant, types.CodeType):
            yield from _codes(constant)


def _numbers_of(owner: Any, shown: str, code: types.CodeType, found: dict[tuple, Guard]) -> None:
    held = own_dict(owner)
    if held is None:
        return
    for name in {n for c in _codes(code) for n in c.co_names}:
        if type(held.get(name, MISSING)) in SCALARS:
            g = Guard("attr", owner, name, held[name], f"{shown}.{name}")
            found.setdefault(("attr", id(owner), name), g)
