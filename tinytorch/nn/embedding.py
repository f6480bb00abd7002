"""Embedding: a table with one row of numbers for each token.

Knows its table; the arithmetic is `functional.embedding`.
"""

from __future__ import annotations

from tinytorch.base.checks import flag, number, whole
from tinytorch.nn import functional as F
from tinytorch.nn.embedding_functions import padding_row
from tinytorch.nn.initialisation import normal
from tinytorch.nn.module import Module, Parameter
from tinytorch.tensor.tensor import Tensor


class Embedding(Module):
    """out[..., :] = weight[index[...], :].

    Args:
        num_embeddings: V, rows of the table; at least 1.
        embedding_dim: C, numbers in a row; at least 1.
        padding_idx: a row for padding, in [-V, V): zeros at first, and it gets no gradient.
        sparse: let the gradient name the rows that were read (a RowGradient), so that an optimizer
            moves those alone: a step costs what was read, not V rows; default False.
        std: deviation of the initial values, in [0, inf); default 1, as in PyTorch; 0.02 suits
            transformers.

    Shapes: integers (...) in [0, V) -> (..., C); weight (V, C).

    Raises:
        IndexRangeError: an index outside [0, V).

    Cost: V C weights. A lookup reads one row; its gradient and an optimizer's step go through all V
    rows, with sparse through those that were read.

    Source: initial values as in PyTorch, normal with mean 0 and deviation 1; 0.02: GPT-2.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.Embedding(10, 4)(tt.tensor([[1, 2, 9]])).shape
        (1, 3, 4)
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, *,
        sparse: bool = False, std: float = 1.0,
    ):  # fmt: skip
        self.num_embeddings = whole("Embedding", "num_embeddings", num_embeddings, at_least=1)
        self.embedding_dim = whole("Embedding", "embedding_dim", embedding_dim, at_least=1)
        self.sparse = flag("Embedding", "sparse", sparse)
        self.padding_idx = None if padding_idx is None else padding_row(padding_idx, num_embeddings)
        first = normal((num_embeddings, embedding_dim), number("Embedding", "std", std, "[0, inf)"))
        if self.padding_idx is not None:
            first[self.padding_idx] = 0.0
        self.weight = Parameter(first)

    def forward(self, index: Tensor) -> Tensor:
        """Integers (...) -> (..., embedding_dim)."""
        return F.embedding(index, self.weight, self.padding_idx, sparse=self.sparse)

    def extra_repr(self) -> str:
        """Rows and their length."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        sparse = ", sparse=True" if self.sparse else ""
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}{sparse}"
