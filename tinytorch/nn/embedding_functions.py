"""Looking rows up in a table by number.

Knows tables and tokens, never what the rows mean.
"""

from __future__ import annotations

from tinytorch.base.errors import DTypeError, IndexRangeError
from tinytorch.nn.indices import inside
from tinytorch.tensor.elementwise import where
from tinytorch.tensor.indexing import take
from tinytorch.tensor.row_gradient import take_rows
from tinytorch.tensor.tensor import Tensor


def embedding(
    input: Tensor, weight: Tensor, padding_idx: int | None = None, *, sparse: bool = False
) -> Tensor:
    """weight[input], row by row.

    Args:
        input: integers (...) in [0, V).
        weight: (V, C).
        padding_idx: a row that gets no gradient, in [-V, V); default None.
        sparse: let the gradient of the weight name the rows that were read, a RowGradient, in place
            of V rows of which most are 0; optimizers then move those rows alone.

    Returns:
        (..., C).

    Raises:
        IndexRangeError: an index outside [0, V).
    """
    if input.dtype.kind not in "iu":
        raise DTypeError(
            "embedding: tokens are whole numbers",
            got=f"input of dtype {input.dtype.name}",
            rule="integers in [0, V), one for each row that is wanted",
            fix='tokens.astype("int64")',
        )
    index = inside("embedding", "token", input, weight.shape[0], "rows")
    rows = take_rows(weight, index) if sparse else take(weight, index, 0)
    if padding_idx is None:
        return rows
    padding = padding_row(padding_idx, weight.shape[0])
    return where((input == padding).unsqueeze(-1), rows.detach(), rows)


def padding_row(padding_idx: int, size: int) -> int:
    """The row of a table of `size` rows, counted from the end if negative."""
    if not -size <= padding_idx < size:
        raise IndexRangeError(
            "embedding: padding_idx points outside the table",
            got=f"padding_idx={padding_idx}",
            rule=f"{-size} to {size - 1}",
            fix="padding_idx=0, and tokens from 1 on",
        )
    return padding_idx % size
