"""What kernels are told of the plan: where values lie, and what a group computes and stores.

Knows stages, accesses and expressions, never kernels. A value with memory is found through any
chain of movement; one without is computed in the expressions of the kernel that reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tinytorch.base.dtypes import bfloat16, from_bfloat16
from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Value
from tinytorch.compiler.loops.build_expressions import Arithmetic, Given
from tinytorch.compiler.loops.expression import Expression, Store
from tinytorch.compiler.plan import op_class
from tinytorch.compiler.plan.access import (
    Access,
    Coordinate,
    dense_strides,
    identity,
    plain,
    unit,
)
from tinytorch.compiler.plan.movement import move_access
from tinytorch.compiler.plan.stages import Group, Materialized, Placement
from tinytorch.compiler.plan.tasks import Storage

NONE: frozenset[Value] = frozenset()
Names = dict[str, Storage]  # of the buffers of a kernel


class PlanReader:
    """Reads a plan.

    Args:
        materialized: which values have memory.
        of: where each of them lies.
    """

    def __init__(self, materialized: Materialized, of: Mapping[Value, Placement]):
        self.materialized, self.graph = materialized, materialized.graph
        self.producer = materialized.fused.producer
        self.of = dict(of)
        self._accesses: dict[Value, Access] = {}

    def access(self, v: Value, own: frozenset[Value] = NONE) -> Access | None:
        """Where v lies in memory; None if it is computed (or made by the kernel itself: `own`)."""
        if v in own:
            return None
        if v in self._accesses:
            return self._accesses[v]
        if v in self.of:
            found = Access(v, v.shape, self.of[v].strides, self.of[v].offset)
        else:
            node = self.producer.get(v)
            if node is None or not op_class.is_movement(node):
                return None
            below = self.access(node.inputs[0], own)
            if below is None:
                return None
            found = move_access(node, below)
            if found is None:
                found = move_access(node, self.copied(node.inputs[0], below))
        if found is None:
            raise CompileError.own_fault(
                "a dense array cannot be viewed",
                got=repr(v),
                rule="its own order of axes can be reshaped",
            )
        self.check_access(found, v)
        self._accesses[v] = found
        return found

    def check_access(self, access: Access, v: Value) -> None:
        """A place for a check of what was found."""

    def copied(self, v: Value, access: Access) -> Access:
        """Where a dense copy of v lies, a view that cannot be reshaped where it is."""
        copy = Value(v.spec)
        strides = dense_strides(v.shape, plain(v))
        self.of[copy] = Placement(self.temporary(v.spec.nbytes, copy), strides)
        return Access(copy, v.shape, strides)

    def temporary(self, nbytes: int, value: Value | None = None) -> Storage:
        """New memory of the program."""
        return Storage("temporary", nbytes, value)

    def number(self, v: Value) -> float | None:
        """The number a value holds everywhere, if it is one number fixed now."""
        while (node := self.producer.get(v)) is not None and op_class.is_movement(node):
            v = node.inputs[0]
        array = self.graph.constants.get(v)
        if array is not None and array.size == 1:
            wide = from_bfloat16(np.atleast_1d(array)) if v.dtype is bfloat16 else array
            return wide.item()
        return node.constant if node is not None else None

    # expressions

    def arithmetic(
        self,
        sizes: Sequence[int],
        own: frozenset[Value] = NONE,
        axes: frozenset[int] = frozenset(),
        given: Mapping[Value, Expression] | None = None,
    ) -> tuple[Arithmetic, Names]:
        """A builder of expressions over loops of these sizes, and the buffers it names.

        Args:
            own: values that the kernel makes: not read from memory.
            axes: the loops that reductions run over.
            given: values that are in registers already.
        """
        names: Names = {}
        by_storage: dict[Storage, str] = {}

        def name(v: Value) -> str:
            s = self.of[v].storage
            if s not in by_storage:
                by_storage[s] = f"x{len(by_storage)}"
                names[by_storage[s]] = s
            return by_storage[s]

        def access(v: Value) -> Access | None:
            return self.access(v, own)

        return Arithmetic(sizes, self.producer, access, name, self.number, axes, given), names

    def stores_of(self, group: Group, given: Given | None = None) -> tuple[list[Store], Names]:
        """What a group's kernel stores, and its buffers.

        Args:
            given: the result of its library call in registers, if it has one.
        """
        if group.call is not None and given is None:
            given = Given(group.call.outputs[0].dtype, len(group.domain))
        registers = None if given is None else {group.called.outputs[0]: given}
        axes = group.axes or frozenset()
        build, names = self.arithmetic(group.domain, group.makes, axes, registers)
        stored = self.materialized.stored_by(group)
        return [self.store_of(build, v, store_coordinates(group, v)) for v in stored], names

    def store_of(self, build: Arithmetic, v: Value, coordinates: Sequence[Coordinate]) -> Store:
        """The store of a value into its place."""
        place = self.of[v]
        strides = [0] * build.rank
        for s, c in zip(place.strides, coordinates, strict=True):
            for d in range(build.rank):
                strides[d] += s * c.strides[d]
        value = build.value(v, tuple(coordinates))
        return Store(build.name(v), v.dtype, tuple(strides), value, place.offset)


def store_coordinates(group: Group, v: Value) -> tuple[Coordinate, ...]:
    """For each axis of v the loop of the group it runs along."""
    rank = len(group.domain)
    if v.shape == group.domain:
        return identity(v.shape)
    axes = group.axes or frozenset()
    loops = iter(d for d, n in enumerate(group.domain) if d not in axes and n != 1)
    none = Coordinate((0,) * rank)
    return tuple(unit(rank, next(loops)) if n != 1 else none for n in v.shape)
