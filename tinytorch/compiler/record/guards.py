"""What a recorded function read of the Python around it, and whether that is still so.

Knows objects, attributes and containers; never graphs. A recording ran the function once, so a
Python number that it read is frozen into the program. A Guard is one such reading and what it gave:
an attribute, an element, the contents of a list, the numbers of an array. Before each run all of
them are checked, in few loops that run inside the Python interpreter's C code; when one no longer
holds the function is recorded again.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from operator import attrgetter, contains, getitem, is_, itemgetter
from types import CodeType
from typing import Any, Protocol, cast

import numpy as np

from tinytorch.base.errors import CompileError
from tinytorch.compiler.record.objects import MISSING, REFUSALS, SCALARS, UNSET, class_of, is_a
from tinytorch.tensor.memory import TensorBase

_call = cast(Callable[[Any, Any], Any], operator.call)
OFTEN = 3  # recordings because of one name, at which a warning names it


class RecompileWarning(UserWarning):
    """A compiled function was recorded again and again because something outside it changed."""


class Guard:
    """One reading, and what it gave.

    Args:
        kind: "attr" (`holder.key`), "item" (`holder[key]`), "has" (`key in holder`), "class" (what
            the class `holder` itself holds under `key`), "all" (the contents of a container),
            "array" (the numbers of an array, or of `holder[key]`), "call" (what a function gives),
            "kind" (the class of `holder`), "again" (`holder.key` that is made anew at each reading,
            or was not set), "names" (`dir(holder)`).
        holder, key: what was read.
        held: what it gave: for "all" (keys or elements, values), for "array" its bytes.
        shown: how the user writes it ("learning_rate", "config.steps").
        counted: a change is counted in `settings.STRUCTURE`: it needs no look at every call.
    """

    __slots__ = ("counted", "held", "holder", "key", "kind", "shown")

    def __init__(
        self, kind: str, holder: Any, key: Any, held: Any, shown: str, counted: bool = False
    ):
        self.kind, self.holder, self.key = kind, holder, key
        self.held, self.shown, self.counted = held, shown, counted

    def now(self) -> Any:
        """What the same reading gives now; MISSING if it fails."""
        try:
            return _READ[self.kind](self.holder, self.key)
        except REFUSALS:
            return MISSING

    def holds(self) -> bool:
        """Whether it gives the same object, or an equal number, still."""
        now = self.now()
        return now is not MISSING and same(now, self.held)

    def change(self) -> str:
        """What to tell the user."""
        now, before = self.now(), self.held
        if now is MISSING:
            return f"{self.shown!r} no longer exists"
        if self.kind == "has":
            return f"{self.shown!r} {'exists now' if now else 'no longer exists'}"
        if self.kind in ("all", "array"):
            return f"the contents of {self.shown!r} changed"
        if type(before) in SCALARS:
            return f"{self.shown!r} was {before!r} and is now {now!r}"
        return f"{self.shown!r} now stands for another object ({type(now).__name__})"

    @property
    def is_number(self) -> bool:
        """Whether it held a number, which a 0-d Tensor could hold."""
        return type(self.held) in (int, float)


def reading_of(owner: Any, name: str) -> Guard:
    """The reading of a name or an attribute, whatever it gives."""
    return Guard("item" if is_a(owner, dict) else "attr", owner, name, None, name)


Place = tuple[str, int, Any]  # kind, id of the holder, key


class Placed(Protocol):
    """What is read or written somewhere: a Guard, an Effect."""

    kind: str
    holder: Any
    key: Any


def place_of(reading: Placed) -> Place:
    """Kind, holder and key of a Guard or an Effect, as an element of a set.

    A slice cannot be in one before Python 3.12: it is told by how it is written.
    """
    key = reading.key
    try:
        hash(key)
    except TypeError:
        key = repr(key)
    return reading.kind, id(reading.holder), key


def same(now: Any, held: Any) -> bool:
    """Whether it is the same object, or an equal number, text or tuple of them."""
    if now is held:
        return True
    cls = class_of(now)
    if cls is not class_of(held):
        return False
    if cls is float or cls is complex:
        return repr(now) == repr(held)  # tells -0.0 from 0.0, and nan equals itself
    if cls in SCALARS or issubclass(cls, np.dtype):
        return now == held
    if cls is tuple or cls is list:
        return len(now) == len(held) and all(map(same, now, held))
    return issubclass(cls, np.generic) and now.tobytes() == held.tobytes()


def contents(x: Any) -> tuple[list[Any], list[Any]]:
    """(keys, values) of a dict, else (elements, elements)."""
    elements = list(x)
    return elements, (list(x.values()) if is_a(x, dict) else elements)


def numbers(x: np.ndarray, key: Any = None) -> tuple[tuple[int, ...], np.dtype[Any], bytes]:
    """Shape, number type and numbers of an array, or of a part of it, as they are now."""
    part = x if key is None else np.asarray(x[key])
    return part.shape, part.dtype, part.tobytes()


_READ: dict[str, Callable[[Any, Any], Any]] = {
    "attr": getattr,
    "item": getitem,
    "has": contains,
    "class": lambda cls, name: cls.__dict__[name],
    "all": lambda x, _: contents(x),
    "array": numbers,
    "call": lambda function, _: function(),
    "kind": lambda x, _: class_of(x),
    "again": lambda x, name: getattr(x, name, UNSET),
    "names": lambda x, _: dir(x),
}


def _by_identity(x: Any) -> bool:
    """Whether `==` of it holds for the same object, or for one that serves as well, and no other.

    Python compares lists and tuples without a call where both hold the same object. Two different
    Tensors of several numbers are asked for one truth then, which they refuse.
    """
    cls = class_of(x)
    if issubclass(cls, TensorBase):
        return x.size > 1
    if cls is str or cls is bytes or cls is CodeType:
        return True
    return type.__getattribute__(cls, "__eq__") is object.__eq__  # past the user's metaclass


_Lookups = tuple[list[Callable[[Any], Any]], list[Any], list[Any]]


def _lookups(groups: Iterable[list[Guard]]) -> _Lookups:
    """Getters, what they are applied to, and what they gave; one for guards with one holder.

    `attrgetter("a", "b")(x)` reads both in C and gives a tuple; of one name it gives what it reads.
    """
    getters: list[Callable[[Any], Any]] = []
    holders: list[Any] = []
    held: list[Any] = []
    for group in groups:
        first, keys = group[0], [g.key for g in group]
        getters.append(attrgetter(*keys) if first.kind == "attr" else itemgetter(*keys))
        holders.append(vars(first.holder) if first.kind == "class" else first.holder)
        held.append(tuple([g.held for g in group]) if len(group) > 1 else first.held)
    return getters, holders, held


class Guards:
    """All guards of one recording, arranged so that checking them is few loops.

    What is compared by identity (Tensors, functions, objects) is compared at once, tuple by tuple
    and list by list, 5 ns each; numbers by a chain of `is`, 30 ns each. An equal number that is
    another object fails there, and is looked at once more, slowly; it is then what is held.
    """

    __slots__ = (
        "_absent", "_arrays", "_classes", "_elements", "_iterables", "_lengths", "_lists",
        "_numbers", "_objects", "_slow", "guards",
    )  # fmt: skip

    def __init__(self, guards: Iterable[Guard]):
        self.guards = list(guards)
        self._arrange()

    def _arrange(self) -> None:
        of_kind: dict[str, list[Guard]] = {kind: [] for kind in _READ}
        for g in self.guards:
            of_kind[g.kind].append(g)
        read = [*of_kind["attr"], *of_kind["item"], *of_kind["class"]]
        by_place: dict[tuple[str, int], list[Guard]] = {}
        for g in read:
            if _by_identity(g.held):
                by_place.setdefault((g.kind, id(g.holder)), []).append(g)
        self._objects = _lookups(by_place.values())
        self._numbers = _lookups([g] for g in read if not _by_identity(g.held))
        self._absent = [g.holder for g in of_kind["has"]], [g.key for g in of_kind["has"]]
        self._lists: tuple[list[Any], list[Any]] = [], []
        self._iterables: list[Any] = []
        self._lengths: list[int] = []
        self._elements: list[Any] = []
        for g in of_kind["all"]:
            keys, values = g.held
            if class_of(g.holder) is list and all(map(_by_identity, keys)):
                self._lists[0].append(g.holder)
                self._lists[1].append(keys)
                continue
            parts = [(g.holder, keys)]
            if is_a(g.holder, dict):
                parts.append((g.holder.values(), values))
            for part, held in parts:
                self._iterables.append(part)
                self._lengths.append(len(held))
                self._elements += held
        self._arrays = [(g.holder, g.key, g.held) for g in of_kind["array"]]
        self._classes = [g.holder for g in of_kind["kind"]], [g.held for g in of_kind["kind"]]
        self._slow = [*of_kind["call"], *of_kind["again"], *of_kind["names"]]

    def hold(self) -> bool:
        """Whether everything that was read is as it was."""
        return not self.guards or self._hold_at_once() or not self.changed()

    def _hold_at_once(self) -> bool:
        try:
            getters, holders, held = self._objects
            if held and list(map(_call, getters, holders)) != held:
                return False
            if self._lists[0] != self._lists[1]:
                return False
            getters, holders, held = self._numbers
            if held and not all(map(is_, map(_call, getters, holders), held)):
                return False
            if self._classes[0] and list(map(type, self._classes[0])) != self._classes[1]:
                return False
            if self._absent[0] and any(map(contains, *self._absent)):
                return False
            if self._iterables and (
                list(map(len, self._iterables)) != self._lengths
                or not all(map(is_, chain.from_iterable(self._iterables), self._elements))
            ):
                return False
            for x, key, held in self._arrays:
                if numbers(x, key) != held:
                    return False
        except REFUSALS:  # a missing key, an emptied cell, two Tensors compared
            return False
        return not self._slow or all([g.holds() for g in self._slow])

    def changed(self) -> list[Guard]:
        """The guards that no longer hold."""
        changed = [g for g in self.guards if not g.holds()]
        if not changed:  # equal numbers, other objects: make the next look short
            for g in self.guards:
                g.held = g.now()
            self._arrange()
        return changed


def given_guards(given: Any) -> list[Guard]:
    """Guards that the user gives: functions of nothing, or pairs (object, "attribute").

    Raises:
        CompileError: something else is given.
    """
    found: list[Guard] = []
    try:
        items = list(given)
    except TypeError:
        items = [given]
    for i, item in enumerate(items):
        if is_a(item, tuple) and len(item) == 2 and isinstance(item[1], str):
            owner, path = item
            read = partial(attrgetter(path), owner)
            shown = f"{getattr(owner, '__name__', type(owner).__name__)}.{path}"
        elif callable(item):
            read, shown = item, f"guards[{i}]"
        else:
            raise CompileError(
                "compile: this is no guard",
                got=f"guards[{i}] is a {type(item).__name__}",
                rule='a function of nothing, or a pair (object, "attribute")',
                fix="guards=[lambda: settings.rate, (settings, 'rate')]",
            )
        found.append(Guard("call", read, None, MISSING, shown))
    return found


class Changes:
    """Warns of what makes a compiled function be recorded again and again: once for each name."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def note_once(self, function: str, why: str) -> None:
        """Count a recording that is used once, because it left Tensors in `why`."""
        self.counts[why] = self.counts.get(why, 0) + 1
        if self.counts[why] == OFTEN:
            warnings.warn(
                f"compiled function {function!r} is recorded at every call because it "
                f"{why or 'makes objects that hold Tensors'}; keep Tensors in attributes, elements "
                "or variables that were there before, and hand over what changes as an argument",
                RecompileWarning,
                stacklevel=6,
            )

    def note(self, function: str, changed: list[Guard]) -> None:
        """Count a recording that these guards caused; the warning points at the user's call."""
        often: list[Guard] = []
        for g in {g.shown: g for g in changed}.values():
            self.counts[g.shown] = self.counts.get(g.shown, 0) + 1
            if self.counts[g.shown] == OFTEN:
                often.append(g)
        if not often:
            return
        cure = (
            "a number that changes belongs in a 0-d Tensor (tt.Tensor(0.5), changed with fill_()), "
            "which is read at every call"
            if any(g.is_number for g in often)
            else "change a Tensor with assign_() instead of making a new one, and keep counters "
            "out of the compiled function"
        )
        warnings.warn(
            f"compiled function {function!r} was recorded {OFTEN} times again because "
            f"{' and '.join(g.change() for g in often)}; {cure}",
            RecompileWarning,
            stacklevel=7,
        )
