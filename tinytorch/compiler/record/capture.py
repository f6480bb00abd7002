"""Recording: the user's function runs once, without numbers, and every operation becomes a node.

Knows Tensors and the graph, never passes or machine code. What the function reaches from outside is
lifted when it is first met: a Tensor's memory becomes a state, a NumPy array a constant. When the
recording is over, with an error or without, every Tensor is as it was before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from weakref import ref

import numpy as np

from tinytorch.base.errors import CompileError
from tinytorch.base.locks import SharedLock, fork_waits_for
from tinytorch.compiler.graph.graph import Graph, Value, verify
from tinytorch.compiler.record.escapes import Carried, Escapes, containers, find, held_by
from tinytorch.compiler.record.guards import Guard, place_of
from tinytorch.compiler.record.objects import is_a
from tinytorch.compiler.record.signature import Slot, flatten, rebuild
from tinytorch.compiler.record.strides import Layouts
from tinytorch.compiler.record.watch import Watch
from tinytorch.primitives.primitive import TABLE, Primitive, Spec
from tinytorch.tensor.assignment import place_after, put_back, root_of, take
from tinytorch.tensor.dispatch import nothing_around
from tinytorch.tensor.interpreter import (
    STATE,
    Interpreter,
    RecordAgain,
    interpreting,
    no_grad,
    user_line,
)
from tinytorch.tensor.memory import DETACH, Buffer, from_buffer, from_value, taken_from
from tinytorch.tensor.operands import dtype_of_array, refuse_tensor_params
from tinytorch.tensor.tape import Leaf, Node, Port, ends_here, goes_back
from tinytorch.tensor.tensor import Tensor

# Note [recordings and other threads]
#     A recording writes into Tensors and Leafs that other threads may use: it has this lock alone,
#     and compiled calls share it while they read and leave gradients. Eager operations of other
#     threads look at Buffers only. A fork waits for both, so a child never finds half a step.
RECORDING = SharedLock()
fork_waits_for(RECORDING, place=10)


@dataclass(eq=False)
class Captured:
    """A recorded call: the graph, and where in the user's Python its ends belong.

    Args:
        graph: the program. Its results are made by nodes, are all different, and are not also
            updates.
        sources: for each state the Tensor that holds it, or the Leaf whose gradient holds it.
        views: (Tensor, how it was taken): Tensors from outside that show a state's memory.
        gradients: for each Leaf that was met, whether it had a gradient at the start.
        result: what the function returned, with a Slot for each array.
        left: (Leaf or number of an argument, Slot or None): the gradients it left behind.
        assigned: (number of an argument, Slot): arguments it assigned to.
        shown: of each view that is returned: a Tensor from outside or a Slot, the rows that take it
            from that.
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
    """

    graph: Graph
    sources: list[Tensor | Leaf] = field(default_factory=list)
    views: list[tuple[Tensor, tuple]] = field(default_factory=list)
    gradients: list[tuple[Leaf, bool]] = field(default_factory=list)
    result: Any = None
    left: list[tuple[Leaf | int, Slot | None]] = field(default_factory=list)
    assigned: list[tuple[int, Slot]] = field(default_factory=list)
    shown: list[tuple[Any, list]] = field(default_factory=list)
    repeats: bool = False
    ends: bool = False
    given: list[Value] = field(default_factory=list)
    states: frozenset[int] = frozenset()
    locks: list[Any] = field(default_factory=list)
    guards: list[Guard] = field(default_factory=list)
    nodes: list[tuple[Tensor, Any]] = field(default_factory=list)
    carried: list[Carried] = field(default_factory=list)
    escapes: Escapes = field(default_factory=Escapes)
    put_again: Callable[[], None] = lambda: None


def capture(
    function: Callable,
    args: tuple,
    kwargs: dict,
    *,
    states: frozenset[int] = frozenset(),
    moving: Collection[tuple] = (),
    lift_numbers: bool = False,
) -> Captured:
    """Record one call of `function`.

    Args:
        function: any Python function over Tensors.
        args, kwargs: as it is called; arrays in them become the graph's arguments, in order.
        states: ids of Tensors among them that are states instead: they share memory with others.
        moving: (kind, id of an object, name or key) of places where other Tensors were found.
        lift_numbers: let single floating-point numbers be states, not constants, so that another
            number needs no other program.

    Returns:
        the recording, its graph verified.

    Raises:
        CompileError: the function looks at values, or uses a Tensor of another recording.
        Exception: whatever the function raises; every Tensor is then as it was.
    """
    while True:
        with RECORDING, Watch() as watch:
            recording = Capture(states, lift_numbers)
            recording.apply = watch.unwatched(recording.apply)
            try:
                with interpreting(recording):
                    taken = [recording.take(args), recording.take(kwargs)]
                    result = [watch.run(function, *taken)]
                    taken.clear()
                captured = recording.finish(result)
                guards = watch.finish()
                recording.restore()
                recording.carry(captured, guards, watch, moving)
                verify(captured.graph, "capture")
                captured.put_again = watch.take_back()
                return captured
            except RecordAgain:
                continue
            finally:
                del recording.apply  # it holds the recording
                recording.restore()
                watch.take_back()


class Capture(Interpreter):
    """The interpreter that records. One object records one call."""

    def __init__(self, states: frozenset[int] = frozenset(), lift_numbers: bool = False) -> None:
        self.lift_numbers = lift_numbers
        self.graph = Graph()
        self._direct = states  # ids of arguments that no stand-in takes the place of
        self.made: set[Value] = set()  # values of this recording
        self._standing: list[ref[Tensor]] = []  # the Tensors that stand for them
        self.met: list[tuple[Tensor, Value]] = []  # Tensors from outside, and what they held
        self.lifted: dict[Any, Value] = {}  # Buffer -> state
        self.leaves: dict[Leaf, Tensor | None] = {}  # and the gradients they had
        self.arguments: list[tuple[Tensor, Leaf | None]] = []  # stand-ins of array arguments
        self.sources: dict[Value, Tensor] = {}
        self._nodes: list[tuple[Tensor, Any]] = []  # where their gradients went before
        self.views: list[tuple[Tensor, tuple]] = []  # those from outside, and how they were taken
        self.layouts = Layouts()
        self._origins: dict[int, _Origin] = {}  # id of a view -> what it shows
        self._constants: dict[tuple, Value] = {}
        self._given: dict[int, Tensor] = {}  # id of an argument -> its stand-in
        self._numbers: dict[int, int] = {}  # id of a stand-in -> number of the argument
        self.locks: dict[int, Any] = {}  # of what may be drawn from in other threads
        self._start = Leaf().sequence  # tape nodes older than this were made outside

    def take(self, tree: Any) -> Any:
        """The arguments with stand-ins for the arrays; one stand-in for an array given twice."""
        return rebuild(tree, self._stand_in)

    def _stand_in(self, given: Any) -> Tensor:
        if id(given) not in self._given:
            number = len(self.arguments)
            self._given[id(given)] = self._argument(given)
            if id(given) in self._direct:
                self._given[id(given)] = given
                self._numbers[id(given)] = number
        return self._given[id(given)]

    def _argument(self, given: Any) -> Tensor:
        if isinstance(given, Tensor):
            value = self._new(given.spec)
        else:
            value = self._new(Spec(given.shape, dtype_of_array(np.asarray(given))))
        self.graph.arguments.append(value)
        leaf = Leaf() if isinstance(given, Tensor) and type(given._node) is Leaf else None
        tensor = from_value(value, leaf)
        if isinstance(given, Tensor):
            self.layouts.lifted(value, given._buffer.array)
        self._numbers[id(tensor)] = len(self.arguments)
        self.arguments.append((tensor, leaf))
        if leaf is not None and given._node.grad is not None:
            leaf.grad = self._stand_in(given._node.grad)
            self.leaves[leaf] = leaf.grad
        return tensor

    def _new(self, spec: Spec) -> Value:
        value = Value(spec)
        self.made.add(value)
        return value

    # the protocol of tensor/interpreter.py

    def apply(self, primitive: Primitive, operands: tuple, params: dict[str, Any]):
        """Add one node; gives Tensors that stand for its outputs."""
        refuse_tensor_params(primitive, params)
        if self.lift_numbers and "value" in params and params["shape"] == ():
            if params["dtype"].is_float:
                array = np.asarray(primitive.evaluate((), (), params))
                number = from_buffer(Buffer(array, params["dtype"]))
                self._lift(number)
                return from_value(number._value)
        inputs = tuple([self._value(t) for t in operands])
        if STATE.recording:
            for t in operands:
                if t._node is not None and t._buffer is not None and type(t._node) is not Leaf:
                    if not ends_here(t._node):
                        self._refuse_old_tape(t._node, t)
        outputs = self.graph.add(primitive, inputs, params, user_line())
        self.made.update(outputs)
        if len(outputs) == 1:
            out = from_value(outputs[0])
            if primitive.view and self.layouts.note(primitive, inputs[0], outputs[0], params):
                self.shows(out, operands[0], primitive, params)
            else:
                self.layouts.join(primitive, inputs, outputs[0])
            return out
        return tuple([from_value(v) for v in outputs])

    def constant(self, buffer: Any) -> Tensor:
        """A constant; equal arrays become one."""
        array = np.array(buffer.array, order="C")
        key = (buffer.dtype, array.shape, sha256(array.tobytes()).digest())
        value = self._constants.get(key)
        if value is None:
            value = self._constants[key] = self._new(Spec(array.shape, buffer.dtype))
            self.graph.constants[value] = array
        return from_value(value)

    def stands(self, tensor: Tensor) -> None:
        """Remember a Tensor without numbers: it may be found in the user's objects afterwards."""
        self._standing.append(ref(tensor))

    def meet(self, tensor: Tensor) -> None:
        """Lift a Tensor from outside, and remember the gradient it has; take a view again."""
        if tensor._value is None:
            self._lift(tensor)
        elif tensor._value not in self.made:
            raise _foreign(tensor)
        if id(tensor) in self._origins:
            self._take_again(tensor)
        node = tensor._node
        if type(node) is Leaf and node not in self.leaves:
            self.leaves[node] = node.grad

    def assign(self, tensor: Tensor, new: Tensor) -> None:
        """From now on `tensor` holds what `new` holds."""
        self.meet(tensor)
        value = self._value(new)
        taken = self.taken_from(tensor)
        if taken is None:
            tensor._value = self._lying_as(tensor._value, value)
        else:
            root, chain, _ = root_of(tensor)
            with no_grad() if taken[1] is DETACH else nullcontext():
                if taken[1] is DETACH:
                    root = taken[0]
                self.assign(root, put_back(root, chain, new))
            if self._value(taken[0]) is not self._origins[id(tensor)].seen:
                self._origins[id(tensor)].seen = taken[0]._value
            tensor._value = value
        if STATE.recording and (tensor._node is not None or new._node is not None):
            tensor._node = place_after(tensor, new)

    def _lying_as(self, before: Value, value: Value) -> Value:
        """`value` where `before` was: it is written there, and lies as that did."""
        lay = self.layouts.strides.get(before)
        if self.layouts.strides.get(value) == lay:
            return value
        fresh: Any = self.apply(TABLE["pad"], (from_value(value),), nothing_around(value))
        fresh = fresh._value
        if lay is not None:
            self.layouts.strides[fresh] = lay
        return fresh

    # views

    def shows(self, view: Tensor, base: Tensor, row: Any, params: dict[str, Any]) -> None:
        """`view` is taken again when it is read after its base was assigned to."""
        origin = _Origin(base, row, params, STATE.recording, base._value)
        key = id(view)
        origin.alive = ref(view, lambda _: self._origins.pop(key, None))
        self._origins[key] = origin

    def is_contiguous(self, tensor: Tensor) -> bool:
        """Whether it would lie row by row; see view_layout.py."""
        return self._value(tensor) not in self.layouts.strides

    def taken_from(self, tensor: Tensor) -> tuple | None:
        """(base, row, params, whether recorded) of a view."""
        if tensor._value is None:
            self._lift(tensor)
        origin = self._origins.get(id(tensor))
        return None if origin is None else (origin.base, origin.row, origin.params, origin.recorded)

    def _take_again(self, tensor: Tensor) -> None:
        origin = self._origins[id(tensor)]
        value = self._value(origin.base)
        if value is origin.seen:
            return
        origin.seen = value
        with interpreting(self):
            if not origin.recorded or origin.row is DETACH:
                with no_grad():
                    again = take(origin.base, origin.row, origin.params)
            else:
                again = take(origin.base, origin.row, origin.params)
        tensor._value = again._value
        if type(tensor._node) is not Leaf and origin.recorded and origin.row is not DETACH:
            tensor._node = again._node

    def guarded_by(self, lock: Any) -> None:
        """The program takes this lock while it runs."""
        self.locks.setdefault(id(lock), lock)

    # lifting

    def _value(self, tensor: Tensor) -> Value:
        value = tensor._value
        if (
            value is None
            or value not in self.made
            or tensor._buffer is not None
            or id(tensor) in self._origins
        ):
            self.meet(tensor)
        return tensor._value

    def _lift(self, tensor: Tensor) -> None:
        buffer = tensor._buffer
        if buffer is None:
            raise _foreign(tensor)
        taken = taken_from(tensor)
        if taken is not None:
            self._lift_view(tensor, *taken)
            return
        value = self.lifted.get(buffer)
        if value is None:
            value = self.lifted[buffer] = self._new(Spec(buffer.shape, buffer.dtype))
            self.layouts.lifted(value, buffer.array)
            self.graph.states.append(value)
            self.sources[value] = tensor
        tensor._value = value
        self.met.append((tensor, value))
        self._nodes.append((tensor, tensor._node))

    def _lift_view(self, tensor: Tensor, base: Tensor, row: Any, params: dict, kept: bool) -> None:
        """A view from outside is taken from the state that its base is."""
        with interpreting(self), no_grad():
            tensor._value = self._value(take(base, row, params))
        self.shows(tensor, base, row, params)
        self._origins[id(tensor)].recorded = kept
        self.views.append((tensor, tensor._buffer.taken))
        self._nodes.append((tensor, tensor._node))

    def _refuse_old_tape(self, node: Node | Port, tensor: Tensor) -> None:
        made = node.node if isinstance(node, Port) else node
        if made.sequence < self._start:
            raise CompileError(
                "a compiled function reaches a tensor that operations outside it were recorded for",
                got=f"a tensor {tensor.shape}, made by {made.primitive or 'a copy'}, {user_line()}",
                rule="the first backward() frees that record, and a second call has none",
                fix="use tensor.detach(), or compute it inside the compiled function",
            )

    # the end

    def finish(self, result: list) -> Captured:
        """Everything the recording found; takes what the function returned out of `result`."""
        graph = self.graph
        locks = [self.locks[i] for i in sorted(self.locks)]
        captured = Captured(graph, states=self._direct, locks=locks)
        self._updates(captured)
        slots = self._slots = _Slots(self, captured)
        given = result.pop()
        rebuild(given, slots.count)
        captured.result = rebuild(given, slots.given_back)
        del given
        numbers = {leaf: i for i, (_, leaf) in enumerate(self.arguments) if leaf is not None}
        for leaf in {**self.leaves, **numbers}:
            before = self.leaves.get(leaf)
            if leaf not in numbers:
                captured.gradients.append((leaf, before is not None))
            if leaf.grad is not before:
                captured.left.append((numbers.get(leaf, leaf), slots.gradient(leaf)))
        for i, ((tensor, _), value) in enumerate(zip(self.arguments, graph.arguments, strict=True)):
            if tensor._value is not value:
                captured.assigned.append((i, slots.of(tensor)))
        of_leaf = {id(g): leaf for leaf, g in self.leaves.items() if g is not None}
        for value in graph.states:
            source = self.sources[value]
            captured.sources.append(of_leaf.get(id(source), source))
        slots.part()
        captured.views = list(self.views)
        captured.nodes = list(self._nodes)
        return captured

    def carry(
        self, captured: Captured, guards: list[Guard], watch: Watch, moving: Collection[tuple]
    ) -> None:
        """Find Tensors that the function left in the user's objects, and places that change hands.

        A place that was read and then held another Tensor of the recording, and one of `moving`,
        is no guard: the Tensor that lies there is an argument of each call.
        """
        self.arguments, self._given, self.leaves = [], {}, {}
        with interpreting(self):
            left = [t for r in self._standing if (t := r()) is not None and t._buffer is None]
            captured.escapes = find(watch, left, self._slots.returned)
        if captured.escapes.again and not watch.saw_all:
            captured.escapes.again, captured.escapes.why = False, watch.why
        for tensor, _ in captured.escapes.adopted:
            leaf: Any = tensor._node
            if type(leaf) is Leaf and leaf.grad is not None:
                if all(leaf is not met for met, _ in captured.left):
                    captured.left.append((leaf, self._slots.gradient(leaf)))
        del self._slots  # it holds this recording
        captured.guards = list(guards)
        if not captured.escapes.again:
            return
        count = len(captured.graph.arguments)
        tensors: list[Tensor] = []
        changed = {place_of(e) for e in captured.escapes.effects} | {*moving}
        for g in guards:
            if place_of(g) in changed:
                tensors += self._carry(captured, g)
        given = {id(t): i for i, t in enumerate(tensors)}
        for effect in captured.escapes.effects:
            effect.tree = rebuild(
                effect.tree,
                lambda t: Slot("argument", count + given[id(t)]) if id(t) in given else t,
            )

    def _carry(self, captured: Captured, guard: Guard) -> list[Tensor]:
        """Let what a guard holds be arguments of each call, if it is reached in this way alone.

        Gives the Tensors that it holds; none if they stay states.
        """
        key: list = []
        tensors: list = []
        try:
            flatten(guard.held, key, tensors)
        except CompileError:
            return []
        inside = set(map(id, containers(guard.held)))
        rest = [g for g in captured.guards if g is not guard and id(g.holder) not in inside]
        others = {id(x) for g in rest for x in held_by(g)} | {id(t) for t, _ in captured.views}
        updated = {old for old, _ in captured.graph.updates}
        values: list[Any] = [self.lifted.get(getattr(t, "_buffer", None)) for t in tensors]
        for tensor, value in zip(tensors, values, strict=True):
            if id(tensor) in others or getattr(tensor, "_buffer", None) is None:
                return []
            met = value is not None  # else nothing was computed from it
            if met and (self.sources.get(value) is not tensor or value in updated):
                return []
            if met and value not in captured.graph.states:
                return []
            node = tensor._node
            if node is not None and (type(node) is not Leaf or node.grad is not None):
                return []
        if not any(values) or len(set(map(id, tensors))) < len(tensors) or captured.views:
            return []
        if any(base is tensor for base, _ in captured.shown for tensor in tensors):
            return []
        states, leaves = captured.graph.states, {}
        for tensor, value in zip(tensors, values, strict=True):
            if value is None:
                value = self._new(tensor.spec)
            else:
                captured.sources.pop(states.index(value))
                states.remove(value)
            if tensor._node is not None:
                leaves[tensor._node] = len(captured.graph.arguments)
            captured.graph.arguments.append(value)
        captured.guards = rest
        captured.nodes = [(t, n) for t, n in captured.nodes if all(t is not x for x in tensors)]
        captured.gradients = [(leaf, had) for leaf, had in captured.gradients if leaf not in leaves]
        captured.left = [(leaves.get(t, t), slot) for t, slot in captured.left]
        captured.carried.append(Carried(guard, tuple(key)))
        return tensors

    def _updates(self, captured: Captured) -> None:
        graph = self.graph
        for tensor, value in self.met:
            new = tensor._value
            if new is value or new is None:
                continue
            graph.updates.append((value, new))

    def restore(self) -> None:
        """Give every Tensor from outside its memory and its gradient back."""
        for tensor, _ in (*self.met, *self.views):
            tensor._value = None
        for tensor, node in self._nodes:
            tensor._node = node
        for leaf, gradient in self.leaves.items():
            leaf.grad = gradient


@dataclass(eq=False)
class _Origin:
    """What a view shows: its base, how it is taken, and the base's value when that was done."""

    base: Tensor
    row: Any
    params: dict[str, Any]
    recorded: bool
    seen: Value
    alive: Any = None


class _Slots:
    """Finds the Slot of each array that leaves the program."""

    def __init__(self, recording: Capture, captured: Captured):
        self.recording, self.captured = recording, captured
        self.given = {
            *recording.graph.arguments,
            *recording.graph.states,
            *recording.graph.constants,
        }
        self.updates = {new: i for i, (_, new) in enumerate(recording.graph.updates)}
        self.results: dict[Value, int] = {}
        self.copied: dict[Value, int] = {}
        self.known: dict[int, tuple] = {}  # id of a Tensor -> it and its Slot: they are one object
        self._ways: dict[int, tuple[Tensor, list]] = {}  # id of a view -> from outside, and rows
        self._of_arguments: dict[int, tuple[int, list]] = {}  # of a view -> an argument, and rows
        self._roots: Counter[int] = Counter()  # id of a Tensor -> results that show it
        self.outside = {id(t) for t, _ in (*recording.met, *recording.views)}

    def returned(self, leaf: Any) -> Any:
        """For a returned array: itself if it came from outside, else where its copy is found."""
        if not is_a(leaf, Tensor):
            return leaf
        number = self.recording._numbers.get(id(leaf))
        if number is not None:
            return Slot("argument", number)
        if id(leaf) in self.outside or leaf._value is None:
            return leaf
        if id(leaf) in self._of_arguments:
            number, rows = self._of_arguments[id(leaf)]
            return self._shown(Slot("argument", number), rows)
        root, rows = self._way(leaf)
        if _taken_at_tensors(rows):
            return self.of(leaf)
        if rows and (id(root) in self.outside or root is not leaf and self._roots[id(root)] > 1):
            base = root if id(root) in self.outside else self.returned(root)
            return self._shown(base, rows)
        if rows and (number := self.recording._numbers.get(id(root))) is not None:
            return self._shown(Slot("argument", number), rows)
        return self.of(leaf)

    def given_back(self, leaf: Any) -> Any:
        """`returned`, of what the function gives: where its record ends is kept."""
        slot = self.returned(leaf)
        if isinstance(slot, Slot) and slot.kind != "argument" and goes_back(leaf._node):
            slot.ends = self.captured.ends = True
        return slot

    def count(self, leaf: Any) -> Any:
        """Note a returned array, before the first one gets its Slot."""
        if is_a(leaf, Tensor) and leaf._value is not None:
            self._roots[id(self._way(leaf)[0])] += 1
        return leaf

    def part(self) -> None:
        """When the results have their Slots: what is left of the recording holds nothing else.

        Tensors that lie in the user's objects are looked for next, by who refers to them.
        """
        self.known.clear()
        origins = self.recording._origins
        for origin in list(origins.values()):
            view = origin.alive()
            if view is not None and id(view) not in self.outside:
                self.recording._value(view)  # as its base is now
                root, rows = self._way(view)
                if _taken_at_tensors(rows):
                    continue
                if id(root) in self.outside:
                    self._ways[id(view)] = root, rows
                elif id(root) in self.recording._numbers:
                    self._of_arguments[id(view)] = self.recording._numbers[id(root)], rows
        origins.clear()

    def _way(self, tensor: Tensor) -> tuple[Tensor, list]:
        """What a Tensor of the recording is a view of, at the end of the chain, and its rows."""
        if id(tensor) in self._ways:
            return self._ways[id(tensor)]
        rows: list = []
        while id(tensor) not in self.outside:
            found = self.recording.taken_from(tensor)
            if found is None:
                break
            tensor = found[0]
            rows.append(found[1:3])
        return tensor, rows[::-1]

    def _shown(self, base: Any, rows: list) -> Slot:
        self.captured.shown.append((base, rows))
        self.captured.repeats = True
        return Slot("view", len(self.captured.shown) - 1)

    def gradient(self, leaf: Leaf) -> Slot | None:
        """For the gradient a Leaf has now."""
        return None if leaf.grad is None else self.of(leaf.grad)

    def of(self, tensor: Tensor) -> Slot:
        """Where the number of a Tensor of the recording is found when the program has run."""
        _, slot = self.known.get(id(tensor), (None, None))
        if slot is None:
            slot = self._of(self.recording._value(tensor))
            self.known[id(tensor)] = tensor, slot
        elif slot.kind == "result":
            self.captured.repeats = True
        return slot

    def _of(self, value: Value) -> Slot:
        if value in self.updates:
            return Slot("after", self.updates[value])
        if value in self.given:
            if value not in self.copied:
                self.copied[value] = len(self.copied)
                self.captured.given.append(value)
            return Slot("before", self.copied[value])
        if value not in self.results:
            self.results[value] = len(self.results)
            self.captured.graph.results.append(value)
        else:
            self.captured.repeats = True
        return Slot("result", self.results[value])


def _taken_at_tensors(rows: list) -> bool:
    """Whether a view was taken at an index that the program finds."""
    return any(isinstance(x, Tensor) for _, params in rows for x in params.values())


def _foreign(tensor: Tensor) -> CompileError:
    return CompileError(
        "a compiled function uses a tensor that has no numbers",
        got=f"a tensor {tensor.shape} at {user_line()}, made while another function was recorded",
        rule="inside a compiled function tensors stand for numbers to come; they end with the call",
        fix="return it from the function, or keep it in a Tensor made outside, with assign_()",
    )
