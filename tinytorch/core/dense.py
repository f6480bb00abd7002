"""Chapter "dense": networks of dense layers."""

from tinytorch.core.layers import Dense
from tinytorch.core.networks import MLP, Sequential, create_mlp

__all__ = ["Dense", "MLP", "Sequential", "create_mlp"]
