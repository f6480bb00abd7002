"""Watching: the user's Python is seen, instruction by instruction, while a call of it is recorded.

Knows frames, and which objects are older than the call; never graphs. A recording holds what
Python held when it ran: a number in a list, a flag of an object, which function a name stood for.
The watch sees each such reading at the moment it happens (instructions.py), so that a Guard can ask
later whether it is still so. Where frames cannot be seen (frames.py) it takes what the code names
instead, and sees less: closure cells, globals, `self` of a bound method, attributes of plain
objects among them that hold a number, and the user's own functions; not what lies in containers,
nor attributes of attributes.
"""

from __future__ import annotations

import dis
import functools
import gc
import inspect
import types
from collections.abc import Callable, Collection, Iterator
from typing import Any

from tinytorch.compiler.record.frames import FUNCTION, LOCALS, Observer, at, available
from tinytorch.compiler.record.guards import Guard, Place, contents, place_of, reading_of
from tinytorch.compiler.record.instructions import Moment, note_call, plan_of
from tinytorch.compiler.record.objects import (
    MISSING,
    REFUSALS,
    SCALARS,
    asked,
    class_of,
    dict_of_object,
    is_a,
    is_library_class,
    is_users,
    names_in,
    put,
    refill,
)
from tinytorch.compiler.record.readings import DEEP, Readings, holds_tensor, young_objects


class Watch(Readings, Observer):
    """Sees what one recorded call reads and writes. Use it as a context manager around the call.

    Attributes:
        sees: whether this Python's frames can be looked at; else there are names of the code alone.
        complete: whether everything that was read and written is known; else the recording is used
            once.
        why: it is not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sees = available()
        self.complete = True
        self.why = "reads what was not understood"
        self._functions: set[int] = set()
        self._methods: dict[tuple[int, int], list[str]] = {}  # function, class -> its names there
        self._collecting = False

    def __enter__(self) -> Watch:
        self._collecting = gc.isenabled()
        gc.disable()
        gc.collect(0)  # from now on the youngest generation holds what the call makes
        gc.callbacks.append(self._collects)
        return self

    def _collects(self, _phase: str, _found: dict[str, int]) -> None:
        """Garbage is collected during the call: what is old is no longer known."""
        self.complete, self.why = False, "collects garbage"

    def __exit__(self, *_problem: object) -> None:
        gc.callbacks.remove(self._collects)
        if self._collecting:
            gc.enable()

    def run(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a function and see what it reads."""
        if not self.sees:
            for g in names_read(function):
                self.add_guard(g.kind, g.holder, g.key, g.held, g.shown)
            return function(*args, **kwargs)
        self.will_call(function, [])
        result = self.observe(function, args, kwargs)
        self.read_inside(result, DEEP)  # containers are handed out with what lies in them
        return result

    def finish(self) -> list[Guard]:
        """The guards of the call, when it is over: of what was there before it.

        Only `written` and `snapshots` of older objects are kept.
        """
        listed = self.guards.values()
        holders = [g.holder for g in listed] + [x for x, *_ in self.written.values()]
        holders += [x for x, _ in (*self.snapshots.values(), *self.unguarded)]
        holders += self.owners.values()
        young = set(map(id, holders)).intersection(map(id, young_objects()))
        kept = [g for g in listed if g.kind == "call" or self.is_old(g.holder, young)]
        kept = [g for g in kept if not g.counted or not g.holds()]
        self.written = {k: v for k, v in self.written.items() if self.is_old(v[0], young)}
        self.snapshots = {k: v for k, v in self.snapshots.items() if self.is_old(v[0], young)}
        self.owners = {i: x for i, x in self.owners.items() if self.is_old(x, young)}
        reasons = [why for x, why in self.unguarded if self.is_old(x, young)]
        if reasons:
            self.complete, self.why = False, reasons[0]
        self.guards, self._names, self._kept, self.unguarded = {}, {}, [], []
        return kept

    def take_back(self) -> Callable[[], None]:
        """Let the places where the call put Tensors hold what they held; gives what undoes that.

        So nobody meets a Tensor without numbers before the program has run, or if it never does.
        """
        again: list[Callable[[], None]] = []
        for holder, name, old in reversed(list(self.written.values())):
            place = reading_of(holder, name)
            now = place.now()
            if now is not old and holds_tensor(now):
                put(place.kind, holder, name, old)
                again.append(functools.partial(put, place.kind, holder, name, now))
        for holder, before in self.snapshots.values():
            if any(map(holds_tensor, contents(holder)[1])):
                now = dict(holder) if is_a(holder, dict) else list(holder)
                refill(holder, before)
                again.append(functools.partial(refill, holder, now))
        self.written, self.snapshots = {}, {}

        def put_again() -> None:
            for do in reversed(again):
                do()

        return put_again

    # what frames do

    def enters(self, frame: types.FrameType, code: types.CodeType, base: int) -> None:
        """A function of the user begins."""
        try:
            self._begins(code, base)
        except REFUSALS:  # of the user's objects
            self.complete = False

    def _begins(self, code: types.CodeType, base: int) -> None:
        function = at(base - LOCALS + FUNCTION)
        if class_of(function) is types.FunctionType:
            if id(function) not in self._functions:
                self._functions.add(id(function))
                self._entered(function)
            self._of_its_class(function, _first_argument(code, base))
        for i in range(code.co_argcount):
            given = at(base + 8 * i)
            if class_of(given) not in SCALARS:
                self.add_name(given, code.co_varnames[i])

    def offsets(self, code: types.CodeType) -> Collection[int]:
        """The instructions that read or change something."""
        return plan_of(code)

    def instruction(self, frame: types.FrameType, code: types.CodeType, base: int) -> None:
        """An instruction is about to run."""
        planned = plan_of(code).get(frame.f_lasti)
        if planned is not None:
            act, depth, argument = planned
            try:
                act(self, Moment(frame, base, base + 8 * depth, argument))
            except REFUSALS:  # of the user's objects, or of an instruction not understood
                self.complete = False

    def will_call(self, function: Any, arguments: list[Any]) -> None:
        """`function` is about to be called with these, named ones among them."""
        note_call(self, function, arguments)

    def _entered(self, function: types.FunctionType) -> None:
        """The user's function runs: its code and defaults."""
        self._kept.append(function)
        shown = function.__qualname__
        for name in ("__code__", "__defaults__", "__kwdefaults__"):
            if (held := getattr(function, name)) is not None:
                self.add_guard("attr", function, name, held, f"{shown}.{name}")
        for default in function.__defaults__ or ():
            self.found(default, f"a default of {shown}", function)
        if function.__kwdefaults__ is not None:
            self.found(function.__kwdefaults__, f"{shown}.__kwdefaults__", function)
            self.read_all(function.__kwdefaults__)

    def _of_its_class(self, function: types.FunctionType, owner: Any) -> None:
        """A method runs: its class still has it, and the object is still of that class."""
        for cls in (owner, class_of(owner)) if is_a(owner, type) else (class_of(owner),):
            if is_library_class(cls):
                continue
            place = id(function), id(cls)
            if place not in self._methods:
                self._kept.append(cls)
                self._methods[place] = names_in(cls, function)
                for name in self._methods[place]:
                    self.read_through_class(cls, name, function)
            if self._methods[place] and cls is class_of(owner):
                self.read_class(owner)


def _first_argument(code: types.CodeType, base: int) -> Any:
    """What a function was given first, be it `self` or the first of `*arguments`; else None."""
    first = at(base) if code.co_argcount else None
    if not code.co_argcount and code.co_flags & inspect.CO_VARARGS:
        first = at(base + 8 * code.co_kwonlyargcount)
    if class_of(first) is types.CellType:  # a function inside uses it
        first = asked(first, "cell_contents", None)
    if class_of(first) is tuple and not code.co_argcount:
        first = first[0] if first else None
    return first


# what the code names, where frames cannot be seen


def names_read(function: Any) -> list[Guard]:
    """A Guard for each outer name that the code of `function` reads."""
    found: dict[Place, Guard] = {}
    _follow(function, found, set())
    return list(found.values())


def _follow(function: Any, found: dict[Place, Guard], seen: set[int]) -> None:
    while is_a(function, functools.partial):
        function = function.func
    if is_a(function, types.MethodType):
        _numbers_of(function.__self__, "self", function.__func__.__code__, found)
        function = function.__func__
    if not is_a(function, types.FunctionType):  # a Module, or another object that is called
        cls = class_of(function)
        function = getattr(cls, "forward", None) or vars(cls).get("__call__")
    if not is_users(function) or id(function) in seen:
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
        found.setdefault(place_of(g), g)
        if is_a(g.held, (types.FunctionType, types.MethodType)):
            _follow(g.held, found, seen)
        elif class_of(g.held) not in SCALARS:
            _numbers_of(g.held, g.shown, function.__code__, found)


_READS_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME")


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if is_a(constant, types.CodeType):
            yield from _codes(constant)


def _numbers_of(owner: Any, shown: str, code: types.CodeType, found: dict[Place, Guard]) -> None:
    held = dict_of_object(owner) or {}
    for name in {n for c in _codes(code) for n in c.co_names}:
        if class_of(held.get(name, MISSING)) in SCALARS:
            g = Guard("attr", owner, name, held[name], f"{shown}.{name}")
            found.setdefault(place_of(g), g)
