"""How does a gradient flow? Tensors over buffers, the tape, derivatives, random numbers.

Knows arrays and primitives, never layers or the compiler. The folder can be called, so that
`tt.tensor([1.0])` means what it means in PyTorch: Python has one place for `tinytorch.tensor`.
"""

from __future__ import annotations

import sys
import types
import typing

if typing.TYPE_CHECKING:
    from tinytorch.base.dtypes import DTypeLike
    from tinytorch.tensor.interchange import Device
    from tinytorch.tensor.operands import Operand


class _Folder(types.ModuleType):
    """This module, callable."""

    def __call__(
        self, data: Operand, dtype: DTypeLike | None = None, device: Device = None,
        requires_grad: bool = False,
    ) -> typing.Any:  # fmt: skip
        """See `tinytorch.tensor.creation.tensor`."""
        from tinytorch.tensor.creation import tensor

        return tensor(data, dtype, device, requires_grad)


sys.modules[__name__].__class__ = _Folder
