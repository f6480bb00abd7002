"""Objects: what they are, what they hold and whose code they are, without running the user's code.

Knows classes, dicts, descriptors and files; never guards. `isinstance(x, C)` asks `x.__class__`,
and `vars(x)` asks `x.__dict__`: a user's class may answer both (`__getattribute__`, a proxy of
another object), with side effects or an error of its own. What lies here asks Python's own types.
"""

from __future__ import annotations

import functools
import gc
import os
import sys
import sysconfig
import types
from array import array
from collections import deque
from collections.abc import Callable
from typing import Any, cast

SCALARS = frozenset((bool, int, float, complex, str, bytes, type(None), type(...)))
PLAIN = frozenset((*SCALARS, tuple, range, slice, frozenset))  # their attributes never change
CONTAINERS: tuple[type[Any], ...] = (list, dict, set, deque, bytearray, array)
# What objects raise that cannot be read any more; other exceptions (timeouts by a signal) go on.
REFUSALS = (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RuntimeError)
BOUND_IN_C = (types.BuiltinMethodType, types.MethodWrapperType)  # `table.get`, `v.__len__`
# they show what a dict holds, and hold nothing themselves
_EMPTY: dict[str, Any] = {}
_DICT_VIEWS: tuple[type[Any], ...] = (
    types.MappingProxyType, type(_EMPTY.keys()), type(_EMPTY.values()), type(_EMPTY.items()),
)  # fmt: skip
_HEAP, _FIXED = 1 << 9, 1 << 8  # Py_TPFLAGS_HEAPTYPE, Py_TPFLAGS_IMMUTABLETYPE

class_of: Callable[[object], type[Any]] = type  # `x.__class__` may run the user's code


class _Marker:
    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


MISSING = _Marker("missing")
UNSET = _Marker("not set")  # an attribute that may be set

_bases_of = type.__dict__["__mro__"].__get__
_dict_of = type.__dict__["__dict__"].__get__
_flags_of = type.__dict__["__flags__"].__get__
_name_of = type.__dict__["__name__"].__get__
_module_of = type.__dict__["__module__"].__get__


def is_a(x: Any, classes: Any) -> bool:
    """Whether the class of an object is one of these, or derived from one."""
    return issubclass(class_of(x), classes)


def dict_behind(x: Any) -> Any:
    """The dict that a mappingproxy or a view of a dict shows; any other object itself."""
    while issubclass(class_of(x), _DICT_VIEWS):
        x = gc.get_referents(x)[0]
    return x


def name_of(cls: type) -> str:
    """A class's name."""
    return _name_of(cls)


def module_of(cls: type) -> str:
    """The name of the module where a class was made."""
    return str(_module_of(cls))


def bases_of(cls: type) -> tuple[type, ...]:
    """A class and its bases, in the order in which Python asks them."""
    return _bases_of(cls)


def dict_of_class(cls: type) -> dict[str, Any]:
    """What a class itself holds: its own dict, not a proxy of it."""
    return dict_behind(_dict_of(cls))


def dict_of_object(x: Any) -> dict[str, Any] | None:
    """The dict of an object's own attributes, None if it has none: a class has a proxy of one."""
    try:
        own = object.__getattribute__(x, "__dict__")
    except REFUSALS:
        return None
    return cast(dict[str, Any], own) if isinstance(own, dict) else None


def own_dict(x: Any) -> dict[str, Any] | None:
    """The dict of the attributes of an object or a class, None if it has none."""
    return dict_of_class(x) if is_a(x, type) else dict_of_object(x)


def slots_of(cls: type) -> list[str]:
    """The names in `__slots__` of a class and its bases."""
    member = types.MemberDescriptorType
    return [n for c in _bases_of(cls) for n, x in _dict_of(c).items() if type(x) is member]


def owner_of(cls: type, name: str) -> type | None:
    """The class among a class and its bases that holds a name."""
    return next((owner for owner in _bases_of(cls) if name in _dict_of(owner)), None)


def found_in(cls: type, name: str) -> Any:
    """What a class and its bases hold under a name, MISSING for nothing."""
    owner = owner_of(cls, name)
    return MISSING if owner is None else _dict_of(owner)[name]


def names_in(cls: type, found: Any) -> list[str]:
    """Under which names a class and its bases hold this object."""
    names = {n for owner in _bases_of(cls) for n, x in _dict_of(owner).items() if x is found}
    return sorted(n for n in names if found_in(cls, n) is found)


def has_method(x: Any, name: str) -> bool:
    """Whether the class of an object has a special method, `__set__` of a descriptor."""
    return owner_of(class_of(x), name) is not None


def can_change_class(cls: type) -> bool:
    """Whether `x.__class__ = ...` is possible for objects of a class."""
    return _flags_of(cls) & (_HEAP | _FIXED) == _HEAP


def asked(x: Any, name: str, default: Any) -> Any:
    """What an object answers; the default also where its own code fails."""
    try:
        return getattr(x, name, default)
    except REFUSALS:
        return default


def hashable(x: Any) -> bool:
    """Whether it can be a key."""
    try:
        hash(x)
    except REFUSALS:
        return False
    return True


def short(key: Any) -> str:
    """A key as a message shows it."""
    return repr(key) if class_of(key) in SCALARS else name_of(class_of(key))


def put(kind: str, holder: Any, key: Any, value: Any) -> None:
    """`holder.key = value` or `holder[key] = value`; MISSING: delete."""
    if kind == "item":
        if value is not MISSING:
            holder[key] = value
        else:
            holder.pop(key, None)
    elif is_a(holder, (type, types.CellType)):
        setattr(holder, key, value) if value is not MISSING else delattr(holder, key)
    elif value is not MISSING:
        object.__setattr__(holder, key, value)
    else:
        object.__delattr__(holder, key)


def refill(container: Any, contents: Any) -> None:
    """Let a list, dict, set or deque hold this."""
    if is_a(container, list):
        container[:] = contents
        return
    container.clear()
    if hasattr(class_of(container), "update"):
        container.update(contents)
    else:
        container.extend(contents)


# whose code it is

_PACKAGE = os.path.join(os.path.abspath(__file__).rpartition(os.sep + "compiler")[0], "")
_STANDARD = tuple({os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib")})
_INSTALLED = ("/site-packages/", "/dist-packages/")


@functools.cache
def is_library(filename: str) -> bool:
    """Whether code of this file is TinyTorch's, the standard library's or an installed one's."""
    path = filename.replace("\\", "/")
    if any(part in path for part in _INSTALLED) or filename.startswith((_PACKAGE, "<frozen ")):
        return True
    return filename == "<__array_function__ internals>" or filename.startswith(_STANDARD)


def of_library(module: Any) -> bool:
    """Whether a module, or the one of this name, is a library's."""
    found = sys.modules.get(module) if isinstance(module, str) else module
    own = dict_of_object(found) or {}  # past a `__getattr__` of the user's module
    name = module if isinstance(module, str) else str(own.get("__name__"))
    if name == "__main__":  # in a notebook its file is a library's
        return False
    file = own.get("__file__")
    if isinstance(file, str):
        return is_library(file)
    return name.partition(".")[0] in sys.stdlib_module_names


def is_library_class(cls: type) -> bool:
    """Whether a class is a library's, not the user's."""
    return _is_library_module(module_of(cls))


@functools.cache
def _is_library_module(name: str) -> bool:
    return name == "builtins" or of_library(name)


def is_users(function: Any) -> bool:
    """Whether it is a function of the user's Python, which is watched itself."""
    return type(function) is types.FunctionType and not is_library(function.__code__.co_filename)
