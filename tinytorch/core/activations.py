"""Chapter "activations": what makes a stack of layers more than one layer."""

from tinytorch.nn.activation import GELU, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from tinytorch.nn.functional import log_softmax, relu, sigmoid, softmax, tanh

__all__ = [
    "GELU", "LogSoftmax", "ReLU", "Sigmoid", "Softmax", "Tanh",
    "log_softmax", "relu", "sigmoid", "softmax", "tanh",
]  # fmt: skip
