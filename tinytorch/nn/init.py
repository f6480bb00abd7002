"""First values of weights, by shape, in place or by name, from the framework's own generator.

Drawn for a shape (`xavier_uniform((K, C))`); written into a Tensor under PyTorch's names and with
its order of arguments (`xavier_uniform_(weight)`); given to a tree of modules by name
(`initialise`). Knows shapes and distributions, never layers. `tt.manual_seed` decides what comes
out.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator

import numpy as np

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.base.arguments import number
from tinytorch.base.dtypes import float32
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn.module import FRESH, Module
from tinytorch.tensor.creation import eye, full, ones, zeros
from tinytorch.tensor.elementwise import where
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.memory import Buffer, from_buffer
from tinytorch.tensor.random import rand, randn
from tinytorch.tensor.tensor import Tensor

# PyTorch's names, whose wrong arguments are explained at the door.
__all__ = [
    "calculate_gain", "constant_", "eye_", "kaiming_normal_", "kaiming_uniform_", "normal_",
    "ones_", "orthogonal_", "trunc_normal_", "uniform_", "xavier_normal_", "xavier_uniform_",
    "zeros_",
]  # fmt: skip

MODES = ("fan_in", "fan_out")

# --- for a shape ---


@contextlib.contextmanager
def without_draws() -> Generator[None, None, None]:
    """In this block `uniform` and `normal` give memory that nobody has written to.

    For a model whose weights are then loaded, all of them: drawing the 124 million of GPT-2 takes
    seconds, and memory that is not touched costs nothing, also where the weight is then exchanged.

    Example:
        >>> from tinytorch import nn
        >>> with without_draws():
        ...     layer = nn.Linear(2, 3)
        >>> layer.weight.shape, layer.bias.shape
        ((3, 2), (3,))
    """
    token = FRESH.set(True)
    try:
        yield
    finally:
        FRESH.reset(token)


def draws() -> bool:
    """Whether first weights are drawn: not within `without_draws`."""
    return not FRESH.get()


def _untouched(shape: tuple[int, ...]) -> Tensor:
    return from_buffer(Buffer.empty(shape, float32))


def uniform(shape: tuple[int, ...], bound: float) -> Tensor:
    """Evenly spread in [-bound, bound).

    Args:
        shape: of the weight.
        bound: largest size, in [0, inf).

    Example:
        >>> import tinytorch as tt
        >>> _ = tt.manual_seed(0)
        >>> bool(uniform((1000,), 0.5).abs().max().item() <= 0.5)
        True
    """
    bound = number("uniform", "bound", bound, "[0, inf)")
    if not draws():
        return _untouched(shape)
    return rand(*shape) * (2.0 * bound) - bound


def normal(shape: tuple[int, ...], std: float = 1.0) -> Tensor:
    """Normal with mean 0.

    Args:
        shape: of the weight.
        std: standard deviation, in [0, inf).
    """
    std = number("normal", "std", std, "[0, inf)")
    return randn(*shape) * std if draws() else _untouched(shape)


def truncated_normal(shape: tuple[int, ...], std: float = 1.0, bound: float = 2.0) -> Tensor:
    """Normal with mean 0, drawn again where it is more than `bound` deviations from it.

    Args:
        shape: of the weight.
        std: deviation before the ends are cut off, in [0, inf).
        bound: in deviations, in [1, inf); default 2, beyond which 4.6 % of the draws lie.

    Source: the initial values of ViT, Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929.
    """
    bound = number("truncated_normal", "bound", bound, "[1, inf)")
    values = randn(*shape)
    for _ in range(64):  # each round leaves at most 32 % of the outliers: 0.32^64 = 2e-32
        outside = values.abs() > bound
        if not bool(outside.any()):
            break
        values = where(outside, randn(*shape), values)
    return values * number("truncated_normal", "std", std, "[0, inf)")


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many numbers each output reads and each input feeds, for a weight (K, C, ...).

    >>> fans((16, 3, 5, 5))
    (75, 400)
    """
    if len(shape) < 2:
        raise ShapeError(
            "this weight has no inputs to count",
            got=f"shape {tuple(shape)}",
            rule="(outputs, inputs, ...)",
            fix="uniform or normal, which need no counts",
        )
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def _fan(shape: tuple[int, ...], mode: str) -> int:
    if mode not in MODES:
        raise SettingError(
            "kaiming: no such mode",
            got=f"mode={mode!r}",
            rule='"fan_in" keeps the variance going forward, "fan_out" going backward',
            fix='mode="fan_in"',
        )
    return fans(shape)[MODES.index(mode)]


def kaiming_uniform(shape: tuple[int, ...], a: float = 0.0, mode: str = "fan_in") -> Tensor:
    """Uniform with a variance that leaky ReLU of slope `a` keeps from layer to layer.

    Args:
        shape: (K, C, ...).
        a: slope for negative numbers; 0 is ReLU; sqrt(5) gives PyTorch's default for layers.
        mode: "fan_in" keeps the variance going forward, "fan_out" going backward.

    Source: He et al. 2015, https://arxiv.org/abs/1502.01852, equation 14: variance 2 / ((1 + a^2)
    C), which is bound^2 / 3 of a uniform distribution.
    """
    return uniform(shape, math.sqrt(6.0 / ((1.0 + a * a) * _fan(shape, mode))))


def kaiming_normal(shape: tuple[int, ...], a: float = 0.0, mode: str = "fan_in") -> Tensor:
    """Normal with the variance of `kaiming_uniform`.

    Args:
        shape: (K, C, ...).
        a: slope for negative numbers.
        mode: "fan_in" or "fan_out".
    """
    return normal(shape, math.sqrt(2.0 / ((1.0 + a * a) * _fan(shape, mode))))


def xavier_uniform(shape: tuple[int, ...], gain: float = 1.0) -> Tensor:
    """Uniform with a variance between what forward and backward want.

    Args:
        shape: (K, C, ...).
        gain: what the activation takes away, see `gain`.

    Source: Glorot, Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html, equation 16.
    """
    return uniform(shape, gain * math.sqrt(6.0 / sum(fans(shape))))


def xavier_normal(shape: tuple[int, ...], gain: float = 1.0) -> Tensor:
    """Normal with the variance of `xavier_uniform`, equation 12 of the same paper.

    Args:
        shape: (K, C, ...).
        gain: what the activation takes away, see `gain`.
    """
    return normal(shape, gain * math.sqrt(2.0 / sum(fans(shape))))


def lecun_normal(shape: tuple[int, ...]) -> Tensor:
    """Normal with variance 1 / C, which linear layers and SELU keep.

    Args:
        shape: (K, C, ...).

    Source: LeCun et al. 1998, "Efficient BackProp", section 4.6.
    """
    return normal(shape, fans(shape)[0] ** -0.5)


def orthogonal(shape: tuple[int, ...], gain: float = 1.0) -> Tensor:
    """Rows (or columns, if there are fewer) that are at right angles and have length `gain`.

    Args:
        shape: (K, C, ...), taken as a matrix (K, the rest).
        gain: length of each.

    Source: Saxe, McClelland, Ganguli 2013, https://arxiv.org/abs/1312.6120. The signs of the
    triangle's diagonal are moved over, which makes every such matrix equally likely.

    Example:
        >>> w = orthogonal((2, 5)).numpy()
        >>> (w @ w.T).round(4) + 0.0
        array([[1., 0.],
               [0., 1.]], dtype=float32)
    """
    fans(shape)  # two axes or more
    rows, columns = shape[0], math.prod(shape[1:])
    drawn = randn(max(rows, columns), min(rows, columns)).numpy().astype(np.float64)
    q, r = np.linalg.qr(drawn)
    q *= np.where(np.diag(r) < 0.0, -1.0, 1.0)
    matrix = q.T if rows < columns else q
    return Tensor((gain * matrix).astype(np.float32).reshape(shape))


def gain(nonlinearity: str, slope: float = 0.01) -> float:
    """By how much a weight's deviation is multiplied so that an activation keeps the variance.

    Args:
        nonlinearity: "linear", "conv1d", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu".
        slope: of leaky ReLU for negative numbers.

    Source: PyTorch's table; sqrt(2) and sqrt(2 / (1 + slope^2)) follow from He et al. 2015, 5/3 and
    3/4 are found by trying.

    Example:
        >>> gain("leaky_relu", 1.0)
        1.0
    """
    table = {
        "linear": 1.0,
        "conv1d": 1.0,
        "conv2d": 1.0,
        "sigmoid": 1.0,
        "tanh": 5.0 / 3.0,
        "relu": math.sqrt(2.0),
        "leaky_relu": math.sqrt(2.0 / (1.0 + slope * slope)),
        "selu": 0.75,
    }
    if nonlinearity not in table:
        raise SettingError(
            "gain: no such nonlinearity",
            got=repr(nonlinearity),
            rule="one of " + ", ".join(table),
            fix='gain("relu")',
        )
    return table[nonlinearity]


calculate_gain = gain


# --- written in place, under PyTorch's names ---


def _filled(tensor: Tensor, values: Tensor) -> Tensor:
    with no_grad():
        tensor.assign_(values.astype(tensor.dtype))
    return tensor


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Evenly spread in [a, b).

    Args:
        tensor: is filled, and returned.
        a: smallest value.
        b: above the largest value.
    """
    return _filled(tensor, rand(*tensor.shape) * (b - a) + a)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normal.

    Args:
        tensor: is filled, and returned.
        mean: of the numbers.
        std: their deviation, in [0, inf).
    """
    return _filled(tensor, randn(*tensor.shape) * number("normal_", "std", std, "[0, inf)") + mean)


def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0
) -> Tensor:
    """Normal, drawn again where it lies outside [a, b], which lies evenly around the mean.

    Args:
        tensor: is filled, and returned.
        mean: of the numbers.
        std: deviation before the ends are cut off, in (0, inf).
        a: smallest value.
        b: largest value; mean - a = b - mean >= std.

    Differs from PyTorch: the bounds lie evenly around the mean.
    """
    std = number("trunc_normal_", "std", std, "(0, inf)")
    number("trunc_normal_", "b - mean, which is mean - a", b - mean, f"[{mean - a!r}, inf)")
    values = truncated_normal(tuple(tensor.shape), std, (b - mean) / std)
    return _filled(tensor, values + mean)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """One number everywhere.

    Args:
        tensor: is filled, and returned.
        val: the number.
    """
    return _filled(tensor, full(tuple(tensor.shape), float(val)))


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros.

    Args:
        tensor: is filled, and returned.
    """
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Ones.

    Args:
        tensor: is filled, and returned.
    """
    return constant_(tensor, 1.0)


def eye_(tensor: Tensor) -> Tensor:
    """Ones on the diagonal of a matrix, zeros elsewhere.

    Args:
        tensor: is filled, and returned; two axes.
    """
    return _filled(tensor, eye(*tensor.shape))


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """As `xavier_uniform` draws.

    Args:
        tensor: (K, C, ...), is filled, and returned.
        gain: `calculate_gain` of the activation.

    Example:
        >>> from tinytorch import nn
        >>> layer = nn.Linear(8, 4)
        >>> float(xavier_uniform_(layer.weight).abs().max()) <= (6 / 12) ** 0.5
        True
    """
    return _filled(tensor, xavier_uniform(tuple(tensor.shape), gain))


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """As `xavier_normal` draws.

    Args:
        tensor: (K, C, ...), is filled, and returned.
        gain: `calculate_gain` of the activation.
    """
    return _filled(tensor, xavier_normal(tuple(tensor.shape), gain))


def kaiming_uniform_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """Uniform in +-gain sqrt(3 / fan).

    Args:
        tensor: (K, C, ...), is filled, and returned.
        a: slope of leaky ReLU for negative numbers.
        mode: "fan_in" or "fan_out".
        nonlinearity: what follows, see `calculate_gain`.
    """
    values = kaiming_uniform(tuple(tensor.shape), 1.0, mode)  # gain 1
    return _filled(tensor, values * calculate_gain(nonlinearity, a))


def kaiming_normal_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """Normal with deviation gain / sqrt(fan).

    Args:
        tensor: (K, C, ...), is filled, and returned.
        a: slope of leaky ReLU for negative numbers.
        mode: "fan_in" or "fan_out".
        nonlinearity: what follows, see `calculate_gain`.
    """
    values = kaiming_normal(tuple(tensor.shape), 1.0, mode)  # gain 1
    return _filled(tensor, values * calculate_gain(nonlinearity, a))


def orthogonal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """As `orthogonal` draws.

    Args:
        tensor: (K, C, ...), is filled, and returned.
        gain: length of each row or column.
    """
    return _filled(tensor, orthogonal(tuple(tensor.shape), gain))


# --- given by name ---

INITIALISERS: dict[str, Callable[[tuple[int, ...]], Tensor]] = {
    "zeros": zeros,
    "ones": ones,
    "normal": normal,
    "small_normal": lambda shape: normal(shape, 0.02),  # Radford et al. 2018, section 4.1
    "truncated_normal": lambda shape: truncated_normal(shape, 0.02),
    "uniform": lambda shape: uniform(shape, 1.0),
    "he_uniform": kaiming_uniform,
    "he_normal": kaiming_normal,
    "kaiming_uniform": kaiming_uniform,
    "kaiming_normal": kaiming_normal,
    "glorot_uniform": xavier_uniform,
    "glorot_normal": xavier_normal,
    "xavier_uniform": xavier_uniform,
    "xavier_normal": xavier_normal,
    "lecun_normal": lecun_normal,
    "orthogonal": orthogonal,
}


def initialiser(name: str) -> Callable[[tuple[int, ...]], Tensor]:
    """The function, shape -> first values, that a name stands for.

    Args:
        name: a key of INITIALISERS.

    Example:
        >>> initialiser("he_normal")((4, 3)).shape
        (4, 3)
    """
    if name in INITIALISERS:
        return INITIALISERS[name]
    raise SettingError(
        "no such initialiser",
        got=repr(name),
        rule="one of " + ", ".join(sorted(INITIALISERS)),
        fix='"he_normal" before ReLU, "xavier_uniform" before tanh',
    )


def initialise(module: Module, weights: str, biases: str | None = "zeros") -> Module:
    """Give a tree of modules new first values by name; returns it.

    Args:
        module: any.
        weights: name of the initialiser for parameters of two axes or more: matrices, filters,
            tables. Scales of norms, which have one, stay.
        biases: the same for parameters called "bias" or "bias_..."; None leaves them.

    Example:
        >>> from tinytorch import nn
        >>> net = initialise(nn.MLP([4, 8, 2]), "orthogonal")
        >>> net.layers[0].bias.tolist()[:2]
        [0.0, 0.0]
    """
    of_weights = initialiser(weights)
    of_biases = None if biases is None else initialiser(biases)
    with no_grad():
        for name, parameter in module.named_parameters():
            is_bias = name.rpartition(".")[2].startswith("bias")
            make = of_biases if is_bias else of_weights
            if make is not None and (is_bias or len(parameter.shape) > 1):
                parameter.assign_(make(tuple(parameter.shape)).astype(parameter.dtype))
    return module


_explain_all(globals(), __all__)
