"""Functions of layers and losses, under PyTorch's names and argument orders.

Knows formulas, never weights that are kept: each is a composition of Tensor functions, so its
gradient is derived and the compiler fuses it.
"""

from __future__ import annotations

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.base.unknown_names import names_of as _names_of
from tinytorch.nn.activation import (
    elu,
    elu_,
    gelu,
    glu,
    hardsigmoid,
    hardswish,
    hardtanh,
    hardtanh_,
    leaky_relu,
    leaky_relu_,
    logsigmoid,
    mish,
    prelu,
    relu6,
    relu_,
    selu,
    selu_,
    sigmoid_,
    silu,
    softmin,
    softplus,
    softsign,
    tanh_,
)
from tinytorch.nn.attention import scaled_dot_product_attention
from tinytorch.nn.convolution import conv1d, conv2d, conv_transpose2d
from tinytorch.nn.dropout import drop_path, dropout, dropout2d
from tinytorch.nn.embedding import embedding, one_hot
from tinytorch.nn.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)
from tinytorch.nn.normalization import (
    batch_norm,
    cosine_similarity,
    group_norm,
    layer_norm,
    normalize,
    rms_norm,
)
from tinytorch.nn.pooling import adaptive_avg_pool2d, avg_pool1d, avg_pool2d, max_pool1d
from tinytorch.nn.quantized import linear
from tinytorch.nn.shapes import interpolate, pad
from tinytorch.tensor.contractions import max_pool2d
from tinytorch.tensor.elementwise import relu, sigmoid, tanh
from tinytorch.tensor.reductions import log_softmax, softmax

__all__ = [
    "adaptive_avg_pool2d", "avg_pool1d", "avg_pool2d", "batch_norm", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "conv1d", "conv2d", "conv_transpose2d", "cosine_similarity",
    "cross_entropy", "drop_path", "dropout", "dropout2d", "elu", "elu_", "embedding", "gelu", "glu",
    "group_norm", "hardsigmoid", "hardswish", "hardtanh", "hardtanh_", "huber_loss", "interpolate",
    "kl_div", "l1_loss", "layer_norm", "leaky_relu", "leaky_relu_", "linear", "log_softmax",
    "logsigmoid", "max_pool1d", "max_pool2d", "mish", "mse_loss", "nll_loss", "normalize",
    "one_hot", "pad", "prelu", "relu", "relu6", "relu_", "rms_norm", "scaled_dot_product_attention",
    "selu", "selu_", "sigmoid", "sigmoid_", "silu", "smooth_l1_loss", "softmax", "softmin",
    "softplus", "softsign", "tanh", "tanh_",
]  # fmt: skip


_explain_all(globals(), __all__)
__getattr__ = _names_of("nn.functional", lambda: __all__)
