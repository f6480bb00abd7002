"""Modes of the thread: whether operations are recorded, and how precise contractions are.

Knows the thread's state only. Each mode is a context; `no_grad` and `enable_grad` are decorators
too.
"""

from __future__ import annotations

from contextlib import ContextDecorator

from tinytorch.base.errors import SettingError
from tinytorch.tensor.interpreter import STATE

PRECISIONS = ("float32", "bf16", "float16")


class _Recording(ContextDecorator):
    """Set whether operations are recorded, within a block."""

    on = True

    def __init__(self):
        self._before: list[bool] = []

    def __enter__(self):
        self._before.append(STATE.recording)
        STATE.recording = self.on
        return self

    def __exit__(self, *problem):
        STATE.recording = self._before.pop()
        return False


class no_grad(_Recording):
    """Record nothing within the block (or the decorated function): results need no gradient.

    Example:
        >>> import tinytorch as tt
        >>> w = tt.Tensor([1.0], requires_grad=True)
        >>> with tt.no_grad():
        ...     y = w * 2
        >>> y.requires_grad
        False
    """

    on = False


class enable_grad(_Recording):
    """Record within the block, even inside `no_grad()`."""

    on = True


class precision:
    """Compute matmul, convolution and attention on inputs of this precision, within the block.

    "bf16": float32 inputs of contractions are rounded to bfloat16, sums stay float32, results are
    float32; the tape keeps the rounded inputs, at half the memory. Everything else stays as it is.

    "float16": float32 inputs of contractions, and the gradients that come back to them, are rounded
    to float16 and computed with as float32. Gradients below 2**-25 become 0 there, so the loss is
    scaled (training/scaler.py). It shows on a CPU what float16 does; it saves neither time nor
    memory.

    Args:
        name: "float32", "bf16" or "float16".

    Example:
        >>> import tinytorch as tt
        >>> x = tt.Tensor([[1.001]])
        >>> with tt.precision("bf16"):
        ...     (x @ x).item()
        1.0
    """

    def __init__(self, name: str):
        if name not in PRECISIONS:
            raise SettingError(
                "precision: no such precision",
                got=repr(name),
                rule="one of " + ", ".join(map(repr, PRECISIONS)),
                fix='precision("bf16")',
            )
        self.name = name

    def __enter__(self):
        self._before, STATE.precision = STATE.precision, self.name
        return self

    def __exit__(self, *problem):
        STATE.precision = self._before
        return False


def is_grad_enabled() -> bool:
    """Whether operations are recorded on this thread."""
    return STATE.recording
