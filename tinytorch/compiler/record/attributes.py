"""Attributes: what reading `x.name` depends on: the object, its class and bases, a descriptor.

Knows in which order Python looks an attribute up; never graphs. Each function tells the watch
(watch.py) the readings that decide what was found, and the places where nothing was found but
something may be put later.
"""

from __future__ import annotations

import operator
import types
from collections import ChainMap, UserDict, UserList
from enum import Enum
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

import numpy as np

from tinytorch.compiler.record.frames import is_library, library_class, of_library
from tinytorch.compiler.record.guards import MISSING, PLAIN, REFUSALS
from tinytorch.compiler.record.objects import (
    CONTAINERS,
    bases_of,
    dict_of_class,
    found_in,
    has_method,
    is_a,
    module_of,
    name_of,
    opened,
    own_dict,
    owner_of,
)
from tinytorch.tensor.memory import TensorBase

# containers of the standard library that are written in Python
WRAPPERS = (UserDict, UserList, ChainMap, WeakValueDictionary, WeakKeyDictionary, WeakSet)
GETTERS = (operator.attrgetter, operator.itemgetter, operator.methodcaller)
_METHODS = (
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
)
_OF_SHAPE = frozenset(("shape", "ndim", "size", "dtype", "nbytes", "itemsize", "flags", "strides"))
_NEVER_CHANGE = (np.generic, np.dtype)
_USUAL = (object.__getattribute__, types.ModuleType.__getattribute__)


def note_attribute(watch: Any, x: Any, name: str, past: bool = False) -> None:
    """`x.name` is read; `past`: past the `__getattribute__` of its class."""
    kind = type(x)
    if kind in PLAIN:
        return
    if issubclass(kind, TensorBase):  # what it holds is a state; only this is Python's
        if name in ("requires_grad", "is_leaf"):
            watch.add("attr", x, "_node", x._node, f"{watch.shown(x)}.{name}")
        if name not in (own_dict(x) or ()):
            owner = owner_of(kind, name)
            if library_class(kind) or owner is not None and library_class(owner):
                return
    if (id(x), name) in watch.written or ("attr", id(x), name) in watch.guards:
        return
    if (
        opened(x) is not x
        or issubclass(kind, CONTAINERS)
        and type(found_in(kind, name)) in _METHODS
    ):
        watch.method_of(opened(x), name)
    elif issubclass(kind, types.ModuleType):
        _of_module(watch, x, name)
    elif issubclass(kind, np.ndarray):
        if name not in _OF_SHAPE:
            watch.array(x)
    elif kind is super:
        _of_super(watch, x, name)
    elif issubclass(kind, type):
        if not library_class(x):
            _of_type(watch, x, name)
    else:
        if issubclass(kind, WRAPPERS):
            watch.wrapped(x)
        _of_object(watch, x, kind, name, past)


def note_class(watch: Any, kind: type, name: str, found: Any) -> None:
    """`kind.name` is read, through an object or the class itself, and `found` is there."""
    shown = f"{name_of(kind)}.{name}"
    owner = owner_of(kind, name)
    if owner is None or library_class(owner):
        return
    try:
        held = getattr(kind, name)
        steady = held is getattr(kind, name)
    except REFUSALS:
        return
    if steady:
        watch.add("attr", kind, name, held, shown)
        watch.value(held, shown, kind)
    else:
        watch.add("class", owner, name, found, shown)


def is_users(function: Any) -> bool:
    """Whether it is a function of the user's Python, which is watched itself."""
    return type(function) is types.FunctionType and not is_library(function.__code__.co_filename)


def _of_module(watch: Any, x: types.ModuleType, name: str) -> None:
    if of_library(x):
        return
    own = own_dict(x)
    watch.via.setdefault(id(own), x)
    watch.item(own, name, f"{watch.shown(x)}.{name}")
    if own is not None and name not in own:
        watch.item(own, "__getattr__", f"{watch.shown(x)}.__getattr__")


def _of_object(watch: Any, x: Any, kind: type, name: str, past: bool) -> None:
    shown = f"{watch.shown(x)}.{name}"
    if issubclass(kind, Enum) and name in ("name", "value") and owner_of(kind, name) is Enum:
        name = f"_{name}_"
    asks = found_in(kind, "__getattribute__")
    if asks not in _USUAL and not past:
        if not is_users(asks):  # a weak proxy, attributes of a thread: C looks elsewhere
            watch.read(x, name, shown)
        return
    found, own = found_in(kind, name), own_dict(x)
    if own is not None:
        watch.via.setdefault(id(own), x)  # reading it may have made it
    if found is not MISSING and has_method(found, "__set__"):
        if asks in _USUAL:
            _by_descriptor(watch, x, kind, name, found)
        elif name != "__dict__":
            watch.unseen(x, f"reads {shown} past a __getattribute__")
    elif own is not None and name in own:
        held = own[name]
        soft = is_counted(kind) and not _has_tensor(held)
        if asks in _USUAL:
            watch.add("attr", x, name, held, shown, soft)
            watch.value(held, shown, x)
        else:
            watch.item(own, name, shown)
    else:
        _beyond_own(watch, x, kind, name, found, own)


def _beyond_own(watch: Any, x: Any, kind: type, name: str, found: Any, own: dict | None) -> None:
    """The object itself has no such attribute: its class has it, or nobody."""
    shown = f"{watch.shown(x)}.{name}"
    counted, users = is_counted(kind), not library_class(kind)
    plain = found is not MISSING and not has_method(found, "__get__")
    if plain and users and not counted and found_in(kind, "__getattribute__") in _USUAL:
        # what the object gives says it all: its class, its bases, and that nothing covers them
        watch.add("attr", x, name, found, f"{name_of(kind)}.{name}")
        watch.value(found, shown, x)
        note_class(watch, kind, name, found)  # for an object made in the call
        return
    # of a Module's changes the count tells, but for names that begin with "_"
    covered = name[:1] == "_" if counted else users
    if own is not None and (found is MISSING or covered):
        watch.add("has", own, name, False, shown)
        watch.value(own, f"vars({watch.shown(x)})", x)
    if users:
        watch.kind_of(x)
        if found is MISSING:
            _nowhere(watch, kind, bases_of(kind), name)
        else:
            note_class(watch, kind, name, found)


def _nowhere(watch: Any, kind: type, bases: tuple[type, ...], name: str) -> None:
    """No class of these has a name: none may have it later."""
    users = [owner for owner in bases if not library_class(owner)]
    for owner in users:
        own = dict_of_class(owner)
        watch.via.setdefault(id(own), owner)
        watch.add("has", own, name, False, f"{name_of(owner)}.{name}")
    if users:
        watch.read(kind, "__mro__", f"the bases of {name_of(kind)}")


def _by_descriptor(watch: Any, x: Any, kind: type, name: str, found: Any) -> None:
    """`x.name` is what a property, or another descriptor that comes before the object, gives."""
    shown = f"{watch.shown(x)}.{name}"
    get, owner = _getter(found), owner_of(kind, name)
    ours = "tinytorch" in (_package(kind), _package(owner))
    if type(get) is types.WrapperDescriptorType:  # of a slot, `__class__`, `cell_contents`
        if name == "__class__":
            watch.kind_of(x)
        elif not ours and not is_a(x, _NEVER_CHANGE):
            watch.read(x, name, shown)
    elif not library_class(kind):
        if not is_a(x, type):
            watch.kind_of(x)
        note_class(watch, kind, name, found)
        if not ours:
            _asked(watch, x, x, name, get)


def _asked(watch: Any, place: Any, x: Any, name: str, get: Any) -> None:
    """`place.name` calls a getter with `x`: what is not the user's Python is asked again."""
    if is_a(get, (*GETTERS, partial)):
        watch.calls(get, [x])
    elif not is_users(get):
        watch.read(place, name, f"{watch.shown(x)}.{name}")


def _getter(found: Any) -> Any:
    return found.fget if is_a(found, property) else found_in(type(found), "__get__")


def _package(kind: type | None) -> str:
    return "" if kind is None else module_of(kind).partition(".")[0]


def _of_type(watch: Any, x: type, name: str) -> None:
    """An attribute of a class: descriptors of its metaclass come first, then what it holds."""
    meta = type(x)
    above, found = found_in(meta, name), found_in(x, name)
    if name == "__dict__":
        watch.via.setdefault(id(dict_of_class(x)), x)
    elif above is not MISSING and has_method(above, "__set__"):
        _by_descriptor(watch, x, meta, name, above)
    elif found is not MISSING:
        note_class(watch, x, name, found)
    elif above is MISSING:
        _nowhere(watch, x, (*bases_of(x), *bases_of(meta)), name)
    elif not library_class(meta):
        if has_method(above, "__get__"):
            _nowhere(watch, x, bases_of(x), name)
            note_class(watch, meta, name, above)
        else:
            watch.read(x, name, f"{name_of(x)}.{name}")


def _of_super(watch: Any, x: Any, name: str) -> None:
    """`super().name`: of the classes behind one, the first that has it."""
    start, kind, owner = x.__thisclass__, x.__self_class__, x.__self__
    if kind is None:
        return
    bases = bases_of(kind)
    rest = bases[bases.index(start) + 1 :]
    holder = next((c for c in rest if name in dict_of_class(c)), None)
    before = rest if holder is None else rest[: rest.index(holder)]
    _nowhere(watch, kind, before, name)
    if owner is not kind:
        watch.kind_of(owner)
    if holder is None:
        return
    own = dict_of_class(holder)
    found = own[name]
    if name == "__getattribute__" or library_class(holder):
        return
    if has_method(found, "__set__"):
        _asked(watch, x, owner, name, _getter(found))
    watch.via.setdefault(id(own), holder)
    watch.item(own, name, f"{name_of(holder)}.{name}")


def is_counted(kind: type) -> bool:
    """Whether it is a class of Modules: settings.STRUCTURE counts changes of their attributes."""
    return found_in(kind, "_buffer_names") is not MISSING


def _has_tensor(x: Any) -> bool:
    """Whether an attribute of a Module holds Tensors that are no parameters."""
    if is_a(x, tuple):
        return any(map(_has_tensor, x))
    return is_a(x, TensorBase) and name_of(type(x)) != "Parameter"
