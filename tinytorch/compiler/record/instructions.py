"""Instructions: which of them read or change something that a later call may find changed.

Knows bytecode and what lies on the stack before each instruction; never guards. One table serves
CPython 3.11, 3.12 and 3.13: an instruction that a version does not have is not met there.
"""

from __future__ import annotations

import contextlib
import dis
import sys
import types
from array import array
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch.compiler.record.frames import at, depths, library_class, places_of
from tinytorch.compiler.record.guards import MISSING, REFUSALS, SCALARS
from tinytorch.compiler.record.objects import CONTAINERS, found_in, hashable, is_a, name_of, short
from tinytorch.tensor.memory import TensorBase

INSIDE = 3  # how far comparing and printing follow containers in containers


# Each act is given the watch, the frame, where its places begin, where its stack ends, and the
# argument of the instruction.


def _load_global(watch: Any, frame: Any, base: int, end: int, name: str) -> None:
    watch.item(frame.f_globals, name, name)  # if it is Python's own: a global may cover it later


def _load_name(watch: Any, frame: Any, base: int, end: int, name: str) -> None:
    if name not in frame.f_locals:
        _load_global(watch, frame, base, end, name)


def _load_deref(watch: Any, frame: Any, base: int, end: int, cell: tuple[int, str]) -> None:
    place, name = cell
    holder = at(base + 8 * place)
    if type(holder) is not types.CellType or (id(holder), "cell_contents") in watch.written:
        return
    watch.read(holder, "cell_contents", name)


def _store_deref(watch: Any, frame: Any, base: int, end: int, cell: tuple[int, str]) -> None:
    holder = at(base + 8 * cell[0])
    if type(holder) is types.CellType:
        try:
            old = holder.cell_contents
        except ValueError:  # nothing was assigned yet
            old = MISSING
        watch.sets(holder, "cell_contents", old)


def _store_global(watch: Any, frame: Any, base: int, end: int, name: str) -> None:
    watch.sets(frame.f_globals, name, frame.f_globals.get(name, MISSING))


def _load_attr(watch: Any, frame: Any, base: int, end: int, name: str) -> None:
    watch.attribute(at(end - 8), name)


def _store_attr(watch: Any, frame: Any, base: int, end: int, name: str) -> None:
    watch.stores_attribute(at(end - 8), name)


def _subscript(watch: Any, frame: Any, base: int, end: int, _: Any) -> None:
    holder, key = watch.opened(at(end - 16)), at(end - 8)
    if type(key) not in SCALARS:
        watch.looks(key, INSIDE)  # indices in a list or an array
    if is_a(holder, dict):
        if found_in(type(holder), "__getitem__") in (dict.__getitem__,):
            watch.item(holder, key, f"{watch.shown(holder)}[{short(key)}]")
    elif is_a(holder, (list, deque, array)):
        if is_a(key, int):
            watch.item(holder, key, f"{watch.shown(holder)}[{key}]")
        else:
            watch.whole(holder)
    elif is_a(holder, np.ndarray):
        watch.array(holder, key)
    elif _is_mapping(holder):
        with contextlib.suppress(*REFUSALS):
            watch.add("item", holder, key, holder[key], f"{watch.shown(holder)}[{short(key)}]")
    else:
        watch.looks(holder)


def _is_mapping(x: Any) -> bool:
    """os.environ, UserDict, ChainMap: reading one item of them has no effect."""
    return name_of(type(x)) in ("_Environ", "UserDict", "ChainMap") and library_class(type(x))


def _contains(watch: Any, frame: Any, base: int, end: int, _: Any) -> None:
    key, holder = at(end - 16), at(end - 8)
    if is_a(holder, dict):
        watch.item(holder, key, f"{watch.shown(holder)}[{short(key)}]")
    else:
        watch.looks(holder, INSIDE)
        watch.looks(key, INSIDE)


def _operator(watch: Any, frame: Any, base: int, end: int, sign: str) -> None:
    _two(watch, frame, base, end, None)
    changed = at(end - 16)
    if type(changed) is str:  # "%s" % numbers
        watch.looks(at(end - 8), INSIDE)
    if sign.endswith("=") and is_a(changed, CONTAINERS):
        watch.shot(changed)


def _stores(watch: Any, holder: Any, key: Any, value: Any) -> None:
    if type(key) not in SCALARS:
        watch.looks(key, INSIDE)
    if is_a(holder, TensorBase):  # it takes the numbers
        watch.looks(value, INSIDE)
    elif is_a(holder, CONTAINERS):
        watch.shot(holder)
        if hashable(key):
            watch.set_items.add((id(holder), key))


def _store_subscript(watch: Any, frame: Any, base: int, end: int, _: Any) -> None:
    _stores(watch, at(end - 16), at(end - 8), at(end - 24))


def _delete_subscript(watch: Any, frame: Any, base: int, end: int, _: Any) -> None:
    _stores(watch, at(end - 16), at(end - 8), None)


def _store_slice(watch: Any, frame: Any, base: int, end: int, _: Any) -> None:
    _stores(watch, at(end - 24), slice(at(end - 16), at(end - 8)), at(end - 32))


def _slice(watch: Any, frame: Any, base: int, end: int, _: Any) -> None:
    watch.looks(at(end - 24))
    watch.looks(slice(at(end - 16), at(end - 8)))


def _reads_top(count: int, depth: int = 0) -> Callable:
    def act(watch: Any, frame: Any, base: int, end: int, _: Any) -> None:
        for i in range(count):
            x = at(end - 8 - 8 * i)
            watch.looks(x, depth)
            if found_in(type(x), "__next__") is not MISSING:
                watch.draws(x, f"the iterator {watch.shown(x)}")

    return act


def _format(watch: Any, frame: Any, base: int, end: int, flags: int) -> None:
    watch.looks(at(end - 16) if flags & 4 else at(end - 8), INSIDE)


def _load_super(watch: Any, frame: Any, base: int, end: int, name: str) -> None:
    if at(end - 24) is super:  # two arguments, also where none are written
        with contextlib.suppress(*REFUSALS):
            watch.attribute(super(at(end - 16), at(end - 8)), name)


def _call(watch: Any, frame: Any, base: int, end: int, layout: tuple[int, int]) -> None:
    count, names = layout
    start = end - 8 * (count + 2 + names)
    first, second = at(start), at(start + 8)
    arguments = [at(start + 16 + 8 * i) for i in range(count)]
    if _CALLEE_FIRST:
        function, own = first, second
    else:
        function, own = (second, MISSING) if first is MISSING else (first, second)
    watch.calls(function, arguments if own is MISSING else [own, *arguments])


def _call_with_many(watch: Any, frame: Any, base: int, end: int, flags: int) -> None:
    named = at(end - 8) if flags & 1 else {}
    given = at(end - 16) if flags & 1 else at(end - 8)
    function = at(end - 24) if flags & 1 else at(end - 16)
    watch.looks(given)
    if is_a(named, dict) and function is not MISSING:
        rest = list(given) if is_a(given, (list, tuple)) else []
        watch.calls(function, [*rest, *named.values()])


def _match_class(watch: Any, frame: Any, base: int, end: int, count: int) -> None:
    subject, kind, names = at(end - 24), at(end - 16), at(end - 8)
    watch.kind_of(subject)
    positional = getattr(kind, "__match_args__", ())[:count]
    for name in (*positional, *names):
        watch.attribute(subject, name)


def _match_keys(watch: Any, frame: Any, base: int, end: int, _: Any) -> None:
    subject, keys = watch.opened(at(end - 16)), at(end - 8)
    for key in keys if is_a(subject, dict) else ():
        watch.item(subject, key, f"{watch.shown(subject)}[{short(key)}]")


_CALLEE_FIRST = sys.version_info >= (3, 13)
_one, _two = _reads_top(1), _reads_top(2)
_one_inside, _two_inside = _reads_top(1, INSIDE), _reads_top(2, INSIDE)
# 3.11 calls by PRECALL and CALL, of which the first sees the whole stack.
_ACTS: dict[str, Callable] = {
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


def _act_of(i: dis.Instruction) -> Callable | None:
    if i.opname.startswith(("POP_JUMP", "JUMP_IF")) and "NONE" not in i.opname:
        return _one
    return _ACTS.get(i.opname)


_plans: dict[types.CodeType, dict[int, tuple]] = {}
PLANS = 4096  # code objects whose instructions are remembered


def plan_of(code: types.CodeType) -> dict[int, tuple]:
    """What to do before which instruction, by its offset."""
    known = _plans.get(code)
    if known is not None:
        return known
    places, deep, plan, extended = places_of(code), depths(code), {}, []
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
