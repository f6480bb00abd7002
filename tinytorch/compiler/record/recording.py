"""Recordings: the graph of one call, what the call left in the user's Python, and when it holds.

Knows objects and who refers to them; never machine code. Results, gradients and arguments that
were assigned to get a Slot each, which says where their numbers are found when the program has run.
`self.n = self.n + 1` puts a Tensor of the recording, which has no numbers, where the next call
reads it: when the program has run it gets its numbers; when the program runs again, without Python,
a new Tensor is put in the same place.

Note [what a program does again]
    On the call that records, each Tensor that is still reachable afterwards is an output of the
    program and gets memory: that is right wherever it lies. Calls after that must do what Python
    would have done: where the place is an attribute, an element or a variable that was there before
    (or a list at whose end it was put) an Effect does it again, and if the call also read the
    Tensor that lay there, the Tensor found there is read at each call, whichever it is: a Carried
    place. Elsewhere (a new dict in a dict) the recording is used once, and the next call records
    anew; it finds the Tensors in their places then, as states.
"""

# What a Tensor consists of is read and set here, as in tensor/.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import gc
import types
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from tinytorch.base.errors import CompileError
from tinytorch.base.lengths import Dim
from tinytorch.base.locks import SharedLock, fork_waits_for
from tinytorch.compiler.graph.check_nan import check_nan
from tinytorch.compiler.graph.graph import Graph, Value, verify
from tinytorch.compiler.graph.length_rules import RULES
from tinytorch.compiler.graph.lengths import LengthRewriter
from tinytorch.compiler.record.control import ControlRecorder
from tinytorch.compiler.record.dynamic import DynamicLengths
from tinytorch.compiler.record.guards import Guard, Place, place_of, reading_of
from tinytorch.compiler.record.objects import MISSING, class_of, dict_of_object, is_a, name_of, put
from tinytorch.compiler.record.readings import Readings, holds_tensor, young_objects
from tinytorch.compiler.record.recorder import Recorder, Row
from tinytorch.compiler.record.signature import Slot, flatten, rebuild
from tinytorch.compiler.record.watch import Watch
from tinytorch.tensor.autograd import Leaf, Port, TapeNode, goes_back
from tinytorch.tensor.interpreter import Interpreter, RecordAgain, interpreting
from tinytorch.tensor.memory import TensorBase
from tinytorch.tensor.tensor import Tensor

# Note [recordings and other threads]
#     A recording writes into Tensors and Leafs that other threads may use: it has this lock alone,
#     and compiled calls share it while they read and leave gradients. Eager operations of other
#     threads look at Buffers only. A fork waits for both, so a child never finds half a step.
RECORDING_LOCK = SharedLock()
fork_waits_for(RECORDING_LOCK, place=10)

# they end with the call
_NO_PLACES: tuple[type[Any], ...] = (types.FrameType, TensorBase, TapeNode, Port, Leaf, Interpreter)
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
    key: tuple[Any, ...]

    def leaves(self) -> list[Any] | None:
        """The Tensors it holds now, None if they are of another kind."""
        key: list[Any] = []
        leaves: list[Any] = []
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

    adopted: list[tuple[Tensor, Slot]] = field(default_factory=list[tuple[Tensor, Slot]])
    effects: list[Effect] = field(default_factory=list[Effect])
    again: bool = True
    why: str = ""


class Recording:
    """A recorded call: the graph, and where in the user's Python its ends belong.

    Attributes:
        graph: the program. Its results are made by nodes, are all different, and are not also
            updates.
        sources: for each state the Tensor that holds it, or the Leaf whose gradient holds it.
        views: (Tensor, how it was taken): Tensors from outside that show a state's memory.
        gradients: for each Leaf that was met, whether it had a gradient at the start.
        result: what the function returned, with a Slot for each array.
        left: (Leaf or number of an argument, Slot or None): the gradients it left behind.
        assigned: (number of an argument, Slot): arguments it assigned to.
        returned_views: of each view that is returned: a Tensor from outside or a Slot, and the rows
            that take it from that.
        repeats: whether a result is handed out more than once, or beside a view of it.
        ends: whether a result depends on what gathers a gradient (see Slot).
        states: ids of arguments that are states, as they share memory that is written.
        given: values that are returned though no node made them: copied before the program runs.
        locks: of states that other threads update too (random generators), in order of identity.
        guards: what was read of the Python around it.
        nodes: each Tensor from outside, and where its gradients went.
        carried: places whose Tensors are arguments, behind those of the call.
        escapes: Tensors that lie in the user's objects afterwards.
        put_again: puts them there, when the program has run.
        dims: for each length that differs by call, the number of the argument that says it.
    """

    def __init__(self, graph: Graph, states: frozenset[int] = frozenset()) -> None:
        self.graph, self.states = graph, states
        self.sources: list[Tensor | Leaf] = []
        self.views: list[tuple[Tensor, Any]] = []
        self.gradients: list[tuple[Leaf, bool]] = []
        self.result: Any = None
        self.left: list[tuple[Leaf | int, Slot | None]] = []
        self.assigned: list[tuple[int, Slot]] = []
        self.returned_views: list[tuple[Any, list[Row]]] = []
        self.repeats = self.ends = False
        self.given: list[Value] = []
        self.locks: list[Any] = []
        self.guards: list[Guard] = []
        self.nodes: list[tuple[Tensor, Any]] = []
        self.carried: list[Carried] = []
        self.escapes = Escapes()
        self.put_again: Callable[[], None] = do_nothing
        self.dims: dict[Dim, int] = {}

    def freeze(self) -> None:
        """Let the states that are Tensors and are not updated be frozen (graph/frozen.py)."""
        updated = {old for old, _ in self.graph.updates}
        states = zip(self.graph.states, self.sources, strict=True)
        self.graph.frozen = [
            v for v, source in states if v not in updated and not isinstance(source, Leaf)
        ]


def do_nothing() -> None:
    """What is put again where nothing was taken back."""


def record(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    states: frozenset[int] = frozenset(),
    moving: Collection[Place] = (),
    lift_numbers: bool = False,
    checks: str = "",
    found: DynamicLengths | None = None,
) -> Recording:
    """Record one call of `function`.

    Args:
        function: any Python function over Tensors.
        args, kwargs: as it is called; arrays in them become the graph's arguments, in order.
        states: ids of Tensors among them that are states instead: they share memory with others.
        moving: (kind, id of an object, name or key) of places where other Tensors were found.
        lift_numbers: let single floating-point numbers be states, not constants, so that another
            number needs no other program.
        checks: "ends": see that results and new states are numbers; "everything": and say what
            made the first that is none (graph/check_nan.py).
        found: lengths that differ from call to call, and the shapes they are in.

    Returns:
        the recording, its graph verified.

    Raises:
        CompileError: the function looks at values, or uses a Tensor of another recording.
        Exception: whatever the function raises; every Tensor is then as it was.
    """
    while True:
        with RECORDING_LOCK, Watch() as watch:
            recorder = ControlRecorder(states, lift_numbers, found.shapes if found else None)
            recorder.apply = watch.unwatched(recorder.apply)
            try:
                with interpreting(recorder):
                    taken = [recorder.take(args), recorder.take(kwargs)]
                    first = len(recorder.arguments)
                    lengths = recorder.take_lengths(found.lengths if found else ())
                    result = [watch.run(function, *taken)]
                    taken.clear()
                ending = _Ending(recorder, states)
                ending.finish(result)
                guards = watch.finish()
                recorder.restore()
                recording = ending.carry(guards, watch, moving)
                if recorder.after is not None:  # no Slot: nobody is given it, but it is made
                    recording.graph.results.append(recorder.after)
                if checks:
                    recording.graph = check_nan(recording.graph, checks == "everything")
                if lengths:
                    LengthRewriter(recording.graph, lengths, RULES).run()
                    recording.dims = {dim: first + i for i, dim in enumerate(lengths)}
                verify(recording.graph, "capture")
                recording.put_again = watch.take_back()
                return recording
            except RecordAgain:
                continue
            finally:
                del recorder.apply  # it holds the recorder
                recorder.restore()
                watch.take_back()


class _Ending:
    """Makes the Recording when the call is over: finds where each array that leaves it is found."""

    def __init__(self, recorder: Recorder, states: frozenset[int]) -> None:
        graph = recorder.graph
        graph.updates += [
            (value, tensor._value)
            for tensor, value in recorder.met
            if tensor._value is not value and tensor._value is not None
        ]
        self.recorder, self.recording = recorder, Recording(graph, states)
        self.given = {*graph.arguments, *graph.states, *graph.constants}
        self.updates = {new: i for i, (_, new) in enumerate(graph.updates)}
        self.results: dict[Value, int] = {}
        self.copied: dict[Value, int] = {}
        self.known: dict[int, tuple[Tensor, Slot]] = {}  # id of a Tensor -> it and its one Slot
        self.outside = {id(t) for t, _ in (*recorder.met, *recorder.views)}
        self._roots: Counter[int] = Counter()  # id of a Tensor -> results that show it
        self._kept: dict[int, tuple[Any, list[Row]]] = {}  # id of a view -> its base, and rows

    def finish(self, result: list[Any]) -> None:
        """Everything the recorder found; takes what the function returned out of `result`."""
        recorder, recording = self.recorder, self.recording
        graph = recorder.graph
        recording.locks = [recorder.locks[i] for i in sorted(recorder.locks)]
        given = result.pop()
        rebuild(given, self._count)
        recording.result = rebuild(given, self._given_back)
        del given
        numbers = {leaf: i for i, (_, leaf) in enumerate(recorder.arguments) if leaf is not None}
        for leaf in {**recorder.leaves, **numbers}:
            before = recorder.leaves.get(leaf)
            if leaf not in numbers:
                recording.gradients.append((leaf, before is not None))
            if leaf.grad is not before:
                recording.left.append((numbers.get(leaf, leaf), self._gradient(leaf)))
        arguments = zip(recorder.arguments, graph.arguments, strict=True)
        for i, ((tensor, _), value) in enumerate(arguments):
            if tensor._value is not value:
                recording.assigned.append((i, self._slot(tensor)))
        of_leaf = {id(g): leaf for leaf, g in recorder.leaves.items() if g is not None}
        for value in graph.states:
            source = recorder.sources[value]
            recording.sources.append(of_leaf.get(id(source), source))
        self._drop_origins()
        recording.views = list(recorder.views)
        recording.nodes = [(t, n) for t, n in recorder.nodes if id(t) not in of_leaf]

    def carry(self, guards: list[Guard], watch: Watch, moving: Collection[Place]) -> Recording:
        """Find Tensors left in the user's objects, and places whose Tensors are read at each call.

        A place that was read and then held another Tensor of the recording, and one of `moving`,
        is no guard: the Tensor that lies there is an argument of each call.
        """
        recorder, recording = self.recorder, self.recording
        recorder.forget_arguments()
        with interpreting(recorder):
            left = [t for r in recorder.standing if (t := r()) is not None and t._buffer is None]
            escapes = recording.escapes = find_escapes(watch, left, self.returned, watch.sees)
        if escapes.again and not watch.complete:
            escapes.again, escapes.why = False, watch.why
        for tensor, _ in escapes.adopted:
            leaf: Any = tensor._node
            if type(leaf) is Leaf and leaf.grad is not None:
                if all(leaf is not met for met, _ in recording.left):
                    recording.left.append((leaf, self._gradient(leaf)))
        recording.guards = list(guards)
        if not escapes.again:
            return recording
        count = len(recording.graph.arguments)
        tensors: list[Tensor] = []
        changed = {place_of(e) for e in escapes.effects} | {*moving}
        for g in guards:
            if place_of(g) in changed:
                tensors += self._carry(g)
        given = {id(t): i for i, t in enumerate(tensors)}
        for effect in escapes.effects:
            effect.tree = rebuild(
                effect.tree,
                lambda t: Slot("argument", count + given[id(t)]) if id(t) in given else t,
            )
        return recording

    def _carry(self, guard: Guard) -> list[Tensor]:
        """Let what a guard holds be arguments of each call, if it is reached in this way alone.

        Gives the Tensors that it holds; none if they stay states.
        """
        recorder, recording, graph = self.recorder, self.recording, self.recording.graph
        key: list[Any] = []
        tensors: list[Any] = []
        try:
            flatten(guard.held, key, tensors)
        except CompileError:
            return []
        inside = set(map(id, _containers(guard.held)))
        rest = [g for g in recording.guards if g is not guard and id(g.holder) not in inside]
        others = {id(x) for g in rest for x in _held_by(g)} | {id(t) for t, _ in recording.views}
        updated = {old for old, _ in graph.updates}
        values = [recorder.lifted.get(getattr(t, "_buffer", None)) for t in tensors]  # type: ignore
        for tensor, value in zip(tensors, values, strict=True):
            if id(tensor) in others or getattr(tensor, "_buffer", None) is None:
                return []
            if value is not None:  # else nothing was computed from it
                if recorder.sources.get(value) is not tensor or value in updated:
                    return []
                if value not in graph.states:
                    return []
            node = tensor._node
            if node is not None and (type(node) is not Leaf or node.grad is not None):
                return []
        if not any(values) or len(set(map(id, tensors))) < len(tensors) or recording.views:
            return []
        if any(base is tensor for base, _ in recording.returned_views for tensor in tensors):
            return []
        leaves: dict[Any, int] = {}
        for tensor, value in zip(tensors, values, strict=True):
            if value is None:
                value = recorder.new_value(tensor.spec)
            else:
                recording.sources.pop(graph.states.index(value))
                graph.states.remove(value)
            if tensor._node is not None:
                leaves[tensor._node] = len(graph.arguments)
            graph.arguments.append(value)
        recording.guards = rest
        recording.nodes = [(t, n) for t, n in recording.nodes if all(t is not x for x in tensors)]
        recording.gradients = [(x, had) for x, had in recording.gradients if x not in leaves]
        recording.left = [(leaves.get(t, t), slot) for t, slot in recording.left]
        recording.carried.append(Carried(guard, tuple(key)))
        return tensors

    # the Slot of what leaves

    def returned(self, leaf: Any) -> Any:
        """For a returned array: itself if it came from outside, else where its copy is found."""
        if not is_a(leaf, Tensor):
            return leaf
        number = self.recorder.numbers.get(id(leaf))
        if number is not None:
            return Slot("argument", number)
        if id(leaf) in self.outside or leaf._value is None:
            return leaf
        if id(leaf) in self._kept:
            return self._view(*self._kept[id(leaf)])
        root, rows = self._base_of(leaf)
        if rows and not _taken_at_tensors(rows):
            base = self._outer(root)
            if base is None and root is not leaf and self._roots[id(root)] > 1:
                base = self.returned(root)
            if base is not None:
                return self._view(base, rows)
        return self._slot(leaf)

    def _outer(self, tensor: Tensor) -> Any:
        """A Tensor from outside, the Slot of an argument; None for one of the recording."""
        if id(tensor) in self.outside:
            return tensor
        number = self.recorder.numbers.get(id(tensor))
        return None if number is None else Slot("argument", number)

    def _given_back(self, leaf: Any) -> Any:
        """`returned`, of what the function gives: where its record ends is kept."""
        slot = self.returned(leaf)
        if isinstance(slot, Slot) and slot.kind != "argument" and goes_back(leaf._node):
            slot.ends = self.recording.ends = True
        return slot

    def _count(self, leaf: Any) -> Any:
        """Note a returned array, before the first one gets its Slot."""
        if is_a(leaf, Tensor) and leaf._value is not None:
            self._roots[id(self._base_of(leaf)[0])] += 1
        return leaf

    def _drop_origins(self) -> None:
        """When the results have their Slots: let the recorder refer to no view any more.

        Tensors that lie in the user's objects are looked for next, by who refers to them. Of views
        of Tensors from outside and of arguments it is kept how they are taken.
        """
        self.known.clear()
        recorder = self.recorder
        for origin in list(recorder.origins.values()):
            view = origin.view()
            if view is not None and id(view) not in self.outside:
                recorder.value_of(view)  # as its base is now
                root, rows = self._base_of(view)
                base = self._outer(root)
                if base is not None and not _taken_at_tensors(rows):
                    self._kept[id(view)] = base, rows
        recorder.origins.clear()

    def _base_of(self, tensor: Tensor) -> tuple[Tensor, list[Row]]:
        """What a Tensor of the recording is a view of, at the end of the chain, and its rows."""
        rows: list[Row] = []
        while id(tensor) not in self.outside:
            found = self.recorder.taken_from(tensor)
            if found is None:
                break
            tensor = found[0]
            rows.append(found[1:3])
        return tensor, rows[::-1]

    def _view(self, base: Any, rows: list[Row]) -> Slot:
        self.recording.returned_views.append((base, rows))
        self.recording.repeats = True
        return Slot("view", len(self.recording.returned_views) - 1)

    def _gradient(self, leaf: Leaf) -> Slot | None:
        """For the gradient a Leaf has now."""
        return None if leaf.grad is None else self._slot(leaf.grad)

    def _slot(self, tensor: Tensor) -> Slot:
        """Where the numbers of a Tensor of the recording are found when the program has run."""
        if id(tensor) in self.known:
            slot = self.known[id(tensor)][1]
            if slot.kind == "result":
                self.recording.repeats = True
            return slot
        slot = self._slot_of(self.recorder.value_of(tensor))
        self.known[id(tensor)] = tensor, slot
        return slot

    def _slot_of(self, value: Value) -> Slot:
        if value in self.updates:
            return Slot("after", self.updates[value])
        if value in self.given:
            if value not in self.copied:
                self.copied[value] = len(self.copied)
                self.recording.given.append(value)
            return Slot("before", self.copied[value])
        if value not in self.results:
            self.results[value] = len(self.results)
            self.recording.graph.results.append(value)
        else:
            self.recording.repeats = True
        return Slot("result", self.results[value])


def _taken_at_tensors(rows: list[Row]) -> bool:
    """Whether a view was taken at an index that the program finds."""
    return any(isinstance(x, Tensor) for _, params in rows for x in params.values())


def _held_by(guard: Guard) -> Iterator[Any]:
    """What a guard holds, and what lies in it."""
    stack: list[Any] = [*guard.held[1]] if guard.kind == "all" else [guard.held]
    while stack:
        x = stack.pop()
        yield x
        if is_a(x, tuple):
            stack += x


def _containers(x: Any) -> Iterator[Any]:
    """A list, tuple or dict and those in it."""
    if is_a(x, (tuple, list, dict)):
        yield x
        for y in x.values() if is_a(x, dict) else x:
            yield from _containers(y)


# Tensors in the user's objects


def find_escapes(
    seen: Readings, left: list[Any], slot_of: Callable[[Tensor], Any], repeatable: bool
) -> Escapes:
    """The Tensors of a recording that are reachable from objects older than it.

    Args:
        seen: what the call read and wrote; it is over, and the collector of garbage still stands.
        left: the Tensors without numbers that are still there.
        slot_of: gives the Slot of a Tensor's numbers.
        repeatable: whether all that was written is known.

    Cost: nothing if no Tensor is left, else one look through all objects of the process for each
    level of containers, 10 ms for a million objects.
    """
    found = Escapes()
    if not left:
        found.effects = _moved(seen)
        return found
    places, parents = _places(seen, left)
    reached = _reached(places, parents)
    slots = {id(x): slot_of(x) for x in left if id(x) in reached}
    found.adopted = [(x, slots[id(x)]) for x in left if id(x) in reached]
    for holder, children in places.values():
        effects = _effects(seen, holder, children)
        if effects is None or not all(_is_plain(e.tree) for e in effects):
            found.again = False
            into = name_of(class_of(holder))
            found.why = f"puts new Tensors into a {into}, not to be repeated alone"
            break
        found.effects += effects
    found.effects += _moved(seen)
    for e in found.effects:
        e.tree = rebuild(e.tree, lambda x: _like(slots[id(x)], x) if id(x) in slots else x)
    leaves = [x._node for x, _ in found.adopted if type(x._node) is Leaf]
    if not found.again or not repeatable or any(leaf.grad is not None for leaf in leaves):
        found.again, found.effects = False, []
    return found


def _like(slot: Slot, x: Any) -> Slot:
    """The Slot of a Tensor that is no plain one."""
    if slot.kind == "argument" or class_of(x) is Tensor and type(x._node) is not Leaf:
        return slot
    like: Any = object.__new__(class_of(x))
    like._buffer, like._value, like._node = None, None, x._node if type(x._node) is Leaf else None
    return Slot(slot.kind, slot.index, like)


def _moved(seen: Readings) -> list[Effect]:
    """What was put somewhere though it is not new: Tensors that change their places."""
    effects: list[Effect] = []
    for owner, name, old in seen.written.values():
        place = reading_of(owner, name)
        now = place.now()
        if now is not old and _holds_old(now):
            effects.append(Effect(place.kind, owner, name, now))
    for holder, before in seen.snapshots.values():
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
    return is_a(x, TensorBase) and not _is_new(x)


def _is_new(x: Any) -> bool:
    """Whether it is a Tensor of the recording, which has no numbers yet."""
    return is_a(x, TensorBase) and x._buffer is None


def _places(
    seen: Readings, left: list[Any]
) -> tuple[dict[int, tuple[Any, list[Any]]], dict[int, list[Any]]]:
    """id -> (older object, what of the recording it refers to), and who refers to what below."""
    young = set(map(id, young_objects()))
    places: dict[int, tuple[Any, list[Any]]] = {}
    parents: dict[int, list[Any]] = {}
    level = left
    met = set(map(id, left))
    mine = {id(left), id(met), id(young), id(places), id(parents)}
    for _ in range(HEIGHT):
        ids = set(map(id, level))
        mine |= {id(level), id(ids)}
        above: list[Any] = []
        mine.add(id(above))
        for x in gc.get_referrers(*level):
            if id(x) in mine or issubclass(type(x), _NO_PLACES):
                continue
            children = list({id(y): y for y in gc.get_referents(x) if id(y) in ids}.values())
            mine.add(id(children))
            if seen.is_old(x, young):
                if type(x) is tuple:  # an older one cannot hold what is new: it is this question's
                    continue
                places[id(x)] = (x, [*places.get(id(x), (x, []))[1], *children])
                mine |= {id(places[id(x)]), id(places[id(x)][1])}
                continue
            for child in children:
                above_it = parents.setdefault(id(child), [])
                above_it.append(x)
                mine.add(id(above_it))
            if id(x) not in met:
                met.add(id(x))
                above.append(x)
        level = above
        if not level:
            break
    return places, parents


def _reached(places: dict[int, tuple[Any, list[Any]]], parents: dict[int, list[Any]]) -> set[int]:
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
    if class_of(x) in (tuple, list) or hasattr(class_of(x), "_fields"):
        return all(map(_is_plain, x))
    if class_of(x) is dict:  # whose keys stay what they are
        return not any(map(_is_new, x)) and all(map(_is_plain, x.values()))
    return is_a(x, (bool, int, float, str, bytes, type(None)))


def _effects(seen: Readings, holder: Any, children: list[Any]) -> list[Effect] | None:
    """What put `children` where `holder` refers to them; None if that is not known."""
    ids = set(map(id, children))
    if is_a(holder, types.CellType):
        return [Effect("attr", holder, "cell_contents", holder.cell_contents)]
    written: list[Effect] = []
    for owner, name, _ in seen.written.values():
        now = MISSING if is_a(owner, dict) else reading_of(owner, name).now()
        if id(now) in ids:
            written.append(Effect("attr", owner, name, now))
    if is_a(holder, list):
        before = seen.snapshots.get(id(holder), (None, holder))[1]
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


def _is_dict_of(x: dict[Any, Any], owner: Any) -> bool:
    if is_a(owner, type):
        return any(owner is y for y in gc.get_referrers(x))
    return dict_of_object(owner) is x
