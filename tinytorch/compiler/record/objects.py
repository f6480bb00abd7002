"""Objects: what they are and what they hold, told without running the user's code.

Knows classes, dicts and descriptors; never guards. `isinstance(x, C)` asks `x.__class__`, and
`vars(x)` asks `x.__dict__`: a user's class may answer both (`__getattribute__`, a proxy of another
object), with side effects or an error of its own. What lies here asks Python's own types instead.
"""

from __future__ import annotations

import gc
import types
from array import array
from collections import deque
from typing import Any

from tinytorch.compiler.record.guards import MISSING, REFUSALS, SCALARS

CONTAINERS = (list, dict, set, deque, bytearray, array)
BOUND_IN_C = (types.BuiltinMethodType, types.MethodWrapperType)  # `table.get`, `v.__len__`
# they show what a dict holds, and hold nothing themselves
_WINDOWS = (types.MappingProxyType, type({}.keys()), type({}.values()), type({}.items()))
_HEAP, _FIXED = 1 << 9, 1 << 8  # Py_TPFLAGS_HEAPTYPE, Py_TPFLAGS_IMMUTABLETYPE

_bases_of = type.__dict__["__mro__"].__get__
_dict_of = type.__dict__["__dict__"].__get__
_flags_of = type.__dict__["__flags__"].__get__
_name_of = type.__dict__["__name__"].__get__
_module_of = type.__dict__["__module__"].__get__


def is_a(x: Any, kinds: Any) -> bool:
    """Whether the class of an object is one of these, or derived from one."""
    return issubclass(type(x), kinds)


def opened(x: Any) -> Any:
    """The dict that a mappingproxy or a view of a dict shows; any other object itself."""
    while issubclass(type(x), _WINDOWS):
        x = gc.get_referents(x)[0]
    return x


def name_of(kind: type) -> str:
    """A class's name."""
    return _name_of(kind)


def module_of(kind: type) -> str:
    """The name of the module where a class was made."""
    return str(_module_of(kind))


def bases_of(kind: type) -> tuple[type, ...]:
    """A class and its bases, in the order in which Python asks them."""
    return _bases_of(kind)


def dict_of_class(kind: type) -> dict:
    """What a class itself holds: its own dict, not a proxy of it."""
    return opened(_dict_of(kind))


def own_dict(x: Any) -> dict | None:
    """The dict of an object's own attributes, None if it has none."""
    try:
        own = object.__getattribute__(x, "__dict__")
    except REFUSALS:
        return None
    return own if isinstance(own, dict) else None


def slots_of(kind: type) -> list[str]:
    """The names in `__slots__` of a class and its bases."""
    member = types.MemberDescriptorType
    return [n for c in _bases_of(kind) for n, x in _dict_of(c).items() if type(x) is member]


def found_in(kind: type, name: str) -> Any:
    """What a class and its bases hold under a name, MISSING for nothing."""
    for owner in _bases_of(kind):
        own = _dict_of(owner)
        if name in own:
            return own[name]
    return MISSING


def names_of(kind: type, found: Any) -> list[str]:
    """Under which names a class and its bases hold this object."""
    names = {n for owner in _bases_of(kind) for n, x in _dict_of(owner).items() if x is found}
    return sorted(n for n in names if found_in(kind, n) is found)


def owner_of(kind: type, name: str) -> type | None:
    """The class among a class and its bases that holds a name."""
    return next((owner for owner in _bases_of(kind) if name in _dict_of(owner)), None)


def has_method(x: Any, name: str) -> bool:
    """Whether the class of an object has a special method, `__set__` of a descriptor."""
    return found_in(type(x), name) is not MISSING


def can_change_class(kind: type) -> bool:
    """Whether `x.__class__ = ...` is possible for objects of a class."""
    return _flags_of(kind) & (_HEAP | _FIXED) == _HEAP


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
    return repr(key) if type(key) in SCALARS else name_of(type(key))
