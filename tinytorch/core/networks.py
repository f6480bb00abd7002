"""Chapter "networks": layers put together."""

from __future__ import annotations

from collections.abc import Sequence

from tinytorch.models import CNN, GPT, GPTConfig, LeNet, VisionTransformer
from tinytorch.models.classifiers import MLP
from tinytorch.nn.attention import TransformerBlock
from tinytorch.nn.module import Module, ModuleList, Parameter, Sequential

__all__ = [
    "CNN", "GPT", "GPTConfig", "LeNet", "MLP", "Module", "ModuleList", "Parameter", "Sequential",
    "TransformerBlock", "VisionTransformer", "create_mlp",
]  # fmt: skip


def create_mlp(sizes: Sequence[int]) -> MLP:
    """A network of dense layers with ReLU between them; images are flattened.

    Args:
        sizes: features of the input, of each hidden layer, of the output.

    Example:
        >>> create_mlp([3072, 128, 64, 10]).sizes
        (3072, 128, 64, 10)
    """
    return MLP(sizes)
