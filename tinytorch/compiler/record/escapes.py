"""Tensors that a recorded call leaves in the user's objects: in attributes, dicts, lists, closures.

Knows objects and who refers to them; never machine code. `self.n = self.n + 1` puts a Tensor of the
recording, which has no numbers, where the next call reads it. When the program has run it gets its
numbers; when the program runs again, without Python, a new Tensor is put in the same place.

Note [what a program does again]
    On the call that records, each Tensor that is still reachable afterwards is an output of the
    program and gets memory: that is right wherever it lies. Calls after that must do what Python
    would have done: where the place is an attribute, an element or a variable that was there before
    (or a list at whose end it was put) an Effect does it again, and if the call also read the
    Tensor that lay there, the Tensor found there is read at each call, whichever it is: a Carried
    place. Elsewhere (a new dict in a dict) the recording is used once, and the next call records
    anew; it finds the Tensors in their places then, as states.
"""

from __future__ import annotations

import gc
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from tinytorch.compiler.record.guards import MISSING, Guard
from tinytorch.compiler.record.objects import is_a, name_of, own_dict
from tinytorch.compiler.record.signature import flatten, rebuild
from tinytorch.tensor.interpreter import Interpreter
from tinytorch.tensor.memory import TensorBase
from tinytorch.tensor.tape import Leaf, Node, Port
from tinytorch.tensor.tensor import Tensor

# they end with the call
_NO_PLACES = (types.FrameType, TensorBase, Node, Port, Leaf, Interpreter)
HEIGHT = 6  # containers in containers that are followed from a Tensor up to where they hang


@dataclass(eq=False)
class Effect:
    """Something that Python did and that each run does again.

    Args:
        kind: "attr" (`holder.key = ...`), "item" (`holder[key] = ...`) or "extend" (of a list).
        holder, key: where.
        tree: what is put there, with a Slot for each Tensor.
    """

    kind: str
    holder: Any
    key: Any
    tree: Any

    def do(self, value: Any) -> None:
        """Put `value` in its place, past `__setattr__`: nothing has to be recorded again."""
        if self.kind == "extend":
            if not self.holder or self.holder[-1] is not value[-1]:  # else it was done before
                self.holder.extend(value)
        else:
            put(self.kind, self.holder, self.key, value)


@dataclass(eq=False)
class Carried:
    """A place whose Tensors are read anew at each call.

    Args:
        guard: the reading.
        key: kinds of containers, shapes and number types of what it held.
    """

    guard: Guard
    key: tuple

    def leaves(self) -> list[Tensor] | None:
        """The Tensors it holds now, None if they are of another kind."""
        key: list = []
        leaves: list = []
        now = self.guard.now()
        if now is MISSING:
            return None
        flatten(now, key, leaves)
        return leaves if tuple(key) == self.key else None


@dataclass(eq=False)
class Escapes:
    """What a recorded call left behind in Python.

    Args:
        adopted: (Tensor, where its numbers are found): those that lie somewhere.
        effects: what later runs do again.
        again: whether later runs can; otherwise the recording is used once.
        why: what they could not do.
    """

    adopted: list[tuple[Tensor, Any]] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    again: bool = True
    why: str = ""


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
    if hasattr(type(container), "update"):
        container.update(contents)
    else:
        container.extend(contents)


def holds_tensor(x: Any, depth: int = 4) -> bool:
    """Whether an object is a Tensor, or a container of one."""
    if is_a(x, TensorBase):
        return True
    if depth and is_a(x, (tuple, list, set)):
        return any(holds_tensor(y, depth - 1) for y in x)
    return depth > 0 and is_a(x, dict) and any(holds_tensor(y, depth - 1) for y in x.values())


def held_by(guard: Guard) -> Iterator[Any]:
    """What a guard holds, and what lies in it."""
    stack = [*guard.held[1]] if guard.kind == "all" else [guard.held]
    while stack:
        x = stack.pop()
        yield x
        if is_a(x, tuple):
            stack += x


def containers(x: Any) -> Iterator[Any]:
    """A list, tuple or dict and those in it."""
    if is_a(x, (tuple, list, dict)):
        yield x
        for y in x.values() if is_a(x, dict) else x:
            yield from containers(y)


def find(watch: Any, left: list[Tensor], slot_of: Callable[[Tensor], Any]) -> Escapes:
    """The Tensors of a recording that are reachable from objects older than it.

    Args:
        watch: what was seen of the call; it is over, and the collector of garbage still stands.
        left: the Tensors without numbers that are still there.
        slot_of: gives the Slot of a Tensor's numbers.

    Cost: nothing if no Tensor is left, else one look through all objects of the process for each
    level of containers, 10 ms for a million objects.
    """
    found = Escapes()
    if not left:
        found.effects = _moved(watch)
        return found
    places, parents = _places(watch, left)
    reached = _reached(places, parents)
    slots = {id(x): slot_of(x) for x in left if id(x) in reached}
    found.adopted = [(x, slots[id(x)]) for x in left if id(x) in reached]
    for holder, children in places.values():
        effects = _effects(watch, holder, children)
        if effects is None or not all(_is_plain(e.tree) for e in effects):
            found.again = False
            found.why = f"puts new Tensors into a {name_of(type(holder))}, not to be repeated alone"
            break
        found.effects += effects
    found.effects += _moved(watch)
    for e in found.effects:
        e.tree = rebuild(e.tree, lambda x: _like(slots[id(x)], x) if id(x) in slots else x)
    leaves = [x._node for x, _ in found.adopted if type(x._node) is Leaf]
    if not found.again or not watch.sees or any(leaf.grad is not None for leaf in leaves):
        found.again, found.effects = False, []
    return found


def young_objects() -> Iterator[Any]:
    """The youngest generation of the collector of garbage.

    To be gone through by one call of C code, as `set(map(id, young_objects()))`. Where Python code
    runs meanwhile another thread may run too, and a tuple that it is making may have no second
    owner: that thread gets a SystemError ("bad argument to internal function") far from here.
    """
    return chain.from_iterable(map(gc.get_objects, (0,)))


def _like(slot: Any, x: Tensor) -> Any:
    """The Slot of a Tensor that is no plain one."""
    if slot.kind == "argument" or type(x) is Tensor and type(x._node) is not Leaf:
        return slot
    kind = object.__new__(type(x))
    kind._buffer, kind._value, kind._node = None, None, x._node if type(x._node) is Leaf else None
    return type(slot)(slot.kind, slot.index, kind)


def _moved(watch: Any) -> list[Effect]:
    """What was put somewhere though it is not new: Tensors that change their places."""
    effects = []
    for owner, name, old in watch.written.values():
        kind = "item" if is_a(owner, dict) else "attr"
        now = Guard(kind, owner, name, None, name).now()
        if now is not old and _holds_old(now):
            effects.append(Effect(kind, owner, name, now))
    for holder, before in watch.shots.values():
        if is_a(holder, (list, dict)) and len(holder) == len(before):
            keys = holder if is_a(holder, dict) else range(len(holder))
            for key in keys:
                old = before.get(key) if is_a(before, dict) else before[key]
                if holder[key] is not old and _holds_old(holder[key]):
                    effects.append(Effect("item", holder, key, holder[key]))
    return effects


def _holds_old(x: Any) -> bool:
    if is_a(x, tuple):
        return any(map(_holds_old, x)) and all(_holds_old(y) or not holds_tensor(y) for y in x)
    return is_a(x, TensorBase) and x._buffer is not None


def _places(watch: Any, left: list) -> tuple[dict[int, tuple], dict[int, list[Any]]]:
    """id -> (older object, what of the recording it refers to), and who refers to what below."""
    young = set(map(id, young_objects()))
    places: dict[int, tuple] = {}
    parents: dict[int, list[Any]] = {}
    level = left
    seen = set(map(id, left))
    mine = {id(left), id(seen), id(young), id(places), id(parents)}
    for _ in range(HEIGHT):
        ids = set(map(id, level))
        mine |= {id(level), id(ids)}
        above = []
        mine.add(id(above))
        for x in gc.get_referrers(*level):
            if id(x) in mine or issubclass(type(x), _NO_PLACES):
                continue
            children = list({id(y): y for y in gc.get_referents(x) if id(y) in ids}.values())
            mine.add(id(children))
            if watch.is_old(x, young):
                if type(x) is tuple:  # an older one cannot hold what is new: it is this question's
                    continue
                places[id(x)] = (x, [*places.get(id(x), (x, []))[1], *children])
                mine |= {id(places[id(x)]), id(places[id(x)][1])}
                continue
            for child in children:
                above_it = parents.setdefault(id(child), [])
                above_it.append(x)
                mine.add(id(above_it))
            if id(x) not in seen:
                seen.add(id(x))
                above.append(x)
        level = above
        if not level:
            break
    return places, parents


def _reached(places: dict[int, tuple], parents: dict[int, list[Any]]) -> set[int]:
    """Ids of everything below the older objects."""
    below: dict[int, list[int]] = {}
    for child, above in parents.items():
        for parent in above:
            below.setdefault(id(parent), []).append(child)
    reached: set[int] = set()
    stack = [id(child) for _, children in places.values() for child in children]
    while stack:
        i = stack.pop()
        if i not in reached:
            reached.add(i)
            stack += below.get(i, ())
    return reached


def _is_plain(x: Any) -> bool:
    """Whether it is a Tensor, or a container of Tensors and of what never changes."""
    if is_a(x, TensorBase):
        return True
    if type(x) in (tuple, list) or hasattr(type(x), "_fields"):
        return all(map(_is_plain, x))
    if type(x) is dict:
        return all(map(_is_plain, x.values()))
    return is_a(x, (bool, int, float, str, bytes, type(None)))


def _effects(watch: Any, holder: Any, children: list) -> list[Effect] | None:
    """What put `children` where `holder` refers to them; None if that is not known."""
    ids = set(map(id, children))
    if is_a(holder, types.CellType):
        return [Effect("attr", holder, "cell_contents", holder.cell_contents)]
    written = []
    for owner, name, _ in watch.written.values():
        now = MISSING if is_a(owner, dict) else Guard("attr", owner, name, None, name).now()
        if id(now) in ids:
            written.append(Effect("attr", owner, name, now))
    if is_a(holder, list):
        before = watch.shots.get(id(holder), (None, holder))[1]
        if len(holder) > len(before):
            if any(a is not b for a, b in zip(before, holder, strict=False)):
                return None
            return [Effect("extend", holder, None, holder[len(before) :])]
        if len(holder) < len(before):
            return None
        return [Effect("item", holder, i, x) for i, x in enumerate(holder) if id(x) in ids]
    if is_a(holder, dict):
        own = [e for e in written if _is_dict_of(holder, e.holder)]
        named = {e.key for e in own}
        if not own and any(issubclass(type(x), type) for x in gc.get_referrers(holder)):
            return None  # a class's own, which is not written past the class
        rest = [(k, x) for k, x in holder.items() if id(x) in ids and k not in named]
        return own + [Effect("item", holder, k, x) for k, x in rest]
    mine = [e for e in written if e.holder is holder]
    return mine if {id(e.tree) for e in mine} == ids else None


def _is_dict_of(x: dict, owner: Any) -> bool:
    if is_a(owner, type):
        return any(owner is y for y in gc.get_referrers(x))
    return own_dict(owner) is x
