"""What a model does of an example, as a graph: the way in which compression looks at any model.

Knows the compiler's recordings and modules, never what is done with them. A model is recorded in
evaluation mode, without numbers: it costs milliseconds, whatever its size, and changes nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytorch.base.errors import ArgumentTypeError, short
from tinytorch.compiler.record.recording import Recording, record
from tinytorch.nn.module import Module, evaluating
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.tensor import Tensor


def check_model(owner: str, model: Any) -> Module:
    """Refuse what is no Module."""
    if not isinstance(model, Module):
        raise ArgumentTypeError(
            f"{owner}: this is no model",
            got=type(model).__name__,
            rule="a Module",
            fix=f"{owner}(model, ...)",
        )
    return model


def inputs_of(owner: str, example: Any) -> tuple[Tensor, ...]:
    """The inputs that an example stands for: one array, or a tuple of them.

    Example:
        >>> [x.shape for x in inputs_of("report", np.zeros((2, 3), np.float32))]
        [(2, 3)]
    """
    several = example if isinstance(example, tuple) else (example,)
    if not several or not all(isinstance(x, (Tensor, np.ndarray)) for x in several):
        raise ArgumentTypeError(
            f"{owner}: the example is not what a model is given",
            got=short(example),
            rule="a Tensor or NumPy array, or a tuple of them, as forward takes them",
            fix=f"{owner}(model, tt.zeros(1, 3, 32, 32))",
        )
    return tuple(x if isinstance(x, Tensor) else Tensor(x) for x in several)


def recorded(model: Module, inputs: tuple[Tensor, ...]) -> Recording:
    """The recording of a call of a model in evaluation mode.

    Args:
        model: any module.
        inputs: as its `forward` takes them.

    Raises:
        CompileError: the model looks at values.
    """
    with no_grad(), evaluating(model):
        return record(model, inputs, {})
