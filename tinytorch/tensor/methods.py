"""The functions of Tensors as methods: `x.sum(dim=0)` is `tt.sum(x, dim=0)`.

Knows names only: PyTorch's where they mean the same, the array API's beside them.
"""

from __future__ import annotations

from typing import Any

from tinytorch.base.dtypes import as_dtype, bfloat16, bool_, float16, float32, float64, int32, int64
from tinytorch.tensor import (
    contractions,
    creation,
    elementwise,
    indexing,
    interchange,
    reductions,
    shaping,
)
from tinytorch.tensor.dispatch import to_dtype
from tinytorch.tensor.memory import TensorBase
from tinytorch.tensor.row_functions import RowMethods


class Methods(RowMethods, TensorBase):
    """Methods that are functions with the Tensor as first argument."""

    __slots__ = ()

    # shaping
    reshape = shaping.reshape
    view = shaping.view
    permute = shaping.permute
    transpose = swapaxes = shaping.transpose
    moveaxis = movedim = shaping.moveaxis
    narrow = shaping.narrow
    select = shaping.select
    flatten = shaping.flatten
    squeeze = shaping.squeeze
    unsqueeze = shaping.unsqueeze
    broadcast_to = expand = shaping.broadcast_to
    split = shaping.split
    chunk = shaping.chunk
    unbind = shaping.unbind
    flip = shaping.flip
    roll = shaping.roll
    repeat = shaping.repeat_as_torch
    repeat_interleave = shaping.repeat_interleave
    tile = shaping.tile
    unstack = shaping.unstack
    diagonal = creation.diagonal
    trace = creation.trace
    # reductions
    sum = reductions.sum
    prod = reductions.prod
    mean = reductions.mean
    var = reductions.var
    std = reductions.std
    amax = reductions.amax
    amin = reductions.amin
    argmax = reductions.argmax
    argmin = reductions.argmin
    any = reductions.any
    all = reductions.all
    cumsum = reductions.cumsum
    cumprod = reductions.cumprod
    max = reductions.max
    min = reductions.min
    sort = reductions.sort
    equal = reductions.equal
    nonzero = reductions.nonzero
    topk = reductions.topk
    count_nonzero = reductions.count_nonzero
    argsort = reductions.argsort
    softmax = reductions.softmax
    log_softmax = reductions.log_softmax
    logsumexp = reductions.logsumexp
    norm = reductions.norm
    # elementwise, beside those of one row each
    log1p = elementwise.log1p
    expm1 = elementwise.expm1
    log2 = elementwise.log2
    log10 = elementwise.log10
    square = elementwise.square
    pow = elementwise.power
    tan = elementwise.tan
    asin = elementwise.asin
    acos = elementwise.acos
    atan = elementwise.atan
    sinh = elementwise.sinh
    cosh = elementwise.cosh
    sigmoid = elementwise.sigmoid
    relu = elementwise.relu
    floor = elementwise.floor
    ceil = elementwise.ceil
    round = elementwise.round
    trunc = elementwise.trunc
    add = elementwise.add
    sub = subtract = elementwise.subtract
    div = divide = elementwise.divide
    logical_xor = elementwise.logical_xor
    allclose = elementwise.allclose
    isclose = elementwise.isclose
    clip = clamp = elementwise.clip
    masked_fill = elementwise.masked_fill
    astype = elementwise.astype
    # contractions
    matmul = mm = bmm = contractions.matmul
    outer = contractions.outer
    dot = contractions.dot
    # indexing
    take = indexing.take
    gather = indexing.gather
    index_select = indexing.index_select
    scatter_add = indexing.scatter_add
    # triangles, constants of the same shape
    tril = creation.tril
    triu = creation.triu
    zeros_like = creation.zeros_like
    ones_like = creation.ones_like
    full_like = creation.full_like

    @property
    def T(self) -> Any:
        """All axes in reverse order: for a matrix, its transpose."""
        return shaping.reversed_axes(self)

    @property
    def mT(self) -> Any:
        """The last two axes exchanged: each matrix transposed."""
        return shaping.transpose(self, -2, -1)

    def numel(self) -> int:
        """Number of elements."""
        return self.size

    def dim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def to(self, where=None, dtype=None, non_blocking=False, copy=False, *, device=None) -> Any:
        """This Tensor in another number type, or on a device; there is one device: "cpu".

        Args:
            where: a device, a number type, or a Tensor whose number type is meant; behind a number
                type or a Tensor come non_blocking and copy.
            dtype: a number type.
            non_blocking: kept for PyTorch's order of arguments; there is nothing to wait for.
            copy: memory of its own, also where nothing changes.
            device: None or "cpu".
        """
        if isinstance(dtype, bool):
            dtype, copy = None, non_blocking
        where = where.dtype if isinstance(where, TensorBase) else where
        wanted = interchange.number_type_of(where, device, dtype)
        out: Any = self if wanted is None else to_dtype(self, as_dtype(wanted))
        return out.clone() if copy and out.dtype is self.dtype else out

    def to_device(self, device, /, *, stream=None) -> Any:
        """Itself; there is one device: "cpu"."""
        interchange.check_device(device)
        return self

    def view_as(self, other) -> Any:
        """A view shaped like `other`."""
        return shaping.view(self, other.shape)

    def reshape_as(self, other) -> Any:
        """Reshaped like `other`."""
        return shaping.reshape(self, other.shape)

    def expand_as(self, other) -> Any:
        """Broadcast to the shape of `other`."""
        return shaping.broadcast_to(self, other.shape)

    def type_as(self, other) -> Any:
        """In the number type of `other`."""
        return to_dtype(self, other.dtype)

    def cpu(self) -> Any:
        """Itself."""
        return self

    def float(self) -> Any:
        """As float32."""
        return to_dtype(self, float32)

    def double(self) -> Any:
        """As float64."""
        return to_dtype(self, float64)

    def half(self) -> Any:
        """As float16."""
        return to_dtype(self, float16)

    def bfloat16(self) -> Any:
        """As bfloat16."""
        return to_dtype(self, bfloat16)

    def int(self) -> Any:
        """As int32."""
        return to_dtype(self, int32)

    def long(self) -> Any:
        """As int64."""
        return to_dtype(self, int64)

    def bool(self) -> Any:
        """As bool: whether each element is not 0."""
        return to_dtype(self, bool_)
