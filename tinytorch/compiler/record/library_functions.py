"""Calls: what a library's function reads and changes of the user's objects it is given.

Knows Python's own functions and containers; never guards. The user's functions are watched
themselves (watch.py); of a function of a library, or one written in C, only the arguments are seen.
Containers and arrays among them are taken as read; of those that are known (`getattr`, `dict.get`,
`list.append`, ...) it is told exactly.
"""

from __future__ import annotations

import abc
import contextvars
import datetime
import functools
import inspect
import operator
import os
import random
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch.compiler.record.attributes import GETTERS, is_users
from tinytorch.compiler.record.guards import MISSING
from tinytorch.compiler.record.objects import (
    BOUND_IN_C,
    CONTAINERS,
    dict_of_class,
    found_in,
    is_a,
    own_dict,
    short,
)

MUTATING = frozenset(
    "append extend insert add update clear setdefault pop popitem remove discard sort reverse "
    "appendleft popleft extendleft rotate move_to_end difference_update intersection_update "
    "symmetric_difference_update __setitem__ __delitem__ __ior__ __iadd__".split()
)
WRITE_ONLY = frozenset("append extend insert add update appendleft extendleft clear".split())
KEYED = frozenset(("get", "setdefault", "pop", "__getitem__", "__contains__"))


def _ids(*functions: Any) -> dict[int, Any]:
    """By id: a function of the user may have a `__hash__` or `__eq__` of its own."""
    return {id(f): f for f in functions}


_LOOKS = _ids(isinstance, issubclass, id, type, callable, print, iter, next, super, globals, locals)
# handed to a library they read attributes of whatever it gives them
_ASKS = _ids(getattr, hasattr, vars, dir)
# modules whose functions read the attributes of any object they are given
_READERS = ("copy", "dataclasses", "functools", "inspect", "json", "operator", "pickle")
# and those whose functions answer otherwise each time
_DRAWN = ("time", "random", "secrets", "uuid")
_GENERATORS = (random.Random, np.random.Generator, np.random.RandomState)
_OF_SLOTS = (types.WrapperDescriptorType, types.MethodWrapperType)
_IN_C = (types.BuiltinFunctionType, types.MethodDescriptorType, *_OF_SLOTS)


def note_call(watch: Any, function: Any, arguments: list[Any]) -> None:
    """`function` is about to be called with these arguments, named ones among them."""
    while is_a(function, functools.partial):
        watch.deep(function)
        arguments, function = [*function.args, *arguments], function.func
    if is_a(function, types.MethodType):
        arguments, function = [function.__self__, *arguments], function.__func__
    if id(function) in _LOOKS:
        _note_look(watch, function, arguments)
        return
    if _runs_users_code(function):
        return
    if function is os.getenv or arguments and arguments[0] is os.environ and len(arguments) > 1:
        _note_answer(watch, functools.partial(function, *arguments), "os.environ")
        return
    if function is inspect.getattr_static and len(arguments) > 1:
        watch.attribute(arguments[0], arguments[1])
        return
    if is_a(function, _IN_C) and _is_known(watch, function, arguments):
        return
    _note_library(watch, function, arguments)


def _note_library(watch: Any, function: Any, arguments: list[Any]) -> None:
    """A library's function: it reads what it is given."""
    module = getattr(function, "__module__", None)
    module = module.lstrip("_") if type(module) is str else ""
    owner = getattr(function, "__self__", None)
    if not is_a(owner, _GENERATORS) and arguments:
        owner = arguments[0]
    if module in _DRAWN or is_a(owner, _GENERATORS):
        asked = owner if is_a(owner, _GENERATORS) else function
        watch.draws(asked, f"{module or 'random'}.{function.__name__}()")
    if is_a(function, types.FunctionType):
        watch.looks(function.__dict__.get("registry"))  # of functools.singledispatch
    objects = module in _READERS or any(id(x) in _ASKS for x in arguments)
    for x in arguments:
        if is_a(x, GETTERS):
            _note_getter(watch, x, arguments)
        watch.kind_of(x)
        watch.deep(x, objects=objects)
    if is_a(function, GETTERS):
        _note_getter(watch, function, arguments)


def _note_look(watch: Any, function: Any, arguments: list[Any]) -> None:
    """A function that looks at an object alone: at its class, or for its iterator."""
    if not arguments:
        return
    x = arguments[0]
    if function is iter or function is next:
        if found_in(type(x), "__next__") is not MISSING:
            watch.draws(x, f"the iterator {watch.shown(x)}")
        watch.looks(x)
    elif function is issubclass and is_a(x, type):
        watch.attribute(x, "__mro__")
    elif function is isinstance or function is callable or function is type:
        watch.kind_of(x)
    if function in (isinstance, issubclass) and len(arguments) > 1:
        asked = arguments[1] if is_a(arguments[1], tuple) else (arguments[1],)
        if any(is_a(kind, abc.ABCMeta) for kind in asked):  # others may be registered with it
            _note_answer(watch, abc.get_cache_token, "the classes of an ABC")


def _runs_users_code(function: Any) -> bool:
    """Whether it runs the user's Python, which is watched itself."""
    if is_a(function, type):
        function = function.__init__
    elif not is_a(function, (types.FunctionType, types.BuiltinFunctionType)):
        kind = type(function)  # an object that is called
        called = found_in(kind, "forward")
        function = found_in(kind, "__call__") if called is MISSING else called
    return is_users(function)


def _is_known(watch: Any, function: Any, arguments: list[Any]) -> bool:
    """Tell of a function written in C; gives whether all it reads is told."""
    name, owner = function.__name__, getattr(function, "__self__", None)
    if is_a(function, types.MethodWrapperType):
        arguments = [owner, *arguments]
    if function is dir and len(arguments) == 1:
        x = arguments[0]
        if not is_users(found_in(type(x), "__dir__")):
            watch.add("names", x, None, dir(x), f"dir({watch.shown(x)})")
        return True
    if function is vars and len(arguments) == 1:
        _note_dict(watch, arguments[0])
        return True
    if len(arguments) > 1 and _is_attribute(watch, function, name, arguments):
        return True
    asked = arguments[0] if arguments else owner
    if is_a(asked, contextvars.ContextVar) or is_a(owner, contextvars.ContextVar):
        if name == "get":
            _note_answer(watch, functools.partial(function, *arguments), "a context variable")
        return True
    if owner is datetime.datetime or owner is datetime.date:
        if name in ("now", "today", "utcnow"):
            watch.draws(owner, f"datetime.{name}()")
    if is_a(function, BOUND_IN_C) and is_a(watch.opened(owner), (*CONTAINERS, np.ndarray)):
        watch.via.setdefault(id(owner), function)
        watch.attribute(owner, name)  # it may have been read long ago
    owner = watch.opened(owner)
    if not is_a(owner, CONTAINERS) and arguments:
        owner, arguments = watch.opened(arguments[0]), arguments[1:]
    return is_a(owner, CONTAINERS) and _is_of_container(watch, name, owner, arguments)


def _is_attribute(watch: Any, function: Any, name: str, arguments: list[Any]) -> bool:
    """getattr and setattr, and the slots of classes that they call."""
    x, key = arguments[:2]
    slot = is_a(function, _OF_SLOTS)
    if function is getattr or function is hasattr or slot and name == "__getattribute__":
        if is_a(key, str):
            watch.attribute(x, key, slot)
        return True
    if (
        function is setattr
        or function is delattr
        or slot
        and name in ("__setattr__", "__delattr__")
    ):
        watch.stores_attribute(x, key)
        return True
    if slot and name == "__get__":  # of a descriptor `x`, for an object
        named = getattr(x, "__name__", None)
        if is_a(x, property):
            watch.calls(x.fget, [key])
        elif is_a(named, str):
            watch.attribute(key, named)
        return True
    return False


def _is_of_container(watch: Any, name: str, owner: Any, arguments: list[Any]) -> bool:
    """Tell of a method of a list, dict or set; gives whether all it reads is told."""
    if name in MUTATING:
        watch.shot(owner)
    if is_a(owner, dict) and name in KEYED and arguments:
        watch.item(owner, arguments[0], f"{watch.shown(owner)}[{short(arguments[0])}]")
        return True
    if name in WRITE_ONLY:
        for x in arguments:
            if name in ("extend", "update", "extendleft"):  # these read what they are given
                watch.deep(x, 0)
        return True
    return False


def _note_dict(watch: Any, x: Any) -> None:
    """`vars(x)`: reading it may have made it."""
    own = dict_of_class(x) if is_a(x, type) else own_dict(x)
    if own is not None:
        watch.value(own, f"vars({watch.shown(x)})", x)


def _note_answer(watch: Any, ask: Callable[[], Any], shown: str) -> None:
    """A function that may be asked again, of something outside Python's objects."""
    watch.add("call", ask, None, ask(), shown)


def _note_getter(watch: Any, getter: Any, arguments: list[Any]) -> None:
    """One of `operator`'s getters, of the objects beside it or of those in a container."""
    objects = [watch.opened(x) for x in arguments if x is not getter]
    objects += [y for x in objects if is_a(x, (*CONTAINERS, tuple)) for y in x]
    made, given = getter.__reduce__()[:2]
    if is_a(getter, operator.methodcaller):
        given = given[:1] if made is operator.methodcaller else made.args[:1]
    for x in objects:
        for key in given:
            y = x
            for part in () if is_a(getter, operator.itemgetter) else key.split("."):
                watch.attribute(y, part)
                y = getattr(y, part, None)
            if is_a(getter, operator.itemgetter) and is_a(x, CONTAINERS):
                watch.item(x, key, f"{watch.shown(x)}[{short(key)}]")
