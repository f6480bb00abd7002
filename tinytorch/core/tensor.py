"""Chapter "tensor": arrays that remember where they came from."""

from tinytorch.tensor.tensor import Tensor

__all__ = ["Tensor"]
