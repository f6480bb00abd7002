"""Indices that must lie inside [0, size): labels and tokens, in eager and in compiled code.

Knows whole numbers and one size. The primitives count negative indices from the end, as NumPy does;
a label of -1 is a mistake.
"""

from __future__ import annotations

from tinytorch.base.errors import IndexRangeError
from tinytorch.tensor.elementwise import where
from tinytorch.tensor.interpreter import current
from tinytorch.tensor.tensor import Tensor


def inside(owner: str, name: str, index: Tensor, size: int, room: str = "classes") -> Tensor:
    """`index`, certain to be refused where it is outside [0, size).

    Args:
        owner: the function, for the message.
        name: what an index is called, for the message.
        index: integers of any shape.
        size: S, of the axis they point into.
        room: what there are S of, for the message.

    Raises:
        IndexRangeError: at once in eager code; from the program when compiled.
    """
    if index.dtype.kind == "u":
        index = index.astype("int64")
    if current() is not None:
        # Values are not known yet. The gather refuses what is past the end, so send the rest there.
        return where(index < 0, size, index)
    numbers = index.numpy()
    wrong = (numbers < 0) | (numbers >= size)
    if wrong.any():
        place = tuple(int(i) for i in next(zip(*wrong.nonzero(), strict=True)))
        raise IndexRangeError(
            f"{owner}: a {name} points outside its axis",
            got=f"{name}{list(place)} = {numbers[place]}, {wrong.sum()} of {wrong.size} wrong",
            rule=f"0 <= {name} < {size}",
            fix=f"check the data, or make room for the largest {name}: {numbers.max() + 1} {room}",
        )
    return index
