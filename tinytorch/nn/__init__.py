"""Layers and losses: modules with weights, and the functions they are made of."""

from tinytorch.nn import functional, initialisation
from tinytorch.nn.activation import GELU, ReLU, Sigmoid, Softmax, Tanh
from tinytorch.nn.attention import MultiHeadAttention
from tinytorch.nn.containers import ModuleList, Sequential
from tinytorch.nn.convolution import Conv2d
from tinytorch.nn.dropout import Dropout
from tinytorch.nn.embedding import Embedding
from tinytorch.nn.flatten import Flatten
from tinytorch.nn.linear import Linear
from tinytorch.nn.loss import CrossEntropyLoss, MSELoss
from tinytorch.nn.module import Module, Parameter
from tinytorch.nn.normalization import BatchNorm2d, LayerNorm
from tinytorch.nn.pooling import MaxPool2d

__all__ = [
    "BatchNorm2d",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "GELU",
    "LayerNorm",
    "Linear",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "MultiHeadAttention",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "functional",
    "initialisation",
]
