"""Forms that a weight can have: masked, sparse, of low rank, or of few numbers that all share.

Knows how a form stands for a weight and how layers compute with it; which weights of a model have
which is said by `compression`. A layer stays the layer it was: its `weight` is a module in the
Parameter's place. A compiled program of a model that is not trained makes what a form stands for
once, for its numbers, and computes as with a Parameter.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytorch.base.errors import ShapeError
from tinytorch.nn.module import Parameter
from tinytorch.nn.quantized import WeightForm
from tinytorch.tensor.contractions import linear as plain_linear
from tinytorch.tensor.contractions import matmul
from tinytorch.tensor.creation import iota, zeros
from tinytorch.tensor.elementwise import where
from tinytorch.tensor.indexing import scatter_add, take
from tinytorch.tensor.reductions import cumsum
from tinytorch.tensor.sparse import compressed_rows, sparse_linear
from tinytorch.tensor.tensor import Tensor


class DenseForm(WeightForm):
    """Abstract: a form that layers use as the numbers for which it stands; `dense` gives them."""

    def dense(self) -> Tensor:
        """The weight, as numbers."""
        raise NotImplementedError

    @property
    def dtype(self) -> Any:
        """Number type of the weight."""
        raise NotImplementedError

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x @ weight.T + bias: (..., K) -> (..., N)."""
        return plain_linear(x, self.dense(), bias)

    def convolve(self, function: Any, x: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
        """A convolution's function of x with these filters."""
        return function(x, self.dense(), bias, *settings)

    def rows(self, index: Tensor) -> Tensor:
        """weight[index], for integers (...) in [0, N)."""
        return take(self.dense(), index, 0)

    def part(self, rows: slice) -> Any:
        """Some rows."""
        return self.dense()[rows]

    def __getitem__(self, rows: Any) -> Tensor:
        """Some rows, as numbers."""
        return self.dense()[rows]

    @property
    def nbytes(self) -> int:
        """Bytes of what is held."""
        return sum(x.size * x.dtype.itemsize for x in self._state().values())


class MaskedWeight(DenseForm):
    """A weight of which some numbers are 0 and stay 0, whatever an optimizer does.

        weight = values where mask, else 0

    Where the mask is 0 no gradient comes to the values, and what momentum or weight decay do to
    them is not seen.

    Args:
        weight: (...) floats: a Parameter becomes the values, others are copied into one.
        mask: bools of that shape; default: where the weight is not 0.

    Cost: a byte for each number, and one selection a call, fused.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import nn
        >>> w = nn.MaskedWeight(tt.Tensor([[1.0, 2.0]]), tt.Tensor([[True, False]]))
        >>> w.dense().tolist(), w.sparsity
        ([[1.0, 0.0]], 0.5)
    """

    mask: Tensor

    def __init__(self, weight: Any, mask: Any = None):
        self.values = weight if isinstance(weight, Parameter) else Parameter(weight)
        self.shape = tuple(self.values.shape)
        mask = self.values.detach() != 0.0 if mask is None else Tensor(mask)
        if tuple(mask.shape) != self.shape:
            raise ShapeError(
                "MaskedWeight: the mask is not shaped like the weight",
                got=f"mask {tuple(mask.shape)}, weight {self.shape}",
                rule="a bool for each number",
                fix=f"a mask of {self.shape}",
            )
        self.register_buffer("mask", mask.astype("bool"))

    def dense(self) -> Tensor:
        """The values, 0 where the mask says so."""
        return where(self.mask, self.values, 0.0)

    @property
    def dtype(self) -> Any:
        """Number type of the values."""
        return self.values.dtype

    @property
    def sparsity(self) -> float:
        """Part of the numbers that are masked."""
        return 1.0 - float(self.mask.numpy().mean()) if self.size else 0.0

    def extra_repr(self) -> str:
        """Shape and sparsity."""
        return f"{self.shape}, sparsity={self.sparsity:.3g}"


def bytes_of_state(x: Any) -> np.ndarray:
    """A Tensor or an array of bytes, flat, as an array."""
    return np.asarray(x.numpy() if isinstance(x, Tensor) else x).ravel().astype(np.uint8)


# --- a weight stored by its numbers that are not 0 ---

# Of a matrix of so many places and more the product with the numbers of gaps alone was faster than
# that with all, compiled, for one row and for 64 (docs/log.md). A smaller one is read from the
# first caches, and what a product costs beside its sums counts.
LEAST_PLACES = 1 << 16
FARTHEST = 255  # the largest gap of a byte; a longer one is cut by numbers that are 0


def unpacked(stored: Tensor, bits: int, count: int) -> Tensor:
    """Whole numbers of 1, 2, 4 or 8 bits, the first in the lowest bits of a byte, int32 (count,).

    >>> unpacked(Tensor(np.array([0b1101], np.uint8)), 1, 6).tolist()
    [1, 0, 1, 1, 0, 0]
    """
    if bits == 8:
        return stored.astype("int32")
    each = 8 // bits
    shift = (iota((1, each), 1) * bits).astype("int32")
    parts = (stored.astype("int32").unsqueeze(1) >> shift) & ((1 << bits) - 1)
    return parts.reshape(-1)[:count]


def packed(numbers: np.ndarray, bits: int) -> np.ndarray:
    """The bytes of which `unpacked` makes the numbers."""
    each = 8 // bits
    padded = np.zeros(-(-numbers.size // each) * each, np.uint8)
    padded[: numbers.size] = numbers.ravel()
    shifts = np.arange(each, dtype=np.uint8) * bits
    return np.bitwise_or.reduce(padded.reshape(-1, each) << shifts, axis=1).astype(np.uint8)


def _gaps(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bytes by which the places of numbers grow, and the numbers; 0 where a gap is cut."""
    places = np.flatnonzero(flat)
    steps = np.diff(places, prepend=-1)  # at least 1
    cuts = (steps - 1) // FARTHEST
    ends = np.cumsum(cuts + 1) - 1
    gaps = np.full(int(ends[-1]) + 1 if len(ends) else 0, FARTHEST, np.uint8)
    values = np.zeros(len(gaps), flat.dtype)
    gaps[ends], values[ends] = steps - FARTHEST * cuts, flat[places]
    return gaps, values


class SparseWeight(DenseForm):
    """A weight stored by its numbers that are not 0, and where they are, in as few bytes as can be.

        bitmap  a bit for each place, then the numbers     4 z + n / 8 bytes, of n numbers z not 0
        gaps    a byte for the way to the next number      5 z bytes, and 5 for each gap above 255

    The fewer bytes win: gaps where less than an eighth is not 0. Nothing is rounded.

    Args:
        weight: (...) floats.

    Linear layers and convolutions of one pixel multiply by the numbers alone where that was
    measured to be faster: `whole` says why not. Others, and embeddings, make the weight dense.

    Cost: at 90 % zeros 12.5 % of float32's bytes, at 80 % 23 %. In a compiled program with
        `freeze` columns are found, or the weight is made dense, once, in memory of its own.

    Source: gaps: Han et al. 2016, https://arxiv.org/abs/1510.00149, section 2.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import nn
        >>> w = nn.SparseWeight(tt.eye(32))
        >>> w.nbytes, (w.dense() == tt.eye(32)).all().item(), w
        (176, True, SparseWeight((32, 32), gaps, sparsity=0.969))
    """

    values: Tensor
    gaps: Tensor
    bitmap: Tensor

    def __init__(self, weight: Any):
        array = weight.detach().numpy() if isinstance(weight, Tensor) else np.asarray(weight)
        array = np.ascontiguousarray(array, np.float32)
        self.shape = tuple(array.shape)
        gaps, values = _gaps(array.ravel())
        bits = packed(array.ravel() != 0, 1)
        if 5 * len(gaps) < 4 * np.count_nonzero(array) + len(bits):
            self.register_buffer("gaps", Tensor(gaps))
        else:
            self.register_buffer("bitmap", Tensor(bits))
            values = array.ravel()[array.ravel() != 0]
        self._hold(self.shape, Tensor(values))

    def _hold(self, shape: tuple[int, ...], values: Tensor) -> None:
        self.shape = shape
        self.register_buffer("values", values)
        self.register_buffer("sizes", Tensor(np.array(shape, np.int64)))

    @classmethod
    def stored(cls, shape: tuple[int, ...], kind: str, places: Any, values: Any) -> SparseWeight:
        """The weight of which this was saved.

        Args:
            shape: of the weight.
            kind: "gaps" or "bitmap".
            places: bytes.
            values: numbers.

        Raises:
            ShapeError: places outside the weight, or as many as there are not numbers.
        """
        found, size = bytes_of_state(places), math.prod(shape)
        if kind == "gaps":
            fits = len(found) == len(values) and int(found.sum(dtype=np.int64)) <= size
            fits = fits and (found > 0).all()
        else:
            bits = np.unpackbits(found)
            fits = len(bits) == -(-size // 8) * 8 and int(bits.sum()) == len(values)
            fits = fits and not (size % 8 and found[-1] >> size % 8)
        if not fits:
            raise ShapeError(
                "SparseWeight: places and numbers contradict each other",
                got=f"{len(values)} numbers, {len(found)} bytes of {kind}, shape {shape}",
                rule="a place inside the weight for each number",
                fix="save it again; the file is damaged",
            )
        self = cls.__new__(cls)
        self.register_buffer(kind, Tensor(found))
        self._hold(tuple(shape), Tensor(values))
        return self

    @property
    def kind(self) -> str:
        """How places are stored: "gaps" or "bitmap"."""
        return self._buffer_names[0][0]

    @property
    def whole(self) -> str:
        """Why a layer multiplies by all numbers, zeros too; "" if by the others alone."""
        if any(n > 1 for n in self.shape[2:]):
            return "filters of more than a pixel: their windows are read faster than copied"
        if self.size < LEAST_PLACES:
            return f"fewer than {LEAST_PLACES:,} places"
        if self.kind != "gaps":
            return "more than an eighth of the numbers is not 0"
        return ""

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x @ weight.T + bias: (..., K) -> (..., N)."""
        if self.whole or x.dtype is not self.values.dtype:
            return super().linear(x, bias)
        n = self.shape[0]
        rows = compressed_rows(self._places(), (n, self.size // n))
        out = sparse_linear(x, self.values, *rows)
        return out if bias is None else out + bias

    def convolve(self, function: Any, x: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
        """A convolution's function of x with these filters; of one pixel, a linear layer's."""
        stride, padding, _, groups = settings
        each_pixel = (stride, padding, groups) in ((1, 0, 1), ((1, 1), (0, 0), 1))
        if self.whole or not each_pixel or x.dtype is not self.values.dtype:
            return super().convolve(function, x, bias, *settings)
        return self.linear(x.movedim(1, -1), bias).movedim(-1, 1)

    def _places(self) -> Tensor:
        """Where the numbers of gaps are, counted row by row."""
        return cumsum(self.gaps.astype("int32" if self.size < 1 << 31 else "int64"), 0) - 1

    def dense(self) -> Tensor:
        """All numbers, zeros among them."""
        if not self.values.size:
            return zeros(self.shape)
        if self.kind == "gaps":
            flat = scatter_add(zeros((self.size,)), 0, self._places(), self.values)
            return flat.reshape(*self.shape)
        bits = unpacked(self.bitmap, 1, self.size)
        index = (cumsum(bits, 0) - 1).clip(min=0)
        return where(bits != 0, take(self.values, index, 0), 0.0).reshape(*self.shape)

    @property
    def dtype(self) -> Any:
        """Number type of the numbers."""
        return self.values.dtype

    @property
    def sparsity(self) -> float:
        """Part of the numbers that are 0."""
        return 1.0 - np.count_nonzero(self.values.numpy()) / max(1, self.size)

    def extra_repr(self) -> str:
        """Shape, how places are stored, and sparsity."""
        return f"{self.shape}, {self.kind}, sparsity={self.sparsity:.3g}"


# --- a weight as a product, and as a choice among few numbers ---


class FactoredWeight(DenseForm):
    """A weight of low rank: the product of two, with which a layer computes one after the other.

        linear       y = (x @ right.T) @ left.T + bias
        convolution  filters `right` (R, C, ...), then 1x1 filters `left` (N, R)

    Args:
        left: (N, R).
        right: (R, ...), the axes of the weight behind the first.

    Cost: R (N + K) numbers in place of N K, and as many products for each row or pixel.

    Source: Denton et al. 2014, https://arxiv.org/abs/1404.0736, section 3.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import nn
        >>> w = nn.FactoredWeight(tt.ones(8, 2), tt.ones(2, 16))
        >>> w.linear(tt.ones(3, 16)).shape, w.dense().shape, w.rank
        ((3, 8), (8, 16), 2)
    """

    def __init__(self, left: Any, right: Any):
        self.left = left if isinstance(left, Parameter) else Parameter(left)
        self.right = right if isinstance(right, Parameter) else Parameter(right)
        if len(self.left.shape) != 2 or self.left.shape[1] != self.right.shape[0]:
            raise ShapeError(
                "FactoredWeight: the two do not fit",
                got=f"left {tuple(self.left.shape)}, right {tuple(self.right.shape)}",
                rule="(N, R) and (R, ...)",
                fix="parts of one rank R",
            )
        self.shape = (self.left.shape[0], *self.right.shape[1:])

    @property
    def rank(self) -> int:
        """R."""
        return self.left.shape[1]

    @property
    def dtype(self) -> Any:
        """Number type of both."""
        return self.left.dtype

    def dense(self) -> Tensor:
        """left @ right."""
        flat = self.right.reshape(self.rank, math.prod(self.shape[1:]))
        return matmul(self.left, flat).reshape(*self.shape)

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(x @ right.T) @ left.T + bias: (..., K) -> (..., N)."""
        return plain_linear(plain_linear(x, self.right), self.left, bias)

    def convolve(self, function: Any, x: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
        """A convolution's function with the filters of `right`, then each pixel by `left`."""
        between = function(x, self.right, None, *settings)
        ones = (1,) * (len(self.shape) - 2)
        return function(between, self.left.reshape(*self.left.shape, *ones), bias)

    def rows(self, index: Tensor) -> Tensor:
        """weight[index], for integers (...) in [0, N)."""
        return plain_linear(take(self.left, index, 0), self.right.T)

    def extra_repr(self) -> str:
        """Shape and rank."""
        return f"{self.shape}, rank={self.rank}"


class SharedWeight(DenseForm):
    """A weight whose numbers are few: each place says which, in 1, 2, 4 or 8 bits.

        weight[i] = codebook[codes[i]]

    Args:
        codebook: (K,) floats, 1 to 256; it is trained, all places of a number together.
        codes: whole numbers (...) in [0, K), in the weight's shape.

    Cost: at 16 numbers an eighth of float32's bytes, at 256 a quarter.

    Source: Han et al. 2016, https://arxiv.org/abs/1510.00149, section 3.

    Example:
        >>> import numpy as np
        >>> from tinytorch import nn
        >>> w = nn.SharedWeight([-1.0, 0.5], np.array([[0, 1, 1], [1, 0, 0]]))
        >>> w.dense().tolist(), w.bits
        ([[-1.0, 0.5, 0.5], [0.5, -1.0, -1.0]], 1)
    """

    codes: Tensor

    def __init__(self, codebook: Any, codes: np.ndarray):
        self.codebook = codebook if isinstance(codebook, Parameter) else Parameter(codebook)
        self.shape = tuple(codes.shape)
        count = self.codebook.size
        if count > 256 or (codes.size and not 0 <= codes.min() <= codes.max() < count):
            raise ShapeError(
                "SharedWeight: codes name numbers that are not there",
                got=f"{count} numbers, codes up to {codes.max() if codes.size else 0}",
                rule="at most 256 numbers, codes in [0, numbers)",
                fix="share_weights(model, clusters), which makes both",
            )
        self.bits = next(b for b in (1, 2, 4, 8) if count <= 1 << b)
        self.register_buffer("codes", Tensor(packed(codes, self.bits)))
        self.register_buffer("sizes", Tensor(np.array(self.shape, np.int64)))

    @classmethod
    def stored(cls, shape: tuple[int, ...], codebook: Any, codes: Any) -> SharedWeight:
        """The weight of which this was saved.

        Args:
            shape: of the weight.
            codebook: its numbers.
            codes: bytes, several places in each where there are few numbers.

        Raises:
            ShapeError: another number of places, or places of numbers that are not there.
        """
        bits = next((b for b in (1, 2, 4, 8) if len(codebook) <= 1 << b), 8)
        size, found = math.prod(shape), bytes_of_state(codes)
        numbers = unpacked(Tensor(found), bits, size).numpy() if found.size else found
        if numbers.size != size or found.size != -(-size * bits // 8):
            raise ShapeError(
                "SharedWeight: codes are not those of this weight",
                got=f"{found.size} bytes for shape {shape}",
                rule=f"{bits} bits for each of {size} places",
                fix="save it again; the file is damaged",
            )
        return cls(Tensor(codebook), numbers.reshape(shape))

    @property
    def dtype(self) -> Any:
        """Number type of the codebook."""
        return self.codebook.dtype

    def dense(self) -> Tensor:
        """Each place's number."""
        index = unpacked(self.codes, self.bits, self.size)
        return take(self.codebook, index, 0).reshape(*self.shape)

    def extra_repr(self) -> str:
        """Shape and how many numbers there are."""
        return f"{self.shape}, numbers={self.codebook.size}"
