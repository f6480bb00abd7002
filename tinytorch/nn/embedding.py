"""Embedding: a table with one row of numbers for each token.

Knows its table; the arithmetic is `functional.embedding`.
"""

from __future__ import annotations

from tinytorch.base.checks import whole
from tinytorch.nn import functional as F
from tinytorch.nn.initialisation import normal
from tinytorch.nn.module import Module, Parameter
from tinytorch.tensor.tensor import Tensor


class Embedding(Module):
    """out[..., :] = weight[index[...], :].

    Args:
        num_embeddings: V, rows of the table; at least 1.
        embedding_dim: C, numbers in a row; at least 1.

    Shapes: integers (...) in [0, V) -> (..., C); weight (V, C).

    Raises:
        IndexRangeError: an index outside [0, V).

    Source: initial values as in PyTorch, normal with mean 0 and deviation 1.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.Embedding(10, 4)(tt.Tensor([[1, 2, 9]])).shape
        (1, 3, 4)
    """

    def __init__(self, num_embeddings: int, embedding_dim: int):
        self.num_embeddings = whole("Embedding", "num_embeddings", num_embeddings, at_least=1)
        self.embedding_dim = whole("Embedding", "embedding_dim", embedding_dim, at_least=1)
        self.weight = Parameter(normal((num_embeddings, embedding_dim)))

    def forward(self, index: Tensor) -> Tensor:
        """Integers (...) -> (..., embedding_dim)."""
        return F.embedding(index, self.weight)

    def extra_repr(self) -> str:
        """Rows and their length."""
        return f"{self.num_embeddings}, {self.embedding_dim}"
