"""From graph values to the expressions of one kernel.

Knows graphs, accesses and expressions, never instructions. A value that is stored becomes a load;
one that is not becomes the operation that makes it, and so on down to stored values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tinytorch.base.dtypes import int64
from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.loops.expression import Constant, Expression, Iota, Load, Op, Reduce
from tinytorch.compiler.plan.access import Access, Coordinate, at, broadcast, move_coordinates


def _own_fault(problem: str, got: object) -> CompileError:
    return CompileError.own_fault(
        f"the compiler asks a kernel for what it cannot compute: {problem}",
        got=got,
        rule="what is read at another place, or reshaped, lies in memory",
    )


@dataclass(frozen=True, eq=False)
class InRegisters(Expression):
    """The value that a kernel holds in registers when its epilogue begins."""

    rank: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", frozenset(range(self.rank)))

    def text(self, number: Mapping[Expression, int]) -> str:
        """See Expression."""
        return f"given {self.dtype.name}"


class ExpressionBuilder:
    """Builds the expressions of one kernel over loops of the given sizes.

    Args:
        sizes: the loops.
        producer: the node that makes each value.
        access: gives the Access of a value whose memory holds it, None for one to be computed.
        name: gives the buffer name of a stored value.
        axes: the loops that reductions run over.
        given: values that are in registers already.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        producer: Mapping[Value, Node],
        access: Callable[[Value], Access | None],
        name: Callable[[Value], str],
        number: Callable[[Value], float | None],
        axes: frozenset[int] = frozenset(),
        given: Mapping[Value, Expression] | None = None,
    ):
        self.rank, self.sizes = len(sizes), tuple(sizes)
        self.producer, self.access, self.name, self.number = producer, access, name, number
        self.axes, self.given = axes, given or {}
        self._memo: dict[tuple[Value, tuple[Coordinate, ...]], Expression] = {}

    def value(self, v: Value, coordinates: tuple[Coordinate, ...]) -> Expression:
        """The expression of v at the coordinates."""
        key = (v, coordinates)
        if key not in self._memo:
            self._memo[key] = self._build(v, coordinates)
        return self._memo[key]

    def _build(self, v: Value, coordinates: tuple[Coordinate, ...]) -> Expression:
        if v in self.given:
            return self.given[v]
        number = self.number(v)
        if number is not None:
            return Constant(v.dtype, number)
        access = self.access(v)
        if access is not None:
            strides, offset = at(access, coordinates, self.rank)
            return Load(v.dtype, self.name(access.base), strides, offset)
        node = self.producer[v]
        if node.is_movement:
            moved = move_coordinates(node, coordinates, self.rank)
            if moved is None:
                raise _own_fault("a reshape of a value that is not stored", v)
            return self.value(node.inputs[0], moved)
        if node.is_position:
            c = coordinates[int(node.params["axis"])]
            return Iota(v.dtype, c.strides, c.offset)
        if node.is_reduction:
            return self._reduce(node, coordinates)
        if node.is_lookup:
            return self._lookup(node, coordinates)
        operands = tuple(
            self.value(x, broadcast(coordinates, x.shape, v.shape) if x.shape else ())
            for x in node.inputs
        )
        return Op(v.dtype, node.primitive.name, operands)

    def _reduce(self, node: Node, coordinates: tuple[Coordinate, ...]) -> Expression:
        x, v = node.inputs[0], node.outputs[0]
        axes = node.reduced_axes
        rest = iter(coordinates)
        kept = node.params.get("keepdims")
        inner: list[Coordinate] = []
        for d, n in enumerate(x.shape):
            if d in axes:
                if kept:
                    next(rest)
                inner.append(Coordinate(tuple(int(i == d and n != 1) for i in range(self.rank))))
            else:
                inner.append(next(rest))
                if any(inner[-1].strides[a] for a in axes):
                    raise _own_fault("a row's reduction is read in another row", v)
        if axes != self.axes:
            raise _own_fault("a reduction over other axes than its group", node.primitive.name)
        over = frozenset(d for d in axes if x.shape[d] != 1)
        operand = self.value(x, tuple(inner))
        if not over:
            return operand if x.dtype is v.dtype else Op(v.dtype, "cast", (operand,))
        return Reduce(v.dtype, node.primitive.name, operand, over)

    def _lookup(self, node: Node, coordinates: tuple[Coordinate, ...]) -> Expression:
        x, index = node.inputs
        axis, rank = int(node.params["axis"]), len(index.shape)
        access = self.access(x)
        if access is None:
            raise _own_fault("a table that is not stored", x)
        place = self.value(index, coordinates[axis : axis + rank])
        rest = (*coordinates[:axis], Coordinate((0,) * self.rank), *coordinates[axis + rank :])
        strides, offset = at(access, rest, self.rank)
        if place.dtype is not int64:
            place = Op(int64, "cast", (place,))
        lookup = ((place, access.strides[axis], x.shape[axis]),)
        return Load(x.dtype, self.name(access.base), strides, offset, lookup)
