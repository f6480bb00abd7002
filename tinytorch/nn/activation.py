"""Activations as modules, for use in Sequential: ReLU, GELU, SiLU, Tanh, Softmax and the rest.

Knows which function; the arithmetic is in `functional`.
"""

from __future__ import annotations

from tinytorch.base.checks import flag, number, whole
from tinytorch.base.errors import SettingError
from tinytorch.nn import functional as F
from tinytorch.nn.in_place import in_place
from tinytorch.nn.module import Module, Parameter
from tinytorch.tensor.creation import full
from tinytorch.tensor.tensor import Tensor


class ReLU(Module):
    """max(x, 0).

    Args:
        inplace: write over the input where nobody needs its old numbers; default False.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.ReLU()(tt.Tensor([-1.0, 2.0])).tolist()
        [0.0, 2.0]
    """

    def __init__(self, inplace: bool = False):
        self.inplace = flag("ReLU", "inplace", inplace)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return in_place(F.relu, x) if self.inplace else F.relu(x)

    def extra_repr(self) -> str:
        """Whether the input is written over."""
        return "inplace=True" if self.inplace else ""


class GELU(Module):
    """x times the probability that a standard normal number is below x.

    Args:
        approximate: "none" for x (1 + erf(x / sqrt 2)) / 2, or "tanh" for the formula with tanh.

    Source: Hendrycks, Gimpel 2016, https://arxiv.org/abs/1606.08415.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.GELU()(tt.Tensor([-1.0, 2.0])).numpy().round(4)
        array([-0.1587,  1.9545], dtype=float32)
    """

    def __init__(self, approximate: str = "none"):
        if approximate not in ("none", "tanh"):
            raise SettingError(
                "GELU: approximate has two values",
                got=f"approximate={approximate!r}",
                rule='"none" or "tanh"',
                fix='GELU(approximate="tanh")',
            )
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        """Which formula, if not the exact one."""
        return "" if self.approximate == "none" else f"approximate={self.approximate!r}"


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return F.tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return F.sigmoid(x)


class Softmax(Module):
    """exp(x) / sum(exp(x)) along an axis: positive numbers with sum 1.

    Args:
        dim: the axis; default the last.
    """

    def __init__(self, dim: int = -1):
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return F.softmax(x, self.dim)

    def extra_repr(self) -> str:
        """The axis."""
        return f"dim={self.dim}"


class SiLU(Module):
    """x * sigmoid(x), also called swish.

    Args:
        inplace: write over the input where nobody needs its old numbers; default False.

    Source: Elfwing, Uchibe, Doya 2017, https://arxiv.org/abs/1702.03118.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.SiLU()(tt.Tensor([-1.0, 2.0])).numpy().round(4)
        array([-0.2689,  1.7616], dtype=float32)
    """

    def __init__(self, inplace: bool = False):
        self.inplace = flag("SiLU", "inplace", inplace)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return in_place(F.silu, x) if self.inplace else F.silu(x)

    def extra_repr(self) -> str:
        """Whether the input is written over."""
        return "inplace=True" if self.inplace else ""


class Mish(Module):
    """x * tanh(softplus(x)).

    Args:
        inplace: write over the input where nobody needs its old numbers; default False.

    Source: Misra 2019, https://arxiv.org/abs/1908.08681.
    """

    def __init__(self, inplace: bool = False):
        self.inplace = flag("Mish", "inplace", inplace)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return in_place(F.mish, x) if self.inplace else F.mish(x)

    def extra_repr(self) -> str:
        """Whether the input is written over."""
        return "inplace=True" if self.inplace else ""


class LogSigmoid(Module):
    """log(sigmoid(x)), which does not underflow.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.LogSigmoid()(tt.Tensor([-10000.0, 10000.0])).tolist()
        [-10000.0, -0.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return F.logsigmoid(x)


class Softsign(Module):
    """x / (1 + |x|)."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return F.softsign(x)


class ReLU6(Module):
    """min(max(x, 0), 6).

    Args:
        inplace: write over the input where nobody needs its old numbers; default False.
    """

    def __init__(self, inplace: bool = False):
        self.inplace = flag("ReLU6", "inplace", inplace)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return in_place(F.relu6, x) if self.inplace else F.relu6(x)

    def extra_repr(self) -> str:
        """Whether the input is written over."""
        return "inplace=True" if self.inplace else ""


class Hardsigmoid(Module):
    """(x + 3) / 6 held between 0 and 1.

    Args:
        inplace: write over the input where nobody needs its old numbers; default False.

    Source: Howard et al. 2019, https://arxiv.org/abs/1905.02244, section 5.2.
    """

    def __init__(self, inplace: bool = False):
        self.inplace = flag("Hardsigmoid", "inplace", inplace)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return in_place(F.hardsigmoid, x) if self.inplace else F.hardsigmoid(x)

    def extra_repr(self) -> str:
        """Whether the input is written over."""
        return "inplace=True" if self.inplace else ""


class Hardswish(Module):
    """x * hardsigmoid(x).

    Args:
        inplace: write over the input where nobody needs its old numbers; default False.

    Source: Howard et al. 2019, https://arxiv.org/abs/1905.02244, section 5.2.
    """

    def __init__(self, inplace: bool = False):
        self.inplace = flag("Hardswish", "inplace", inplace)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return in_place(F.hardswish, x) if self.inplace else F.hardswish(x)

    def extra_repr(self) -> str:
        """Whether the input is written over."""
        return "inplace=True" if self.inplace else ""


class SELU(Module):
    """scale * elu(x, alpha) with the constants that keep mean 0 and variance 1.

    Args:
        inplace: write over the input where nobody needs its old numbers; default False.

    Source: Klambauer et al. 2017, https://arxiv.org/abs/1706.02515.
    """

    def __init__(self, inplace: bool = False):
        self.inplace = flag("SELU", "inplace", inplace)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return in_place(F.selu, x) if self.inplace else F.selu(x)

    def extra_repr(self) -> str:
        """Whether the input is written over."""
        return "inplace=True" if self.inplace else ""


class LeakyReLU(Module):
    """x where x > 0, else negative_slope * x.

    Args:
        negative_slope: for negative numbers; default 0.01, as in PyTorch.
        inplace: write over the input where nobody needs its old numbers; default False.

    Source: Maas, Hannun, Ng 2013, section 2.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.LeakyReLU(0.1)(tt.Tensor([-1.0, 2.0])).numpy().round(4)
        array([-0.1,  2. ], dtype=float32)
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False):
        self.inplace = flag("LeakyReLU", "inplace", inplace)
        self.negative_slope = number("LeakyReLU", "negative_slope", negative_slope, "(-inf, inf)")

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return in_place(self._function, x) if self.inplace else self._function(x)

    def _function(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        """The slope."""
        return f"negative_slope={self.negative_slope:g}"


class PReLU(Module):
    """x where x > 0, else weight * x, the weight learned.

    Args:
        num_parameters: C, one slope for each channel; default 1, one for all.
        init: first value of each slope; default 0.25.

    Shapes: (N, C, ...) -> the same; weight (num_parameters,).

    Source: He et al. 2015, https://arxiv.org/abs/1502.01852, equation 1 and section 2.1 (0.25).
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25):
        self.num_parameters = whole("PReLU", "num_parameters", num_parameters, at_least=1)
        start = number("PReLU", "init", init, "(-inf, inf)")
        self.weight = Parameter(full((self.num_parameters,), start))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return F.prelu(x, self.weight)

    def extra_repr(self) -> str:
        """How many slopes."""
        return f"num_parameters={self.num_parameters}"


class ELU(Module):
    """x where x > 0, else alpha (exp(x) - 1).

    Args:
        alpha: minus the limit for negative numbers; default 1.
        inplace: write over the input where nobody needs its old numbers; default False.

    Source: Clevert, Unterthiner, Hochreiter 2015, https://arxiv.org/abs/1511.07289.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.ELU()(tt.Tensor([-10000.0, 2.0])).tolist()
        [-1.0, 2.0]
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False):
        self.inplace = flag("ELU", "inplace", inplace)
        self.alpha = number("ELU", "alpha", alpha, "(-inf, inf)")

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return in_place(self._function, x) if self.inplace else self._function(x)

    def _function(self, x: Tensor) -> Tensor:
        return F.elu(x, self.alpha)

    def extra_repr(self) -> str:
        """alpha."""
        return f"alpha={self.alpha:g}"


class Softplus(Module):
    """log(1 + exp(beta x)) / beta, a smooth ReLU that does not overflow.

    Args:
        beta: sharpness, in (0, inf); default 1.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.Softplus()(tt.Tensor([-10000.0, 0.0, 10000.0])).numpy().round(4)
        array([0.000e+00, 6.931e-01, 1.000e+04], dtype=float32)
    """

    def __init__(self, beta: float = 1.0):
        self.beta = number("Softplus", "beta", beta, "(0, inf)")

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return F.softplus(x, self.beta)

    def extra_repr(self) -> str:
        """beta."""
        return f"beta={self.beta:g}"


class Hardtanh(Module):
    """x held between two numbers.

    Args:
        min_val: smallest result; default -1.
        max_val: largest result, above min_val; default 1.
        inplace: write over the input where nobody needs its old numbers; default False.
    """

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False):
        self.inplace = flag("Hardtanh", "inplace", inplace)
        self.min_val = number("Hardtanh", "min_val", min_val, "(-inf, inf)")
        self.max_val = number("Hardtanh", "max_val", max_val, f"({self.min_val!r}, inf)")

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return in_place(self._function, x) if self.inplace else self._function(x)

    def _function(self, x: Tensor) -> Tensor:
        return F.hardtanh(x, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        """Both bounds."""
        return f"min_val={self.min_val:g}, max_val={self.max_val:g}"


class LogSoftmax(Module):
    """log(softmax(x)) along an axis, which does not underflow.

    Args:
        dim: the axis; default the last.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.LogSoftmax()(tt.Tensor([-10000.0, 10000.0])).tolist()
        [-20000.0, 0.0]
    """

    def __init__(self, dim: int = -1):
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return F.log_softmax(x, self.dim)

    def extra_repr(self) -> str:
        """The axis."""
        return f"dim={self.dim}"


class GLU(Module):
    """One half of an axis times the sigmoid of the other.

    Args:
        dim: the axis that is halved; default the last.

    Shapes: (..., 2 C) -> (..., C).

    Source: Dauphin et al. 2016, https://arxiv.org/abs/1612.08083, equation 1.
    """

    def __init__(self, dim: int = -1):
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """The axis halved."""
        return F.glu(x, self.dim)

    def extra_repr(self) -> str:
        """The axis."""
        return f"dim={self.dim}"
