"""Updates of the rows of a table that were read, by the same rule as whole parameters.

Knows tables and rows, never the rule.
"""

from __future__ import annotations

from collections.abc import Iterator

from tinytorch.tensor.elementwise import where
from tinytorch.tensor.indexing import take
from tinytorch.tensor.interpreter import current
from tinytorch.tensor.row_gradient import RowGradient
from tinytorch.tensor.tensor import Tensor


def touched_rows(
    table: Tensor, gradient: RowGradient, slots: dict[str, Tensor]
) -> Iterator[tuple[Tensor, Tensor, dict[str, Tensor]]]:
    """What a rule sees in place of a table: parts that it assigns to, written back afterwards.

    Note [rows that were not read stay]
        Averages, momentum and weight decay of a row move only in steps in which it was read, as in
        PyTorch's SparseAdam: a rule applied to the whole table would move all of it, for its
        averages go on without a gradient.

    In a compiled function the rows are not known before it runs: the rule sees the whole table, and
    what was not read is put back, with the same result.

    Args:
        table: the parameter (V, ...).
        gradient: of it.
        slots: the rule's state for it, each of its shape, by name.
    """
    if current() is not None:
        touched = gradient.touched()
        parts = {name: _same(slot) for name, slot in slots.items()}
        part = _same(table)
        yield part, gradient.dense(), parts
        table.assign_(where(touched, part, table))
        for name, slot in slots.items():
            slot.assign_(where(touched, parts[name], slot))
        return
    once = gradient.joined()
    parts = {name: take(slot, once.index, 0) for name, slot in slots.items()}
    part = take(table.detach(), once.index, 0)
    yield part, once.values, parts
    table[once.index] = part
    for name, slot in slots.items():
        slot[once.index] = parts[name]


def _same(x: Tensor) -> Tensor:
    """Another Tensor that holds the same numbers."""
    return x.detach()
