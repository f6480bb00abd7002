"""The compiler's table: what it does with a primitive beyond what the op class of its row says.

Knows names of primitives and the library call of each; the only place of the compiler, but for
rewrite rules and the instructions of elementwise rows (loops/elementwise.py), where names are told
apart. What has no library call and is no loop is a host call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from tinytorch.compiler.calls import axis_ops, branches, caches, contractions, loops, windows
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.plan.lowering import Lowering
from tinytorch.compiler.plan.prologue import Producers, read_by_product
from tinytorch.compiler.plan.stages import Group

Axes = tuple[int, ...]
Call = Callable[[Lowering, Group], bool]  # appends tasks; False, and nothing done: a host call

# Of images (N, C, H, W): a convolution reads all channels of a pixel from one place, and a sum over
# the batch keeps channels in the lanes of a vector.
CHANNELS_LAST = (0, 2, 3, 1)
# Attention reads and writes heads side by side: (B, A, T, D) lies as (B, T, A, D), which is the
# (B, T, C) that the projections around it see.
HEADS_INSIDE = (0, 2, 1, 3)


def _never(node: Node) -> bool:
    return False


def _always(node: Node) -> bool:
    return True


def _operands(producer: Producers, node: Node) -> tuple[Value, ...]:
    return node.inputs


@dataclass(frozen=True)
class Operation:
    """A row.

    Args:
        call: its library call.
        orders: of which outputs the axes lie in another order than they are written.
        keeps_layout: the result lies as the first operand does.
        epilogue: whether the call hands each result, while in registers, to the arithmetic that
            follows.
        joins: the result is its operands side by side; they may be written where they belong.
        reads: what must lie in memory for it; an operand that is missing there it computes from
            what is.
        summed: the axis it sums over, by the number of the operand, if its kernel can end at a
            length (plan/ends.py).
        writes_dense: its kernel writes dense arrays, or rows of a matrix: never a part of an array.
    """

    call: Call | None = None
    orders: Mapping[int, Axes] = field(default_factory=dict[int, Axes])
    keeps_layout: bool = False
    epilogue: Callable[[Node], bool] = _never
    joins: bool = False
    reads: Callable[[Producers, Node], tuple[Value, ...]] = _operands
    summed: Mapping[int, int] = field(default_factory=dict[int, int])
    writes_dense: bool = False


_IMAGE, _HEADS = {0: CHANNELS_LAST}, {0: HEADS_INSIDE}
OPERATIONS: dict[str, Operation] = {
    "matmul": Operation(
        contractions.matmul, epilogue=_always, reads=read_by_product, summed={0: -1, 1: -2}
    ),
    "grouped_matmul": Operation(contractions.grouped_matmul, epilogue=_always),
    "sparse_matmul": Operation(contractions.sparse_matmul, {0: (1, 0)}, epilogue=_always),
    "convolution": Operation(windows.convolution, _IMAGE, epilogue=windows.has_kernel),
    "convolution_input_gradient": Operation(
        windows.convolution_input_gradient, _IMAGE, epilogue=windows.has_kernel
    ),
    # No epilogue: its kernel has output channels in its lanes, weights have them outermost in
    # memory, and an update would read three arrays number by number.
    "convolution_weight_gradient": Operation(
        windows.convolution_weight_gradient, summed={0: 0, 1: 0}
    ),
    "attention": Operation(contractions.attention, _HEADS),
    "attention_gradient": Operation(
        contractions.attention_gradient,
        dict.fromkeys(range(3), HEADS_INSIDE),
        summed={0: 2, 1: 2, 4: 2, 5: 2},
    ),
    "cached_attention": Operation(caches.cached_attention, _HEADS),
    "max_pool2d": Operation(windows.max_pool, dict.fromkeys(range(2), CHANNELS_LAST)),
    "max_pool2d_gradient": Operation(windows.max_pool_gradient, _IMAGE),
    "max_pool2d_take": Operation(orders=_IMAGE),
    "argmax": Operation(partial(axis_ops.extreme_position, largest=True)),
    "argmin": Operation(partial(axis_ops.extreme_position, largest=False)),
    "cumsum": Operation(axis_ops.running_sum),
    "sort": Operation(partial(axis_ops.order, places=False)),
    "argsort": Operation(partial(axis_ops.order, places=True)),
    "take_along": Operation(axis_ops.take_along),
    "scatter_along": Operation(axis_ops.scatter_along),
    "scatter_add": Operation(axis_ops.scatter_rows, writes_dense=True),
    "slice_update": Operation(axis_ops.update_slice),
    "put_rows": Operation(axis_ops.put_rows, writes_dense=True),
    "put_tokens": Operation(caches.put_tokens),
    "random_bits": Operation(axis_ops.random_bits, writes_dense=True),
    "scan": Operation(loops.scan, writes_dense=True),
    "cond": Operation(branches.cond, writes_dense=True),
    "concatenate": Operation(axis_ops.concatenate, keeps_layout=True, joins=True),
    "pad": Operation(axis_ops.pad, keeps_layout=True),
}
_ORDINARY = Operation()


def operation_of(node: Node) -> Operation:
    """The row of a node; one that says nothing where the table has none."""
    return OPERATIONS.get(node.primitive.name, _ORDINARY)


def has_epilogue(node: Node) -> bool:
    """See Operation."""
    return operation_of(node).epilogue(node)
