"""How does a gradient flow? Tensors over buffers, the tape, derivatives, random numbers.

Knows arrays and primitives, never layers or the compiler. The folder can be called, so that
`tt.tensor([1.0])` means what it means in PyTorch: Python has one place for `tinytorch.tensor`.
"""

from __future__ import annotations

import sys
import types
import typing


class _Folder(types.ModuleType):
    """This module, callable."""

    def __call__(
        self, data: object, dtype: object = None, device: object = None, requires_grad: bool = False
    ) -> typing.Any:
        """See `tinytorch.tensor.creation.tensor`."""
        from tinytorch.tensor.creation import tensor

        return tensor(data, dtype, device, requires_grad)


sys.modules[__name__].__class__ = _Folder
