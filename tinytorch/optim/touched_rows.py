"""Updates of the rows of a table that were read, by the same rule as whole parameters.

Knows tables and rows, never the rule.
"""

from __future__ import annotations

from collections.abc import Iterator

from tinytorch.tensor.indexing import put_rows, take
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

    Eager, equal rows are joined first. In a compiled function, where it is not known how many there
    are, each mention of a row computes the same new numbers and the last is kept; the program then
    writes those rows of the table in place.

    Args:
        table: the parameter (V, ...).
        gradient: of it.
        slots: the rule's state for it, each of its shape, by name.
    """
    captured = current() is not None
    once = gradient if captured else gradient.joined()
    parts = {name: take(slot, once.index, 0) for name, slot in slots.items()}
    part = take(table.detach(), once.index, 0)
    yield part, once.totals() if captured else once.values, parts
    for whole, new in ((table, part), *((slots[name], parts[name]) for name in slots)):
        if captured:
            whole.assign_(put_rows(whole, once.index, new))
        else:
            whole[once.index] = new
