"""The functions of Tensors as methods: `x.sum(dim=0)` is `tt.sum(x, dim=0)`.

Knows names only: PyTorch's where they mean the same, the array API's beside them.
"""

from __future__ import annotations

from typing import Any

from tinytorch.base.dtypes import as_dtype, bfloat16, bool_, float16, float32, float64, int32, int64
from tinytorch.base.errors import SettingError
from tinytorch.tensor import (
    contractions,
    creation,
    elementwise,
    exponentials,
    indexing,
    reductions,
    shaping,
)
from tinytorch.tensor.dispatch import to_dtype
from tinytorch.tensor.operators import Operators


class Methods(Operators):
    """Methods that are functions with the Tensor as first argument."""

    __slots__ = ()

    # shaping
    reshape = view = shaping.reshape
    permute = shaping.permute
    transpose = swapaxes = shaping.transpose
    moveaxis = shaping.moveaxis
    flatten = shaping.flatten
    squeeze = shaping.squeeze
    unsqueeze = shaping.unsqueeze
    broadcast_to = expand = shaping.broadcast_to
    split = shaping.split
    chunk = shaping.chunk
    unbind = shaping.unbind
    flip = shaping.flip
    roll = shaping.roll
    repeat = shaping.repeat
    repeat_interleave = shaping.repeat_interleave
    # reductions
    sum = reductions.sum
    prod = reductions.prod
    mean = reductions.mean
    var = reductions.var
    std = reductions.std
    max = amax = reductions.amax
    min = amin = reductions.amin
    argmax = reductions.argmax
    argmin = reductions.argmin
    any = reductions.any
    all = reductions.all
    cumsum = reductions.cumsum
    sort = reductions.sort
    argsort = reductions.argsort
    softmax = reductions.softmax
    log_softmax = reductions.log_softmax
    logsumexp = reductions.logsumexp
    norm = reductions.norm
    # elementwise
    abs = elementwise.abs
    exp = elementwise.exp
    log = elementwise.log
    log1p = exponentials.log1p
    sqrt = elementwise.sqrt
    rsqrt = elementwise.rsqrt
    reciprocal = elementwise.reciprocal
    square = elementwise.square
    pow = elementwise.power
    sin = elementwise.sin
    cos = elementwise.cos
    tanh = elementwise.tanh
    sigmoid = elementwise.sigmoid
    relu = elementwise.relu
    erf = elementwise.erf
    sign = elementwise.sign
    floor = elementwise.floor
    ceil = elementwise.ceil
    round = elementwise.round
    neg = elementwise.negative
    clip = clamp = elementwise.clip
    maximum = elementwise.maximum
    minimum = elementwise.minimum
    isnan = elementwise.isnan
    isinf = elementwise.isinf
    isfinite = elementwise.isfinite
    astype = elementwise.astype
    # contractions
    matmul = contractions.matmul
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

    def to(self, where) -> Any:
        """This Tensor in another number type, or on a device; there is one device: "cpu"."""
        if where == "cpu":
            return self
        if isinstance(where, str) and where.split(":")[0] in ("cuda", "mps", "gpu", "xpu"):
            raise SettingError(
                "there is no such device",
                got=repr(where),
                rule='the only device is "cpu"',
                fix='x.to("cpu"), or leave it out',
            )
        return to_dtype(self, as_dtype(where))

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
