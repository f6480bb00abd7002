"""Readings: what one recorded call reads and changes of the Python around it.

Knows containers, arrays, and in which order Python looks an attribute up; never frames or graphs.
A reading whose answer may be another one at a later call becomes a Guard. Of `x.name` this is what
decides what was found: the object, its class and bases, a descriptor, and the places where nothing
was found but something may be put later.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import mmap
import operator
import types
from collections import ChainMap, UserDict, UserList
from collections.abc import Iterator
from enum import Enum
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

import numpy as np

from tinytorch.compiler.record.guards import Guard, Place, contents, numbers, same
from tinytorch.compiler.record.objects import (
    BOUND_IN_C,
    CONTAINERS,
    MISSING,
    PLAIN,
    REFUSALS,
    SCALARS,
    UNSET,
    bases_of,
    can_change_class,
    class_of,
    dict_behind,
    dict_of_class,
    found_in,
    has_method,
    is_a,
    is_library_class,
    is_users,
    module_of,
    name_of,
    of_library,
    own_dict,
    owner_of,
    slots_of,
)
from tinytorch.tensor.memory import TensorBase

GETTERS = (operator.attrgetter, operator.itemgetter, operator.methodcaller)
MUTATING = frozenset(
    "append extend insert add update clear setdefault pop popitem remove discard sort reverse "
    "appendleft popleft extendleft rotate move_to_end difference_update intersection_update "
    "symmetric_difference_update __setitem__ __delitem__ __ior__ __iadd__".split()
)
WRITE_ONLY = frozenset("append extend insert add update appendleft extendleft clear".split())
KEYED = frozenset(("get", "setdefault", "pop", "__getitem__", "__contains__"))
DEEP = 3  # how far a library's reading of nested containers is followed

# containers of the standard library that are written in Python
_WRAPPERS: tuple[type[Any], ...] = (
    UserDict, UserList, ChainMap, WeakValueDictionary, WeakKeyDictionary, WeakSet,
)  # fmt: skip
# they show memory, whoever owns it: what lies there is not compared
_MEMORY: tuple[type[Any], ...] = (
    memoryview, mmap.mmap, ctypes.Array, np.void, np.flatiter,
    ctypes._Pointer,  # pyright: ignore[reportPrivateUsage]
)  # fmt: skip
_DICT: Any = dict  # asked itself, past the methods of a class derived from it
_METHODS = (
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
)
_OF_SHAPE = frozenset(("shape", "ndim", "size", "dtype", "nbytes", "itemsize", "flags", "strides"))
_NEVER_CHANGE = (np.generic, np.dtype)
_USUAL = (object.__getattribute__, types.ModuleType.__getattribute__)


class Readings:
    """What was read and changed, and the ways of reading that are noted here.

    Attributes:
        guards: what was read, in the order it was first read.
        written: (id, name) -> (object, name, value before) of attributes and names that were set.
        snapshots: id -> (container, its contents before the first change).
        set_items: (id, key) of elements of lists and dicts that were set.
        owners: id of a dict or an array -> what it was read from.
        unguarded: (what no guard can tell of, why).
    """

    def __init__(self) -> None:
        self.guards: dict[Place, Guard] = {}
        self.written: dict[tuple[int, str], tuple[Any, str, Any]] = {}
        self.snapshots: dict[int, tuple[Any, Any]] = {}
        self.set_items: set[tuple[int, Any]] = set()
        self.owners: dict[int, Any] = {}
        self.unguarded: list[tuple[Any, str]] = []
        self._names: dict[int, str] = {}
        self._kept: list[Any] = []  # so that no id is given to another object meanwhile

    def will_call(self, function: Any, arguments: list[Any]) -> None:
        """`function` is about to be called with these, named ones among them."""
        raise NotImplementedError

    def is_old(self, x: Any, young: set[int]) -> bool:
        """Whether an object was there before the call.

        `young` are the ids of the youngest generation of the collector of garbage, which was empty
        when the call began. Dicts of plain values and arrays are not in it: they are old if they
        were read from something old.
        """
        for _ in range(100):
            if is_a(x, np.ndarray) or (
                class_of(x) is dict and not (gc.is_tracked(x) and id(x) not in young)
            ):
                x = self.owners.get(id(x), MISSING)
            elif is_a(x, super):
                x = x.__self__
            else:
                break
        return x is not MISSING and id(x) not in young

    # what is remembered

    def shown(self, x: Any) -> str:
        """How the user writes an object."""
        return self._names.get(id(x)) or name_of(x if is_a(x, type) else class_of(x))

    def add_name(self, x: Any, shown: str) -> None:
        """The user writes an object so, if it has no name yet."""
        if id(x) not in self._names:
            self._kept.append(x)
            self._names[id(x)] = shown

    def add_guard(
        self, kind: str, holder: Any, key: Any, held: Any, shown: str, counted: bool = False
    ) -> None:
        """Remember a reading, if it is the first of its kind."""
        place = _place(kind, holder, key)
        if place not in self.guards:
            self._kept.append(holder)
            self.guards[place] = Guard(kind, holder, key, held, shown, counted)

    def found(self, x: Any, shown: str, owner: Any) -> None:
        """An object was read from outside: remember its name, and where it came from."""
        if class_of(x) not in SCALARS:
            self.add_name(x, shown)
            if class_of(x) is dict or is_a(x, np.ndarray):
                self.owners.setdefault(id(x), owner)

    def not_repeatable(self, x: Any, shown: str) -> None:
        """Something gives another answer each time it is asked: an iterator, a clock."""
        self.not_guarded(x, f"asks {shown}, which answers otherwise each time")

    def not_guarded(self, x: Any, why: str) -> None:
        """Something is read that no guard can tell of: if it is old, the recording is used once."""
        self._kept.append(x)
        self.unguarded.append((x, why))

    # containers and arrays

    def read_array(self, x: np.ndarray, key: Any = None) -> None:
        """The numbers of an array from outside are read: all, or those of `x[key]`."""
        root: Any = x
        while is_a(root, np.ndarray):
            if id(root) in self.owners:
                try:
                    held = numbers(x, key)
                except REFUSALS:
                    return
                self.owners.setdefault(id(x), self.owners[id(root)])
                self.add_guard("array", x, key, held, self.shown(root))
                return
            root = root.base

    def read_item(self, holder: Any, key: Any, shown: str) -> None:
        """`holder[key]` of a dict or list is read."""
        if class_of(key) is str:
            owner = self.owners.get(id(holder), holder)
            if (id(holder), key) in self.written:
                return
            if (id(owner), key) in self.written and own_dict(owner) is holder:
                return
        if _place("item", holder, key) in self.guards:
            return
        _, before = self.snapshots.get(id(holder), (None, None))
        try:
            if before is not None and (id(holder), key) in self.set_items:
                return
            if is_a(holder, dict):
                value: Any = _DICT.get(holder if before is None else before, key, MISSING)
            elif before is not None and (
                len(holder) != len(before) or holder[key] is not before[key]
            ):
                self.read_all(holder)
                return
            else:
                value = holder[key]
        except REFUSALS:
            return
        if value is MISSING:
            self.add_guard("has", holder, key, False, shown)
        else:
            self.add_guard("item", holder, key, value, shown)
            self.found(value, shown, holder)

    def read_all(self, x: Any, depth: int = 0) -> None:
        """All of a container is read; `depth` > 0: and the containers in it."""
        first = ("all", id(x), None) not in self.guards
        if not first and depth <= 0:
            return
        shown = self.shown(x)
        before = self.snapshots.get(id(x), (None, x))[1]
        keys, values = contents(before)
        if first:
            self.add_guard("all", x, None, (keys, values), shown)
            for i, (key, value) in enumerate(zip(keys, values, strict=True)):
                key = key if is_a(before, dict) else i
                self.found(value, f"{shown}[{key!r}]" if class_of(key) in SCALARS else shown, x)
        for value in values if depth > 0 else ():
            self.read_by_library(value, depth - 1)

    def dict_behind(self, x: Any) -> Any:
        """The dict that a mappingproxy or a view of a dict shows; any other object itself."""
        beneath = dict_behind(x)
        if beneath is not x:
            self.owners.setdefault(id(beneath), x)
        return beneath

    def read_inside(self, x: Any, depth: int = 0) -> None:
        """An object is looked into; `depth` > 0: and into the containers in it."""
        x = self.dict_behind(x)
        cls = class_of(x)
        if cls in SCALARS:
            return
        if issubclass(cls, CONTAINERS):
            self.read_all(x, depth)
        elif issubclass(cls, np.ndarray):
            self.read_array(x)
        elif issubclass(cls, _WRAPPERS):
            self.read_wrapper(x)
        elif issubclass(cls, tuple):
            for value in x if depth > 0 else ():
                self.read_inside(value, depth - 1)
        elif cls is slice:
            for part in (x.start, x.stop, x.step):
                self.read_inside(part)
        elif issubclass(cls, _MEMORY):
            self.not_guarded(x, f"reads the memory of {self.shown(x)}, a {name_of(cls)}")
        elif depth > 0 and cls is types.SimpleNamespace:
            self.read_by_library(x, depth)

    def read_by_library(self, x: Any, depth: int = DEEP, objects: bool = False) -> None:
        """A library reads an object; `objects`: the attributes of any, not of plain ones alone."""
        x = self.dict_behind(x)
        cls = class_of(x)
        if cls in SCALARS or cls is types.FunctionType or issubclass(cls, TensorBase):
            return
        if issubclass(cls, type):
            for owner in bases_of(x) if objects else ():
                if not is_library_class(owner):
                    self.owners.setdefault(id(dict_of_class(owner)), owner)
                    self.read_all(dict_of_class(owner))
        elif cls in BOUND_IN_C:
            self.owners.setdefault(id(x.__self__), x)
            self.read_inside(x.__self__)
        elif issubclass(cls, tuple):
            for value in x if depth >= 0 else ():
                self.read_by_library(value, depth - 1, objects)
        elif issubclass(cls, functools.partial):
            self.read_by_library(x.args, depth)
            self.read_all(x.keywords, depth)
            self.found(x.keywords, self.shown(x) + ".keywords", x)
        elif cls is types.SimpleNamespace or (
            (objects or found_in(cls, "__dataclass_fields__") is not MISSING)
            and not is_library_class(cls)
        ):
            for name in [*(own_dict(x) or ()), *slots_of(cls)] if depth >= 0 else ():
                self.read_attribute(x, name)
                self.read_by_library(getattr(x, name, None), depth - 1, objects)
        else:
            self.read_inside(x, depth)
            if objects and depth > 0 and issubclass(cls, CONTAINERS):
                for value in contents(x)[1]:
                    self.read_by_library(value, depth - 1, objects)

    def read_wrapper(self, x: Any) -> None:
        """A container of the standard library that is written in Python."""
        name = "maps" if is_a(x, ChainMap) else "data"
        self.read_directly(x, name, f"{self.shown(x)}.{name}")
        self.read_inside(getattr(x, name), 1 if name == "maps" else 0)

    # what is about to change

    def will_call_method(self, x: Any, name: str) -> None:
        """A method of a list, dict or set is about to be called."""
        if name not in WRITE_ONLY and not (is_a(x, dict) and name in KEYED):
            self.read_inside(x)
        if name in MUTATING:
            self.will_change(x)

    def will_change(self, x: Any) -> None:
        """A container is about to change: keep what it held."""
        if id(x) not in self.snapshots:
            self._kept.append(x)
            self.snapshots[id(x)] = (x, dict(x) if is_a(x, dict) else list(x))

    def will_set(self, holder: Any, name: str, old: Any) -> None:
        """A name or an attribute is about to change."""
        self.written.setdefault((id(holder), name), (holder, name, old))
        self._kept.append(holder)

    def will_set_attribute(self, x: Any, name: str) -> None:
        """`x.name` is about to be set or deleted."""
        if is_a(x, TensorBase) or (id(x), name) in self.written:
            return
        own, old = own_dict(x), MISSING
        if own is not None:
            self.owners.setdefault(id(own), x)  # reading it may have made it
        if own is not None and name in own:
            old = own[name]
        elif class_of(found_in(class_of(x), name)) is types.MemberDescriptorType:
            old = getattr(x, name, MISSING)
        self.will_set(own if class_of(x) is types.ModuleType else x, name, old)

    # attributes

    def read_attribute(self, x: Any, name: str, past: bool = False) -> None:
        """`x.name` is read; `past`: past the `__getattribute__` of its class."""
        cls = class_of(x)
        if cls in PLAIN:
            return
        if issubclass(cls, TensorBase):  # what it holds is a state; only this is Python's
            if name in ("requires_grad", "is_leaf"):
                self.add_guard("attr", x, "_node", x._node, f"{self.shown(x)}.{name}")
            if name not in (own_dict(x) or ()):
                owner = owner_of(cls, name)
                if is_library_class(cls) or owner is not None and is_library_class(owner):
                    return
        if (id(x), name) in self.written or ("attr", id(x), name) in self.guards:
            return
        method = issubclass(cls, CONTAINERS) and class_of(found_in(cls, name)) in _METHODS
        if method or dict_behind(x) is not x:
            self.will_call_method(dict_behind(x), name)
        elif issubclass(cls, types.ModuleType):
            self._of_module(x, name)
        elif issubclass(cls, np.ndarray):
            if name not in _OF_SHAPE:
                self.read_array(x)
        elif cls is super:
            self._of_super(x, name)
        elif issubclass(cls, type):
            if not is_library_class(x):
                self._of_class(x, name)
        else:
            if issubclass(cls, _WRAPPERS):
                self.read_wrapper(x)
            self._of_object(x, cls, name, past)

    def read_directly(self, x: Any, name: str, shown: str) -> None:
        """An attribute is read whose reading runs no code of the user."""
        if ("attr", id(x), name) in self.guards:
            return
        try:
            held, again = getattr(x, name, UNSET), getattr(x, name, UNSET)
        except REFUSALS:
            return
        if held is again and held is not UNSET:
            self.add_guard("attr", x, name, held, shown)
            self.found(held, shown, x)
        elif same(held, again):  # made anew each time, or not set yet
            self.add_guard("again", x, name, held, shown)
        elif class_of(held) not in (types.MethodType, *BOUND_IN_C):
            self.not_guarded(x, f"reads {shown}, another object each time")

    def read_class(self, x: Any) -> None:
        """Which class an object has is relied upon."""
        cls = class_of(x)
        if can_change_class(cls) and not issubclass(cls, TensorBase):
            self.add_guard("kind", x, None, cls, f"type({self.shown(x)})", is_counted(cls))

    def read_through_class(self, cls: type, name: str, found: Any) -> None:
        """`cls.name` is read, through an object or the class itself, and `found` is there."""
        shown = f"{name_of(cls)}.{name}"
        owner = owner_of(cls, name)
        if owner is None or is_library_class(owner):
            return
        try:
            held = getattr(cls, name)
            steady = held is getattr(cls, name)
        except REFUSALS:
            return
        if steady:
            self.add_guard("attr", cls, name, held, shown)
            self.found(held, shown, cls)
        else:
            self.add_guard("class", owner, name, found, shown)

    def _of_module(self, x: types.ModuleType, name: str) -> None:
        if of_library(x):
            return
        own = own_dict(x)
        self.owners.setdefault(id(own), x)
        self.read_item(own, name, f"{self.shown(x)}.{name}")
        if own is not None and name not in own:
            self.read_item(own, "__getattr__", f"{self.shown(x)}.__getattr__")

    def _of_object(self, x: Any, cls: type, name: str, past: bool) -> None:
        shown = f"{self.shown(x)}.{name}"
        if is_a(x, Enum) and name in ("name", "value") and owner_of(cls, name) is Enum:
            name = f"_{name}_"
        asks = found_in(cls, "__getattribute__")
        if asks not in _USUAL and not past:
            if not is_users(asks):  # a weak proxy, attributes of a thread: C looks elsewhere
                self.read_directly(x, name, shown)
            return
        found, own = found_in(cls, name), own_dict(x)
        if own is not None:
            self.owners.setdefault(id(own), x)  # reading it may have made it
        if found is not MISSING and has_method(found, "__set__"):
            if asks in _USUAL:
                self._by_descriptor(x, cls, name, found)
            elif name != "__dict__":
                self.not_guarded(x, f"reads {shown} past a __getattribute__")
        elif own is not None and name in own:
            held = own[name]
            if asks in _USUAL:
                counted = is_counted(cls) and not _has_tensor(held)
                self.add_guard("attr", x, name, held, shown, counted)
                self.found(held, shown, x)
            else:
                self.read_item(own, name, shown)
        else:
            self._beyond_object(x, cls, name, found, own)

    def _beyond_object(
        self, x: Any, cls: type, name: str, found: Any, own: dict[str, Any] | None
    ) -> None:
        """The object itself has no such attribute: its class has it, or nobody."""
        shown = f"{self.shown(x)}.{name}"
        counted, users = is_counted(cls), not is_library_class(cls)
        plain = found is not MISSING and not has_method(found, "__get__")
        if plain and users and not counted and found_in(cls, "__getattribute__") in _USUAL:
            # what the object gives says it all: its class, its bases, and that nothing covers them
            self.add_guard("attr", x, name, found, f"{name_of(cls)}.{name}")
            self.found(found, shown, x)
            self.read_through_class(cls, name, found)  # for an object made in the call
            return
        # of a Module's changes the count tells, but for names that begin with "_"
        covered = name[:1] == "_" if counted else users
        if own is not None and (found is MISSING or covered):
            self.add_guard("has", own, name, False, shown)
            self.found(own, f"vars({self.shown(x)})", x)
        if users:
            self.read_class(x)
            if found is MISSING:
                self._nowhere(cls, bases_of(cls), name)
            else:
                self.read_through_class(cls, name, found)

    def _nowhere(self, cls: type, bases: tuple[type, ...], name: str) -> None:
        """No class of these has a name: none may have it later."""
        users = [owner for owner in bases if not is_library_class(owner)]
        for owner in users:
            own = dict_of_class(owner)
            self.owners.setdefault(id(own), owner)
            self.add_guard("has", own, name, False, f"{name_of(owner)}.{name}")
        if users:
            self.read_directly(cls, "__mro__", f"the bases of {name_of(cls)}")

    def _by_descriptor(self, x: Any, cls: type, name: str, found: Any) -> None:
        """`x.name` is what a property, or another descriptor that comes before it, gives."""
        get, owner = _getter(found), owner_of(cls, name)
        ours = "tinytorch" in (_package(cls), _package(owner))
        if class_of(get) is types.WrapperDescriptorType:  # of a slot, `__class__`, `cell_contents`
            if name == "__class__":
                self.read_class(x)
            elif not ours and not is_a(x, _NEVER_CHANGE):
                self.read_directly(x, name, f"{self.shown(x)}.{name}")
        elif not is_library_class(cls):
            if not is_a(x, type):
                self.read_class(x)
            self.read_through_class(cls, name, found)
            if not ours:
                self._by_getter(x, x, name, get)

    def _by_getter(self, place: Any, x: Any, name: str, get: Any) -> None:
        """`place.name` calls a getter with `x`: what is not the user's Python is asked again."""
        if is_a(get, (*GETTERS, functools.partial)):
            self.will_call(get, [x])
        elif not is_users(get):
            self.read_directly(place, name, f"{self.shown(x)}.{name}")

    def _of_class(self, x: type, name: str) -> None:
        """An attribute of a class: descriptors of its metaclass come first, then what it holds."""
        meta = class_of(x)
        above, found = found_in(meta, name), found_in(x, name)
        if name == "__dict__":
            self.owners.setdefault(id(dict_of_class(x)), x)
        elif above is not MISSING and has_method(above, "__set__"):
            self._by_descriptor(x, meta, name, above)
        elif found is not MISSING:
            self.read_through_class(x, name, found)
        elif above is MISSING:
            self._nowhere(x, (*bases_of(x), *bases_of(meta)), name)
        elif not is_library_class(meta):
            if has_method(above, "__get__"):
                self._nowhere(x, bases_of(x), name)
                self.read_through_class(meta, name, above)
            else:
                self.read_directly(x, name, f"{name_of(x)}.{name}")

    def _of_super(self, x: Any, name: str) -> None:
        """`super().name`: of the classes behind one, the first that has it."""
        start, cls, owner = x.__thisclass__, x.__self_class__, x.__self__
        if cls is None:
            return
        bases = bases_of(cls)
        rest = bases[bases.index(start) + 1 :]
        holder = next((c for c in rest if name in dict_of_class(c)), None)
        self._nowhere(cls, rest if holder is None else rest[: rest.index(holder)], name)
        if owner is not cls:
            self.read_class(owner)
        if holder is None or name == "__getattribute__" or is_library_class(holder):
            return
        own = dict_of_class(holder)
        if has_method(own[name], "__set__"):
            self._by_getter(x, owner, name, _getter(own[name]))
        self.owners.setdefault(id(own), holder)
        self.read_item(own, name, f"{name_of(holder)}.{name}")


def is_counted(cls: type) -> bool:
    """Whether it is a class of Modules: settings.STRUCTURE counts changes of their attributes."""
    return found_in(cls, "_buffer_names") is not MISSING


def _place(kind: str, holder: Any, key: Any) -> Place:
    return kind, id(holder), key if class_of(key) in SCALARS else id(key)


def _getter(found: Any) -> Any:
    return found.fget if is_a(found, property) else found_in(class_of(found), "__get__")


def _package(cls: type | None) -> str:
    return "" if cls is None else module_of(cls).partition(".")[0]


def _has_tensor(x: Any) -> bool:
    """Whether an attribute of a Module holds Tensors that are no parameters."""
    if is_a(x, tuple):
        return any(map(_has_tensor, x))
    return is_a(x, TensorBase) and name_of(class_of(x)) != "Parameter"


def holds_tensor(x: Any, depth: int = 4) -> bool:
    """Whether an object is a Tensor, or a container of one."""
    if is_a(x, TensorBase):
        return True
    if depth and is_a(x, (tuple, list, set)):
        return any(holds_tensor(y, depth - 1) for y in x)
    return depth > 0 and is_a(x, dict) and any(holds_tensor(y, depth - 1) for y in x.values())


def young_objects() -> Iterator[Any]:
    """The youngest generation of the collector of garbage.

    To be gone through by one call of C code, as `set(map(id, young_objects()))`. Where Python code
    runs meanwhile another thread may run too, and a tuple that it is making may have no second
    owner: that thread gets a SystemError ("bad argument to internal function") far from here.
    """
    return chain.from_iterable(map(gc.get_objects, (0,)))
