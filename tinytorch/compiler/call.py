"""One captured function ready to be called: checks, memory, the native call, what it leaves.

Knows Tensors on one side and addresses on the other. This is the whole Python cost of a compiled
step, so it is written for speed: about 20 us with 100 states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch.base.errors import IndexRangeError
from tinytorch.base.locks import ForkSafeLock
from tinytorch.compiler.binding import Binding
from tinytorch.compiler.capture import Captured
from tinytorch.compiler.guards import Guard
from tinytorch.compiler.program import Program, Runner
from tinytorch.compiler.signature import Slot, filler
from tinytorch.tensor.autograd import Leaf
from tinytorch.tensor.base import from_buffer
from tinytorch.tensor.buffer import Buffer, copy_of, empty
from tinytorch.tensor.tensor import Tensor


class Call:
    """A captured function bound to its Tensors and its program.

    Args:
        captured: the recording.
        program: the program of its graph.
        guards: what the recording saw of the Python around it.
        threads: how many threads run it.
    """

    def __init__(self, captured: Captured, program: Program, guards: list[Guard], threads: int):
        graph = captured.graph
        self.captured, self.program, self.guards, self.threads = captured, program, guards, threads
        self.binding = Binding(captured)
        self.results = [(v.shape, v.dtype) for v in graph.results]
        self.same = [(i, first) for i, first in enumerate(program.same) if i != first]
        self.after = [self.binding.updated[i] for i in range(len(graph.updates))]
        self.fill = filler(captured.result)
        self.updated_tensors = {id(self.binding.sources[i]) for i in self.binding.updated}
        self.leaves_something = bool(captured.left or captured.assigned)
        self.before = _before(captured)
        self._lock = ForkSafeLock()
        self.locks = [*([self._lock] if self.binding.updated else []), *captured.locks]
        self._token = object()  # what a runner remembers of who used it last
        self._idle: list[Runner] = program.idle.setdefault(threads, [])

    def stale(self) -> list[Guard] | None:
        """None if the recording is still right; else the guards that no longer hold."""
        changed = [g for g in self.guards if not g.holds()]
        if changed:
            return changed
        return None if self.binding.fits() else []

    def __call__(self, leaves: Sequence[Any]) -> Any:
        """Run the program on arrays in the order of the graph's arguments.

        Raises:
            IndexRangeError: an index is outside its axis; no state was changed.
        """
        return self._holding(0, leaves)

    def _holding(self, i: int, leaves: Sequence[Any]) -> Any:
        """Run with the locks from number i on."""
        if i == len(self.locks):
            return self._run(leaves)
        with self.locks[i].lock:
            return self._holding(i + 1, leaves)

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
        made = [Buffer(empty(shape, dtype), dtype) for shape, dtype in self.results]
        for i, first in self.same:
            made[i] = made[first]
        runner.begun = False
        try:
            runner.run(addresses, [b.address for b in made])
            return self._finish(leaves, made, before)
        except IndexRangeError:
            raise
        except BaseException:
            self._complete(runner, leaves, made, before)
            raise
        finally:
            for buffer in binding.written:
                buffer.version += 1
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
        kept, addresses = [], []
        for leaf in leaves:
            if isinstance(leaf, Tensor):
                buffer = leaf._buffer
                array = buffer.array
                if array.flags.c_contiguous and id(leaf) not in self.updated_tensors:
                    kept.append(array)
                    addresses.append(buffer.address)
                    continue
                array = copy_of(array, buffer.dtype)
            else:
                array = np.asarray(leaf)
                if not array.flags.c_contiguous or not array.dtype.isnative:
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

    def _finish(self, leaves: Sequence[Any], made: list[Buffer], before: list[np.ndarray]) -> Any:
        def fill(slot: Slot) -> Any:
            kind, i = slot.kind, slot.index
            if kind == "result":
                return from_buffer(made[i])
            if kind == "argument":
                return leaves[i]
            if kind == "before":
                return from_buffer(Buffer(before[i], self.before[i][2]))
            spec = self.binding.specs[self.after[i]]
            array = self.binding.array(self.after[i])
            return from_buffer(Buffer(copy_of(array, spec.dtype), spec.dtype))

        if self.leaves_something:
            self._leave(leaves, fill)
        return self.fill(fill)

    def _leave(self, leaves: Sequence[Any], fill: Any) -> None:
        for target, slot in self.captured.left:
            leaf = target if isinstance(target, Leaf) else leaves[target]._node
            leaf.grad = None if slot is None else fill(slot)
        for i, slot in self.captured.assigned:
            new = fill(slot)
            if isinstance(leaves[i], Tensor):
                leaves[i]._buffer = new._buffer
            else:
                leaves[i][...] = new._buffer.array


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
