"""One recording ready to be run: checks, memory, the native call, what it leaves.

Knows Tensors on one side and addresses on the other; never kernels. This is the whole Python cost
of a compiled step, so it is written for speed: about 20 us with 100 states.

A state is updated in place, so that views and NumPy arrays over its memory show the new numbers;
what the tape kept of it is copied first (tensor/memory.py, Note [a view is a view]). Whether that
has to be is looked up at every call: where nothing moved one number is asked, and the count of
references to each state that is written, in one loop that runs inside the Python interpreter's C
code.
"""

# What a Tensor consists of is read and set here, as in tensor/.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from operator import attrgetter, is_
from sys import getrefcount
from typing import Any

import numpy as np

from tinytorch.base import settings
from tinytorch.base.dtypes import DType
from tinytorch.base.errors import CompileError, IndexRangeError
from tinytorch.base.locks import ForkSafeLock
from tinytorch.compiler.record.guards import Guard, Guards
from tinytorch.compiler.record.objects import class_of, is_a
from tinytorch.compiler.record.recorder import Row
from tinytorch.compiler.record.recording import Recording, do_nothing
from tinytorch.compiler.record.signature import Slot, filler, overlaps
from tinytorch.compiler.run.lengths import Lengths, Staging
from tinytorch.compiler.run.program import Program, Runner
from tinytorch.tensor.assignment import taken_again
from tinytorch.tensor.autograd import Leaf, end_of_tape, ends_here, goes_back
from tinytorch.tensor.interpreter import STATE, no_grad
from tinytorch.tensor.memory import (
    DETACH,
    Buffer,
    Family,
    Watched,
    copy_of,
    from_array,
    from_buffer,
    hold_buffer,
    is_alone,
    note_writes,
    owner_of,
    replace_memory,
    watch,
    writable,
)
from tinytorch.tensor.tensor import Tensor


class Executable:
    """A recording bound to its Tensors and its program.

    Args:
        recording: the recording.
        program: the program of its graph.
        given: guards of the user, beside those of the recording.
        threads: how many threads may run it; no more than the process has cores for do, since a
            barrier waits for threads that have none.
    """

    def __init__(self, recording: Recording, program: Program, given: list[Guard], threads: int):
        graph = recording.graph
        self.recording, self.program = recording, program
        self.threads = threads = min(threads, settings.available_cores())
        self.guards = Guards([*recording.guards, *given])
        self.carried, self.effects = recording.carried, recording.escapes.effects
        self.binding = Binding(recording)
        self.same = [(i, first) for i, first in enumerate(program.same) if i != first]
        self.after = [self.binding.updated[i] for i in range(len(graph.updates))]
        self.before = _before(recording)
        self.repeats = recording.repeats or bool(self.same)
        self.fill_result = filler(recording.result)
        self.lengths = Lengths(graph, recording.dims)
        self.fill_effects = [filler(effect.tree) for effect in self.effects]
        self._states = set(map(id, self.binding.tensors))
        self._assigned = {i for i, _ in recording.assigned}
        self._writes = bool(self.binding.written or recording.assigned)
        self._leaves_something = bool(recording.left or recording.assigned)
        result: Any = recording.result
        single = (
            class_of(result) is Slot
            and result.kind == "result"
            and not (self.repeats or self.effects or self._leaves_something or recording.ends)
        )
        # the number of the graph's result that is all it gives, a Tensor that begins anew
        self._gives: int | None = result.index if single else None
        self._first = True  # until the program has run once
        self._leaves_seen = settings.LEAVES.value
        self._lock = ForkSafeLock()
        alone = self.binding.updated or self.carried or self.effects or recording.escapes.adopted
        self._locks = [*([self._lock] if alone else []), *recording.locks]
        self._idle: list[Runner] = program.idle.setdefault(threads, [])

    def fits(self, leaves: Sequence[Any]) -> bool:
        """Whether the recording is still right, for a call with these arrays."""
        if not (self.guards.hold() and self.binding.fits()):
            return False
        if self._leaves_seen != settings.LEAVES.value:
            seen = settings.LEAVES.value
            if not all([t._node is node for t, node in self.recording.nodes]):
                return False
            self._leaves_seen = seen
        return not self.carried or self._with_carried(leaves) is not None

    def changed(self) -> list[Guard]:
        """The guards that no longer hold."""
        return self.guards.changed() + [c.guard for c in self.carried if c.leaves() is None]

    def _with_carried(self, leaves: Sequence[Any]) -> list[Any] | None:
        """The call's arrays and those of carried places; None if they are of another kind."""
        placed: list[Any] = []
        for carried in self.carried:
            tensors = carried.leaves()
            if tensors is None:
                return None
            placed += tensors
        others = {id(x) for x in (*leaves, *self.binding.tensors)} if placed else set[int]()
        ids = set(map(id, placed))
        if len(ids) < len(placed) or not ids.isdisjoint(others):
            return None  # the same Tensor in two places was not what was recorded
        return [*leaves, *placed]

    def overlaps(self, leaves: list[Any]) -> tuple[tuple[Any, ...], frozenset[int]] | None:
        """Which of the arguments share memory that the program writes; see signature.overlaps."""
        if not self._writes:
            return None
        for leaf in leaves:
            if isinstance(leaf, Tensor) and (
                leaf._buffer.family is not None or id(leaf) in self._states
            ):
                binding = self.binding
                return overlaps(leaves, self._assigned, binding.written, binding.tensors)
        return None

    def __call__(self, leaves: Sequence[Any]) -> Any:
        """Run the program on arrays in the order of the graph's arguments.

        Raises:
            IndexRangeError: an index is outside its axis; no state was changed.
        """
        return self._holding(0, leaves) if self._locks else self._run(leaves)

    def _holding(self, i: int, leaves: Sequence[Any]) -> Any:
        """Run with the locks from number i on."""
        if i < len(self._locks):
            with self._locks[i].lock:
                return self._holding(i + 1, leaves)
        found = self._with_carried(leaves) if self.carried else leaves
        if found is None:
            raise CompileError(
                "a place that a compiled function reads and writes changed between two looks",
                got=", ".join(c.guard.shown for c in self.carried),
                rule="one thread at a time calls a function that leaves Tensors in objects",
                fix="a lock around the calls, or a copy of the object for each thread",
            )
        return self._run(found)

    def _run(self, leaves: Sequence[Any]) -> Any:
        binding = self.binding
        if binding.updated:  # this thread alone runs it
            binding.refresh()
        elif not binding.is_fresh():
            with self._lock.lock:
                binding.refresh()
        try:
            runner = self._idle.pop()  # atomic: no two threads get the same one
        except IndexError:
            runner = self.program.runner(self.threads)
        if runner.owner is not binding.moved:
            moved = binding.moved
            runner.bind_states(binding.addresses)
            runner.program, runner.owner = self.program, moved
        kept, addresses = self._arguments(leaves)
        if self.lengths.arguments:
            self._stage(runner, kept, addresses)
        before = [copy_of(self._given(kind, i, kept), dtype) for kind, i, dtype in self.before]
        made = [memory.take() for memory in runner.results]
        for i, first in self.same:
            made[i] = made[first]
        placed: dict[tuple[str, int], Any] = {}  # what was put into the user's objects
        runner.begun = False
        try:
            frozen = binding.numbers_of_frozen() if binding.frozen else None
            runner.run(addresses, [b.address for b in made], frozen)
            return self._finish(leaves, made, before, placed)
        except IndexRangeError:
            raise
        except BaseException:
            if runner.failed:  # in a user's function, before a state was written
                raise
            self._complete(runner, leaves, made, before, placed)
            raise
        finally:
            binding.wrote()
            self._idle.append(runner)

    def _complete(self, runner: Runner, *finish: Any) -> None:
        """Finish a step in which a signal's exception (Ctrl-C) was raised: all of it or nothing."""
        while True:
            try:
                if runner.begun:
                    runner.complete()
                    self._finish(*finish)
                return
            except KeyboardInterrupt:  # again: the step is still finished first
                continue

    def _arguments(self, leaves: Sequence[Any]) -> tuple[list[np.ndarray], list[int]]:
        """Dense arrays that nobody writes during the run, and their addresses."""
        kept: list[np.ndarray] = []
        addresses: list[int] = []
        owners = self.binding.owners
        for leaf in leaves:
            if isinstance(leaf, Tensor):
                buffer = leaf._buffer
                array = buffer.array
                if array.flags.c_contiguous and not (owners and id(owner_of(array)) in owners):
                    kept.append(array)
                    addresses.append(buffer.address)
                    continue
                array = copy_of(array, buffer.dtype)
            else:
                array = np.asarray(leaf)
                written = id(owner_of(array)) in owners
                if not array.flags.c_contiguous or not array.dtype.isnative or written:
                    array = np.array(array, array.dtype.newbyteorder("="), order="C")
            kept.append(array)
            addresses.append(array.__array_interface__["data"][0])
        return kept, addresses

    def _stage(self, runner: Runner, kept: list[np.ndarray], addresses: list[int]) -> None:
        """Arrays shorter than they may be, in memory of the runner that is long enough."""
        for i, axes in self.lengths.arguments.items():
            if kept[i].shape != tuple([axis.size for axis in axes]):
                if i not in runner.staging:
                    runner.staging[i] = Staging(axes, kept[i].dtype)
                whole = runner.staging[i].take(kept[i])
                addresses[i] = whole.__array_interface__["data"][0]

    def _given(self, kind: str, i: int, kept: list[np.ndarray]) -> np.ndarray:
        if kind == "argument":
            return kept[i]
        if kind == "state":
            return self.binding.array(i)
        return list(self.recording.graph.constants.values())[i]

    # what a run leaves

    def _finish(
        self,
        leaves: Sequence[Any],
        made: list[Buffer],
        before: list[np.ndarray],
        placed: dict[tuple[str, int], Any],
    ) -> Any:
        if self.lengths.results:
            self.lengths.trimmed(made, leaves)
        taped = STATE.recording and _lead_back(leaves)
        if self._gives is not None and not (self._first or taped):
            return from_buffer(made[self._gives])
        outputs = _Outputs(self, leaves, made, before)
        if self._leaves_something:
            self._leave(leaves, outputs)
        if self._first or self.effects:
            self._place(placed, outputs)
            if placed:
                return self.fill_result(lambda slot: _either(placed, slot, outputs))
        if taped or self.recording.ends:
            return self.fill_result(_ending(outputs, taped))
        return self.fill_result(outputs)

    def _leave(self, leaves: Sequence[Any], outputs: _Outputs) -> None:
        """Give Leafs their gradients, and arguments that were assigned to their numbers."""
        for target, slot in self.recording.left:
            leaf = target if isinstance(target, Leaf) else leaves[target]._node
            leaf.grad = None if slot is None else outputs(slot)
        for i, slot in self.recording.assigned:
            new = outputs(slot)._buffer.array
            target = writable(leaves[i]) if isinstance(leaves[i], Tensor) else leaves[i]
            target[...] = new

    def _place(self, placed: dict[tuple[str, int], Any], outputs: _Outputs) -> None:
        """Put Tensors where Python put those of the recording; these get their numbers.

        After an exception of a signal handler it is done once more, with the same Tensors.
        """

        def once(slot: Slot) -> Any:
            place = (slot.kind, slot.index)
            if place not in placed:
                new = outputs(slot)
                placed[place] = new if slot.like is None else _alike(new, slot.like)
            return placed[place]

        first, recording = self._first, self.recording
        if first:
            self._adopt(placed, outputs)
            recording.put_again()
        for effect, fill in zip(self.effects, self.fill_effects, strict=True):
            if not first or effect.kind != "extend" and _takes_argument(effect.tree):
                effect.do(fill(once))
        if first:
            recording.put_again = do_nothing
            recording.escapes.adopted = []
            for carried in self.carried:
                carried.guard.held = None  # what the recorded call found is not kept alive
            self._first = False

    def _adopt(self, placed: dict[tuple[str, int], Any], outputs: _Outputs) -> None:
        """Give the Tensors of the recording that lie somewhere their numbers."""
        for tensor, slot in self.recording.escapes.adopted:
            if slot.kind == "argument":
                array = outputs(slot)
                given = (array if isinstance(array, Tensor) else Tensor(array))._buffer
                tensor._buffer = Buffer(copy_of(given.array, given.dtype), given.dtype)
            else:
                other = placed.setdefault((slot.kind, slot.index), tensor)
                buffer = (outputs(slot) if other is tensor else other.detach())._buffer
                hold_buffer(tensor, buffer)
            tensor._value = None
            if type(tensor._node) is not Leaf:
                tensor._node = None  # what was recorded of it ended with the call


class _Outputs:
    """What one run puts in place of each Slot: called with one, it gives a Tensor or an array.

    An object and not a function that calls itself: that would be a circle, which keeps the results
    until garbage is collected, so that each call has to fetch fresh pages of memory.
    """

    __slots__ = ("before", "executable", "known", "leaves", "made")

    def __init__(
        self,
        executable: Executable,
        leaves: Sequence[Any],
        made: list[Buffer],
        before: list[np.ndarray],
    ):
        self.executable, self.leaves, self.made, self.before = executable, leaves, made, before
        self.known: dict[Slot, Tensor] = {}

    def __call__(self, slot: Slot) -> Any:
        executable, kind, i = self.executable, slot.kind, slot.index
        if kind == "result":
            return self._repeated(slot) if executable.repeats else from_buffer(self.made[i])
        if kind == "argument":
            return self.leaves[i]
        if kind == "view":
            base, rows = executable.recording.returned_views[i]
            rows = executable.lengths.rows(rows, self.leaves)
            return _view(self(base) if isinstance(base, Slot) else base, rows)
        if kind == "before":
            return from_buffer(Buffer(self.before[i], executable.before[i][2]))
        binding, state = executable.binding, executable.after[i]
        dtype = binding.specs[state].dtype
        return from_buffer(Buffer(copy_of(binding.array(state), dtype), dtype))

    def _repeated(self, slot: Slot) -> Any:
        """The same Tensor for the same Slot; another one has a Buffer of its own."""
        known = self.known
        if slot not in known:
            buffer = self.made[slot.index]
            if any(buffer is x._buffer for x in known.values()):
                buffer = Buffer(copy_of(buffer.array, buffer.dtype), buffer.dtype)
            known[slot] = from_buffer(buffer)
        return known[slot]


def _ending(outputs: _Outputs, taped: bool) -> Callable[[Slot], Any]:
    """`outputs`, whose Tensors say where the tape ends; `taped`: the tape leads into the call."""

    def filled(slot: Slot) -> Any:
        tensor = outputs(slot)
        if slot.ends or taped and slot.kind != "argument" and tensor.dtype.is_float:
            tensor._node = end_of_tape()
        return tensor

    return filled


def _lead_back(leaves: Sequence[Any]) -> bool:
    """Whether the tape leads into the call."""
    for x in leaves:
        if isinstance(x, Tensor) and x._node is not None:
            if goes_back(x._node) or ends_here(x._node):
                return True
    return False


def _either(placed: dict[tuple[str, int], Any], slot: Slot, outputs: _Outputs) -> Any:
    place = (slot.kind, slot.index)
    return placed[place] if place in placed else outputs(slot)


def _alike(tensor: Tensor, like: Any) -> Any:
    """The numbers of a Tensor under one of another class, with a place for a gradient or not."""
    made: Any = object.__new__(class_of(like))
    made._value = None
    hold_buffer(made, tensor._buffer)
    made._node = None if like._node is None else Leaf()
    return made


def _takes_argument(tree: Any) -> bool:
    if is_a(tree, (tuple, list)):
        return any(map(_takes_argument, tree))
    if is_a(tree, dict):
        return any(map(_takes_argument, tree.values()))
    return is_a(tree, Slot) and tree.kind == "argument"


def _view(base: Any, rows: list[Row]) -> Tensor:
    """A view of a Tensor, or a copy of that part of an array."""
    if isinstance(base, Tensor):
        with no_grad():
            out = taken_again(base, rows)
            return out.detach() if any(row is DETACH for row, _ in rows) or out is base else out
    for row, params in rows:
        base = row.numpy(base, **params)
    return Tensor(base)


def _before(recording: Recording) -> list[tuple[str, int, DType]]:
    """Kind, place and dtype of each value that is returned as it was before the run."""
    graph = recording.graph
    lists = (
        ("argument", graph.arguments),
        ("state", graph.states),
        ("constant", list(graph.constants)),
    )
    return [
        next((kind, values.index(v), v.dtype) for kind, values in lists if v in values)
        for v in recording.given
    ]


# the memory of the states

_BUFFER = attrgetter("_buffer")
_ARRAY = attrgetter("array")
_FAMILY = attrgetter("family")
_GRADIENT = attrgetter("grad")


def _references(tensors: Sequence[Any]) -> int:
    """All references to the Buffers of Tensors, and as many more as this way of counting adds."""
    return sum(map(getrefcount, map(_BUFFER, tensors)))


_ALONE = _references([Tensor(0.0)])  # where its Tensor alone holds it


class Binding:
    """The states of one recording: which memory is which, and who needs what it held before.

    Args:
        recording: the recording.

    Attributes:
        addresses: of each state's memory, in the graph's order.
        moved: another object each time an address changed; a runner remembers which it last saw.
        frozen: the places of states that the program derives from (graph/frozen.py).
    """

    def __init__(self, recording: Recording):
        graph = recording.graph
        self.sources: list[Any] = recording.sources
        self.specs = [value.spec for value in graph.states]
        index = {value: i for i, value in enumerate(graph.states)}
        self.updated = [index[old] for old, _ in graph.updates]
        self.fixed = [i for i, s in enumerate(recording.sources) if not isinstance(s, Leaf)]
        self.tensors: list[Any] = [recording.sources[i] for i in self.fixed]
        written = set(self.updated)
        self.written: list[Any] = [recording.sources[i] for i in self.fixed if i in written]
        if len(self.written) == len(self.tensors):
            self.written = self.tensors
        self.of_leaves = [(i, s) for i, s in enumerate(recording.sources) if isinstance(s, Leaf)]
        self._gathered = {i for i, _ in self.of_leaves if i in written}  # gradients added up
        self.views = recording.views
        self.leaves = [leaf for leaf, _ in recording.gradients]
        self.without = [not had for _, had in recording.gradients]
        self.frozen = [index[v] for v in graph.frozen]
        self._watched: list[Watched] = []  # memory of the frozen states
        self._writes = -1  # Watched.writes when it was looked at, and what was seen
        self._numbers: tuple[object, int] = (None, 0)
        self.addresses = [0] * len(self.specs)
        self.moved = object()
        self._arrays: list[np.ndarray] = []
        self._references = _ALONE * len(self.written)
        self._moves = -1  # Buffer.moves when the addresses were looked up
        self._bound = -1  # the same, once all of them are there
        self.owners: set[int] = set()  # ids of what holds the memory of the updated states
        self._founded = -1  # Family.founded when no updated state had one
        self._staged: dict[int, np.ndarray] = {}  # state -> dense memory that stands in for its own

    def fits(self) -> bool:
        """Whether the Tensors still stand to each other as they did at the recording."""
        if self.leaves:
            without = map(is_, map(_GRADIENT, self.leaves), repeat(None))
            if list(without) != self.without:
                return False
        for tensor, taken in self.views:
            buffer = tensor._buffer
            if buffer.family is None or buffer.taken is not taken:
                return False
        for i, leaf in self.of_leaves:
            held = leaf.grad
            if held is None or held.spec != self.specs[i] or held._node is not None:
                return False
        return True

    def is_fresh(self) -> bool:
        """Whether `refresh` would do nothing for a program that writes no state."""
        return self._bound == Buffer.moves and not self.of_leaves and not self._staged

    def refresh(self) -> None:
        """Bring `addresses` up to date, and let the states that are updated be written."""
        if self._moves != Buffer.moves:
            self._look_up()
        founded = Family.founded
        if founded != self._founded and not any(map(_FAMILY, map(_BUFFER, self.written))):
            self._founded = founded
        if founded != self._founded or _references(self.written) != self._references:
            for tensor in self.written:
                writable(tensor)
            self._look_up()
        for i, leaf in self.of_leaves:
            if i in self._gathered:
                if getrefcount(leaf.grad) > 2:  # the leaf, and the argument: others keep the old
                    held = leaf.grad
                    leaf.grad = from_array(copy_of(held._buffer.array, held.dtype), held.dtype)
                writable(leaf.grad)
            buffer = _dense(leaf.grad)
            if self.addresses[i] != buffer.address:
                self.addresses[i] = buffer.address
                self.moved = object()
        for i, dense in self._staged.items():
            tensor: Any = self.sources[i]
            dense[...] = tensor._buffer.array

    def wrote(self) -> None:
        """After the run: states that are not dense in memory get what was computed for them."""
        note_writes(self.owners)
        for i in self.updated if self._staged else ():
            if i in self._staged:
                tensor: Any = self.sources[i]
                tensor._buffer.array[...] = self._staged[i]

    def numbers_of_frozen(self) -> tuple[object, int]:
        """Something that is equal as long as the frozen states are known to hold the same numbers.

        Cost: one comparison, where no frozen state of any program was written meanwhile.
        """
        writes = Watched.writes  # first: another thread may write meanwhile
        if self._writes != writes or self._numbers[0] is not self.moved:
            self._numbers = self.moved, sum([w.count for w in self._watched])
            self._writes = writes
        return self._numbers

    def array(self, state: int) -> np.ndarray:
        """The memory of a state, as the program sees it."""
        if state in self._staged:
            return self._staged[state]
        source: Any = self.sources[state]
        return (source.grad if isinstance(source, Leaf) else source)._buffer.array

    def _look_up(self) -> None:
        """Bind the states again if the memory of one is another."""
        self._moves = Buffer.moves  # first: another thread may move one meanwhile
        arrays = map(_ARRAY, map(_BUFFER, self.tensors))
        if len(self._arrays) != len(self.tensors) or not all(map(is_, arrays, self._arrays)):
            self._bind()
        self._bound = self._moves

    def _bind(self) -> None:
        self._staged = {}
        written = set(self.updated)
        for i, tensor in zip(self.fixed, self.tensors, strict=True):
            if i in written and not tensor._buffer.array.flags.writeable:
                writable(tensor)
            buffer = _dense(tensor)
            if buffer.array.flags.c_contiguous:
                self.addresses[i] = buffer.address
            else:
                dense = self._staged[i] = copy_of(buffer.array, buffer.dtype)
                self.addresses[i] = dense.__array_interface__["data"][0]
        self._arrays = list(map(_ARRAY, map(_BUFFER, self.tensors)))
        self.moved = object()
        self._watched = [watch(self.sources[i]._buffer.array) for i in self.frozen]
        self.owners = {id(owner_of(t._buffer.array)) for t in self.written}
        if len(self.owners) < len(self.written) or len(self.written) < len(self.tensors):
            self._refuse_overlap()

    def _refuse_overlap(self) -> None:
        """Raise if two states that do not know of each other lie over one NumPy array."""
        neighbours: dict[int, list[Any]] = {}
        for tensor in self.tensors:
            neighbours.setdefault(id(owner_of(tensor._buffer.array)), []).append(tensor)
        written = set(map(id, self.written))
        for group in neighbours.values():
            for i, a in enumerate(group):
                for b in group[i + 1 :]:
                    if id(a) not in written and id(b) not in written:
                        continue
                    if np.may_share_memory(a._buffer.array, b._buffer.array):
                        raise CompileError(
                            "a compiled function writes memory that another tensor shows too",
                            got=f"tensors {a.shape} and {b.shape}, both made over one NumPy array",
                            rule="a tensor that shows part of another was taken from it: x[1:]",
                            fix="x = tt.from_numpy(array) once, and views of x",
                        )


def _dense(tensor: Any) -> Any:
    """The Tensor's Buffer, its memory dense from now on if nobody else can see it."""
    if not tensor._buffer.array.flags.c_contiguous and is_alone(tensor):
        replace_memory(tensor, copy_of(tensor._buffer.array, tensor.dtype))
    return tensor._buffer
