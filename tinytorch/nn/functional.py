"""Functions of layers and losses, under PyTorch's names and argument orders.

Knows formulas, never weights that are kept: each is a composition of Tensor functions, so its
gradient is derived and the compiler fuses it.
"""

from __future__ import annotations

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.base.errors import ShapeError
from tinytorch.base.unknown_names import names_of as _names_of
from tinytorch.nn.activation_functions import (
    elu,
    gelu,
    glu,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    logsigmoid,
    mish,
    prelu,
    relu6,
    selu,
    silu,
    softmin,
    softplus,
    softsign,
)
from tinytorch.nn.attention_functions import scaled_dot_product_attention
from tinytorch.nn.binary import binary_cross_entropy, binary_cross_entropy_with_logits
from tinytorch.nn.classification import cross_entropy, nll_loss
from tinytorch.nn.divergence import kl_div
from tinytorch.nn.dropout_functions import drop_path, dropout, dropout2d
from tinytorch.nn.embedding_functions import embedding
from tinytorch.nn.in_place import (
    elu_,
    hardtanh_,
    leaky_relu_,
    relu_,
    selu_,
    sigmoid_,
    tanh_,
)
from tinytorch.nn.norm_functions import (
    batch_norm,
    cosine_similarity,
    group_norm,
    layer_norm,
    normalize,
    rms_norm,
)
from tinytorch.nn.regression import huber_loss, l1_loss, mse_loss, smooth_l1_loss
from tinytorch.nn.shape_functions import interpolate, one_hot, pad
from tinytorch.nn.window_functions import (
    adaptive_avg_pool2d,
    avg_pool1d,
    avg_pool2d,
    conv1d,
    conv2d,
    conv_transpose2d,
    max_pool1d,
)
from tinytorch.tensor.contractions import affine, matmul, max_pool2d
from tinytorch.tensor.elementwise import relu, sigmoid, tanh
from tinytorch.tensor.number_types import check_one_float
from tinytorch.tensor.reductions import log_softmax, softmax
from tinytorch.tensor.shaping import transpose
from tinytorch.tensor.tensor import Tensor

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "conv1d",
    "conv2d",
    "conv_transpose2d",
    "cosine_similarity",
    "cross_entropy",
    "drop_path",
    "dropout",
    "dropout2d",
    "elu",
    "elu_",
    "embedding",
    "gelu",
    "glu",
    "group_norm",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hardtanh_",
    "huber_loss",
    "interpolate",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "leaky_relu_",
    "linear",
    "log_softmax",
    "logsigmoid",
    "max_pool1d",
    "max_pool2d",
    "mish",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "prelu",
    "relu",
    "relu6",
    "relu_",
    "rms_norm",
    "scaled_dot_product_attention",
    "selu",
    "selu_",
    "sigmoid",
    "sigmoid_",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softmin",
    "softplus",
    "softsign",
    "tanh",
    "tanh_",
]


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
    if bias is not None and (out := affine(input, weight, bias)) is not None:
        return out
    if input.dtype is not weight.dtype or (bias is not None and bias.dtype is not weight.dtype):
        check_one_float("linear", input=input, weight=weight, bias=bias)
    out = matmul(input, transpose(weight))
    return out if bias is None else out + bias


_explain_all(globals(), __all__)
__getattr__ = _names_of("nn.functional", lambda: __all__)
