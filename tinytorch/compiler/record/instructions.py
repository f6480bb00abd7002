"""Instructions: which of them read or change something that a later call may find changed.

Knows bytecode, what lies on the stack before each instruction, and Python's own functions; never
guards. One table serves CPython 3.11, 3.12 and 3.13: an instruction that a version does not have is
not met there. The user's functions are watched themselves (watch.py). Of a function of a library,
or one written in C, the arguments alone are seen: containers and arrays among them are taken as
read; of those that are known (`getattr`, `dict.get`, `list.append`, ...) it is told exactly.
"""

from __future__ import annotations

import abc
import contextlib
import contextvars
import datetime
import dis
import functools
import inspect
import operator
import os
import random
import sys
import types
from array import array
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinytorch.compiler.record.frames import at, depths, places_of
from tinytorch.compiler.record.objects import (
    BOUND_IN_C,
    CONTAINERS,
    MISSING,
    REFUSALS,
    SCALARS,
    class_of,
    found_in,
    hashable,
    is_a,
    is_library_class,
    is_users,
    name_of,
    own_dict,
    short,
)
from tinytorch.compiler.record.readings import GETTERS, KEYED, MUTATING, WRITE_ONLY, Readings
from tinytorch.tensor.memory import TensorBase

INSIDE = 3  # how far comparing and printing follow containers in containers


class Moment(NamedTuple):
    """An instruction is about to run: in which frame, and where that keeps what it works on.

    Args:
        frame: of the user's function.
        base: address of the frame's places: variables, cells, outer cells, then its stack.
        end: address behind the top of the stack.
        argument: of the instruction, as `plan_of` says.
    """

    frame: types.FrameType
    base: int
    end: int
    argument: Any

    def top(self, n: int) -> Any:
        """The n-th object of the stack, counted from its top: 1 is the top."""
        return at(self.end - 8 * n)

    def place(self, n: int) -> Any:
        """The n-th of the frame's places, counted from 0."""
        return at(self.base + 8 * n)


Act = Callable[[Readings, Moment], None]


def _load_global(seen: Readings, now: Moment) -> None:
    name = now.argument
    seen.read_item(now.frame.f_globals, name, name)  # Python's own: a global may cover it later


def _load_name(seen: Readings, now: Moment) -> None:
    if now.argument not in now.frame.f_locals:
        _load_global(seen, now)


def _load_deref(seen: Readings, now: Moment) -> None:
    place, name = now.argument
    cell = now.place(place)
    if class_of(cell) is types.CellType and (id(cell), "cell_contents") not in seen.written:
        seen.read_directly(cell, "cell_contents", name)


def _store_deref(seen: Readings, now: Moment) -> None:
    cell = now.place(now.argument[0])
    if class_of(cell) is types.CellType:
        try:
            old = cell.cell_contents
        except ValueError:  # nothing was assigned yet
            old = MISSING
        seen.will_set(cell, "cell_contents", old)


def _store_global(seen: Readings, now: Moment) -> None:
    names = now.frame.f_globals
    seen.will_set(names, now.argument, names.get(now.argument, MISSING))


def _load_attr(seen: Readings, now: Moment) -> None:
    seen.read_attribute(now.top(1), now.argument)


def _store_attr(seen: Readings, now: Moment) -> None:
    seen.will_set_attribute(now.top(1), now.argument)


def _item(seen: Readings, holder: Any, key: Any) -> None:
    seen.read_item(holder, key, f"{seen.shown(holder)}[{short(key)}]")


def _subscript(seen: Readings, now: Moment) -> None:
    holder, key = seen.dict_behind(now.top(2)), now.top(1)
    if class_of(key) not in SCALARS:
        seen.read_inside(key, INSIDE)  # indices in a list or an array
    if is_a(holder, dict):
        if found_in(class_of(holder), "__getitem__") in (_DICT_ITEM,):
            _item(seen, holder, key)
    elif is_a(holder, (list, deque, array)):
        if is_a(key, int):
            seen.read_item(holder, key, f"{seen.shown(holder)}[{key}]")
        else:
            seen.read_all(holder)
    elif is_a(holder, np.ndarray):
        seen.read_array(holder, key)
    elif _is_mapping(holder):
        with contextlib.suppress(*REFUSALS):
            shown = f"{seen.shown(holder)}[{short(key)}]"
            seen.add_guard("item", holder, key, holder[key], shown)
    else:
        seen.read_inside(holder)


_DICT_ITEM: Any = dict.__dict__["__getitem__"]


def _is_mapping(x: Any) -> bool:
    """os.environ, UserDict, ChainMap: reading one item of them has no effect."""
    cls = class_of(x)
    return name_of(cls) in ("_Environ", "UserDict", "ChainMap") and is_library_class(cls)


def _contains(seen: Readings, now: Moment) -> None:
    key, holder = now.top(2), now.top(1)
    if is_a(holder, dict):
        _item(seen, holder, key)
    else:
        seen.read_inside(holder, INSIDE)
        seen.read_inside(key, INSIDE)


def _operator(seen: Readings, now: Moment) -> None:
    _two(seen, now)
    changed = now.top(2)
    if class_of(changed) is str:  # "%s" % numbers
        seen.read_inside(now.top(1), INSIDE)
    if now.argument.endswith("=") and is_a(changed, CONTAINERS):
        seen.will_change(changed)


def _stores(seen: Readings, holder: Any, key: Any, value: Any) -> None:
    if class_of(key) not in SCALARS:
        seen.read_inside(key, INSIDE)
    if is_a(holder, TensorBase):  # it takes the numbers
        seen.read_inside(value, INSIDE)
    elif is_a(holder, CONTAINERS):
        seen.will_change(holder)
        if hashable(key):
            seen.set_items.add((id(holder), key))


def _store_subscript(seen: Readings, now: Moment) -> None:
    _stores(seen, now.top(2), now.top(1), now.top(3))


def _delete_subscript(seen: Readings, now: Moment) -> None:
    _stores(seen, now.top(2), now.top(1), None)


def _store_slice(seen: Readings, now: Moment) -> None:
    _stores(seen, now.top(3), slice(now.top(2), now.top(1)), now.top(4))


def _slice(seen: Readings, now: Moment) -> None:
    seen.read_inside(now.top(3))
    seen.read_inside(slice(now.top(2), now.top(1)))


def _reads_top(count: int, depth: int = 0) -> Act:
    def act(seen: Readings, now: Moment) -> None:
        for n in range(1, count + 1):
            x = now.top(n)
            seen.read_inside(x, depth)
            _iterated(seen, x)

    return act


def _iterated(seen: Readings, x: Any) -> None:
    if found_in(class_of(x), "__next__") is not MISSING:
        seen.not_repeatable(x, f"the iterator {seen.shown(x)}")


def _format(seen: Readings, now: Moment) -> None:
    seen.read_inside(now.top(2) if now.argument & 4 else now.top(1), INSIDE)


def _load_super(seen: Readings, now: Moment) -> None:
    if now.top(3) is super:  # two arguments, also where none are written
        with contextlib.suppress(*REFUSALS):
            seen.read_attribute(super(now.top(2), now.top(1)), now.argument)


def _call(seen: Readings, now: Moment) -> None:
    count, names = now.argument
    depth = count + names
    first, second = now.top(depth + 2), now.top(depth + 1)
    arguments = [now.top(depth - i) for i in range(count)]
    if _CALLEE_FIRST:
        function, own = first, second
    else:
        function, own = (second, MISSING) if first is MISSING else (first, second)
    seen.will_call(function, arguments if own is MISSING else [own, *arguments])


def _call_with_many(seen: Readings, now: Moment) -> None:
    named: Any = now.top(1) if now.argument & 1 else {}
    given, function = (now.top(2), now.top(3)) if now.argument & 1 else (now.top(1), now.top(2))
    seen.read_inside(given)
    if is_a(named, dict) and function is not MISSING:
        rest = list(given) if is_a(given, (list, tuple)) else []
        seen.will_call(function, [*rest, *named.values()])


def _match_class(seen: Readings, now: Moment) -> None:
    subject, cls, names = now.top(3), now.top(2), now.top(1)
    seen.read_class(subject)
    positional = getattr(cls, "__match_args__", ())[: now.argument]
    for name in (*positional, *names):
        seen.read_attribute(subject, name)


def _match_keys(seen: Readings, now: Moment) -> None:
    subject, keys = seen.dict_behind(now.top(2)), now.top(1)
    for key in keys if is_a(subject, dict) else ():
        _item(seen, subject, key)


_CALLEE_FIRST = sys.version_info >= (3, 13)
_one, _two = _reads_top(1), _reads_top(2)
_one_inside, _two_inside = _reads_top(1, INSIDE), _reads_top(2, INSIDE)
# 3.11 calls by PRECALL and CALL, of which the first sees the whole stack.
_ACTS: dict[str, Act] = {
    "LOAD_GLOBAL": _load_global, "LOAD_NAME": _load_name, "LOAD_DEREF": _load_deref,
    "LOAD_CLASSDEREF": _load_deref, "STORE_DEREF": _store_deref, "DELETE_DEREF": _store_deref,
    "STORE_GLOBAL": _store_global, "DELETE_GLOBAL": _store_global, "LOAD_ATTR": _load_attr,
    "LOAD_METHOD": _load_attr, "IMPORT_FROM": _load_attr, "STORE_ATTR": _store_attr,
    "DELETE_ATTR": _store_attr, "BINARY_SUBSCR": _subscript, "STORE_SUBSCR": _store_subscript,
    "DELETE_SUBSCR": _delete_subscript, "BINARY_SLICE": _slice, "STORE_SLICE": _store_slice,
    "PRECALL": _call, "CALL_KW": _call, "CALL_FUNCTION_EX": _call_with_many,
    "MATCH_CLASS": _match_class, "MATCH_KEYS": _match_keys, "GET_LEN": _one, "TO_BOOL": _one,
    "UNARY_NOT": _one, "UNARY_NEGATIVE": _one, "UNARY_POSITIVE": _one, "UNARY_INVERT": _one,
    "CALL_INTRINSIC_1": _one, "GET_ITER": _one, "UNPACK_SEQUENCE": _one, "UNPACK_EX": _one,
    "LIST_EXTEND": _one, "SET_UPDATE": _one, "DICT_UPDATE": _one, "DICT_MERGE": _one,
    "GET_YIELD_FROM_ITER": _one, "CONTAINS_OP": _contains, "COMPARE_OP": _two_inside,
    "BINARY_OP": _operator, "FORMAT_VALUE": _format, "FORMAT_SIMPLE": _one_inside,
    "FORMAT_WITH_SPEC": _two_inside, "CONVERT_VALUE": _one_inside,
    "LOAD_SUPER_ATTR": _load_super, "LOAD_FROM_DICT_OR_DEREF": _load_deref,
    "LOAD_FROM_DICT_OR_GLOBALS": _load_name,
}  # fmt: skip
if sys.version_info >= (3, 12):
    _ACTS["CALL"] = _call


def _act_of(i: dis.Instruction) -> Act | None:
    if i.opname.startswith(("POP_JUMP", "JUMP_IF")) and "NONE" not in i.opname:
        return _one
    return _ACTS.get(i.opname)


Plan = dict[int, tuple[Act, int, Any]]  # offset -> what to do, places and stack below, argument
_plans: dict[types.CodeType, Plan] = {}
PLANS = 4096  # code objects whose instructions are remembered


def plan_of(code: types.CodeType) -> Plan:
    """What to do before which instruction, by its offset."""
    known = _plans.get(code)
    if known is not None:
        return known
    places, deep = places_of(code), depths(code)
    plan: Plan = {}
    extended: list[int] = []
    for i in dis.get_instructions(code):
        if i.opname == "EXTENDED_ARG":  # the instruction it belongs to has no event of its own
            extended.append(i.offset)
            continue
        act = _act_of(i)
        if act is not None and i.offset in deep:
            argument: Any = i.argval
            if act is _load_deref or act is _store_deref:
                argument = (places.index(i.argval), i.argval)
            elif act is _call:
                argument = (i.arg, int(i.opname == "CALL_KW"))
            elif act in (_match_class, _call_with_many, _format):
                argument = i.arg
            elif act is _operator:
                argument = i.argrepr
            for offset in (i.offset, *extended):
                plan[offset] = (act, len(places) + deep[i.offset], argument)
        extended = []
    if len(_plans) >= PLANS:
        _plans.clear()
    _plans[code] = plan
    return plan


# calls of a library's functions


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


def note_call(seen: Readings, function: Any, arguments: list[Any]) -> None:
    """`function` is about to be called with these arguments, named ones among them."""
    while is_a(function, functools.partial):
        seen.read_by_library(function)
        arguments, function = [*function.args, *arguments], function.func
    if is_a(function, types.MethodType):
        arguments, function = [function.__self__, *arguments], function.__func__
    if id(function) in _LOOKS:
        _note_look(seen, function, arguments)
        return
    if _runs_users_code(function):
        return
    if function is os.getenv or arguments and arguments[0] is os.environ and len(arguments) > 1:
        _note_answer(seen, functools.partial(function, *arguments), "os.environ")
        return
    if function is inspect.getattr_static and len(arguments) > 1:
        seen.read_attribute(arguments[0], arguments[1])
        return
    if is_a(function, _IN_C) and _is_known(seen, function, arguments):
        return
    _note_library(seen, function, arguments)


def _note_library(seen: Readings, function: Any, arguments: list[Any]) -> None:
    """A library's function: it reads what it is given."""
    module: Any = getattr(function, "__module__", None)
    module = module.lstrip("_") if class_of(module) is str else ""
    owner = getattr(function, "__self__", None)
    if not is_a(owner, _GENERATORS) and arguments:
        owner = arguments[0]
    if module in _DRAWN or is_a(owner, _GENERATORS):
        asked = owner if is_a(owner, _GENERATORS) else function
        seen.not_repeatable(asked, f"{module or 'random'}.{function.__name__}()")
    if is_a(function, types.FunctionType):
        seen.read_inside(function.__dict__.get("registry"))  # of functools.singledispatch
    objects = module in _READERS or any(id(x) in _ASKS for x in arguments)
    for x in arguments:
        if is_a(x, GETTERS):
            _note_getter(seen, x, arguments)
        seen.read_class(x)
        seen.read_by_library(x, objects=objects)
    if is_a(function, GETTERS):
        _note_getter(seen, function, arguments)


def _note_look(seen: Readings, function: Any, arguments: list[Any]) -> None:
    """A function that looks at an object alone: at its class, or for its iterator."""
    if not arguments:
        return
    x = arguments[0]
    if function is iter or function is next:
        _iterated(seen, x)
        seen.read_inside(x)
    elif function is issubclass and is_a(x, type):
        seen.read_attribute(x, "__mro__")
    elif function is isinstance or function is callable or function is type:
        seen.read_class(x)
    if function in (isinstance, issubclass) and len(arguments) > 1:
        asked = arguments[1] if is_a(arguments[1], tuple) else (arguments[1],)
        if any(is_a(cls, abc.ABCMeta) for cls in asked):  # others may be registered with it
            _note_answer(seen, abc.get_cache_token, "the classes of an ABC")


def _runs_users_code(function: Any) -> bool:
    """Whether it runs the user's Python, which is watched itself."""
    if is_a(function, type):
        function = function.__init__
    elif not is_a(function, (types.FunctionType, types.BuiltinFunctionType)):
        cls = class_of(function)  # an object that is called
        called = found_in(cls, "forward")
        function = found_in(cls, "__call__") if called is MISSING else called
    return is_users(function)


def _is_known(seen: Readings, function: Any, arguments: list[Any]) -> bool:
    """Tell of a function written in C; gives whether all it reads is told."""
    name, owner = function.__name__, getattr(function, "__self__", None)
    if is_a(function, types.MethodWrapperType):
        arguments = [owner, *arguments]
    if function is dir and len(arguments) == 1:
        x = arguments[0]
        if not is_users(found_in(class_of(x), "__dir__")):
            seen.add_guard("names", x, None, dir(x), f"dir({seen.shown(x)})")
        return True
    if function is vars and len(arguments) == 1:
        own = own_dict(arguments[0])
        if own is not None:  # reading it may have made it
            seen.found(own, f"vars({seen.shown(arguments[0])})", arguments[0])
        return True
    if len(arguments) > 1 and _is_attribute(seen, function, name, arguments):
        return True
    asked = arguments[0] if arguments else owner
    if is_a(asked, contextvars.ContextVar) or is_a(owner, contextvars.ContextVar):
        if name == "get":
            _note_answer(seen, functools.partial(function, *arguments), "a context variable")
        return True
    if owner is datetime.datetime or owner is datetime.date:
        if name in ("now", "today", "utcnow"):
            seen.not_repeatable(owner, f"datetime.{name}()")
    if is_a(function, BOUND_IN_C) and is_a(seen.dict_behind(owner), (*CONTAINERS, np.ndarray)):
        seen.owners.setdefault(id(owner), function)
        seen.read_attribute(owner, name)  # it may have been read long ago
    owner = seen.dict_behind(owner)
    if not is_a(owner, CONTAINERS) and arguments:
        owner, arguments = seen.dict_behind(arguments[0]), arguments[1:]
    return is_a(owner, CONTAINERS) and _is_of_container(seen, name, owner, arguments)


def _is_attribute(seen: Readings, function: Any, name: str, arguments: list[Any]) -> bool:
    """getattr and setattr, and the slots of classes that they call."""
    x, key = arguments[:2]
    slot = is_a(function, _OF_SLOTS)
    if function is getattr or function is hasattr or slot and name == "__getattribute__":
        if is_a(key, str):
            seen.read_attribute(x, key, slot)
        return True
    stores = slot and name in ("__setattr__", "__delattr__")
    if stores or function is setattr or function is delattr:
        seen.will_set_attribute(x, key)
        return True
    if slot and name == "__get__":  # of a descriptor `x`, for an object
        named: Any = getattr(x, "__name__", None)
        if is_a(x, property):
            seen.will_call(x.fget, [key])
        elif is_a(named, str):
            seen.read_attribute(key, named)
        return True
    return False


def _is_of_container(seen: Readings, name: str, owner: Any, arguments: list[Any]) -> bool:
    """Tell of a method of a list, dict or set; gives whether all it reads is told."""
    if name in MUTATING:
        seen.will_change(owner)
    if is_a(owner, dict) and name in KEYED and arguments:
        _item(seen, owner, arguments[0])
        return True
    if name in WRITE_ONLY:
        for x in arguments:
            if name in ("extend", "update", "extendleft"):  # these read what they are given
                seen.read_by_library(x, 0)
        return True
    return False


def _note_answer(seen: Readings, ask: Callable[[], Any], shown: str) -> None:
    """A function that may be asked again, of something outside Python's objects."""
    seen.add_guard("call", ask, None, ask(), shown)


def _note_getter(seen: Readings, getter: Any, arguments: list[Any]) -> None:
    """One of `operator`'s getters, of the objects beside it or of those in a container."""
    objects: list[Any] = [seen.dict_behind(x) for x in arguments if x is not getter]
    objects += [y for x in objects if is_a(x, (*CONTAINERS, tuple)) for y in x]
    made, given = getter.__reduce__()[:2]
    if is_a(getter, operator.methodcaller):
        given = given[:1] if made is operator.methodcaller else made.args[:1]
    for x in objects:
        for key in given:
            y = x
            for part in () if is_a(getter, operator.itemgetter) else key.split("."):
                seen.read_attribute(y, part)
                y = getattr(y, part, None)
            if is_a(getter, operator.itemgetter) and is_a(x, CONTAINERS):
                _item(seen, x, key)
