"""Embeddings: a row of numbers for each token, and numbers that say where it stands.

Tokens and labels are whole numbers in [0, size), in eager and in compiled code: the primitives
count negative indices from the end, as NumPy does, but a label of -1 is a mistake (`inside`).
Positions are learned, sinusoidal, or a rotation of queries and keys. Knows tables and places, never
what is in them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tinytorch.base.arguments import flag, number, whole
from tinytorch.base.dtypes import float64, int64
from tinytorch.base.errors import DTypeError, IndexRangeError, SettingError, ShapeError
from tinytorch.nn.init import normal
from tinytorch.nn.module import Module, Parameter
from tinytorch.nn.quantized import rows_of as rows_of_table
from tinytorch.tensor.creation import iota
from tinytorch.tensor.elementwise import cos, sin, where
from tinytorch.tensor.indexing import one_hot as rows_of
from tinytorch.tensor.indexing import take
from tinytorch.tensor.interpreter import current
from tinytorch.tensor.shaping import concat, stack
from tinytorch.tensor.tensor import Tensor, take_rows


def inside(owner: str, name: str, index: Tensor, size: int, items: str = "classes") -> Tensor:
    """`index`, certain to be refused where it is outside [0, size).

    Args:
        owner: the function, for the message.
        name: what an index is called, for the message.
        index: integers of any shape.
        size: S, of the axis they point into.
        items: what there are S of, for the message.

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
            fix=f"check the data, or make room for the largest {name}: {numbers.max() + 1} {items}",
        )
    return index


def embedding(
    input: Tensor, weight: Tensor, padding_idx: int | None = None, *, sparse: bool = False
) -> Tensor:
    """weight[input], row by row.

    Args:
        input: integers (...) in [0, V).
        weight: (V, C), or a WeightForm of that shape, whose rows are read alone.
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
    rows = take_rows(weight, index) if sparse else rows_of_table(weight, index)
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


class Embedding(Module):
    """out[..., :] = weight[index[...], :].

    Args:
        num_embeddings: V, rows of the table; at least 1.
        embedding_dim: C, numbers in a row; at least 1.
        padding_idx: a row for padding, in [-V, V): zeros at first, and it gets no gradient.
        sparse: let the gradient name the rows that were read (a RowGradient), so that an optimizer
            moves those alone: a step costs what was read, not V rows; default False.
        std: deviation of the initial values, in [0, inf); default 1, as in PyTorch; 0.02 suits
            transformers.

    Shapes: integers (...) in [0, V) -> (..., C); weight (V, C).

    Raises:
        IndexRangeError: an index outside [0, V).

    Cost: V C weights. A lookup reads one row; its gradient and an optimizer's step go through all V
    rows, with sparse through those that were read.

    Source: initial values as in PyTorch, normal with mean 0 and deviation 1; 0.02: GPT-2.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.Embedding(10, 4)(tt.tensor([[1, 2, 9]])).shape
        (1, 3, 4)
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, *,
        sparse: bool = False, std: float = 1.0,
    ):  # fmt: skip
        self.num_embeddings = whole("Embedding", "num_embeddings", num_embeddings, at_least=1)
        self.embedding_dim = whole("Embedding", "embedding_dim", embedding_dim, at_least=1)
        self.sparse = flag("Embedding", "sparse", sparse)
        self.padding_idx = None if padding_idx is None else padding_row(padding_idx, num_embeddings)
        first = normal((num_embeddings, embedding_dim), number("Embedding", "std", std, "[0, inf)"))
        if self.padding_idx is not None:
            first[self.padding_idx] = 0.0
        self.weight = Parameter(first)

    def forward(self, index: Tensor) -> Tensor:
        """Integers (...) -> (..., embedding_dim)."""
        return embedding(index, self.weight, self.padding_idx, sparse=self.sparse)

    def extra_repr(self) -> str:
        """Rows and their length."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        sparse = ", sparse=True" if self.sparse else ""
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}{sparse}"


def one_hot(input: Tensor, num_classes: int = -1) -> Tensor:
    """Rows of zeros with a one at the place of each label.

    Args:
        input: whole numbers (...) in [0, num_classes).
        num_classes: K; -1: one more than the largest label, which a compiled function cannot know.

    Returns:
        (..., K), int64.
    """
    if num_classes == -1:
        labels = input.read("one_hot(num_classes=-1), whose size depends on values")
        num_classes = int(labels.max(initial=0)) + 1
    classes = whole("one_hot", "num_classes", num_classes, at_least=1)
    return rows_of(inside("one_hot", "label", input, classes), classes)


class LearnedPositions(Module):
    """x + weight[start : start + T]: a vector for each place, learned like any other weight.

    Args:
        length: L, places; at least 1.
        size: C, numbers per token; at least 1.
        std: deviation of the initial values, in [0, inf); default 0.02.

    Shapes: (..., T, C) with T <= L -> the same; weight (L, C).

    Source: Gehring et al. 2017, https://arxiv.org/abs/1705.03122, section 3.1; 0.02: GPT-2's and
    ViT's initial values.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.LearnedPositions(32, 16)(tt.zeros(2, 5, 16)).shape
        (2, 5, 16)
    """

    def __init__(self, length: int, size: int, std: float = 0.02):
        self.length = whole("LearnedPositions", "length", length, at_least=1)
        self.size = whole("LearnedPositions", "size", size, at_least=1)
        self.weight = Parameter(
            normal((length, size), number("LearnedPositions", "std", std, "[0, inf)"))
        )

    def forward(self, x: Tensor, start: int | Tensor = 0) -> Tensor:
        """The same shape; the first token stands at `start`, a number or one for each x[b]."""
        return x + _rows(self, self.weight, x, start)

    def extra_repr(self) -> str:
        """Places and features."""
        return f"{self.length}, {self.size}"


class SinusoidalPositions(Module):
    """x + P[start : start + T], with waves from one radian a place down to one in `base`.

        P[t, 2 i]     = sin(t / base^(2 i / C))
        P[t, 2 i + 1] = cos(t / base^(2 i / C))

    Args:
        length: L, places; at least 1.
        size: C, numbers per token; even.
        base: how long the longest wave is, over 2 pi, in (0, inf); default 10000.

    Shapes: (..., T, C) with T <= L -> the same. Nothing is trained.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.5.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.SinusoidalPositions(32, 4)(tt.zeros(1, 2, 4)).numpy().round(2)
        array([[[0.  , 1.  , 0.  , 1.  ],
                [0.84, 0.54, 0.01, 1.  ]]], dtype=float32)
    """

    table: Tensor

    def __init__(self, length: int, size: int, base: float = 10000.0):
        self.length = whole("SinusoidalPositions", "length", length, at_least=1)
        self.size = _even("SinusoidalPositions", "size", size)
        self.base = number("SinusoidalPositions", "base", base, "(0, inf)")
        angle = np.arange(length)[:, None] * _frequencies(size, self.base)  # (L, C / 2)
        waves = np.stack([np.sin(angle), np.cos(angle)], -1).reshape(length, size)
        self.register_buffer("table", Tensor(waves.astype(np.float32)), persistent=False)

    def forward(self, x: Tensor, start: int | Tensor = 0) -> Tensor:
        """The same shape; the first token stands at `start`, a number or one for each x[b]."""
        return x + _rows(self, self.table, x, start)

    def extra_repr(self) -> str:
        """Places and features."""
        return f"{self.length}, {self.size}"


class RotaryPositions(Module):
    """Turns pairs of features of queries and keys by an angle that grows with the place.

        angle = (start + t) / (factor_i base^(2 i / D))        for pair i of D / 2
        (a, b) -> scale (a cos - b sin, a sin + b cos)

    The product of a query and a key then depends on their distance alone.

    Args:
        head_size: D, features of a head; even.
        base: how long the longest wave is, over 2 pi, in (0, inf); default 10000.
        interleaved: pairs are neighbours (2 i, 2 i + 1), as in the paper; default False: (i, i +
            D / 2), as in GPT-NeoX and LLaMA. The two are permutations of each other.
        factors: D / 2 numbers > 0, how much longer each pair's wave is, so that a trained network
            reads longer texts; default None: 1.
        scale: of what is turned, > 0; default 1. Scores of attention grow by its square, which
            sharpens them where texts are longer than those of training.

    Shapes: (..., T, D) -> the same. Nothing is trained, and no place is too far.

    Source: Su et al. 2021, https://arxiv.org/abs/2104.09864, equation 34. Angles are computed in
    float64: in float32 a place of 10^5 would be off by 10^5 * 6e-8 = 0.006 radians. Factors: Chen
    et al. 2023, https://arxiv.org/abs/2306.15595; scale: Peng et al. 2023,
    https://arxiv.org/abs/2309.00071, section 3.4.

    Example:
        >>> import tinytorch as tt
        >>> turned = tt.nn.RotaryPositions(2)(tt.Tensor([[1.0, 0.0], [1.0, 0.0]]))
        >>> turned.numpy().round(2)
        array([[1.  , 0.  ],
               [0.54, 0.84]], dtype=float32)
    """

    def __init__(
        self, head_size: int, base: float = 10000.0, interleaved: bool = False,
        factors: Sequence[float] | None = None, scale: float = 1.0,
    ):  # fmt: skip
        self.head_size = _even("RotaryPositions", "head_size", head_size)
        self.base = number("RotaryPositions", "base", base, "(0, inf)")
        self.interleaved = flag("RotaryPositions", "interleaved", interleaved)
        self.scale = number("RotaryPositions", "scale", scale, "(0, inf)")
        self.factors = (1.0,) * (head_size // 2) if factors is None else tuple(factors)
        if len(self.factors) != head_size // 2:
            raise SettingError(
                "RotaryPositions: each pair has its own factor",
                got=f"{len(self.factors)} factors",
                rule=f"head_size / 2 = {head_size // 2}",
                fix=f"factors=(1.0,) * {head_size // 2}",
            )
        for factor in self.factors:
            number("RotaryPositions", "factors", factor, "(0, inf)")

    def forward(self, x: Tensor, start: int | Tensor = 0) -> Tensor:
        """The same shape; the first token stands at `start`, a number or one for each x[b]."""
        if len(x.shape) < 2 or x.shape[-1] != self.head_size:
            raise ShapeError(
                "RotaryPositions: input has the wrong shape",
                got=f"x {tuple(x.shape)}",
                rule=f"(..., T, D) with D = head_size = {self.head_size}",
                fix="RotaryPositions(d_model // num_heads)",
            )
        t, half = x.shape[-2], self.head_size // 2
        place = (iota((t, 1), 0) + _beside(start, x)).astype(float64)  # (T, 1), (B, 1, T, 1)
        turns = _frequencies(self.head_size, self.base) / np.array(self.factors)
        angle = place * Tensor(turns)  # (..., T, D / 2)
        c, s = cos(angle), sin(angle)
        if self.scale != 1.0:
            c, s = c * self.scale, s * self.scale
        c, s = c.astype(x.dtype), s.astype(x.dtype)
        if self.interleaved:
            pairs = x.reshape(*x.shape[:-1], half, 2)
            a, b = pairs[..., 0], pairs[..., 1]
            return stack([a * c - b * s, a * s + b * c], -1).reshape(*x.shape)
        a, b = x[..., :half], x[..., half:]
        return concat([a * c - b * s, a * s + b * c], -1)

    def extra_repr(self) -> str:
        """Features of a head, and the pairs."""
        return f"{self.head_size}" + (", interleaved=True" if self.interleaved else "")


POSITIONS = {"learned": LearnedPositions, "sinusoidal": SinusoidalPositions, "none": None}


def positions(kind: str, length: int, size: int) -> Module | None:
    """The positions that are added to tokens, by name.

    Args:
        kind: "learned", "sinusoidal" or "none" (gives None).
        length: places.
        size: numbers per token.

    Example:
        >>> positions("sinusoidal", 8, 4)
        SinusoidalPositions(8, 4)
    """
    if kind not in POSITIONS:
        raise SettingError(
            "positions: no such kind",
            got=f"kind={kind!r}",
            rule="one of " + ", ".join(map(repr, POSITIONS)),
            fix='positions("learned", length, size); rotary ones belong to the attention layer',
        )
    made = POSITIONS[kind]
    return None if made is None else made(length, size)


def _frequencies(size: int, base: float) -> np.ndarray:
    """1 / base^(2 i / size) for i in [0, size / 2)."""
    return np.exp(np.arange(0, size, 2) * (-math.log(base) / size))


def _even(owner: str, name: str, size: int) -> int:
    size = whole(owner, name, size, at_least=2)
    if size % 2:
        raise SettingError(
            f"{owner}: {name} is odd",
            got=f"{name}={size}",
            rule="an even number: features go in pairs",
            fix=f"{name}={size + 1}",
        )
    return size


def _beside(start: int | Tensor, x: Tensor) -> int | Tensor:
    """A start for each x[b], so that it stands beside places of the shape (T, 1)."""
    if isinstance(start, int) or not start.shape:
        return start
    return start.reshape(-1, *(1,) * (len(x.shape) - 1))


def _rows(layer: LearnedPositions | SinusoidalPositions, table: Tensor, x: Tensor, start) -> Tensor:
    """The rows [start, start + T) of a table of positions."""
    owner, length = type(layer).__name__, layer.length
    t, features = x.shape[-2:] if len(x.shape) >= 2 else (-1, -1)
    known = start if isinstance(start, int) else 0
    if t < 0 or features != layer.size or not 0 <= known <= length - t:
        raise ShapeError(
            f"{owner}: there are not so many places, or features",
            got=f"x {tuple(x.shape)}, start {start if isinstance(start, int) else 'in a Tensor'}",
            rule=f"(..., T, C) with C = {layer.size} and start + T <= {length}",
            fix=f"{owner}({max(length, known + t)}, {layer.size if t < 0 else features})",
        )
    table = table.astype(x.dtype)
    if isinstance(start, int):
        return table[start : start + t]
    places = iota((t, 1), 0, dtype=int64) + _beside(start, x)
    return take(table, places.reshape(*places.shape[:-1]), 0)
