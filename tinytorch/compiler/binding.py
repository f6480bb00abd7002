"""A program and the Tensors it works on: which memory is which state, and who else sees it.

Knows Tensors, Buffers and addresses; never kernels. A state is updated in place only if nobody else
sees its memory (tensor/buffer.py, Note [a Tensor is a value]); otherwise its Tensor moves first.
The check runs at every call, so it is made of few loops that run inside the Python interpreter's C
code: 100 states cost about 10 us.
"""

from __future__ import annotations

from itertools import repeat
from operator import attrgetter, is_
from sys import getrefcount
from typing import Any

import numpy as np

from tinytorch.base.locks import ForkSafeLock
from tinytorch.compiler.capture import Captured
from tinytorch.tensor.autograd import Leaf
from tinytorch.tensor.buffer import HELD, Buffer, copy_of, is_exclusive

_BUFFER = attrgetter("_buffer")
_GRADIENT = attrgetter("grad")


class _Holders:
    """How many references the bindings of this process hold to each Buffer and array.

    `moved` counts changes of that: a reference count that was right before may not be right after.
    """

    def __init__(self) -> None:
        self.counts = HELD
        self.moved = 0
        self.lock = ForkSafeLock()

    def hold(self, ids: list[int]) -> None:
        """Count references; an object held twice is listed twice."""
        with self.lock.lock:
            self.counts.update(ids)
            self.moved += 1

    def release(self, ids: list[int]) -> None:
        """Forget references, before or while they are dropped."""
        with self.lock.lock:
            self.counts.subtract(ids)
            for i in ids:
                if self.counts[i] <= 0:
                    del self.counts[i]
            self.moved += 1


HOLDERS = _Holders()


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
        self.sources = captured.sources
        self.specs = [value.spec for value in graph.states]
        index = {value: i for i, value in enumerate(graph.states)}
        self.updated = [index[old] for old, _ in graph.updates]
        self.fixed = [i for i, s in enumerate(captured.sources) if not isinstance(s, Leaf)]
        self.tensors = [captured.sources[i] for i in self.fixed]
        self.of_leaves = [(i, s) for i, s in enumerate(captured.sources) if isinstance(s, Leaf)]
        self.aliases = [(t, captured.sources[i]) for t, i in captured.aliases]
        self.leaves = [leaf for leaf, _ in captured.gradients]
        self.without = [not had for _, had in captured.gradients]
        self.addresses = [0] * len(self.specs)
        self.moved = 0
        self.buffers: list[Buffer] = []
        self.written: list[Buffer] = []
        self._watched: list = []
        self._held: list[int] = []
        self._counts: list[int] = []
        self._seen = -1

    def __del__(self) -> None:
        # When the interpreter ends, a module's names are gone before what it keeps.
        if HOLDERS is not None:
            HOLDERS.release(self._held)

    def fits(self) -> bool:
        """Whether the Tensors still stand to each other as they did at the recording."""
        if list(map(is_, map(_GRADIENT, self.leaves), repeat(None))) != self.without:
            return False
        for tensor, source in self.aliases:
            if isinstance(source, Leaf) or tensor._buffer is not source._buffer:
                return False
        return all(
            (g := leaf.grad) is not None and g.spec == self.specs[i] for i, leaf in self.of_leaves
        )

    def refresh(self) -> None:
        """Bring `addresses` up to date; an updated state's memory is then its Tensor's alone."""
        if not (
            self._seen >= 0
            and all(map(is_, map(_BUFFER, self.tensors), self.buffers))
            and self._seen == HOLDERS.moved
            and list(map(getrefcount, self._watched)) == self._counts
        ):
            with HOLDERS.lock.lock:
                self._bind()
                self._counts = list(map(getrefcount, self._watched))
                self._seen = HOLDERS.moved
        for i, leaf in self.of_leaves:
            buffer = _dense(leaf.grad)
            if self.addresses[i] != buffer.address:
                self.addresses[i] = buffer.address
                self.moved += 1

    def array(self, state: int) -> np.ndarray:
        """The memory of a state."""
        source = self.sources[state]
        return (source.grad if isinstance(source, Leaf) else source)._buffer.array

    def _bind(self) -> None:
        for tensor in self.tensors:
            _dense(tensor)
        updated = set(self.updated)
        for i, tensor in zip(self.fixed, self.tensors, strict=True):
            if i in updated and not is_exclusive(tensor):
                _move(tensor)
        buffers = list(map(_BUFFER, self.tensors))
        if len(buffers) == len(self.buffers) and all(map(is_, buffers, self.buffers)):
            return
        HOLDERS.release(self._held)
        self.buffers = buffers
        self.written = [b for i, b in zip(self.fixed, buffers, strict=True) if i in updated]
        for i, buffer in zip(self.fixed, buffers, strict=True):
            self.addresses[i] = buffer.address
        for buffer in self.written:
            buffer.written_at = "a compiled function"
        arrays = [b.array for b in self.written]
        bases = [a.base for a in arrays if a.base is not None]
        self._watched = [*self.written, *arrays, *bases]
        self._held = list(map(id, (*self.buffers, *self.written, *self._watched)))
        HOLDERS.hold(self._held)
        self.moved += 1


def _dense(tensor: Any) -> Buffer:
    """The Tensor's Buffer, after giving it dense writable memory if it has none."""
    buffer = tensor._buffer
    array = buffer.array
    if not array.flags.c_contiguous:
        _move(tensor)
    return tensor._buffer


def _move(tensor: Any) -> None:
    old = tensor._buffer
    tensor._buffer = Buffer(copy_of(old.array, old.dtype), old.dtype, old.version)
