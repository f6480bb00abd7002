"""Functions of layers and losses, under PyTorch's names and argument orders.

Knows formulas, never weights that are kept: each is a composition of Tensor functions, so its
gradient is derived and the compiler fuses it.
"""

from __future__ import annotations

import math
from typing import Any

from tinytorch.base.checks import number
from tinytorch.base.errors import DTypeError, SettingError, ShapeError
from tinytorch.nn.classification import cross_entropy
from tinytorch.nn.indices import inside
from tinytorch.tensor.contractions import attention, convolution, matmul, max_pool2d
from tinytorch.tensor.creation import iota
from tinytorch.tensor.elementwise import erf, exp, relu, rsqrt, sigmoid, tanh, where
from tinytorch.tensor.indexing import take
from tinytorch.tensor.modes import no_grad
from tinytorch.tensor.random import rand
from tinytorch.tensor.reductions import amax, log_softmax, softmax
from tinytorch.tensor.reductions import sum as total
from tinytorch.tensor.shaping import transpose
from tinytorch.tensor.tensor import Tensor

__all__ = [
    "batch_norm", "conv2d", "cross_entropy", "dropout", "embedding", "gelu", "layer_norm", "linear",
    "log_softmax", "max_pool2d", "mse_loss", "relu", "scaled_dot_product_attention", "sigmoid",
    "softmax", "tanh",
]  # fmt: skip


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x * P(normal number < x), exactly by erf or approximately by tanh.

    Args:
        input: any shape.
        approximate: "none" or "tanh".

    Source: Hendrycks, Gimpel 2016, https://arxiv.org/abs/1606.08415; 0.044715 is section 2's.

    Example:
        >>> import tinytorch as tt
        >>> gelu(tt.Tensor([0.0, 3.0])).numpy().round(3)
        array([0.   , 2.996], dtype=float32)
    """
    if approximate == "none":
        return input * 0.5 * (erf(input * math.sqrt(0.5)) + 1.0)
    if approximate != "tanh":
        raise SettingError(
            "gelu: approximate has two values",
            got=f"approximate={approximate!r}",
            rule='"none" or "tanh"',
            fix='gelu(x, approximate="tanh")',
        )
    inner = (input + 0.044715 * (input * input * input)) * math.sqrt(2.0 / math.pi)
    return input * 0.5 * (tanh(inner) + 1.0)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias.

    Args:
        input: (..., C).
        weight: (K, C).
        bias: (K,).

    Returns:
        (..., K).
    """
    if len(weight.shape) != 2 or not input.shape or input.shape[-1] != weight.shape[1]:
        raise ShapeError(
            "linear: input and weight do not belong together",
            got=f"input {tuple(input.shape)}, weight {tuple(weight.shape)}",
            rule="input (..., C), weight (K, C)",
            fix="transpose the weight, or reshape the input",
        )
    # No reshape to one matrix: the row `matmul` and the compiler do that, and without it the
    # arithmetic that follows still has the shape of the product and is fused into it.
    out = matmul(input, transpose(weight))
    return out if bias is None else out + bias


def conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """Cross-correlation of images with windows of weights, plus one number per channel.

    Args:
        input: (N, C, H, W).
        weight: (K, C / groups, kernel height, kernel width).
        bias: (K,).
        stride: step of the window, one number or a pair.
        padding: zeros on each side, one number or a pair.
        dilation: distance between rows of the window, one number or a pair.
        groups: so many parts of the channels do not see each other.

    Returns:
        (N, K, H', W').
    """
    out = convolution(
        input, weight, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    return out if bias is None else out + bias.reshape(1, weight.shape[0], 1, 1)


def embedding(input: Tensor, weight: Tensor) -> Tensor:
    """weight[input], row by row.

    Args:
        input: integers (...) in [0, V).
        weight: (V, C).

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
    return take(weight, inside("embedding", "token", input, weight.shape[0]), 0)


def layer_norm(
    input: Tensor, normalized_shape, weight=None, bias=None, eps: float = 1e-5
) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axes.

    Args:
        input: (..., *normalized_shape).
        normalized_shape: sizes of the last axes.
        weight: (*normalized_shape).
        bias: (*normalized_shape).
        eps: added to the variance.

    Source: Ba, Kiros, Hinton 2016, https://arxiv.org/abs/1607.06450. The variance is the mean of
    squared distances (two passes): the mean of squares minus the squared mean loses all digits when
    the mean is large.
    """
    sizes = (
        tuple(normalized_shape)
        if isinstance(normalized_shape, (list, tuple))
        else (normalized_shape,)
    )
    if tuple(input.shape[-len(sizes) :]) != sizes:
        raise ShapeError(
            "layer_norm: the last axes are not those of the layer",
            got=f"input {tuple(input.shape)}",
            rule=f"(..., {', '.join(map(str, sizes))})",
            fix=f"LayerNorm({tuple(input.shape[-len(sizes) :])})",
        )
    axes = tuple(range(len(input.shape) - len(sizes), len(input.shape)))
    centered = input - input.mean(axes, keepdim=True)
    variance = (centered * centered).mean(axes, keepdim=True)
    out = centered * rsqrt(variance + eps)
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def batch_norm(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight=None, bias=None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """(x - mean) / sqrt(variance + eps) * weight + bias, each channel over everything else.

    Args:
        input: (N, C, ...).
        running_mean: (C,); moved in training, used in evaluation.
        running_var: (C,); the same.
        weight: (C,).
        bias: (C,).
        training: use the batch's own mean and variance, as without running statistics.
        momentum: weight of this batch in the running statistics.
        eps: added to the variance.

    Source: Ioffe, Szegedy 2015, https://arxiv.org/abs/1502.03167. The running variance is the
    unbiased one (n / (n - 1)), as in the paper and PyTorch.
    """
    axes = (0, *range(2, len(input.shape)))
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(input.shape))
    if training or running_mean is None or running_var is None:
        mean = input.mean(axes, keepdim=True)
        centered = input - mean
        variance = (centered * centered).mean(axes, keepdim=True)
        if running_mean is not None and running_var is not None:
            n = _values_per_channel(input)
            with no_grad():
                _move(running_mean, mean, momentum)
                _move(running_var, variance * (n / (n - 1)), momentum)
    else:
        mean, variance = running_mean.reshape(*shape), running_var.reshape(*shape)
        centered = input - mean
    # Scaling factors are joined first: there are only C of them.
    scale = rsqrt(variance + eps)
    scale = scale if weight is None else scale * weight.reshape(*shape)
    out = centered * scale
    return out if bias is None else out + bias.reshape(*shape)


def _values_per_channel(input: Tensor) -> int:
    n = math.prod(input.shape) // max(1, input.shape[1])
    if n < 2:
        raise ShapeError(
            "batch_norm: a variance in training needs two numbers for each channel",
            got=f"input {tuple(input.shape)}",
            rule="N * H * W >= 2",
            fix="a larger batch, DataLoader(..., drop_last=True), or model.eval()",
        )
    return n


def _move(running: Tensor, new: Tensor, momentum: float) -> None:
    new = new.detach().reshape(*running.shape)
    running.assign_(running * (1.0 - momentum) + new * momentum)


def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Zeros with probability p, everything else divided by 1 - p; unchanged outside training.

    Args:
        input: any shape.
        p: probability of a zero, in [0, 1].
        training: False passes the input on.

    Source: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html.
    """
    p = number("dropout", "p", p, "[0, 1]")
    if not training or p == 0.0:
        return input
    if p == 1.0:
        return input * 0.0
    return where(rand(*input.shape) >= p, input * (1.0 / (1.0 - p)), 0.0)


def mse_loss(input: Tensor, target: Tensor) -> Tensor:
    """Mean of squared differences, 0-d.

    Args:
        input: any shape.
        target: the same shape.

    Raises:
        ShapeError: shapes differ; broadcasting would hide a mistake here.
    """
    if tuple(input.shape) != tuple(target.shape):
        raise ShapeError(
            "mse_loss: input and target have different shapes",
            got=f"input {tuple(input.shape)}, target {tuple(target.shape)}",
            rule="equal shapes",
            fix=f"target.reshape{tuple(input.shape)}",
        )
    distance = input - target
    return (distance * distance).mean()


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
) -> Tensor:  # fmt: skip
    """softmax(query key^T * scale + mask) value, for each head.

    Without mask and dropout it is one primitive, which never holds T x S numbers when compiled.

    Args:
        query: (..., T, D).
        key: (..., S, D).
        value: (..., S, D).
        attn_mask: broadcasts to (..., T, S): bools (True takes part) or floats (added).
        dropout_p: probability of dropping a weight, in [0, 1]; applies whenever it is not 0.
        is_causal: query t sees keys s <= t + S - T.
        scale: default 1 / sqrt(D).

    Returns:
        (..., T, D). A query that may see nothing gets zeros.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 1.

    Differs from PyTorch: with T != S and is_causal the last query sees all keys (as a cache of keys
    needs it), where PyTorch aligns the first query with the first key.
    """
    if scale is None:
        scale = float(query.shape[-1]) ** -0.5
    if attn_mask is None and dropout_p == 0.0:
        lead = tuple(query.shape[:-2])
        q, k, v = (_four_axes(x, lead) for x in (query, key, value))
        return attention(q, k, v, causal=is_causal, scale=scale).reshape(*lead, *q.shape[2:])
    scores = matmul(query, transpose(key)) * scale  # (..., T, S)
    if is_causal:
        rows, columns = scores.shape[-2:]
        sees = iota((rows, columns), 1) <= iota((rows, columns), 0) + (columns - rows)
        scores = where(sees, scores, -math.inf)
    if attn_mask is not None:
        added = attn_mask.dtype.is_float
        scores = scores + attn_mask if added else where(attn_mask, scores, -math.inf)
    return matmul(dropout(_safe_softmax(scores), dropout_p), value)


def _four_axes(x: Tensor, lead: tuple[int, ...]) -> Tensor:
    if tuple(x.shape[:-2]) != lead:
        raise ShapeError(
            "scaled_dot_product_attention: leading axes differ",
            got=f"query {lead} + (T, D), and {tuple(x.shape)}",
            rule="query, key and value have the same batch and heads",
            fix="expand key and value to the heads of the query",
        )
    return (
        x
        if len(lead) == 2
        else x.reshape(math.prod(lead[:-1]), lead[-1] if lead else 1, *x.shape[-2:])
    )


def _safe_softmax(scores: Tensor) -> Tensor:
    """Softmax over the last axis in which a row of -inf becomes zeros, not NaN."""
    largest = amax(scores, -1, keepdim=True).detach()
    powers = exp(scores - where(largest == -math.inf, 0.0, largest))
    mass = total(powers, -1, keepdim=True)
    return powers / where(mass == 0.0, 1.0, mass)
