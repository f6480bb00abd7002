"""Watching: what the user's Python reads and writes while a call of it is recorded.

Knows objects, attributes, elements; never graphs. A recording holds what Python held when it ran: a
number in a list, a flag of an object, which function a name stood for. The watch sees each such
reading at the moment it happens (instructions.py), so that a Guard can ask later whether
it is still so. Containers and arrays that are handed to a library are taken as read by it.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import inspect
import mmap
import types
from collections import ChainMap
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from tinytorch.compiler.record.attributes import WRAPPERS, is_counted, note_attribute, note_class
from tinytorch.compiler.record.escapes import holds_tensor, put, refill, young_objects
from tinytorch.compiler.record.frames import (
    FUNCTION,
    LOCALS,
    Observer,
    at,
    available,
    library_class,
)
from tinytorch.compiler.record.guards import (
    MISSING,
    REFUSALS,
    SCALARS,
    UNSET,
    Guard,
    contents,
    numbers,
    same,
)
from tinytorch.compiler.record.instructions import plan_of
from tinytorch.compiler.record.library_functions import KEYED, MUTATING, WRITE_ONLY, note_call
from tinytorch.compiler.record.names import names_read
from tinytorch.compiler.record.objects import (
    BOUND_IN_C,
    CONTAINERS,
    asked,
    bases_of,
    can_change_class,
    dict_of_class,
    found_in,
    is_a,
    name_of,
    names_of,
    opened,
    own_dict,
    slots_of,
)
from tinytorch.tensor.memory import TensorBase

# they show memory, whoever owns it: what lies there is not compared
_MEMORY = (memoryview, mmap.mmap, ctypes.Array, ctypes._Pointer, np.void, np.flatiter)
DEEP = 3  # how far a library's reading of nested containers is followed


class Watch(Observer):
    """Sees what one recorded call reads and writes. Use it as a context manager around the call.

    Attributes:
        guards: what was read, in the order it was first read.
        written: (id, name) -> (object, name, value before) of attributes and names that were set.
        shots: id -> (container, its contents before the first change).
        sees: whether this Python's frames can be looked at; else there are names of the code alone.
        saw_all: whether everything that was read and written is known.
    """

    def __init__(self) -> None:
        self.guards: dict[tuple, Guard] = {}
        self.written: dict[tuple[int, str], tuple[Any, str, Any]] = {}
        self.shots: dict[int, tuple[Any, Any]] = {}
        self._names: dict[int, str] = {}
        self._kept: list[Any] = []  # so that no id is given to another object meanwhile
        self._functions: set[int] = set()
        self._methods: dict[tuple[int, int], list[str]] = {}  # function, class -> its names there
        self.set_items: set[tuple[int, Any]] = set()  # elements of lists and dicts that were set
        self.drawn: list[tuple[Any, str]] = []  # what no guard can tell of, and why
        self.why = "reads what was not understood"
        self.sees = available()
        self.saw_all = True  # else the recording is used once
        self.via: dict[int, Any] = {}  # id of a dict or array -> what it was read from
        self._collecting = False

    def __enter__(self) -> Watch:
        self._collecting = gc.isenabled()
        gc.disable()
        gc.collect(0)  # from now on the youngest generation holds what the call makes
        gc.callbacks.append(self._collects)
        return self

    def _collects(self, _phase: str, _found: dict) -> None:
        """Garbage is collected during the call: what is old is no longer known."""
        self.saw_all, self.why = False, "collects garbage"

    def __exit__(self, *_problem: Any) -> None:
        gc.callbacks.remove(self._collects)
        if self._collecting:
            gc.enable()

    def run(self, function: Callable, args: tuple, kwargs: dict) -> Any:
        """Call a function and see what it reads."""
        if not self.sees:
            for g in names_read(function):
                self.add(g.kind, g.holder, g.key, g.held, g.shown)
            return function(*args, **kwargs)
        self.calls(function, [])
        result = self.observe(function, args, kwargs)
        self.looks(result, DEEP)  # containers are handed out with what lies in them
        return result

    def finish(self) -> list[Guard]:
        """The guards of the call, when it is over: of what was there before it.

        Only `written` and `shots` of older objects are kept.
        """
        listed = self.guards.values()
        holders = [g.holder for g in listed] + [x for x, *_ in self.written.values()]
        holders += [x for x, _ in (*self.shots.values(), *self.drawn)] + list(self.via.values())
        young = set(map(id, holders)).intersection(map(id, young_objects()))
        kept = [g for g in listed if g.kind == "call" or self.is_old(g.holder, young)]
        kept = [g for g in kept if not g.soft or not g.holds()]
        self.written = {k: v for k, v in self.written.items() if self.is_old(v[0], young)}
        self.shots = {k: v for k, v in self.shots.items() if self.is_old(v[0], young)}
        self.via = {i: x for i, x in self.via.items() if self.is_old(x, young)}
        drawn = [why for x, why in self.drawn if self.is_old(x, young)]
        if drawn:
            self.saw_all, self.why = False, drawn[0]
        self.guards, self._names, self._kept, self.drawn = {}, {}, [], []
        return kept

    def is_old(self, x: Any, young: set[int]) -> bool:
        """Whether an object was there before the call.

        `young` are the ids of the youngest generation of the collector of garbage, which was empty
        when the call began. Dicts of plain values and arrays are not in it: they are old if they
        were read from something old.
        """
        for _ in range(100):
            if is_a(x, np.ndarray) or (
                type(x) is dict and not (gc.is_tracked(x) and id(x) not in young)
            ):
                x = self.via.get(id(x), MISSING)
            elif is_a(x, super):
                x = x.__self__  # pyright: ignore[reportAttributeAccessIssue]
            else:
                break
        return x is not MISSING and id(x) not in young

    def take_back(self) -> Callable[[], None]:
        """Let the places where the call put Tensors hold what they held; gives what undoes that.

        So nobody meets a Tensor without numbers before the program has run, or if it never does.
        """
        again: list[Callable[[], None]] = []
        for holder, name, old in reversed(list(self.written.values())):
            kind = "item" if is_a(holder, dict) else "attr"
            now = Guard(kind, holder, name, None, name).now()
            if now is not old and holds_tensor(now):
                put(kind, holder, name, old)
                again.append(functools.partial(put, kind, holder, name, now))
        for holder, before in self.shots.values():
            if any(map(holds_tensor, contents(holder)[1])):
                now = dict(holder) if is_a(holder, dict) else list(holder)
                refill(holder, before)
                again.append(functools.partial(refill, holder, now))
        self.written, self.shots = {}, {}

        def put_again() -> None:
            for do in reversed(again):
                do()

        return put_again

    # frames

    def enters(self, frame: types.FrameType, code: types.CodeType, base: int) -> None:
        """A function of the user begins."""
        try:
            self._begins(code, base)
        except REFUSALS:  # of the user's objects
            self.saw_all = False

    def _begins(self, code: types.CodeType, base: int) -> None:
        function = at(base - LOCALS + FUNCTION)
        if id(function) not in self._functions and type(function) is types.FunctionType:
            self._functions.add(id(function))
            self._entered(function)
        if type(function) is types.FunctionType:
            self._of_its_class(function, _first_argument(code, base))
        for i in range(code.co_argcount):
            given = at(base + 8 * i)
            if type(given) not in SCALARS and id(given) not in self._names:
                self._name(given, code.co_varnames[i])

    def offsets(self, code: types.CodeType) -> Collection[int]:
        """The instructions that read or change something."""
        return plan_of(code)

    def instruction(self, frame: types.FrameType, code: types.CodeType, base: int) -> None:
        """An instruction is about to run."""
        step = plan_of(code).get(frame.f_lasti)
        if step is not None:
            act, depth, argument = step
            try:
                act(self, frame, base, base + 8 * depth, argument)
            except REFUSALS:  # of the user's objects, or of an instruction not understood
                self.saw_all = False

    def _entered(self, function: types.FunctionType) -> None:
        """The user's function runs: its code and defaults."""
        self._kept.append(function)
        shown = function.__qualname__
        for name in ("__code__", "__defaults__", "__kwdefaults__"):
            if (held := getattr(function, name)) is not None:
                self.add("attr", function, name, held, f"{shown}.{name}")
        for default in function.__defaults__ or ():
            self.value(default, f"a default of {shown}", function)
        if function.__kwdefaults__ is not None:
            self.value(function.__kwdefaults__, f"{shown}.__kwdefaults__", function)
            self.whole(function.__kwdefaults__)

    def _of_its_class(self, function: types.FunctionType, owner: Any) -> None:
        """A method runs: its class still has it, and the object is still of that class."""
        for kind in (owner, type(owner)) if is_a(owner, type) else (type(owner),):
            if library_class(kind):
                continue
            place = id(function), id(kind)
            if place not in self._methods:
                self._kept.append(kind)
                self._methods[place] = names_of(kind, function)
                for name in self._methods[place]:
                    note_class(self, kind, name, function)
            if self._methods[place] and kind is type(owner):
                self.kind_of(owner)

    # what is remembered

    def _name(self, x: Any, shown: str) -> None:
        self._kept.append(x)
        self._names[id(x)] = shown

    def shown(self, x: Any) -> str:
        """How the user writes an object."""
        return self._names.get(id(x)) or name_of(x if is_a(x, type) else type(x))

    def add(self, kind: str, holder: Any, key: Any, held: Any, shown: str, soft=False) -> None:
        """Remember a reading, if it is the first of its kind."""
        place = (kind, id(holder), key if type(key) in SCALARS else id(key))
        if place not in self.guards:
            self._kept.append(holder)
            self.guards[place] = Guard(kind, holder, key, held, shown, soft)

    def value(self, x: Any, shown: str, via: Any) -> None:
        """An object was read from outside: remember its name, and where it came from."""
        if type(x) in SCALARS:
            return
        if id(x) not in self._names:
            self._name(x, shown)
        if type(x) is dict or is_a(x, np.ndarray):
            self.via.setdefault(id(x), via)

    def array(self, x: np.ndarray, key: Any = None) -> None:
        """The numbers of an array from outside are read: all, or those of `x[key]`."""
        root: Any = x
        while is_a(root, np.ndarray):
            if id(root) in self.via:
                try:
                    held = numbers(x, key)
                except REFUSALS:
                    return
                self.via.setdefault(id(x), self.via[id(root)])
                self.add("array", x, key, held, self.shown(root))
                return
            root = root.base

    def item(self, holder: Any, key: Any, shown: str) -> None:
        """`holder[key]` of a dict or list is read."""
        if type(key) is str:
            owner = self.via.get(id(holder), holder)
            if (id(holder), key) in self.written:
                return
            if (id(owner), key) in self.written and _has_dict(owner, holder):
                return
        if ("item", id(holder), key if type(key) in SCALARS else id(key)) in self.guards:
            return
        before = self.shots.get(id(holder))
        try:
            if before is not None:
                if (id(holder), key) in self.set_items:
                    return
                if is_a(holder, dict):
                    value = before[1].get(key, MISSING)
                elif len(holder) != len(before[1]) or holder[key] is not before[1][key]:
                    self.whole(holder)
                    return
                else:
                    value = holder[key]
            elif is_a(holder, dict):
                value = holder.get(key, MISSING) if type(holder) is dict else _of_dict(holder, key)
            else:
                value = holder[key]
        except REFUSALS:
            return
        if value is MISSING:
            self.add("has", holder, key, False, shown)
        else:
            self.add("item", holder, key, value, shown)
            self.value(value, shown, holder)

    def whole(self, x: Any, depth: int = 0) -> None:
        """All of a container is read; `depth` > 0: and the containers in it."""
        shown = self.shown(x)
        before = self.shots.get(id(x), (None, x))[1]
        fresh = ("all", id(x), None) not in self.guards
        if fresh:
            keys, values = contents(before)
            self.add("all", x, None, (keys, values), shown)
            for i, (key, value) in enumerate(zip(keys, values, strict=True)):
                key = key if is_a(before, dict) else i
                self.value(value, f"{shown}[{key!r}]" if type(key) in SCALARS else shown, x)
        if depth > 0:
            for value in before.values() if is_a(before, dict) else before:
                self.deep(value, depth - 1)

    def opened(self, x: Any) -> Any:
        """The dict that a mappingproxy or a view of a dict shows; any other object itself."""
        beneath = opened(x)
        if beneath is not x:
            self.via.setdefault(id(beneath), x)
        return beneath

    def looks(self, x: Any, depth: int = 0) -> None:
        """An object is looked into; `depth` > 0: and into the containers in it."""
        x = self.opened(x)
        kind = type(x)
        if kind in SCALARS:
            return
        if issubclass(kind, CONTAINERS):
            self.whole(x, depth)
        elif issubclass(kind, np.ndarray):
            self.array(x)
        elif issubclass(kind, WRAPPERS):
            self.wrapped(x)
        elif issubclass(kind, tuple):
            for value in x if depth > 0 else ():
                self.looks(value, depth - 1)
        elif kind is slice:
            for part in (x.start, x.stop, x.step):
                self.looks(part)
        elif issubclass(kind, _MEMORY):
            self.unseen(x, f"reads the memory of {self.shown(x)}, a {name_of(kind)}")
        elif depth > 0 and kind is types.SimpleNamespace:
            self.deep(x, depth)

    def deep(self, x: Any, depth: int = DEEP, objects: bool = False) -> None:
        """A library reads an object; `objects`: the attributes of any, not of plain ones alone."""
        x = self.opened(x)
        kind = type(x)
        if kind in SCALARS or kind is types.FunctionType or issubclass(kind, TensorBase):
            return
        if issubclass(kind, type):
            for owner in bases_of(x) if objects else ():
                if not library_class(owner):
                    self.via.setdefault(id(dict_of_class(owner)), owner)
                    self.whole(dict_of_class(owner))
        elif kind in BOUND_IN_C:
            self.via.setdefault(id(x.__self__), x)
            self.looks(x.__self__)
        elif issubclass(kind, tuple):
            for value in x if depth >= 0 else ():
                self.deep(value, depth - 1, objects)
        elif issubclass(kind, functools.partial):
            self.deep(x.args, depth)
            self.whole(x.keywords, depth)
            self.value(x.keywords, self.shown(x) + ".keywords", x)
        elif kind is types.SimpleNamespace or (
            (objects or found_in(kind, "__dataclass_fields__") is not MISSING)
            and not library_class(kind)
        ):
            for name in [*(own_dict(x) or ()), *slots_of(kind)] if depth >= 0 else ():
                self.attribute(x, name)
                self.deep(getattr(x, name, None), depth - 1, objects)
        else:
            self.looks(x, depth)
            if objects and depth > 0 and issubclass(kind, CONTAINERS):
                for value in contents(x)[1]:
                    self.deep(value, depth - 1, objects)

    def attribute(self, x: Any, name: str, past: bool = False) -> None:
        """`x.name` is read; `past`: past the `__getattribute__` of its class."""
        note_attribute(self, x, name, past)

    def wrapped(self, x: Any) -> None:
        """A container of the standard library that is written in Python."""
        if is_a(x, ChainMap):
            self.read(x, "maps", f"{self.shown(x)}.maps")
            self.looks(x.maps, 1)
        else:
            self.read(x, "data", f"{self.shown(x)}.data")
            self.looks(x.data)

    def kind_of(self, x: Any) -> None:
        """Which class an object has is relied upon."""
        kind = type(x)
        if can_change_class(kind) and not issubclass(kind, TensorBase):
            self.add("kind", x, None, kind, f"type({self.shown(x)})", is_counted(kind))

    def read(self, x: Any, name: str, shown: str) -> None:
        """An attribute is read whose reading runs no code of the user."""
        if ("attr", id(x), name) in self.guards:
            return
        try:
            held, again = getattr(x, name, UNSET), getattr(x, name, UNSET)
        except REFUSALS:
            return
        if held is again and held is not UNSET:
            self.add("attr", x, name, held, shown)
            self.value(held, shown, x)
        elif same(held, again):  # made anew each time, or not set yet
            self.add("again", x, name, held, shown)
        elif type(held) not in (types.MethodType, *BOUND_IN_C):
            self.unseen(x, f"reads {shown}, another object each time")

    def method_of(self, x: Any, name: str) -> None:
        """A method of a list, dict or set is about to be called."""
        if name not in WRITE_ONLY and not (is_a(x, dict) and name in KEYED):
            self.looks(x)
        if name in MUTATING:
            self.shot(x)

    def shot(self, x: Any) -> None:
        """A container is about to change: keep what it held."""
        if id(x) not in self.shots:
            self._kept.append(x)
            self.shots[id(x)] = (x, dict(x) if is_a(x, dict) else list(x))

    def sets(self, holder: Any, name: str, old: Any) -> None:
        """A name or an attribute is about to change."""
        self.written.setdefault((id(holder), name), (holder, name, old))
        self._kept.append(holder)

    def calls(self, function: Any, arguments: list[Any]) -> None:
        """`function` is about to be called."""
        note_call(self, function, arguments)

    def draws(self, x: Any, shown: str) -> None:
        """Something gives another answer each time it is asked: an iterator, a clock."""
        self.unseen(x, f"asks {shown}, which answers otherwise each time")

    def unseen(self, x: Any, why: str) -> None:
        """Something is read that no guard can tell of: if it is old, the recording is used once."""
        self._kept.append(x)
        self.drawn.append((x, why))

    def stores_attribute(self, x: Any, name: Any) -> None:
        """`x.name` is about to be set or deleted."""
        if is_a(x, TensorBase) or (id(x), name) in self.written:
            return
        own = dict_of_class(x) if is_a(x, type) else own_dict(x)
        if own is not None:
            self.via.setdefault(id(own), x)  # reading it may have made it
        if own is not None and name in own:
            old = own[name]
        elif type(found_in(type(x), name)) is types.MemberDescriptorType:
            old = getattr(x, name, MISSING)
        else:
            old = MISSING
        self.sets(own if type(x) is types.ModuleType else x, name, old)


def _first_argument(code: types.CodeType, base: int) -> Any:
    """What a function was given first, be it `self` or the first of `*arguments`; else None."""
    first = at(base) if code.co_argcount else None
    if not code.co_argcount and code.co_flags & inspect.CO_VARARGS:
        first = at(base + 8 * code.co_kwonlyargcount)
    if type(first) is types.CellType:  # a function inside uses it
        first = asked(first, "cell_contents", None)
    if type(first) is tuple and not code.co_argcount:
        first = first[0] if first else None
    return first


def _has_dict(x: Any, own: dict) -> bool:
    """Whether the attributes of an object or a class lie in this dict."""
    return (dict_of_class(x) if is_a(x, type) else own_dict(x)) is own


def _of_dict(x: dict, key: Any) -> Any:
    return dict.__getitem__(x, key) if dict.__contains__(x, key) else MISSING
