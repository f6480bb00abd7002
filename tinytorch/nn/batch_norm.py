"""BatchNorm1d and BatchNorm2d: each channel normalised over the batch.

Knows the weights and the running statistics; the arithmetic is `functional.batch_norm`.
"""

from __future__ import annotations

from tinytorch.base.checks import flag, number, whole
from tinytorch.base.dtypes import float32, float64, int64
from tinytorch.base.errors import ShapeError
from tinytorch.nn import functional as F
from tinytorch.nn.module import Module, Parameter
from tinytorch.tensor.creation import ones, zeros
from tinytorch.tensor.tensor import Tensor


class _BatchNorm(Module):
    """What all batch norms are; each says which inputs it takes.

    Args:
        num_features: C, channels; at least 1.
        eps: added to the variance; default 1e-5.
        momentum: weight of the newest batch in the running averages, in [0, 1]; None: their plain
            mean over all batches so far.
        affine: whether there are a weight and a bias.
        track_running_stats: whether there are running averages; without them evaluation uses the
            batch's own statistics too.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    optional_names = ("num_batches_tracked",)  # PyTorch has written it since version 0.4.1
    _axes: tuple[str, ...] = ()  # accepted shapes, for the message
    _ranks: tuple[int, ...] = ()

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1,
        affine: bool = True, track_running_stats: bool = True,
    ):  # fmt: skip
        owner = type(self).__name__
        self.num_features = whole(owner, "num_features", num_features, at_least=1)
        self.eps = number(owner, "eps", eps, "[0, inf)")
        self.momentum = None if momentum is None else number(owner, "momentum", momentum, "[0, 1]")
        affine = flag(owner, "affine", affine)
        self.weight = Parameter(ones((num_features,))) if affine else None
        self.bias = Parameter(zeros((num_features,))) if affine else None
        if flag(owner, "track_running_stats", track_running_stats):
            self.register_buffer("running_mean", zeros((num_features,)))
            self.register_buffer("running_var", ones((num_features,)))
            self.register_buffer("num_batches_tracked", zeros((), dtype=int64))
        else:
            self.running_mean = self.running_var = self.num_batches_tracked = None

    def forward(self, x: Tensor) -> Tensor:
        """The same shape; in training the running statistics move."""
        if len(x.shape) not in self._ranks or x.shape[1] != self.num_features:
            owner = type(self).__name__
            raise ShapeError(
                f"{owner}: input has the wrong shape",
                got=f"x {tuple(x.shape)}",
                rule=f"{' or '.join(self._axes)} with C = num_features = {self.num_features}",
                fix=f"{owner}(C) with the C of the input, which is its axis 1",
            )
        momentum, count = self.momentum, None
        if self.training and self.num_batches_tracked is not None:
            count = self.num_batches_tracked + 1
            if momentum is None:
                momentum = 1.0 / count.astype(float64 if x.dtype is float64 else float32)
        out = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias,
            training=self.training, momentum=momentum, eps=self.eps,
        )  # fmt: skip
        if count is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.assign_(count)  # last: a refused batch does not count
        return out

    def extra_repr(self) -> str:
        """Channels, eps, momentum."""
        momentum = "None" if self.momentum is None else f"{self.momentum:g}"
        return f"{self.num_features}, eps={self.eps:g}, momentum={momentum}"


class BatchNorm2d(_BatchNorm):
    """(x - mean) / sqrt(variance + eps) * weight + bias, each channel over the batch and the image.

    In training mean and variance are those of the batch, and running averages of them are kept:

        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var  = (1 - momentum) * running_var  + momentum * variance * n / (n - 1)

    In evaluation (`eval()`) the running averages are used and nothing changes.

    Args:
        num_features: C, channels; at least 1.
        eps: added to the variance; default 1e-5.
        momentum: weight of the newest batch in the running averages, in [0, 1]; default 0.1. None:
            their plain mean over all batches so far.
        affine: whether there are a weight and a bias.
        track_running_stats: whether there are running averages; without them evaluation uses the
            batch's own statistics too.

    Shapes: (N, C, H, W) -> the same; weight, bias, running_mean, running_var (C,).

    Source: Ioffe, Szegedy 2015, https://arxiv.org/abs/1502.03167; defaults of PyTorch.

    Example:
        >>> import tinytorch as tt
        >>> norm = tt.nn.BatchNorm2d(3)
        >>> norm(tt.zeros(2, 3, 4, 4)).shape, norm.running_var.numpy().round(2)
        ((2, 3, 4, 4), array([0.9, 0.9, 0.9], dtype=float32))
    """

    _axes, _ranks = ("(N, C, H, W)",), (4,)

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1,
        affine: bool = True, track_running_stats: bool = True,
    ):  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats)


class BatchNorm1d(_BatchNorm):
    """`BatchNorm2d` for rows of features or for signals.

    Args:
        num_features: C, features or channels; at least 1.
        eps: added to the variance; default 1e-5.
        momentum: weight of the newest batch in the running averages, in [0, 1]; default 0.1. None:
            their plain mean over all batches so far.
        affine: whether there are a weight and a bias.
        track_running_stats: whether there are running averages.

    Shapes: (N, C) or (N, C, T) -> the same; weight, bias, running_mean, running_var (C,).

    Source: Ioffe, Szegedy 2015, https://arxiv.org/abs/1502.03167; defaults of PyTorch.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.BatchNorm1d(1)(tt.Tensor([[1.0], [3.0]])).numpy().round(3).ravel()
        array([-1.,  1.], dtype=float32)
    """

    _axes, _ranks = ("(N, C)", "(N, C, T)"), (2, 3)

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1,
        affine: bool = True, track_running_stats: bool = True,
    ):  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats)
