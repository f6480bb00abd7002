"""Dropout: in training a random part is set to zero and the expectation kept; functions and layers.

Knows how large a part, and along which axes one draw holds; the random bits come from the
framework's generator.
"""

from __future__ import annotations

from collections.abc import Callable

from tinytorch.base.arguments import number
from tinytorch.base.errors import ShapeError
from tinytorch.nn.module import Module
from tinytorch.tensor.elementwise import where
from tinytorch.tensor.random import rand
from tinytorch.tensor.tensor import Tensor


def _by_leading_axes(owner: str, input: Tensor, p: float, training: bool, kept: int) -> Tensor:
    """Dropout with one draw for all that lies behind the first `kept` axes."""
    p = number(owner, "p", p, "[0, 1]")
    if len(input.shape) < kept:
        raise ShapeError(
            f"{owner}: input has too few axes",
            got=f"input {tuple(input.shape)}",
            rule=f"at least {kept}, samples first",
            fix="input.unsqueeze(0)",
        )
    if not training or p == 0.0:
        return input
    if p == 1.0:
        return input * 0.0
    shape = (*input.shape[:kept], *(1,) * (len(input.shape) - kept))
    return where(rand(*shape) >= p, input * (1.0 / (1.0 - p)), 0.0)


class _Dropout(Module):
    """What these layers share; each names its function."""

    _shown = {"p": ...}
    function: Callable[..., Tensor]

    def __init__(self, p: float = 0.5):
        self.p = number(type(self).__name__, "p", p, "[0, 1]")

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return self.function(x, self.p, self.training)


def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Zeros with probability p, everything else divided by 1 - p; unchanged outside training.

    Args:
        input: any shape.
        p: probability of a zero, in [0, 1].
        training: False passes the input on.

    Source: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html.
    """
    return _by_leading_axes("dropout", input, p, training, kept=len(input.shape))


class Dropout(_Dropout):
    """In training each number is 0 with probability p, else divided by 1 - p; else unchanged.

    Args:
        p: probability of a zero, in [0, 1]; default 0.5.

    Source: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html.

    Example:
        >>> import tinytorch as tt
        >>> layer = tt.nn.Dropout(0.5).eval()
        >>> layer(tt.ones(3)).tolist()
        [1.0, 1.0, 1.0]
    """

    function = staticmethod(dropout)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Whole channels become zero with probability p, the others are divided by 1 - p.

    Args:
        input: (N, C, H, W) or (N, C, T).
        p: probability of dropping a channel, in [0, 1].
        training: False passes the input on.

    Source: Tompson et al. 2014, https://arxiv.org/abs/1411.4280, section 3.2.
    """
    return _by_leading_axes("dropout2d", input, p, training, kept=2)


class Dropout2d(_Dropout):
    """In training each channel is 0 with probability p, else divided by 1 - p; else unchanged.

    Args:
        p: probability of a zero, in [0, 1]; default 0.5.

    Shapes: (N, C, ...) -> the same.

    Source: Tompson et al. 2014, https://arxiv.org/abs/1411.4280, section 3.2.
    """

    function = staticmethod(dropout2d)


def drop_path(input: Tensor, p: float = 0.0, training: bool = False) -> Tensor:
    """Whole samples become zero with probability p, the others are divided by 1 - p.

    Meant for the branch beside a residual connection: a dropped sample skips the block.

    Args:
        input: (N, ...).
        p: probability of dropping a sample, in [0, 1].
        training: False passes the input on.

    Source: Huang et al. 2016, https://arxiv.org/abs/1603.09382 (stochastic depth).
    """
    return _by_leading_axes("drop_path", input, p, training, kept=1)


class DropPath(_Dropout):
    """In training each sample is 0 with probability p, else divided by 1 - p; else unchanged.

    Put it on the branch beside a residual connection: `x + drop_path(block(x))`. A dropped sample
    skips the block, so a deep network trains as a mixture of shallower ones.

    Args:
        p: probability of dropping a sample, in [0, 1]; default 0.1.

    Shapes: (N, ...) -> the same.

    Source: Huang et al. 2016, https://arxiv.org/abs/1603.09382 (stochastic depth).

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.DropPath(1.0)(tt.ones(2, 3)).tolist()
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """

    function = staticmethod(drop_path)

    def __init__(self, p: float = 0.1):
        super().__init__(p)
