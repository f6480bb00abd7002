"""One captured function ready to be called: checks, memory, the native call, what it leaves.

Knows Tensors on one side and addresses on the other. This is the whole Python cost of a compiled
step, so it is written for speed: about 20 us with 100 states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinytorch.base import settings
from tinytorch.base.errors import CompileError, IndexRangeError
from tinytorch.base.locks import ForkSafeLock
from tinytorch.compiler.record.capture import Captured
from tinytorch.compiler.record.guards import Guard, Guards
from tinytorch.compiler.record.objects import is_a
from tinytorch.compiler.record.signature import Slot, filler, overlaps
from tinytorch.compiler.run.binding import Binding, owner_of
from tinytorch.compiler.run.program import Program, Runner
from tinytorch.tensor.assignment import taken_again
from tinytorch.tensor.interpreter import STATE, no_grad
from tinytorch.tensor.memory import DETACH, Buffer, copy_of, from_buffer, hold_buffer, writable
from tinytorch.tensor.tape import Leaf, end_of_tape, ends_here, goes_back
from tinytorch.tensor.tensor import Tensor


class Call:
    """A captured function bound to its Tensors and its program.

    Args:
        captured: the recording.
        program: the program of its graph.
        given: guards of the user, beside those of the recording.
        threads: how many threads run it.
    """

    def __init__(self, captured: Captured, program: Program, given: list[Guard], threads: int):
        graph = captured.graph
        self.captured, self.program, self.threads = captured, program, threads
        self.guards = Guards([*captured.guards, *given])
        self.carried, self.effects = captured.carried, captured.escapes.effects
        self._fresh = True  # until the program has run once
        self._leaves_seen = settings.LEAVES.value
        self.binding = Binding(captured)
        self.results = [(v.shape, v.dtype) for v in graph.results]
        self.same = [(i, first) for i, first in enumerate(program.same) if i != first]
        self.after = [self.binding.updated[i] for i in range(len(graph.updates))]
        self.fill = filler(captured.result)
        self._again = [filler(effect.tree) for effect in self.effects]
        self.states = set(map(id, self.binding.tensors))
        self.written_arguments = {i for i, _ in captured.assigned}
        self.writes = bool(self.binding.written or captured.assigned)
        self.repeats = captured.repeats or bool(self.same)
        self.leaves_something = bool(captured.left or captured.assigned)
        self.before = _before(captured)
        self._lock = ForkSafeLock()
        alone = self.binding.updated or self.carried or self.effects or captured.escapes.adopted
        self.locks = [*([self._lock] if alone else []), *captured.locks]
        self._token = object()  # what a runner remembers of who used it last
        self._idle: list[Runner] = program.idle.setdefault(threads, [])

    def fits(self, leaves: Sequence[Any]) -> bool:
        """Whether the recording is still right, for a call with these arrays."""
        if not (self.guards.hold() and self.binding.fits()):
            return False
        if self._leaves_seen != settings.LEAVES.value:
            seen = settings.LEAVES.value
            if not all([t._node is node for t, node in self.captured.nodes]):
                return False
            self._leaves_seen = seen
        return not self.carried or self._found(leaves) is not None

    def changed(self) -> list[Guard]:
        """The guards that no longer hold."""
        return self.guards.changed() + [c.guard for c in self.carried if c.leaves() is None]

    def _found(self, leaves: Sequence[Any]) -> list[Any] | None:
        """The call's arrays and those of carried places; None if they are of another kind."""
        placed: list[Any] = []
        for carried in self.carried:
            tensors = carried.leaves()
            if tensors is None:
                return None
            placed += tensors
        others = {id(x) for x in (*leaves, *self.binding.tensors)} if placed else set()
        ids = set(map(id, placed))
        if len(ids) < len(placed) or not ids.isdisjoint(others):
            return None  # the same Tensor in two places was not what was recorded
        return [*leaves, *placed]

    def overlaps(self, leaves: list) -> tuple[tuple, frozenset[int]] | None:
        """Which of the arguments share memory that the program writes; see signature.overlaps."""
        if not self.writes:
            return None
        for leaf in leaves:
            if isinstance(leaf, Tensor) and (
                leaf._buffer.family is not None or id(leaf) in self.states
            ):
                binding = self.binding
                return overlaps(leaves, self.written_arguments, binding.written, binding.tensors)
        return None

    def __call__(self, leaves: Sequence[Any]) -> Any:
        """Run the program on arrays in the order of the graph's arguments.

        Raises:
            IndexRangeError: an index is outside its axis; no state was changed.
        """
        return self._holding(0, leaves)

    def _holding(self, i: int, leaves: Sequence[Any]) -> Any:
        """Run with the locks from number i on."""
        if i == len(self.locks):
            found = self._found(leaves) if self.carried else leaves
            if found is None:
                raise CompileError(
                    "a place that a compiled function reads and writes changed between two looks",
                    got=", ".join(c.guard.shown for c in self.carried),
                    rule="one thread at a time calls a function that leaves Tensors in objects",
                    fix="a lock around the calls, or a copy of the object for each thread",
                )
            return self._run(found)
        with self.locks[i].lock:
            return self._holding(i + 1, leaves)

    def _settle(self, made: dict[tuple, Any], fill: Any) -> None:
        """Put Tensors where Python put those of the recording; these get their numbers.

        After an exception of a signal handler it is done once more, with the same Tensors.
        """

        def once(slot: Slot) -> Any:
            place = (slot.kind, slot.index)
            if place not in made:
                made[place] = fill(slot) if slot.like is None else _alike(fill(slot), slot.like)
            return made[place]

        if self._fresh:
            self._adopt(made, fill)
            self.captured.put_again()
        for effect, again in zip(self.effects, self._again, strict=True):
            if not self._fresh or effect.kind != "extend" and _takes_argument(effect.tree):
                effect.do(again(once))
        if self._fresh:
            self.captured.put_again = _nothing
            self.captured.escapes.adopted = []
            for carried in self.carried:
                carried.guard.held = None  # what the recorded call found is not kept alive
            self._fresh = False

    def _adopt(self, made: dict[tuple, Any], fill: Any) -> None:
        """Give the Tensors of the recording that lie somewhere their numbers."""
        for tensor, slot in self.captured.escapes.adopted:
            if slot.kind == "argument":
                array = fill(slot)
                given = (array if isinstance(array, Tensor) else Tensor(array))._buffer
                tensor._buffer = Buffer(copy_of(given.array, given.dtype), given.dtype)
            else:
                other = made.setdefault((slot.kind, slot.index), tensor)
                buffer = (fill(slot) if other is tensor else other.detach())._buffer
                hold_buffer(tensor, buffer)
            tensor._value = None
            if type(tensor._node) is not Leaf:
                tensor._node = None  # what was recorded of it ended with the call

    def _run(self, leaves: Sequence[Any]) -> Any:
        binding = self.binding
        if binding.updated:
            binding.refresh()
        else:
            with self._lock.lock:
                binding.refresh()
        try:
            runner = self._idle.pop()  # atomic: no two threads get the same one
        except IndexError:
            runner = self.program.runner(self.threads)
        if runner.owner != (self._token, binding.moved):
            runner.bind_states(binding.addresses)
            runner.program, runner.owner = self.program, (self._token, binding.moved)
        kept, addresses = self._arguments(leaves)
        before = [copy_of(self._given(kind, i, kept), dtype) for kind, i, dtype in self.before]
        made = [Buffer.empty(shape, dtype) for shape, dtype in self.results]
        for i, first in self.same:
            made[i] = made[first]
        settled: dict[tuple, Any] = {}  # what was put into the user's objects
        runner.begun = False
        try:
            runner.run(addresses, [b.address for b in made])
            return self._finish(leaves, made, before, settled)
        except IndexRangeError:
            raise
        except BaseException:
            self._complete(runner, leaves, made, before, settled)
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
        kept, addresses, owners = [], [], self.binding.owners
        for leaf in leaves:
            if isinstance(leaf, Tensor):
                buffer = leaf._buffer
                array = buffer.array
                if array.flags.c_contiguous and id(owner_of(array)) not in owners:
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

    def _given(self, kind: str, i: int, kept: list[np.ndarray]) -> np.ndarray:
        if kind == "argument":
            return kept[i]
        if kind == "state":
            return self.binding.array(i)
        return list(self.captured.graph.constants.values())[i]

    def _finish(
        self, leaves: Sequence[Any], made: list[Buffer], before: list[np.ndarray], settled: dict
    ) -> Any:
        fill = _Fill(self, leaves, made, before)
        if self.leaves_something:
            self._leave(leaves, fill)
        if self._fresh or self.effects:
            self._settle(settled, fill)
            if settled:
                return self.fill(lambda slot: _either(settled, slot, fill))
        come_from = STATE.recording and any(
            isinstance(x, Tensor)
            and x._node is not None
            and (goes_back(x._node) or ends_here(x._node))
            for x in leaves
        )
        if come_from or self.captured.ends:
            return self.fill(_ending(fill, come_from))
        return self.fill(fill)

    def _leave(self, leaves: Sequence[Any], fill: Any) -> None:
        for target, slot in self.captured.left:
            leaf = target if isinstance(target, Leaf) else leaves[target]._node
            leaf.grad = None if slot is None else fill(slot)
        for i, slot in self.captured.assigned:
            new = fill(slot)
            if isinstance(leaves[i], Tensor):
                writable(leaves[i])[...] = new._buffer.array
            else:
                leaves[i][...] = new._buffer.array


class _Fill:
    """What one run puts in place of each Slot.

    An object and not a function that calls itself: that would be a circle, which keeps the results
    until garbage is collected, so that each call has to fetch fresh pages of memory.
    """

    __slots__ = ("before", "call", "known", "leaves", "made")

    def __init__(
        self, call: Call, leaves: Sequence[Any], made: list[Buffer], before: list[np.ndarray]
    ):
        self.call, self.leaves, self.made, self.before = call, leaves, made, before
        self.known: dict[Slot, Tensor] = {}

    def __call__(self, slot: Slot) -> Any:
        """The Tensor or array of a Slot."""
        call, kind, i = self.call, slot.kind, slot.index
        if kind == "result":
            return self._repeated(slot) if call.repeats else from_buffer(self.made[i])
        if kind == "argument":
            return self.leaves[i]
        if kind == "view":
            base, rows = call.captured.shown[i]
            return _view(self(base) if isinstance(base, Slot) else base, rows)
        if kind == "before":
            return from_buffer(Buffer(self.before[i], call.before[i][2]))
        spec = call.binding.specs[call.after[i]]
        array = call.binding.array(call.after[i])
        return from_buffer(Buffer(copy_of(array, spec.dtype), spec.dtype))

    def _repeated(self, slot: Slot) -> Any:
        """The same Tensor for the same Slot; another one has a Buffer of its own."""
        known = self.known
        if slot not in known:
            buffer = self.made[slot.index]
            if any(buffer is x._buffer for x in known.values()):
                buffer = Buffer(copy_of(buffer.array, buffer.dtype), buffer.dtype)
            known[slot] = from_buffer(buffer)
        return known[slot]


def _nothing() -> None:
    pass


def _ending(fill: Callable[[Slot], Any], all_do: bool) -> Callable[[Slot], Any]:
    """`fill`, whose Tensors say where the tape ends: all, where it led into the call."""

    def filled(slot: Slot) -> Any:
        tensor = fill(slot)
        if slot.ends or all_do and slot.kind != "argument" and tensor.dtype.is_float:
            tensor._node = end_of_tape()
        return tensor

    return filled


def _either(settled: dict[tuple, Any], slot: Slot, fill: Any) -> Any:
    place = (slot.kind, slot.index)
    return settled[place] if place in settled else fill(slot)


def _alike(tensor: Any, like: Any) -> Any:
    """The numbers of a Tensor under one of another class, with a place for a gradient or not."""
    made = object.__new__(type(like))
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


def _view(base: Any, rows: list) -> Tensor:
    """A view of a Tensor, or a copy of that part of an array."""
    if isinstance(base, Tensor):
        with no_grad():
            out = taken_again(base, rows)
            return out.detach() if any(row is DETACH for row, _ in rows) or out is base else out
    for row, params in rows:
        base = row.numpy(base, **params)
    return Tensor(base)


def _before(captured: Captured) -> list[tuple[str, int, Any]]:
    """Kind, place and dtype of each value that is returned as it was before the run."""
    graph = captured.graph
    lists = (
        ("argument", graph.arguments),
        ("state", graph.states),
        ("constant", list(graph.constants)),
    )
    return [
        next((kind, values.index(v), v.dtype) for kind, values in lists if v in values)
        for v in captured.given
    ]
