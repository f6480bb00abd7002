"""Layers and losses: modules with weights, and the functions they are made of.

A function here (`nn.functional`) is a composition of Tensor operations: its gradient is derived,
to any order, and the compiler fuses it. A layer is such a function together with the weights and
settings it keeps: a `Module`. Modules hold modules, as attributes, in lists or in `Sequential`, so
a network is a tree; `parameters()`, `state_dict()`, `train()`, `to()` walk it. To write one, set
weights and parts as attributes and define `forward`; there is no backward to write.

What a tree costs is asked by `module.summary(shape)`: a Linear of C x K holds C K + K numbers, a
convolution K C / groups k^2 whatever the size of the image, while the memory kept for backward
grows with batch and image. Knows layers, never how a weight moves (`optim`) or where numbers come
from (`data`).
"""

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.base.unknown_names import names_of as _names_of
from tinytorch.nn import boxes, functional, init
from tinytorch.nn.activation import (
    ELU,
    GELU,
    GLU,
    SELU,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    Mish,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)
from tinytorch.nn.attention import MultiHeadAttention, SelfAttention, TransformerBlock
from tinytorch.nn.cache import KeyValueCache, ModelCache
from tinytorch.nn.convolution import Conv1d, Conv2d, ConvTranspose2d
from tinytorch.nn.dropout import Dropout, Dropout2d, DropPath
from tinytorch.nn.embedding import Embedding, LearnedPositions, RotaryPositions, SinusoidalPositions
from tinytorch.nn.init import initialise
from tinytorch.nn.linear import MLP, Linear
from tinytorch.nn.losses import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
)
from tinytorch.nn.module import Module, ModuleDict, ModuleList, Parameter, Sequential
from tinytorch.nn.normalization import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm, RMSNorm
from tinytorch.nn.pooling import AdaptiveAvgPool2d, AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d
from tinytorch.nn.quantized import QuantizedWeight, StaticRounding, WeightForm
from tinytorch.nn.recurrent import GRU, LSTM, RNN
from tinytorch.nn.shapes import Flatten, Identity, Unflatten, Upsample
from tinytorch.nn.summary import signal
from tinytorch.nn.weight_forms import FactoredWeight, MaskedWeight, SharedWeight, SparseWeight

__all__ = [
    "AdaptiveAvgPool2d", "AvgPool1d", "AvgPool2d", "BCELoss", "BCEWithLogitsLoss", "BatchNorm1d",
    "BatchNorm2d", "Conv1d", "Conv2d", "ConvTranspose2d", "CrossEntropyLoss", "DropPath", "Dropout",
    "Dropout2d", "ELU", "Embedding", "FactoredWeight", "Flatten", "GELU", "GLU", "GRU", "GroupNorm",
    "Hardsigmoid", "Hardswish", "Hardtanh", "HuberLoss", "Identity", "KLDivLoss", "KeyValueCache",
    "L1Loss", "LSTM", "LayerNorm", "LeakyReLU", "LearnedPositions", "Linear", "LogSigmoid",
    "LogSoftmax", "MLP", "MSELoss", "MaskedWeight", "MaxPool1d", "MaxPool2d", "Mish", "ModelCache",
    "Module", "ModuleDict", "ModuleList", "MultiHeadAttention", "NLLLoss", "PReLU", "Parameter",
    "QuantizedWeight", "RMSNorm", "RNN", "ReLU", "ReLU6", "RotaryPositions", "SELU",
    "SelfAttention", "Sequential", "SharedWeight", "SiLU", "Sigmoid", "SinusoidalPositions",
    "SmoothL1Loss", "Softmax", "Softplus", "Softsign", "SparseWeight", "StaticRounding", "Tanh",
    "TransformerBlock", "Unflatten", "Upsample", "WeightForm", "boxes", "functional", "init",
    "initialise", "signal",
]  # fmt: skip

_explain_all(globals(), __all__)
__getattr__ = _names_of("nn", lambda: __all__)
