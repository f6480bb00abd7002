"""Calls: what a library's function reads and changes of the user's objects it is given.

Knows Python's own functions and containers; never guards. The user's functions are watched
themselves (compiler/watch.py); of a function of a library, or one written in C, only the arguments
are seen. Containers and arrays among them are taken as read; of those that are known (`getattr`,
`dict.get`, `list.append`, ...) it is told exactly.
"""

from __future__ import annotations

import contextvars
import datetime
import functools
import operator
import os
import random
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch.compiler.frames import is_library
from tinytorch.compiler.instructions import CONTAINERS, found_in, hashable, short

MUTATING = frozenset(
    "append extend insert add update clear setdefault pop popitem remove discard sort reverse "
    "appendleft popleft extendleft rotate move_to_end difference_update intersection_update "
    "symmetric_difference_update __setitem__ __delitem__ __ior__ __iadd__".split()
)
WRITE_ONLY = frozenset("append extend insert add update appendleft extendleft clear".split())
KEYED = frozenset(("get", "setdefault", "pop", "__getitem__", "__contains__"))
_LOOKS = frozenset(
    (isinstance, issubclass, id, type, callable, print, repr, iter, next, super, globals, locals)
)
# modules whose functions read the attributes of any object they are given
_READERS = ("copy", "dataclasses", "functools", "inspect", "json", "operator", "pickle")
# and those whose functions answer otherwise each time
_DRAWN = ("time", "random", "secrets", "uuid")
_GENERATORS = (random.Random, np.random.Generator, np.random.RandomState)
_GETTERS = (operator.attrgetter, operator.itemgetter)


def note_call(watch: Any, function: Any, arguments: list[Any]) -> None:
    """`function` is about to be called with these arguments, named ones among them."""
    while isinstance(function, functools.partial):
        watch.deep(function)
        function = function.func
    if isinstance(function, types.MethodType):
        arguments, function = [function.__self__, *arguments], function.__func__
    if _is_users(function) or hashable(function) and function in _LOOKS:
        if function in (iter, next) and arguments:
            _note_iterator(watch, arguments[0])
        return
    if function is os.getenv or arguments and arguments[0] is os.environ and len(arguments) > 1:
        _note_answer(watch, functools.partial(function, *arguments), "os.environ")
        return
    if isinstance(function, (types.BuiltinFunctionType, types.MethodDescriptorType)):
        if _is_known(watch, function, arguments):
            return
    module = (getattr(function, "__module__", None) or "").lstrip("_")
    owner = getattr(function, "__self__", None)
    if not isinstance(owner, _GENERATORS) and arguments:
        owner = arguments[0]
    if module in _DRAWN or isinstance(owner, _GENERATORS):
        asked = owner if isinstance(owner, _GENERATORS) else function
        watch.draws(asked, f"{module or 'random'}.{function.__name__}()")
    for x in arguments:
        if isinstance(x, _GETTERS):
            _note_getter(watch, x, arguments)
        watch.deep(x, objects=module in _READERS)
    if isinstance(function, _GETTERS):
        _note_getter(watch, function, arguments)


def _is_users(function: Any) -> bool:
    """Whether it runs the user's Python, which is watched itself."""
    if isinstance(function, type):
        function = function.__init__
    elif not isinstance(function, (types.FunctionType, types.BuiltinFunctionType)):
        kind = type(function)  # an object that is called
        function = found_in(kind, "forward" if hasattr(kind, "forward") else "__call__")
    code = getattr(function, "__code__", None)
    return code is not None and not is_library(code.co_filename)


def _is_known(watch: Any, function: Any, arguments: list[Any]) -> bool:
    """Tell of a function written in C; gives whether all it reads is told."""
    if function in (getattr, hasattr) and len(arguments) > 1:
        if isinstance(arguments[1], str):
            watch.attribute(arguments[0], arguments[1])
        return True
    if function in (setattr, delattr) and len(arguments) > 1:
        watch.stores_attribute(arguments[0], arguments[1])
        return True
    if function is vars and len(arguments) == 1:
        own = getattr(arguments[0], "__dict__", None)
        if type(own) is dict:
            watch.value(own, f"vars({watch.shown(arguments[0])})", arguments[0])
        return True
    name, owner = function.__name__, getattr(function, "__self__", None)
    asked = arguments[0] if arguments else owner
    if isinstance(asked, contextvars.ContextVar) or isinstance(owner, contextvars.ContextVar):
        if name == "get":
            _note_answer(watch, functools.partial(function, *arguments), "a context variable")
        return True
    if owner is datetime.datetime or owner is datetime.date:
        if name in ("now", "today", "utcnow"):
            watch.draws(owner, f"datetime.{name}()")
    if not isinstance(owner, CONTAINERS) and arguments:
        owner, arguments = arguments[0], arguments[1:]
    if not isinstance(owner, CONTAINERS):
        return False
    if name in MUTATING:
        watch.shot(owner)
    if isinstance(owner, dict) and name in KEYED and arguments:
        watch.item(owner, arguments[0], f"{watch.shown(owner)}[{short(arguments[0])}]")
        return True
    if name in WRITE_ONLY:
        for x in arguments:
            if name in ("extend", "update", "extendleft"):  # these read what they are given
                watch.deep(x, 0)
        return True
    return False


def _note_answer(watch: Any, ask: Callable[[], Any], shown: str) -> None:
    """A function that may be asked again, of something outside Python's objects."""
    watch.add("call", ask, None, ask(), shown)


def _note_iterator(watch: Any, x: Any) -> None:
    """What was begun before the call gives another element at each call."""
    if hasattr(type(x), "__next__"):
        watch.draws(x, f"the iterator {watch.shown(x)}")


def _note_getter(watch: Any, getter: Any, arguments: list[Any]) -> None:
    """operator.attrgetter or itemgetter, of the objects beside it or of those in a container."""
    objects = [x for x in arguments if x is not getter]
    objects += [y for x in objects if isinstance(x, (*CONTAINERS, tuple)) for y in x]
    for x in objects:
        for key in getter.__reduce__()[1]:
            y = x
            for part in key.split(".") if isinstance(getter, operator.attrgetter) else ():
                watch.attribute(y, part)
                y = getattr(y, part, None)
            if isinstance(getter, operator.itemgetter) and isinstance(x, CONTAINERS):
                watch.item(x, key, f"{watch.shown(x)}[{short(key)}]")
