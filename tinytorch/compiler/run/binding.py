"""A program and the Tensors it works on: which memory is which state, and who needs the old one.

Knows Tensors, Buffers and addresses; never kernels. A state is updated in place, so that views and
NumPy arrays over its memory show the new numbers; what the tape kept of it is copied first
(tensor/memory.py, Note [a view is a view]). The check runs at every call: where nothing moved it
asks one number, and the count of references to each state that is written, in one loop that runs
inside the Python interpreter's C code.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from operator import attrgetter, is_
from sys import getrefcount
from typing import Any

import numpy as np

from tinytorch.base.errors import CompileError
from tinytorch.compiler.record.capture import Captured
from tinytorch.tensor.memory import Buffer, Family, copy_of, is_alone, replace_memory, writable
from tinytorch.tensor.tape import Leaf
from tinytorch.tensor.tensor import Tensor

_BUFFER = attrgetter("_buffer")
_ARRAY = attrgetter("array")
_FAMILY = attrgetter("family")
_GRADIENT = attrgetter("grad")


def _references(tensors: Sequence[Any]) -> int:
    """All references to the Buffers of Tensors, and as many more as this way of counting adds."""
    return sum(map(getrefcount, map(_BUFFER, tensors)))


_ALONE = _references([Tensor(0.0)])  # where its Tensor alone holds it


class Binding:
    """The states of one captured function.

    Args:
        captured: the recording.

    Attributes:
        addresses: of each state's memory, in the graph's order.
        moved: counts how often an address changed; a runner compares it with the one it last saw.
    """

    def __init__(self, captured: Captured):
        graph = captured.graph
        self.sources: list[Any] = captured.sources
        self.specs = [value.spec for value in graph.states]
        index = {value: i for i, value in enumerate(graph.states)}
        self.updated = [index[old] for old, _ in graph.updates]
        self.fixed = [i for i, s in enumerate(captured.sources) if not isinstance(s, Leaf)]
        self.tensors: list[Any] = [captured.sources[i] for i in self.fixed]
        written = set(self.updated)
        self.written: list[Any] = [captured.sources[i] for i in self.fixed if i in written]
        if len(self.written) == len(self.tensors):
            self.written = self.tensors
        self.of_leaves = [(i, s) for i, s in enumerate(captured.sources) if isinstance(s, Leaf)]
        self.views = captured.views
        self.leaves = [leaf for leaf, _ in captured.gradients]
        self.without = [not had for _, had in captured.gradients]
        self.addresses = [0] * len(self.specs)
        self.moved = 0
        self._arrays: list[np.ndarray] = []
        self._references = _ALONE * len(self.written)
        self._moves = -1  # Buffer.moves when the addresses were looked up
        self.owners: set[int] = set()  # ids of what holds the memory of the updated states
        self._founded = -1  # Family.founded when no updated state had one
        self._staged: dict[int, np.ndarray] = {}  # state -> dense memory that stands in for its own

    def fits(self) -> bool:
        """Whether the Tensors still stand to each other as they did at the recording."""
        without = map(is_, map(_GRADIENT, self.leaves), repeat(None))
        if self.leaves and list(without) != self.without:
            return False
        for tensor, taken in self.views:
            buffer = tensor._buffer
            if buffer.family is None or buffer.taken is not taken:
                return False
        for i, leaf in self.of_leaves:
            if leaf.grad is None or leaf.grad.spec != self.specs[i]:
                return False
        return True

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
            buffer = _dense(leaf.grad)
            if self.addresses[i] != buffer.address:
                self.addresses[i] = buffer.address
                self.moved += 1
        for i, dense in self._staged.items():
            tensor: Any = self.sources[i]
            dense[...] = tensor._buffer.array

    def wrote(self) -> None:
        """After the run: states that are not dense in memory get what was computed for them."""
        for i in self.updated if self._staged else ():
            if i in self._staged:
                tensor: Any = self.sources[i]
                tensor._buffer.array[...] = self._staged[i]

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
        self.moved += 1
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


def owner_of(array: np.ndarray) -> Any:
    """What holds the memory of an array."""
    return array if array.base is None else array.base


def _dense(tensor: Any) -> Any:
    """The Tensor's Buffer, its memory dense from now on if nobody else can see it."""
    if not tensor._buffer.array.flags.c_contiguous and is_alone(tensor):
        replace_memory(tensor, copy_of(tensor._buffer.array, tensor.dtype))
    return tensor._buffer
