"""Watching: what the user's Python reads and writes while a call of it is recorded.

Knows objects, attributes, elements; never graphs. A recording holds what Python held when it ran: a
number in a list, a flag of an object, which function a name stood for. The watch sees each such
reading at the moment it happens (compiler/instructions.py), so that a Guard can ask later whether
it is still so. Containers and arrays that are handed to a library are taken as read by it.
"""

from __future__ import annotations

import functools
import gc
import types
from collections import ChainMap, UserDict, UserList
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from tinytorch.compiler.calls import KEYED, MUTATING, WRITE_ONLY, note_call
from tinytorch.compiler.escapes import holds_tensor, put, refill, young_objects
from tinytorch.compiler.frames import (
    FUNCTION,
    LOCALS,
    Observer,
    at,
    available,
    library_class,
    of_library,
)
from tinytorch.compiler.guards import MISSING, PLAIN, REFUSALS, SCALARS, Guard, contents, numbers
from tinytorch.compiler.instructions import CONTAINERS, found_in, plan_of
from tinytorch.compiler.names import names_read
from tinytorch.tensor.base import TensorBase

_IN_C = (types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType)
_OF_SHAPE = frozenset(("shape", "ndim", "size", "dtype", "nbytes", "itemsize", "flags", "strides"))
_WRAPPERS = (UserDict, UserList, ChainMap)
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
        self.set_items: set[tuple[int, Any]] = set()  # elements of lists and dicts that were set
        self.drawn: list[tuple[Any, str]] = []  # what gives another answer each time, and its name
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
        return self.observe(function, args, kwargs)

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
        drawn = [shown for x, shown in self.drawn if self.is_old(x, young)]
        if drawn:
            self.saw_all, self.why = False, f"asks {drawn[0]}, which answers otherwise each time"
        self.guards, self._names, self._kept, self.drawn = {}, {}, [], []
        return kept

    def is_old(self, x: Any, young: set[int]) -> bool:
        """Whether an object was there before the call.

        `young` are the ids of the youngest generation of the collector of garbage, which was empty
        when the call began. Dicts of plain values and arrays are not in it: they are old if they
        were read from something old.
        """
        for _ in range(100):
            if isinstance(x, np.ndarray) or (
                type(x) is dict and not (gc.is_tracked(x) and id(x) not in young)
            ):
                x = self.via.get(id(x), MISSING)
            else:
                break
        return x is not MISSING and id(x) not in young

    def take_back(self) -> Callable[[], None]:
        """Let the places where the call put Tensors hold what they held; gives what undoes that.

        So nobody meets a Tensor without numbers before the program has run, or if it never does.
        """
        again: list[Callable[[], None]] = []
        for holder, name, old in reversed(list(self.written.values())):
            kind = "item" if isinstance(holder, dict) else "attr"
            now = Guard(kind, holder, name, None, name).now()
            if now is not old and holds_tensor(now):
                put(kind, holder, name, old)
                again.append(functools.partial(put, kind, holder, name, now))
        for holder, before in self.shots.values():
            if any(map(holds_tensor, contents(holder)[1])):
                now = dict(holder) if isinstance(holder, dict) else list(holder)
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
        function = at(base - LOCALS + FUNCTION)
        if id(function) not in self._functions and type(function) is types.FunctionType:
            self._functions.add(id(function))
            self._entered(function, code, base)
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

    def _entered(self, function: types.FunctionType, code: types.CodeType, base: int) -> None:
        """The user's function runs: its code and defaults, and that its class still has it."""
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
        if code.co_argcount and code.co_name == function.__name__:
            owner = at(base)
            kind = owner if isinstance(owner, type) else type(owner)
            if not library_class(kind) and found_in(kind, code.co_name) is function:
                self._of_class(kind, code.co_name, function)

    # what is remembered

    def _name(self, x: Any, shown: str) -> None:
        self._kept.append(x)
        self._names[id(x)] = shown

    def shown(self, x: Any) -> str:
        """How the user writes an object."""
        return self._names.get(id(x)) or (x.__name__ if isinstance(x, type) else type(x).__name__)

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
        if type(x) is dict or isinstance(x, np.ndarray):
            self.via.setdefault(id(x), via)

    def array(self, x: np.ndarray, key: Any = None) -> None:
        """The numbers of an array from outside are read: all, or those of `x[key]`."""
        root: Any = x
        while isinstance(root, np.ndarray):
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
        if (id(holder), key if type(key) is str else None) in self.written:
            return
        if ("item", id(holder), key if type(key) in SCALARS else id(key)) in self.guards:
            return
        before = self.shots.get(id(holder))
        try:
            if before is not None:
                if (id(holder), key) in self.set_items:
                    return
                if isinstance(holder, dict):
                    value = before[1].get(key, MISSING)
                elif len(holder) != len(before[1]) or holder[key] is not before[1][key]:
                    self.whole(holder)
                    return
                else:
                    value = holder[key]
            elif isinstance(holder, dict):
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
                key = key if isinstance(before, dict) else i
                self.value(value, f"{shown}[{key!r}]" if type(key) in SCALARS else shown, x)
        if depth > 0:
            for value in before.values() if isinstance(before, dict) else before:
                self.deep(value, depth - 1)

    def deep(self, x: Any, depth: int = DEEP, objects: bool = False) -> None:
        """A library reads an object; `objects`: the attributes of any, not of plain ones alone."""
        kind = type(x)
        if kind in SCALARS or kind is types.FunctionType or isinstance(x, (TensorBase, type)):
            return
        if isinstance(x, CONTAINERS):
            self.whole(x, depth)
        elif isinstance(x, _WRAPPERS):
            self._wrapped(x)
        elif isinstance(x, np.ndarray):
            self.array(x)
        elif isinstance(x, tuple):
            for value in x if depth >= 0 else ():
                self.deep(value, depth - 1)
        elif isinstance(x, functools.partial):
            self.deep(x.args, depth)
            self.whole(x.keywords, depth)
            self.value(x.keywords, self.shown(x) + ".keywords", x)
        elif objects or kind is types.SimpleNamespace or hasattr(kind, "__dataclass_fields__"):
            if not library_class(kind) or kind is types.SimpleNamespace:
                for name in list(getattr(x, "__dict__", ())) if depth >= 0 else ():
                    self.attribute(x, name)
                    self.deep(getattr(x, name, None), depth - 1, objects)

    def attribute(self, x: Any, name: str) -> None:
        """`x.name` is read."""
        kind = type(x)
        if kind in PLAIN:
            return
        if isinstance(x, TensorBase):  # what it holds is a state; only this is Python's
            if name in ("requires_grad", "is_leaf"):
                self.add("attr", x, "_node", x._node, f"{self.shown(x)}.{name}")
            if name not in getattr(x, "__dict__", ()):
                return
        if (id(x), name) in self.written or ("attr", id(x), name) in self.guards:
            return
        if isinstance(x, CONTAINERS) and type(found_in(kind, name)) in _IN_C:
            self._method_of(x, name)
            return
        if isinstance(x, _WRAPPERS):
            self._wrapped(x)
        if isinstance(x, types.ModuleType):
            if not of_library(x):
                self.via.setdefault(id(vars(x)), x)
                self.item(vars(x), name, f"{x.__name__}.{name}")
        elif isinstance(x, np.ndarray):
            if name not in _OF_SHAPE:
                self.array(x)
        elif isinstance(x, type):
            if not library_class(x):
                self._of_class(x, name, found_in(x, name))
        else:
            self._of_object(x, kind, name)

    def _wrapped(self, x: Any) -> None:
        """A container of the standard library that is written in Python."""
        for part in x.maps if isinstance(x, ChainMap) else [x.data]:
            self.value(part, self.shown(x), x)
            self.whole(part)

    def _of_object(self, x: Any, kind: type, name: str) -> None:
        found = found_in(kind, name)
        of_kind = type(found)
        shown = f"{self.shown(x)}.{name}"
        counted = hasattr(kind, "_buffer_names")  # a Module: settings.STRUCTURE counts its changes
        if found is not MISSING and hasattr(of_kind, "__set__"):
            if of_kind in (types.MemberDescriptorType, types.GetSetDescriptorType):
                if not library_class(kind):
                    self.read("attr", x, name, shown)
            elif not library_class(kind):
                self._of_class(kind, name, found)
            return
        own = getattr(x, "__dict__", None)
        if isinstance(own, dict):
            self.via.setdefault(id(own), x)  # reading it may have made it
        else:
            own = {}
        if name in own:
            held = own[name]
            soft = counted and not _has_tensor(held)
            self.add("attr", x, name, held, shown, soft)
            self.value(held, shown, x)
        elif found is MISSING:
            if hasattr(x, "__dict__"):
                self.add("has", own, name, False, shown)
                self.value(own, f"vars({self.shown(x)})", x)
        else:
            if not counted and not library_class(kind) and hasattr(x, "__dict__"):
                self.add("has", own, name, False, shown)
                self.value(own, f"vars({self.shown(x)})", x)
            if not library_class(kind):
                self._of_class(kind, name, found)

    def _of_class(self, kind: type, name: str, found: Any) -> None:
        """`kind.name` is read, through an object or the class itself."""
        if found is MISSING:
            above = found_in(type(kind), name)  # of a metaclass
            if not hasattr(type(above), "__get__") and not library_class(type(kind)):
                self.read("attr", kind, name, f"{kind.__name__}.{name}")
            return
        shown = f"{kind.__name__}.{name}"
        owner = next(c for c in kind.__mro__ if name in vars(c))
        if library_class(owner):
            return
        try:
            held = getattr(kind, name)
            steady = held is getattr(kind, name)
        except REFUSALS:
            return
        if steady:
            self.add("attr", kind, name, held, shown)
            self.value(held, shown, kind)
        else:
            self.add("class", owner, name, found, shown)

    def read(self, kind: str, x: Any, name: str, shown: str) -> None:
        """An attribute is read whose reading runs no code of the user."""
        try:
            held = getattr(x, name)
            steady = held is getattr(x, name)
        except REFUSALS:
            return
        if steady:
            self.add(kind, x, name, held, shown)
            self.value(held, shown, x)

    def _method_of(self, x: Any, name: str) -> None:
        """A method of a list, dict or set is about to be called."""
        if name not in WRITE_ONLY and not (isinstance(x, dict) and name in KEYED):
            self.whole(x)
        if name in MUTATING:
            self.shot(x)

    def shot(self, x: Any) -> None:
        """A container is about to change: keep what it held."""
        if id(x) not in self.shots:
            self._kept.append(x)
            self.shots[id(x)] = (x, dict(x) if isinstance(x, dict) else list(x))

    def sets(self, holder: Any, name: str, old: Any) -> None:
        """A name or an attribute is about to change."""
        self.written.setdefault((id(holder), name), (holder, name, old))
        self._kept.append(holder)

    def calls(self, function: Any, arguments: list[Any]) -> None:
        """`function` is about to be called."""
        note_call(self, function, arguments)

    def draws(self, x: Any, shown: str) -> None:
        """Something gives another answer each time it is asked: an iterator, a clock."""
        self._kept.append(x)
        self.drawn.append((x, shown))

    def stores_attribute(self, x: Any, name: Any) -> None:
        """`x.name` is about to be set or deleted."""
        if isinstance(x, TensorBase) or (id(x), name) in self.written:
            return
        own = vars(x) if kind_of_module(x) else getattr(x, "__dict__", None)
        if isinstance(own, dict):
            self.via.setdefault(id(own), x)  # reading it may have made it
        if isinstance(own, (dict, types.MappingProxyType)) and name in own:
            old = own[name]
        elif type(found_in(type(x), name)) is types.MemberDescriptorType:
            old = getattr(x, name, MISSING)
        else:
            old = MISSING
        self.sets(vars(x) if kind_of_module(x) else x, name, old)


def kind_of_module(x: Any) -> bool:
    """Whether an object is a Python module."""
    return type(x) is types.ModuleType


def _has_tensor(x: Any) -> bool:
    """Whether an attribute of a Module holds Tensors that are no parameters."""
    if isinstance(x, tuple):
        return any(map(_has_tensor, x))
    return isinstance(x, TensorBase) and type(x).__name__ != "Parameter"


def _of_dict(x: dict, key: Any) -> Any:
    return dict.__getitem__(x, key) if dict.__contains__(x, key) else MISSING
